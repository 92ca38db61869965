"""unfold and fold as torch.nn.functional has them: im2col and col2im of images.

They refuse integers, as PyTorch does; `convgrad.im2col` and `convgrad.col2im` take them.
"""
# ruff: noqa: A002 (the arguments have PyTorch's names)

import numpy as np

from convgrad.arrays import Array, Kind, floating_dtype, to_numpy
from convgrad.contracts.aten.sizes import Ints
from convgrad.errors import SettingError, ShapeError
from convgrad.geometry import check_memory, times
from convgrad.settings import ints
from convgrad.unfolding import col2im, im2col

Pair = tuple[int, int]


def unfold(
    input: Array, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1
) -> Array:
    """cols[n, (c·KH + kh)·KW + kw, p] = input[n, c, s·p + d·k − padding], zero in the padding.

    input (N, C, H, W) → (N, C·KH·KW, L), or (C, H, W) → (C·KH·KW, L), with L output positions.
    Settings are one int or two. float16 to float64, bfloat16, complex and bool.
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    call = "unfold"
    array, kind = _numbers(call, input)
    if array.ndim not in (3, 4) or 0 in array.shape[-3:]:
        raise ShapeError(
            f"{call}: input is {array.shape}; it needs 4 axes (N, C, H, W), or 3 without N, "
            "none of them 0 but N"
        )
    kernel = _pair(call, "kernel_size", kernel_size)
    settings = _settings(call, dilation, padding, stride)
    *lead, channels, height, width = array.shape
    blocks = _blocks(call, "input", (height, width), kernel, *settings)
    steps, pads, strides = settings
    padded = (*lead, channels, *_padded((height, width), pads))
    check_memory(call, "the padded input", padded, "padding")
    columns = (*lead, channels * kernel[0] * kernel[1], blocks[0] * blocks[1])
    check_memory(call, "the columns", columns, "padding")
    return kind.restore(im2col(array, kernel, strides, pads, steps))


def fold(
    input: Array, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0,
    stride: Ints = 1,
) -> Array:  # fmt: skip
    """image[n, c, i] = Σ_{k,p: s·p + d·k − padding = i} input[n, (c·KH + kh)·KW + kw, p].

    input (N, C·KH·KW, L) → (N, C, *output_size), or (C·KH·KW, L) → (C, *output_size): the adjoint
    of `unfold`. float16 and bfloat16 are summed in float32 and rounded once; bool: any.
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    call = "fold"
    array, kind = _numbers(call, input)
    if array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        raise ShapeError(
            f"{call}: input is {array.shape}; it needs 3 axes (N, C·KH·KW, L), or 2 without N, "
            "none of them 0 but N"
        )
    out_size = _pair(call, "output_size", output_size)
    kernel = _pair(call, "kernel_size", kernel_size)
    settings = _settings(call, dilation, padding, stride)
    blocks = _blocks(call, "output_size", out_size, kernel, *settings)
    rows, columns = array.shape[-2:]
    taps, positions = kernel[0] * kernel[1], blocks[0] * blocks[1]
    if rows % taps or columns != positions:
        raise ShapeError(
            f"{call}: input is {array.shape}; a {times(kernel)} kernel that takes "
            f"{times(blocks)} positions in an image of {times(out_size)} needs "
            f"(…, a multiple of {taps}, {positions})"
        )
    shape = (*array.shape[:-2], rows // taps, *out_size)
    steps, pads, strides = settings
    check_memory(call, "the padded image", (*shape[:-2], *_padded(out_size, pads)), "padding")
    image = col2im(array, shape, kernel, strides, pads, steps)
    return kind.restore(image.astype(array.dtype.newbyteorder("="), copy=False))


def _numbers(call: str, value: Array) -> tuple[np.ndarray, Kind]:
    array, kind = to_numpy(call, "input", value)
    if array.dtype != np.bool_:
        floating_dtype(call, "input", array.dtype, kind)
    return array, kind


def _settings(call: str, dilation: Ints, padding: Ints, stride: Ints) -> tuple[Pair, Pair, Pair]:
    return (
        _pair(call, "dilation", dilation),
        _pair(call, "padding", padding, least=0),
        _pair(call, "stride", stride),
    )


def _pair(call: str, name: str, value: Ints, least: int = 1) -> Pair:
    """One int for both axes, or exactly two: unlike the convolutions', a list of one is refused."""
    given = ints(call, name, value)
    pair = (given, given) if isinstance(given, int) else given
    if len(pair) != 2 or min(pair) < least:
        raise SettingError(
            f"{call}: {name}={value!r} must be one int or two, each at least {least}"
        )
    return pair


def _blocks(
    call: str, name: str, size: Pair, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> Pair:
    """Positions of the kernel on each axis; raises ShapeError where there is none."""
    rows, columns = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    )
    if min(rows, columns) < 1:
        raise ShapeError(
            f"{call}: a {times(kernel)} kernel with dilation={dilation} does not fit into {name} "
            f"{times(size)} with padding={padding}; pad more, or use a smaller kernel"
        )
    return rows, columns


def _padded(size: Pair, padding: Pair) -> Pair:
    return size[0] + 2 * padding[0], size[1] + 2 * padding[1]
