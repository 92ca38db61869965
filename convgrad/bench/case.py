"""Case: one map of one layer in one dtype, and the operands it is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import ml_dtypes
import numpy as np

from convgrad.shapes import Layer

DTYPES = ("float32", "float64", "float16", "bfloat16")
NEEDS = {"forward": ("x", "w"), "input_grad": ("w", "dy"), "weight_grad": ("x", "dy")}


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@dataclass(frozen=True)
class Case:
    """A map of a layer: which, in which dtype."""

    layer: Layer
    direction: str
    dtype: str

    @property
    def flops(self) -> int:
        """Additions and multiplications of the plain sums, padding counted."""
        return 2 * self.layer.macs

    @property
    def bytes(self) -> int:
        """Bytes of the operands and the result, each moved once."""
        return self.layer.elements * dtype_of(self.dtype).itemsize

    @property
    def result_shape(self) -> tuple[int, ...]:
        shapes = {"forward": "y_shape", "input_grad": "x_shape", "weight_grad": "w_shape"}
        return getattr(self.layer, shapes[self.direction])


@dataclass(frozen=True, eq=False)
class Operands:
    """x, w and dy of a layer."""

    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray

    def astype(self, dtype: np.dtype | type) -> Operands:
        return Operands(*(a.astype(dtype, copy=False) for a in (self.x, self.w, self.dy)))

    @cached_property
    def exact(self) -> Operands:
        """The same numbers in float64."""
        return self.astype(np.float64)


def drawn(layer: Layer, dtype: str, seed: int = 0) -> Operands:
    """Normally distributed operands, the same ones each time."""
    rng = np.random.default_rng(seed)
    shapes = (layer.x_shape, layer.w_shape, layer.y_shape)
    wide = np.float64 if dtype == "float64" else np.float32
    numbers = (rng.standard_normal(shape, dtype=wide) for shape in shapes)
    return Operands(*(a.astype(dtype_of(dtype), copy=False) for a in numbers))


def fitted(layer: Layer, most_macs: float, most_elements: float) -> Layer:
    """The layer with its batch halved until the work and the numbers keep to the bounds, or 1."""
    while layer.batch > 1 and (layer.macs > most_macs or _largest(layer) > most_elements):
        layer = replace(layer, batch=(layer.batch + 1) // 2)
    return layer


def _largest(layer: Layer) -> int:
    return max(prod(layer.x_shape), prod(layer.y_shape))
