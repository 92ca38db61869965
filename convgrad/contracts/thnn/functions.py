"""The three functions of SpatialConvolutionMM: im2col, GEMM and col2im, one sample at a time.

The matrices are row-major and gemm is column-major, so each product is asked for transposed, with
its two factors exchanged; the comment above each product says what it means row by row, with
K = I·kH·kW rows of the columns and P = oH·oW output pixels.
"""
# ruff: noqa: A002 (the arguments have THNN's names)

from typing import NamedTuple, SupportsFloat

import numpy as np

from convgrad.algorithm import wide_dtype
from convgrad.arrays import Array, to_numpy
from convgrad.contracts.blas import gemm, gemv
from convgrad.contracts.thnn.layer import Buffers, columns_of, layer_of, operands, sample
from convgrad.settings import real_scale


class ParameterGradients(NamedTuple):
    """The buffers that acc_grad_parameters has added to; None where none was passed."""

    grad_weight: Array | None
    grad_bias: Array | None


def update_output(
    input: Array, output: Array | None, weight: Array, bias: Array | None,
    columns: Array | None, ones: Array | None,
    kW: int, kH: int, dW: int, dH: int, padW: int, padH: int,
) -> Array:  # fmt: skip
    """output = weight · columns + bias ⊗ ones, columns = im2col(input).

    input (N, I, H, W) or (I, H, W), weight (O, I, kH, kW) or (O, I·kH·kW), bias (O) or None
    → output (N, O, oH, oW) or (O, oH, oW).
    columns (I·kH·kW, oH·oW), which holds the last sample's afterwards, or (N, I·kH·kW, oH·oW);
    ones at least oH·oW numbers, filled with 1. A buffer that is None is made for the call.
    """
    read, dtype = operands("update_output", input=input, weight=weight, bias=bias)
    layer = layer_of("update_output", read["input"].shape, kW, kH, dW, dH, padW, padH)
    planes = layer.check_weight("weight", read["weight"].shape)
    if bias is not None:
        layer.check_bias("bias", read["bias"].shape, planes)
    buffers = Buffers(layer, dtype, read, {})
    result = buffers.take("output", output, layer.output_shape(planes))
    cols = buffers.take_columns("columns", columns)
    unit = buffers.take_ones(ones)
    buffers.check()

    unit.fill(1)
    filters = np.ascontiguousarray(read["weight"])
    offsets = None if bias is None else np.ascontiguousarray(read["bias"])
    rows, pixels = layer.rows, layer.pixels
    for n in range(layer.samples):
        y, unfolded = sample(layer, result, n), columns_of(cols, n)
        if offsets is None:
            y.fill(0)
        else:  # y = bias · onesᵀ: (O, 1) · (1, P)
            gemm("t", "n", pixels, planes, 1, 1, unit, 1, offsets, 1, 0, y, pixels)
        unfolded[...] = layer.unfold(sample(layer, read["input"], n))
        # y += weight · columns: (O, K) · (K, P)
        gemm("n", "n", pixels, planes, rows, 1, unfolded, pixels, filters, rows, 1, y, pixels)
    return result if output is None else output


def update_grad_input(
    input: Array, grad_output: Array, grad_input: Array | None, weight: Array,
    grad_columns: Array | None, ones: Array | None,
    kW: int, kH: int, dW: int, dH: int, padW: int, padH: int,
) -> Array:  # fmt: skip
    """grad_input = col2im(grad_columns), grad_columns = weightᵀ · grad_output.

    input (N, I, H, W) or (I, H, W), of which only shape and dtype count; grad_output shaped as the
    output; weight (O, I, kH, kW) or (O, I·kH·kW) → grad_input, shaped as input and overwritten.
    grad_columns (I·kH·kW, oH·oW), which holds the last sample's afterwards, or
    (N, I·kH·kW, oH·oW). `ones` is neither read nor written, as in the original.
    """
    call = "update_grad_input"
    read, dtype = operands(call, input=input, grad_output=grad_output, weight=weight)
    layer = layer_of(call, read.pop("input").shape, kW, kH, dW, dH, padW, padH)
    planes = layer.check_weight("weight", read["weight"].shape)
    layer.check_grad_output(read["grad_output"].shape, planes)
    buffers = Buffers(layer, dtype, read, {})
    result = buffers.take("grad_input", grad_input, layer.input_shape)
    cols = buffers.take_columns("grad_columns", grad_columns)
    buffers.check()

    filters, dys = np.ascontiguousarray(read["weight"]), np.ascontiguousarray(read["grad_output"])
    rows, pixels = layer.rows, layer.pixels
    wide = wide_dtype(dtype)
    unrounded = None if wide == dtype else np.empty((rows, pixels), wide)
    for n in range(layer.samples):
        kept, dy = columns_of(cols, n), sample(layer, dys, n)
        product = kept if unrounded is None else unrounded
        # grad_columns = weightᵀ · grad_output: (K, O) · (O, P)
        gemm("n", "t", pixels, rows, planes, 1, dy, pixels, filters, rows, 0, product, pixels)
        with np.errstate(all="ignore"):
            sample(layer, result, n)[...] = layer.fold(product)
            if unrounded is not None:
                kept[...] = unrounded
    return result if grad_input is None else grad_input


def acc_grad_parameters(
    input: Array, grad_output: Array, grad_weight: Array | None, grad_bias: Array | None,
    columns: Array | None, ones: Array | None,
    kW: int, kH: int, dW: int, dH: int, padW: int, padH: int,
    scale: SupportsFloat = 1.0,
) -> ParameterGradients:  # fmt: skip
    """grad_weight += scale · Σ_n grad_output · columnsᵀ, grad_bias += scale · Σ grad_output.

    input (N, I, H, W) or (I, H, W), grad_output shaped as the output; grad_weight (O, I, kH, kW)
    or (O, I·kH·kW) and grad_bias (O) are contiguous buffers, added to and returned; None leaves
    that gradient out. With the weight and the bias themselves as buffers, and scale = −α, it is a
    step of gradient descent. columns (filled where there is a grad_weight) and ones as in
    update_output.
    """
    call = "acc_grad_parameters"
    read, dtype = operands(call, input=input, grad_output=grad_output)
    layer = layer_of(call, read["input"].shape, kW, kH, dW, dH, padW, padH)
    factor = real_scale(call, scale)
    buffers = Buffers(layer, dtype, read, {})
    weight_sum, bias_sum = _sums(buffers, grad_weight, grad_bias)
    cols = buffers.take_columns("columns", columns)
    unit = buffers.take_ones(ones)
    buffers.check()

    unit.fill(1)
    wide = wide_dtype(dtype)
    dys = np.ascontiguousarray(read["grad_output"])
    rows, pixels, planes = layer.rows, layer.pixels, dys.shape[-3]
    if weight_sum is not None:
        dw = weight_sum.astype(wide, copy=False)
        for n in range(layer.samples):
            dy, unfolded = sample(layer, dys, n), columns_of(cols, n)
            unfolded[...] = layer.unfold(sample(layer, read["input"], n))
            # grad_weight += scale · grad_output · columnsᵀ: (O, P) · (P, K)
            gemm("t", "n", rows, planes, pixels, factor, unfolded, pixels, dy, pixels, 1, dw, rows)
        _store(weight_sum, dw)
    if bias_sum is not None:
        db = bias_sum.astype(wide, copy=False)
        for n in range(layer.samples):
            # grad_bias += scale · grad_output · ones: (O, P) · (P)
            gemv("t", pixels, planes, factor, sample(layer, dys, n), pixels, unit, 1, 1, db, 1)
        _store(bias_sum, db)
    return ParameterGradients(grad_weight, grad_bias)


def _sums(
    buffers: Buffers, grad_weight: Array | None, grad_bias: Array | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The buffers of the two gradients, checked against grad_output and each other."""
    layer, dy_shape = buffers.layer, buffers.read["grad_output"].shape
    weight_sum = bias_sum = planes = None
    if grad_weight is not None:
        shape = to_numpy(layer.call, "grad_weight", grad_weight)[0].shape
        planes = layer.check_weight("grad_weight", shape)
        weight_sum = buffers.take("grad_weight", grad_weight, shape)
    layer.check_grad_output(dy_shape, planes)
    if grad_bias is not None:
        shape = to_numpy(layer.call, "grad_bias", grad_bias)[0].shape
        layer.check_bias("grad_bias", shape, dy_shape[-3])
        bias_sum = buffers.take("grad_bias", grad_bias, shape)
    return weight_sum, bias_sum


def _store(buffer: np.ndarray, total: np.ndarray) -> None:
    """Round the sums of a float16 buffer into it; any other buffer was added to directly."""
    if total is not buffer:
        with np.errstate(all="ignore"):
            buffer[...] = total
