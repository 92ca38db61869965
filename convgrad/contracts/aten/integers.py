"""Convolutions of integers, exact modulo 2^bits as ATen has them: im2col and a matrix product.

    y    = W · im2col(x)            W (O, C/G·K)
    y    = col2im(Wᵀ · x)           transposed

Sums are kept in int64 and cut to the operands' dtype at the end, which is the same as cutting each
product. BLAS knows no integers: this is exact, not fast.
"""

from math import prod

import numpy as np

from convgrad.arrays import native
from convgrad.contracts.aten.sizes import Sizes
from convgrad.errors import DTypeError
from convgrad.geometry import Size, check_memory
from convgrad.unfolding import col2im, im2col


def check(call: str, dtype: np.dtype, s: Sizes) -> None:
    """Raise DTypeError where ATen has no integer kernel, ShapeError where no memory is enough."""
    if dtype.name != "int64" and (s.transposed or any(d > 1 for d in s.dilation)):
        raise DTypeError(
            f"{call}: ATen convolves {dtype.name} only with transposed=False and dilation 1; "
            "pass int64 operands, or float64"
        )
    if s.transposed:
        check_memory(call, "the uncut output", (s.out_channels, *_uncut(s)), "stride")


def convolution(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, s: Sizes) -> np.ndarray:
    """The sum of convgrad.conv or conv_transpose for integer arrays: x → y (N, O, *out)."""
    dtype = x.dtype.newbyteorder("=")
    x, w = (native(a).astype(np.int64, copy=False) for a in (x, w))
    y = np.zeros((s.input[0], s.out_channels, *s.out_size), np.int64)
    if b is not None:
        y += native(b).reshape(-1, *(1,) * len(s.out_size))
    for sample, result in zip(x, y, strict=True):
        result += _transposed(sample, w, s) if s.transposed else _forward(sample, w, s)
    return y.astype(dtype, copy=False)


def _forward(x: np.ndarray, w: np.ndarray, s: Sizes) -> np.ndarray:
    """x (C, *in) → (O, *out)."""
    cols = im2col(x, w.shape[2:], s.stride, s.padding, s.dilation)  # (C·K, P)
    grouped = cols.reshape(s.groups, -1, cols.shape[1])  # (G, C/G·K, P)
    rows = w.reshape(s.groups, w.shape[0] // s.groups, -1)  # (G, O/G, C/G·K)
    return (rows @ grouped).reshape(s.out_channels, *s.out_size)


def _transposed(x: np.ndarray, w: np.ndarray, s: Sizes) -> np.ndarray:
    """x (C, *in), w (C, O/G, *kernel) → (O, *out), cut out of the output without padding."""
    grouped = x.reshape(s.groups, x.shape[0] // s.groups, -1)  # (G, C/G, P)
    rows = w.reshape(s.groups, x.shape[0] // s.groups, -1)  # (G, C/G, O/G·K)
    cols = (rows.swapaxes(1, 2) @ grouped).reshape(-1, prod(x.shape[1:]))  # (O·K, P)
    image = col2im(cols, (s.out_channels, *_uncut(s)), w.shape[2:], s.stride, 0, s.dilation)
    y = np.zeros((s.out_channels, *s.out_size), np.int64)
    part = image[:, *(slice(p, p + n) for p, n in zip(s.padding, s.out_size, strict=True))]
    y[:, *map(slice, part.shape[1:])] = part
    return y


def _uncut(s: Sizes) -> Size:
    """The size of a transposed output before its padding is cut off."""
    return tuple(
        (n - 1) * stride + d * (k - 1) + 1
        for n, k, stride, d in zip(s.input[2:], s.weight[2:], s.stride, s.dilation, strict=True)
    )
