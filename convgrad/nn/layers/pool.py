"""Pooling over windows of any number of spatial axes, by mean or by maximum.

A window is walked tap by tap: the values under one tap of all windows are one strided view of
the padded input, (N, C, *out), so both directions are a few operations on whole arrays.
Conventions as in PyTorch: out = ⌊(in + 2·padding − window)/stride⌋ + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from convgrad.errors import SettingError, ShapeError
from convgrad.nn.layers.base import Layer, Shape, check_flag, check_sizes, check_spatial, per_axis


@dataclass(frozen=True)
class Windows:
    """Where the windows stand: window, stride and padding for each spatial axis."""

    window: Shape
    stride: Shape
    padding: Shape
    out: Shape

    def padded(self, x: np.ndarray, value: float) -> np.ndarray:
        """x with a border of `value`; x itself where there is none."""
        if not any(self.padding):
            return x
        return np.pad(x, [(0, 0), (0, 0), *zip(self.padding, self.padding)], constant_values=value)

    def cropped(self, padded: np.ndarray) -> np.ndarray:
        """The adjoint of `padded`: without the border."""
        if not any(self.padding):
            return padded
        inner = (slice(p, size - p) for p, size in zip(self.padding, padded.shape[2:]))
        return padded[:, :, *inner]

    def taps(self) -> Iterator[tuple]:
        """For each tap of the window, in order: the index of its values in the padded input."""
        for tap in product(*map(range, self.window)):
            places = zip(tap, self.stride, self.out)
            yield (..., *(slice(k, k + s * (p - 1) + 1, s) for k, s, p in places))

    def padded_shape(self, x_shape: Shape) -> Shape:
        sizes = zip(x_shape[2:], self.padding)
        return (*x_shape[:2], *(size + 2 * pad for size, pad in sizes))


@dataclass(eq=False)
class Pool(Layer):
    """What both kinds of pooling share: the settings and the windows made from them."""

    window: int | Shape
    stride: int | Shape | None = None
    padding: int | Shape = 0

    _windows: Windows = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.window = check_sizes(self.kind, "window", self.window)
        self.padding = check_sizes(self.kind, "padding", self.padding, 0)
        if self.stride is not None:
            self.stride = check_sizes(self.kind, "stride", self.stride)

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_spatial(self.kind, in_shape)
        self._windows = self._place(in_shape)
        return (in_shape[0], *self._windows.out)

    def _place(self, in_shape: Shape) -> Windows:
        window = per_axis(self.kind, "window", self.window, in_shape)
        stride = window if self.stride is None else self.stride
        stride = per_axis(self.kind, "stride", stride, in_shape)
        padding = per_axis(self.kind, "padding", self.padding, in_shape)
        if any(2 * pad > size for pad, size in zip(padding, window)):
            raise SettingError(
                f"{self.kind}: padding {padding} is more than half of the window {window}, so a "
                "window could hold padding only; make the padding smaller or the window larger"
            )
        room = [size + 2 * pad for size, pad in zip(in_shape[1:], padding)]
        if any(size < need for size, need in zip(room, window)):
            raise ShapeError(
                f"{self.kind}: the window {window} is larger than the input {in_shape[1:]} with "
                f"padding {padding}; pool with a smaller window, or less often"
            )
        out = tuple((r - k) // s + 1 for r, k, s in zip(room, window, stride))
        return Windows(window, stride, padding, out)


@dataclass(eq=False)
class AvgPool(Pool):
    """y[n,c,p] = Σ_k x[n, c, s·p + k − pad] / count.

    count is the number of taps; with count_include_pad=False, of taps that are not padding.
    """

    count_include_pad: bool = True

    kind: ClassVar[str] = "avgpool"

    _share: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag(self.kind, "count_include_pad", self.count_include_pad)

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        out_shape = super().build(in_shape, rng, dtype)
        counts = np.array(float(prod(self._windows.window)))
        if not self.count_include_pad:
            counts = self._sum(np.ones((1, 1, *in_shape[1:])))
        self._share = (1 / counts).astype(dtype)  # () or (1, 1, *out)
        return out_shape

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x.shape if training else None
        return self._sum(x) * self._share

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx[n, c, s·p + k − pad] += dy[n,c,p] / count."""
        dx = np.zeros(self._windows.padded_shape(self._kept()), dy.dtype)
        share = dy * self._share
        for tap in self._windows.taps():
            dx[tap] += share
        return self._windows.cropped(dx)

    def _sum(self, x: np.ndarray) -> np.ndarray:
        padded = self._windows.padded(x, 0)
        total = np.zeros((*x.shape[:2], *self._windows.out), x.dtype)
        for tap in self._windows.taps():
            total += padded[tap]
        return total


@dataclass(eq=False)
class MaxPool(Pool):
    """y[n,c,p] = max_k x[n, c, s·p + k − pad]; padding never wins.

    Among equal values the first in window order has the gradient, as in PyTorch.  A NaN in the
    window is the maximum.
    """

    kind: ClassVar[str] = "maxpool"

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        padded = self._windows.padded(x, -np.inf)
        shape = (*x.shape[:2], *self._windows.out)
        best = np.full(shape, -np.inf, x.dtype)
        winner = np.zeros(shape, np.min_scalar_type(prod(self._windows.window)))
        for place, tap in enumerate(self._windows.taps()):
            value = padded[tap]
            wins = (value > best) | np.isnan(value)
            np.copyto(best, value, where=wins)
            np.copyto(winner, place, where=wins, casting="unsafe")
        self._cache = (x.shape, winner) if training else None
        return best

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx[n, c, s·p + k − pad] += dy[n,c,p] where tap k was the maximum of window p."""
        x_shape, winner = self._kept()
        dx = np.zeros(self._windows.padded_shape(x_shape), dy.dtype)
        for place, tap in enumerate(self._windows.taps()):
            dx[tap] += np.where(winner == place, dy, 0)
        return self._windows.cropped(dx)
