"""im2col and col2im as public functions: a convolution's input as the matrix it is multiplied by.

They move numbers and add overlaps, so integer arrays are welcome too.
"""

from collections.abc import Sequence

import numpy as np

from convgrad.algorithm import wide_dtype
from convgrad.arrays import Array, native, to_numpy
from convgrad.errors import DTypeError, ShapeError
from convgrad.geometry import Geometry, Size, conv_geometry
from convgrad.reference import im2col as unfolded
from convgrad.settings import ints, padding_of, shape_of


def im2col(
    x: Array,
    kernel: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence = 0,
    dilation: int | Sequence[int] = 1,
) -> Array:
    """cols[n, (c,k), p] = x[n, c, s·p + d·k − lo], zero where that lies in the padding.

    x (N, C, *in) → (N, C·K, P), or x (C, *in) → (C·K, P), with K taps and P output positions;
    for two axes row (c·KH + kh)·KW + kw and column ph·PW + pw.
    Raises ShapeError or SettingError for what does not fit, DTypeError for what is no number.
    """
    array, kind = to_numpy("im2col", "x", x)
    array = native(_numbers("im2col", "x", array))
    geometry, batched = _geometry("im2col", array.shape, kernel, stride, padding, dilation)
    cols = unfolded.im2col(geometry, array if batched else array[None])
    return kind.restore(np.ascontiguousarray(cols if batched else cols[0]))


def col2im(
    cols: Array,
    x_shape: Sequence[int],
    kernel: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence = 0,
    dilation: int | Sequence[int] = 1,
) -> Array:
    """x[n, c, i] = Σ_{k,p: s·p + d·k − lo = i} cols[n, (c,k), p]; the exact adjoint of im2col.

    cols (N, C·K, P) → x_shape (N, C, *in), or (C·K, P) → (C, *in). float16 and bfloat16 are
    summed in float32 and rounded once; integers and booleans are summed in int64 and stay so.
    Raises ShapeError or SettingError for what does not fit, DTypeError for what is no number.
    """
    array, kind = to_numpy("col2im", "cols", cols)
    array = native(_numbers("col2im", "cols", array))
    shape = shape_of("col2im", "x_shape", x_shape)
    geometry, batched = _geometry("col2im", shape, kernel, stride, padding, dilation)
    need = (geometry.batch, geometry.in_channels * geometry.taps, geometry.positions)
    need = need if batched else need[1:]
    if array.shape != need:
        raise ShapeError(
            f"col2im: cols is {array.shape}, but x {shape} with kernel {geometry.kernel} "
            f"unfolds to {need}"
        )
    whole = array.dtype.kind in "biu"
    wide = array.astype(np.int64 if whole else wide_dtype(array.dtype), copy=False)
    with np.errstate(all="ignore"):
        image = unfolded.col2im(geometry, wide if batched else wide[None])
        image = image if whole else image.astype(array.dtype, copy=False)
    return kind.restore(np.ascontiguousarray(image if batched else image[0]))


def _geometry(
    call: str, shape: Size, kernel: object, stride: object, padding: object, dilation: object
) -> tuple[Geometry, bool]:
    taps = ints(call, "kernel", kernel)
    if not isinstance(taps, tuple) or not taps:
        raise ShapeError(f"{call}: kernel={kernel!r}; pass one size for each spatial axis")
    if len(shape) not in (len(taps) + 1, len(taps) + 2):
        raise ShapeError(
            f"{call}: x is {shape} and the kernel {taps}; x needs {len(taps) + 2} axes "
            f"(batch, channels, {len(taps)} spatial), or {len(taps) + 1} without the batch"
        )
    batched = len(shape) == len(taps) + 2
    full = shape if batched else (1, *shape)
    pads = padding_of(call, padding)
    geometry = conv_geometry(
        call, full, (1, full[1], *taps), ints(call, "stride", stride), pads,
        ints(call, "dilation", dilation), 1,
    )  # fmt: skip
    return geometry, batched


def _numbers(call: str, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
        raise DTypeError(f"{call}: {name} is {array.dtype}, which holds no numbers")
    return array
