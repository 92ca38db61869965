"""im2col and col2im under the original's names, and the shape of a layer's columns.

Their arguments stand in the original's order: height before width, padding before stride, and the
destination last; the three functions of the layer take the width first. In keywords nothing can be
mixed up. The sizes that a pointer does not know, an array knows: channels, height and width of
data_im, and the output's height and width, are not passed.
"""

from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np

from convgrad import unfolding
from convgrad.arrays import Array, to_numpy
from convgrad.contracts.blas import check_apart, check_writable
from convgrad.contracts.thnn.layer import Shape, at_least, layer_of
from convgrad.errors import DTypeError, ShapeError
from convgrad.geometry import check_memory
from convgrad.settings import shape_of


def im2col(
    data_im: Array, ksize_h: int, ksize_w: int, pad_h: int = 0, pad_w: int = 0,
    stride_h: int = 1, stride_w: int = 1, dilation_h: int = 1, dilation_w: int = 1,
    data_col: Array | None = None,
) -> Array:  # fmt: skip
    """data_col[(c·kH + u)·kW + v, p·oW + q] = data_im[c, p·s + u·d − pad, q·s + v·d − pad].

    data_im (C, H, W) → (C·kH·kW, oH·oW), or (N, C, H, W) → (N, C·kH·kW, oH·oW); zero in the
    padding. oH = ⌊(H + 2·pad_h − dilation_h·(kH − 1) − 1)/stride_h⌋ + 1, oW alike.
    data_col: a buffer to write into; it is returned. Integers are welcome.
    """
    image = _numbers("im2col", "data_im", data_im)
    window = (ksize_h, ksize_w, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w)
    _columns_shape("im2col", "data_im", image.shape, *window)
    columns = unfolding.im2col(
        data_im, (ksize_h, ksize_w), (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    )
    if data_col is None:
        return columns
    return _into("im2col", "data_col", data_col, columns, {"data_im": image})


def col2im(
    data_col: Array, channels: int, height: int, width: int,
    ksize_h: int, ksize_w: int, pad_h: int = 0, pad_w: int = 0,
    stride_h: int = 1, stride_w: int = 1, dilation_h: int = 1, dilation_w: int = 1,
    data_im: Array | None = None,
) -> Array:  # fmt: skip
    """data_im[c, i, j] = Σ data_col[(c·kH + u)·kW + v, p·oW + q] over the copies of that cell.

    data_col (C·kH·kW, oH·oW) → (C, H, W), or (N, C·kH·kW, oH·oW) → (N, C, H, W). A cell of several
    patches gets their sum, a cell of none 0. float16 is summed in float32 and rounded once.
    data_im: a buffer to overwrite; it is returned.
    """
    columns = _numbers("col2im", "data_col", data_col)
    shape = shape_of("col2im", "data_im", (*columns.shape[:-2], channels, height, width))
    window = (ksize_h, ksize_w, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w)
    need = _columns_shape("col2im", "data_im", shape, *window)
    if columns.shape != need:
        raise ShapeError(
            f"col2im: data_col is {columns.shape}, but data_im {shape} with a "
            f"{ksize_h}×{ksize_w} kernel unfolds to {need}; pass the settings of its im2col"
        )
    image = unfolding.col2im(
        data_col, shape, (ksize_h, ksize_w), (stride_h, stride_w), (pad_h, pad_w),
        (dilation_h, dilation_w),
    )  # fmt: skip
    if data_im is None:
        return image
    return _into("col2im", "data_im", data_im, image, {"data_col": columns})


def columns_shape(
    input_shape: Iterable[SupportsIndex],
    kW: int, kH: int, dW: int = 1, dH: int = 1, padW: int = 0, padH: int = 0,
) -> Shape:  # fmt: skip
    """The whole batch's columns, (N, I·kH·kW, oH·oW), or (I·kH·kW, oH·oW) of (I, H, W).

    numpy.empty(columns_shape(…)) is a `columns` that shows every sample; [-2:] is one sample's.
    """
    shape = shape_of("columns_shape", "input_shape", input_shape)
    return layer_of("columns_shape", shape, kW, kH, dW, dH, padW, padH).columns_shape


def _numbers(call: str, name: str, value: Array) -> np.ndarray:
    array, _ = to_numpy(call, name, value)
    if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
        raise DTypeError(f"{call}: {name} is {array.dtype}, which holds no numbers")
    return array


def _columns_shape(
    call: str, name: str, shape: Shape, kH: int, kW: int,
    pad_h: int, pad_w: int, stride_h: int, stride_w: int, dilation_h: int, dilation_w: int,
) -> Shape:  # fmt: skip
    """The columns of an image; raises ShapeError or SettingError unless it has any."""
    if len(shape) not in (3, 4):
        raise ShapeError(f"{call}: {name} is {shape}; pass (C, H, W) or (N, C, H, W)")
    positions, taps, padded = 1, 1, []
    axes = (
        ("h", shape[-2], kH, pad_h, stride_h, dilation_h),
        ("w", shape[-1], kW, pad_w, stride_w, dilation_w),
    )
    for axis, size, kernel, pad, stride, dilation in axes:
        kernel = at_least(call, f"ksize_{axis}", kernel, 1, "kernel")
        pad = at_least(call, f"pad_{axis}", pad, 0, "padding")
        stride = at_least(call, f"stride_{axis}", stride, 1, "stride")
        extent = at_least(call, f"dilation_{axis}", dilation, 1, "dilation") * (kernel - 1) + 1
        if size < 1 or extent > size + 2 * pad:
            raise ShapeError(
                f"{call}: {name} {shape} has {size} cells along {axis}, {size + 2 * pad} with "
                f"pad_{axis}={pad}, but a kernel of {kernel} with dilation_{axis}={dilation} "
                f"spans {extent}; pass more padding, or a smaller kernel"
            )
        positions *= (size + 2 * pad - extent) // stride + 1
        taps *= kernel
        padded.append(size + 2 * pad)
    found = (*shape[:-3], shape[-3] * taps, positions)
    check_memory(call, f"the padded {name}", (*shape[:-2], *padded), "padding")
    check_memory(call, "data_col", found, "padding")
    return found


def _into(
    call: str, name: str, buffer: Array, result: Array, source: dict[str, np.ndarray]
) -> Array:
    array, _ = to_numpy(call, name, buffer)
    numbers, _ = to_numpy(call, "result", result)
    if array.shape != numbers.shape:
        raise ShapeError(f"{call}: {name} is {array.shape}, but the result is {numbers.shape}")
    if array.dtype != numbers.dtype:
        raise DTypeError(f"{call}: {name} is {array.dtype}, but the result is {numbers.dtype}")
    check_writable(call, name, array)
    check_apart(call, {name: array}, source)
    np.copyto(array, numbers)
    return buffer
