"""Convolution and transposed convolution as layers: thin calls of `convgrad.api`.

The output shape is what the call itself gives for an empty batch, so that every rule about
strides, padding and kernels, and every error about them, stands in one place: the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from convgrad import api
from convgrad.errors import SettingError
from convgrad.nn import initializers
from convgrad.nn.layers.base import (
    Layer,
    Shape,
    check_count,
    check_flag,
    check_sizes,
    check_spatial,
    frozen,
    per_axis,
)

Padding = str | int | tuple[int | tuple[int, int], ...]


@dataclass(eq=False)
class Conv(Layer):
    """y[n,o,p] = b[o] + Σ_{c,k} x[n, c, s·p + d·k − pad] · w[o,c,k].

    x (N, C, *in), w (channels, C/groups, *kernel), b (channels) → y (N, channels, *out), for
    any number of spatial axes.  The settings are those of `convgrad.conv`.
    """

    channels: int
    kernel: int | Shape
    stride: int | Shape = 1
    padding: Padding = 0
    dilation: int | Shape = 1
    groups: int = 1
    padding_mode: str = "zeros"
    padding_value: float = 0.0
    flip: bool = False
    bias: bool = True
    initializer: str = "he_uniform"

    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        _check_settings(self)

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        lead = (self.channels, in_shape[0] // self.groups)
        self.params = _start(self, lead, in_shape, rng, dtype)
        return self.forward(np.empty((0, *in_shape), dtype), training=False).shape[1:]

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x if training else None
        w, b = self.params["weight"], self.params.get("bias")
        return api.conv(x, w, b, **self._call())

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = input_grad(w, dy), dw = weight_grad(x, dy), db = Σ_{n,p} dy."""
        x, w = self._kept(), self.params["weight"]
        needs = needed(need_input, self.bias)
        dx, dw, db = api.backward(x, w, dy, needs=needs, **self._call())
        self.grads = named_grads(dw, db)
        return dx

    def _call(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
            "padding_value": self.padding_value,
            "flip": self.flip,
            "algorithm": self.compute.algorithm,
            "precision": self.compute.precision,
        }


@dataclass(eq=False)
class ConvTranspose(Layer):
    """y[n, o, s·p + d·k − pad] += x[n,c,p] · w[c,o,k], plus b[o]: the adjoint of a convolution.

    x (N, C, *in), w (C, channels/groups, *kernel), b (channels) → y (N, channels, *out) with
    out = (in − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.
    """

    channels: int
    kernel: int | Shape
    stride: int | Shape = 1
    padding: Padding = 0
    output_padding: int | Shape = 0
    groups: int = 1
    dilation: int | Shape = 1
    flip: bool = False
    bias: bool = True
    initializer: str = "he_uniform"

    kind: ClassVar[str] = "conv_transpose"

    def __post_init__(self) -> None:
        _check_settings(self)
        self.output_padding = check_sizes(self.kind, "output_padding", self.output_padding, 0)

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        lead = (in_shape[0], self.channels // self.groups)
        self.params = _start(self, lead, in_shape, rng, dtype)
        return self.forward(np.empty((0, *in_shape), dtype), training=False).shape[1:]

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x if training else None
        w, b = self.params["weight"], self.params.get("bias")
        return api.conv_transpose(x, w, b, **self._call())

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = conv(dy, w), dw = weight_grad(dy, x), db = Σ_{n,p} dy."""
        x, w = self._kept(), self.params["weight"]
        needs = needed(need_input, self.bias)
        dx, dw, db = api.conv_transpose_backward(x, w, dy, needs=needs, **self._call())
        self.grads = named_grads(dw, db)
        return dx

    def _call(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "dilation": self.dilation,
            "flip": self.flip,
            "algorithm": self.compute.algorithm,
            "precision": self.compute.precision,
        }


def needed(need_input: bool, bias: bool) -> tuple[str, ...]:
    """The gradients to ask of `backward`."""
    return (*(("x",) if need_input else ()), "w", *(("b",) if bias else ()))


def named_grads(dw: np.ndarray | None, db: np.ndarray | None) -> dict[str, np.ndarray]:
    """The gradients that were asked for, under the names of their parameters."""
    pairs = {"weight": dw, "bias": db}
    return {name: grad for name, grad in pairs.items() if grad is not None}


def _check_settings(layer: Conv | ConvTranspose) -> None:
    layer.channels = check_count(layer.kind, "channels", layer.channels)
    layer.groups = check_count(layer.kind, "groups", layer.groups)
    layer.kernel = check_sizes(layer.kind, "kernel", layer.kernel)
    layer.stride = check_sizes(layer.kind, "stride", layer.stride)
    layer.dilation = check_sizes(layer.kind, "dilation", layer.dilation)
    layer.padding = frozen(layer.padding)
    layer.flip = check_flag(layer.kind, "flip", layer.flip)
    layer.bias = check_flag(layer.kind, "bias", layer.bias)
    initializers.named(layer.initializer)


def _start(
    layer: Conv | ConvTranspose,
    lead: tuple[int, int],
    in_shape: Shape,
    rng: np.random.Generator,
    dtype: np.dtype,
) -> dict[str, np.ndarray]:
    """The first weight (*lead, *kernel), of fan_in C/G·K and fan_out channels·K; bias zero."""
    check_spatial(layer.kind, in_shape)
    _check_groups(layer.kind, in_shape[0], layer.channels, layer.groups)
    kernel = per_axis(layer.kind, "kernel", layer.kernel, in_shape)
    fan_in, fan_out = in_shape[0] // layer.groups * prod(kernel), layer.channels * prod(kernel)
    weight = initializers.start(layer.initializer, (*lead, *kernel), fan_in, fan_out, rng, dtype)
    zeros = {"bias": np.zeros(layer.channels, dtype)} if layer.bias else {}
    return {"weight": weight} | zeros


def _check_groups(kind: str, in_channels: int, channels: int, groups: int) -> None:
    if in_channels % groups or channels % groups:
        raise SettingError(
            f"{kind}: groups={groups} must divide the {in_channels} input channels and the "
            f"{channels} output channels; the divisors they share will do"
        )
