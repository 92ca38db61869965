"""Layers that forget where things are: Linear, Flatten and Sum."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from convgrad import api
from convgrad.errors import ShapeError
from convgrad.nn import initializers
from convgrad.nn.layers.base import Layer, Shape, check_count, check_flag
from convgrad.nn.layers.conv import named_grads, needed


@dataclass(eq=False)
class Linear(Layer):
    """y[n,o] = b[o] + Σ_c x[n,c] · w[o,c], run as a convolution with one pixel and one tap.

    x (N, C), w (features, C), b (features) → y (N, features).  On the engine, so that a
    sample's numbers have the same bits whatever batch it stands in.
    """

    features: int
    bias: bool = True
    initializer: str = "he_uniform"

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        self.features = check_count(self.kind, "features", self.features)
        self.bias = check_flag(self.kind, "bias", self.bias)
        initializers.named(self.initializer)

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        if len(in_shape) != 1:
            raise ShapeError(
                f"linear: needs samples of shape (features,), but gets {in_shape}; "
                "put a flatten layer before it"
            )
        shape, fans = (self.features, in_shape[0]), (in_shape[0], self.features)
        weight = initializers.start(self.initializer, shape, *fans, rng, dtype)
        self.params = {"weight": weight}
        if self.bias:
            self.params["bias"] = np.zeros(self.features, dtype)
        return (self.features,)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x if training else None
        w, b = self.params["weight"], self.params.get("bias")
        return api.conv(x[..., None], w[..., None], b, **self._call())[..., 0]

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = dy·w, dw = dyᵀ·x, db = Σ_n dy."""
        x, w = self._kept(), self.params["weight"]
        needs = needed(need_input, self.bias)
        operands = x[..., None], w[..., None], dy[..., None]
        dx, dw, db = api.backward(*operands, needs=needs, **self._call())
        self.grads = named_grads(None if dw is None else dw[..., 0], db)
        return None if dx is None else dx[..., 0]

    def _call(self) -> dict[str, Any]:
        return {"algorithm": self.compute.algorithm, "precision": self.compute.precision}


@dataclass(eq=False)
class Flatten(Layer):
    """y (N, ΠS) is x (N, *S) with its entries in the same order."""

    kind: ClassVar[str] = "flatten"

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        return (prod(in_shape),)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x.shape if training else None
        return x.reshape(len(x), prod(x.shape[1:]))

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        return dy.reshape(self._kept())


@dataclass(eq=False)
class Sum(Layer):
    """y[n] = Σ x[n, …]: every entry of a sample added to one number.  x (N, *S) → y (N,)."""

    kind: ClassVar[str] = "sum"

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        return ()

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x.shape if training else None
        return x.reshape(len(x), prod(x.shape[1:])).sum(axis=1)

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx[n, …] = dy[n]."""
        shape = self._kept()
        return np.broadcast_to(dy.reshape(-1, *(1 for _ in shape[1:])), shape).copy()
