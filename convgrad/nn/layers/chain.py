"""Layers one after the other, with names: what a model and a residual block are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convgrad.errors import ConvError, SettingError
from convgrad.nn.layers.base import Arrays, Compute, Layer, Shape


class Chain:
    """y = f_n(… f_1(x)), and backward through the same layers in reverse.

    The layers are named by their place and kind: 00_conv, 01_relu, …
    """

    def __init__(self, layers: Sequence[Layer]):
        self.layers = tuple(layers)
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise SettingError(f"a layer is needed, but this came: {layer!r}")
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise SettingError("one layer object stands in two places; make a layer for each")
        self.names = [f"{place:02d}_{layer.kind}" for place, layer in enumerate(self.layers)]
        self.shapes: list[Shape] = []

    def configure(self, compute: Compute) -> None:
        for layer in self.layers:
            layer.configure(compute)

    def build(self, shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        """Build every layer; an error says which layer it comes from."""
        self.shapes = []
        for name, layer in zip(self.names, self.layers, strict=True):
            try:
                shape = layer.build(shape, rng, dtype)
            except ConvError as error:
                raise type(error)(f"layer {name} (samples of shape {shape}): {error}") from error
            self.shapes.append(shape)
        return shape

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx; with need_input=False None, and nothing is computed below the last parameter."""
        first = 0 if need_input else self._first_trained()
        for place in reversed(range(first, len(self.layers))):
            dx = self.layers[place].backward(dy, need_input or place > first)
            if dx is None:
                return None
            dy = dx
        return dy if need_input else None

    def params(self) -> Arrays:
        return self._collect([layer.params for layer in self.layers])

    def grads(self) -> Arrays:
        return self._collect([layer.grads for layer in self.layers])

    def buffers(self) -> Arrays:
        return self._collect([layer.buffers for layer in self.layers])

    def nonfinite_output(self, x: np.ndarray) -> str | None:
        """The first layer, in forward order, whose output for x is not finite."""
        for name, layer in zip(self.names, self.layers, strict=True):
            y = layer.forward(x, training=True)
            if not np.isfinite(y).all():
                return _join(name, layer.nonfinite_output(x))
            x = y
        return None

    def nonfinite_gradient(self, dy: np.ndarray) -> str | None:
        """The first layer, in backward order, with a gradient that is not finite."""
        for name, layer in zip(reversed(self.names), reversed(self.layers), strict=True):
            dx = layer.backward(dy)
            if dx is None or not all(np.isfinite(g).all() for g in (dx, *layer.grads.values())):
                return _join(name, layer.nonfinite_gradient(dy))
            dy = dx
        return None

    def rows(self) -> list[tuple[str, Layer, Shape]]:
        """(name, layer, output shape), with the layers inside a layer after it."""
        found = []
        for name, layer, shape in zip(self.names, self.layers, self.shapes, strict=True):
            found.append((name, layer, shape))
            found += [(f"{name}.{inner}", *rest) for inner, *rest in layer.inside()]
        return found

    def _collect(self, of_layers: list[Arrays]) -> Arrays:
        named = zip(self.names, of_layers, strict=True)
        return {f"{name}.{key}": array for name, arrays in named for key, array in arrays.items()}

    def _first_trained(self) -> int:
        trained = (place for place, layer in enumerate(self.layers) if layer.params)
        return next(trained, len(self.layers))


def _join(name: str, inner: str | None) -> str:
    return name if inner is None else f"{name}.{inner}"
