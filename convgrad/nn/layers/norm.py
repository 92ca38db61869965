"""Batch normalisation over any number of spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convgrad.errors import SettingError, ShapeError
from convgrad.nn.layers.base import Layer, Shape, check_flag, check_number


@dataclass(eq=False)
class BatchNorm(Layer):
    """y = γ·x̂ + β, x̂ = (x − μ)/√(σ² + eps), one μ and σ² for each channel.

    x (N, C, *in) or (N, C); γ `weight` and β `bias` (C).  In training μ and σ² = Σ(x − μ)²/m
    are those of the batch, with m entries for each channel, and the running statistics move:
    running ← (1 − momentum)·running + momentum·new, where the new variance is Σ(x − μ)²/(m − 1).
    Otherwise μ and σ² are the running ones.
    Raises ShapeError when a training batch has one entry for each channel.
    Source: Ioffe & Szegedy 2015; conventions as PyTorch's BatchNorm.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    affine: bool = True

    kind: ClassVar[str] = "batchnorm"

    def __post_init__(self) -> None:
        self.momentum = check_number(self.kind, "momentum", self.momentum, 0, 1)
        self.affine = check_flag(self.kind, "affine", self.affine)
        if check_number(self.kind, "eps", self.eps, 0, 1) == 0:
            raise SettingError("batchnorm: eps is 0; it must be above 0, such as 1e-5")

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        if not in_shape:
            raise ShapeError("batchnorm: needs samples of shape (channels, …), but gets ()")
        channels = in_shape[0]
        if self.affine:
            self.params = {"weight": np.ones(channels, dtype), "bias": np.zeros(channels, dtype)}
        self.buffers = {
            "running_mean": np.zeros(channels, dtype),
            "running_var": np.ones(channels, dtype),
        }
        return in_shape

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        if not training:
            self._cache = None
            mean, var = self.buffers["running_mean"], self.buffers["running_var"]
            return self._affine((x - _wide(mean, x)) / np.sqrt(_wide(var, x) + self.eps))
        mean, var, count = _statistics(x)
        self._move("running_mean", mean)
        self._move("running_var", var * (count / (count - 1)))
        scale = _wide(1 / np.sqrt(var + self.eps), x)
        normed = (x - _wide(mean, x)) * scale
        self._cache = normed, scale
        return self._affine(normed)

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = γ/√(σ² + eps) · (dy − mean(dy) − x̂·mean(dy·x̂)); dγ = Σ dy·x̂, dβ = Σ dy."""
        normed, scale = self._kept()
        axes = _all_but_channels(dy)
        if self.affine:
            self.grads = {"weight": (dy * normed).sum(axes), "bias": dy.sum(axes)}
            dy = dy * _wide(self.params["weight"], dy)
        if not need_input:
            return None
        mean = dy.mean(axes, keepdims=True)
        along = (dy * normed).mean(axes, keepdims=True)
        return scale * (dy - mean - normed * along)

    def _affine(self, normed: np.ndarray) -> np.ndarray:
        if not self.affine:
            return normed
        return normed * _wide(self.params["weight"], normed) + _wide(self.params["bias"], normed)

    def _move(self, name: str, new: np.ndarray) -> None:
        running = self.buffers[name]
        running[...] = (1 - self.momentum) * running + self.momentum * new


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    count = x.size // max(x.shape[1], 1)
    if count < 2:
        raise ShapeError(
            f"batchnorm: a training batch of shape {x.shape} has {count} entries for each channel, "
            "too few for a variance; train on batches of two samples or more"
        )
    axes = _all_but_channels(x)
    return x.mean(axes), x.var(axes), count


def _all_but_channels(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _wide(per_channel: np.ndarray, x: np.ndarray) -> np.ndarray:
    return per_channel.reshape(1, -1, *(1 for _ in x.shape[2:]))
