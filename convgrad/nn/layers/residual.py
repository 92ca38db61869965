"""The residual block: two ways through, added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from convgrad.errors import ShapeError
from convgrad.nn.layers.activations import ReLU, Sigmoid, Tanh
from convgrad.nn.layers.base import Compute, Layer, Shape
from convgrad.nn.layers.chain import Chain
from convgrad.nn.names import choose

AFTER: dict[str, type[Layer] | None] = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "none": None,
}


@dataclass(eq=False)
class Residual(Layer):
    """y = activation(body(x) + shortcut(x)); without shortcut layers, body(x) + x.

    Raises ShapeError if the two ways end in different shapes.  Source: He et al. 2016.
    """

    body: Sequence[Layer]
    shortcut: Sequence[Layer] = ()
    activation: str = "relu"

    kind: ClassVar[str] = "residual"

    _body: Chain = field(init=False, repr=False)
    _shortcut: Chain = field(init=False, repr=False)
    _after: Chain = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.body, self.shortcut = tuple(self.body), tuple(self.shortcut)
        after = choose(AFTER, self.activation, "activation of a residual block")
        self._body, self._shortcut = Chain(self.body), Chain(self.shortcut)
        self._after = Chain([after()] if after else [])

    def configure(self, compute: Compute) -> None:
        self._body.configure(compute)
        self._shortcut.configure(compute)

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        out = self._body.build(in_shape, rng, dtype)
        beside = self._shortcut.build(in_shape, rng, dtype)
        if out != beside:
            raise ShapeError(
                f"residual: the body gives {out} and the shortcut {beside}, which cannot be "
                f"added; give the shortcut a conv with kernel 1 that gives {out}"
            )
        self.params = _both(self._body.params(), self._shortcut.params())
        self.buffers = _both(self._body.buffers(), self._shortcut.buffers())
        return self._after.build(out, rng, dtype)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        added = self._body.forward(x, training) + self._shortcut.forward(x, training)
        return self._after.forward(added, training)

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = bodyᵀ(dz) + shortcutᵀ(dz), with dz the gradient before the activation."""
        dz = self._before_activation(dy)
        dx = self._body.backward(dz, need_input)
        beside = self._shortcut.backward(dz, need_input)
        self.grads = _both(self._body.grads(), self._shortcut.grads())
        return None if dx is None or beside is None else dx + beside

    def nonfinite_output(self, x: np.ndarray) -> str | None:
        inner = _join("body", self._body.nonfinite_output(x))
        return inner or _join("shortcut", self._shortcut.nonfinite_output(x))

    def nonfinite_gradient(self, dy: np.ndarray) -> str | None:
        dz = self._before_activation(dy)
        inner = _join("body", self._body.nonfinite_gradient(dz))
        return inner or _join("shortcut", self._shortcut.nonfinite_gradient(dz))

    def inside(self) -> list[tuple[str, Layer, Shape]]:
        parts = (("body", self._body), ("shortcut", self._shortcut))
        return [
            (f"{part}.{name}", layer, shape)
            for part, chain in parts
            for name, layer, shape in chain.rows()
        ]

    def _before_activation(self, dy: np.ndarray) -> np.ndarray:
        dz = self._after.backward(dy)
        return dy if dz is None else dz


def _both(body: dict[str, np.ndarray], shortcut: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    named = {f"body.{name}": array for name, array in body.items()}
    return named | {f"shortcut.{name}": array for name, array in shortcut.items()}


def _join(part: str, inner: str | None) -> str | None:
    return None if inner is None else f"{part}.{inner}"
