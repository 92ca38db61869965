"""The functions of torch.nn.grad: one gradient each, given the shape of what it is of."""
# ruff: noqa: A002 (the arguments have PyTorch's names)

from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np

from convgrad.api import input_grad, weight_grad
from convgrad.arrays import Array
from convgrad.contracts.aten.sizes import Ints, arrays, check_grad_output, sizes
from convgrad.errors import ShapeError
from convgrad.geometry import Size
from convgrad.settings import shape_of

Shape = Iterable[SupportsIndex]


def conv1d_input(
    input_size: Shape, weight: Array, grad_output: Array, stride: Ints = 1, padding: Ints = 0,
    dilation: Ints = 1, groups: SupportsIndex = 1,
) -> Array:  # fmt: skip
    """dx[n,c,i] = Σ_{o,k,p: s·p + d·k − padding = i} conj(weight[o,c,k]) · grad_output[n,o,p].

    weight (O, C/G, K), grad_output (N, O, L_out) → input_size (N, C, L).
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    settings = (stride, padding, dilation, groups)
    return _input("conv1d_input", 1, input_size, weight, grad_output, *settings)


def conv1d_weight(
    input: Array, weight_size: Shape, grad_output: Array, stride: Ints = 1, padding: Ints = 0,
    dilation: Ints = 1, groups: SupportsIndex = 1,
) -> Array:  # fmt: skip
    """dw[o,c,k] = Σ_{n,p} conj(input[n,c, s·p + d·k − padding]) · grad_output[n,o,p].

    input (N, C, L), grad_output (N, O, L_out) → weight_size (O, C/G, K).
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    settings = (stride, padding, dilation, groups)
    return _weight("conv1d_weight", 1, input, weight_size, grad_output, *settings)


def conv2d_input(
    input_size: Shape, weight: Array, grad_output: Array, stride: Ints = 1, padding: Ints = 0,
    dilation: Ints = 1, groups: SupportsIndex = 1,
) -> Array:  # fmt: skip
    """dx[n,c,i] = Σ_{o,k,p: s·p + d·k − padding = i} conj(weight[o,c,k]) · grad_output[n,o,p].

    weight (O, C/G, KH, KW), grad_output (N, O, H_out, W_out) → input_size (N, C, H, W).
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    settings = (stride, padding, dilation, groups)
    return _input("conv2d_input", 2, input_size, weight, grad_output, *settings)


def conv2d_weight(
    input: Array, weight_size: Shape, grad_output: Array, stride: Ints = 1, padding: Ints = 0,
    dilation: Ints = 1, groups: SupportsIndex = 1,
) -> Array:  # fmt: skip
    """dw[o,c,k] = Σ_{n,p} conj(input[n,c, s·p + d·k − padding]) · grad_output[n,o,p].

    input (N, C, H, W), grad_output (N, O, H_out, W_out) → weight_size (O, C/G, KH, KW).
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    settings = (stride, padding, dilation, groups)
    return _weight("conv2d_weight", 2, input, weight_size, grad_output, *settings)


def conv3d_input(
    input_size: Shape, weight: Array, grad_output: Array, stride: Ints = 1, padding: Ints = 0,
    dilation: Ints = 1, groups: SupportsIndex = 1,
) -> Array:  # fmt: skip
    """dx[n,c,i] = Σ_{o,k,p: s·p + d·k − padding = i} conj(weight[o,c,k]) · grad_output[n,o,p].

    weight (O, C/G, KT, KH, KW), grad_output (N, O, T_out, H_out, W_out)
    → input_size (N, C, T, H, W).
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    settings = (stride, padding, dilation, groups)
    return _input("conv3d_input", 3, input_size, weight, grad_output, *settings)


def conv3d_weight(
    input: Array, weight_size: Shape, grad_output: Array, stride: Ints = 1, padding: Ints = 0,
    dilation: Ints = 1, groups: SupportsIndex = 1,
) -> Array:  # fmt: skip
    """dw[o,c,k] = Σ_{n,p} conj(input[n,c, s·p + d·k − padding]) · grad_output[n,o,p].

    input (N, C, T, H, W), grad_output (N, O, T_out, H_out, W_out)
    → weight_size (O, C/G, KT, KH, KW).
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    settings = (stride, padding, dilation, groups)
    return _weight("conv3d_weight", 3, input, weight_size, grad_output, *settings)


def _input(
    call: str, rank: int, input_size: Shape, weight: Array, grad_output: Array,
    stride: Ints, padding: Ints, dilation: Ints, groups: SupportsIndex,
) -> Array:  # fmt: skip
    given, kind = arrays(call, weight=weight, grad_output=grad_output)
    w, dy = given.values()
    input_shape = shape_of(call, "input_size", input_size)
    _check_rank(call, rank, "weight", w.shape)
    s = sizes(call, input_shape, w.shape, stride, padding, dilation, False, 0, groups)
    check_grad_output(call, "grad_output", dy.shape, s)
    if s.channelless:
        return kind.restore(np.zeros(s.input, dy.dtype.newbyteorder("=")))
    return kind.restore(input_grad(s.input, w, dy, **s.keywords))


def _weight(
    call: str, rank: int, input: Array, weight_size: Shape, grad_output: Array,
    stride: Ints, padding: Ints, dilation: Ints, groups: SupportsIndex,
) -> Array:  # fmt: skip
    given, kind = arrays(call, input=input, grad_output=grad_output)
    x, dy = given.values()
    weight_shape = shape_of(call, "weight_size", weight_size)
    _check_rank(call, rank, "weight_size", weight_shape)
    s = sizes(call, x.shape, weight_shape, stride, padding, dilation, False, 0, groups)
    check_grad_output(call, "grad_output", dy.shape, s)
    if s.channelless:
        return kind.restore(np.zeros(s.weight, dy.dtype.newbyteorder("=")))
    return kind.restore(weight_grad(x, s.weight, dy, **s.keywords))


def _check_rank(call: str, rank: int, name: str, shape: Size) -> None:
    if len(shape) != rank + 2:
        raise ShapeError(f"{call}: {name} is {shape}, but a {rank}-D kernel has {rank + 2} axes")
