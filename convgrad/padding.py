"""Padding: how much (ints, pairs, valid, same) and with what (modes as index maps).

A padding mode is an index map m on each axis: padded[q] = x[m(q)], with q from −lo to in+hi−1.
Its adjoint sends each padded cell's gradient to the cell it was copied from:
dx[i] = Σ_{q: m(q)=i} dpadded[q].

    mode        cells around a b c d    NumPy        SciPy ndimage   PyTorch      MATLAB padarray
    zeros       0 0 | a b c d | 0 0     constant     grid-constant   zeros        0
    constant    v v | a b c d | v v     constant     grid-constant   constant     v
    reflect     c b | a b c d | c b     reflect      mirror          reflect      –
    symmetric   b a | a b c d | d c     symmetric    reflect         –            symmetric
    replicate   a a | a b c d | d d     edge         nearest         replicate    replicate
    circular    c d | a b c d | a b     wrap         grid-wrap       circular     circular

Pads wider than the input go on in the same pattern, as NumPy's do (PyTorch refuses them).
"""

from functools import lru_cache

import numpy as np

from convgrad.errors import SettingError

Pads = tuple[tuple[int, int], ...]
Padding = str | int | tuple[int | tuple[int, ...], ...]
MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")


def resolve_pads(
    call: str,
    padding: Padding,
    in_size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Pads:
    """Padding in any of its forms → ((lo, hi), …), one pair for each spatial axis.

    "same" makes out = ⌈in/s⌉ (the rule of TensorFlow, JAX and ONNX's SAME_UPPER, for every
    stride): the total is max((out−1)·s + d·(K−1) + 1 − in, 0), an odd cell goes behind;
    "same_lower" puts it in front. Raises SettingError for anything malformed or negative.
    """
    rank = len(kernel)
    if isinstance(padding, str):
        return _named_pads(call, padding, in_size, kernel, stride, dilation)
    entries = (padding,) if isinstance(padding, int) else padding
    if len(entries) == 1 and isinstance(entries[0], int):
        entries *= rank
    if len(entries) != rank:
        hint = f"; write [{entries}] for lo and hi of one axis" if rank == 1 else ""
        raise SettingError(
            f"{call}: padding={padding!r} has {len(entries)} entries for {rank} spatial axes{hint}"
        )
    return tuple(_pair(call, entry) for entry in entries)


def _named_pads(
    call: str,
    padding: str,
    in_size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Pads:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding not in ("same", "same_lower"):
        raise SettingError(
            f'{call}: padding="{padding}" is not known; use "valid", "same", "same_lower", '
            "an int, one int for each axis, or (lo, hi) pairs"
        )
    pads = []
    for n, k, s, d in zip(in_size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if padding == "same" else (large, small))
    return tuple(pads)


def _pair(call: str, entry: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(entry, int):
        return _cells(call, entry), _cells(call, entry)
    if len(entry) != 2:
        raise SettingError(f"{call}: padding has {entry!r} where a (lo, hi) pair is needed")
    return _cells(call, entry[0]), _cells(call, entry[1])


def _cells(call: str, cells: int) -> int:
    if cells < 0:
        raise SettingError(
            f"{call}: padding must not be negative, but is {cells}; crop the array instead"
        )
    return cells


@lru_cache(maxsize=512)
def source_index(mode: str, size: int, lo: int, hi: int) -> np.ndarray:
    """m(q) for q = −lo … size+hi−1: the cell each padded cell is copied from, (lo+size+hi,)."""
    q = np.arange(-lo, size + hi)
    if mode == "replicate":
        index = np.clip(q, 0, size - 1)
    elif mode == "circular":
        index = q % size
    elif mode == "symmetric":
        folded = q % (2 * size)
        index = np.minimum(folded, 2 * size - 1 - folded)
    elif mode == "reflect":
        period = max(2 * size - 2, 1)
        folded = q % period
        index = np.minimum(folded, period - folded) if size > 1 else np.zeros_like(q)
    else:
        raise ValueError(f"{mode} padding is no index map")
    index.flags.writeable = False
    return index


def pad(x: np.ndarray, pads: Pads, mode: str, value: complex = 0) -> np.ndarray:
    """padded[…, q] = x[…, m(q)] on the last axes; x (…, *in) → (…, *in + lo + hi)."""
    if mode in ("zeros", "constant"):
        lead = ((0, 0),) * (x.ndim - len(pads))
        return np.pad(x, lead + pads, constant_values=x.dtype.type(value))
    first = x.ndim - len(pads)
    for axis, (lo, hi) in enumerate(pads, start=first):
        if lo or hi:
            x = np.take(x, source_index(mode, x.shape[axis], lo, hi), axis=axis)
    return x


def pad_adjoint(dpadded: np.ndarray, pads: Pads, mode: str) -> np.ndarray:
    """dx[…, i] = Σ_{q: m(q)=i} dpadded[…, q]; the exact adjoint of `pad` (its linear part)."""
    first = dpadded.ndim - len(pads)
    for axis, (lo, hi) in enumerate(pads, start=first):
        size = dpadded.shape[axis] - lo - hi
        cells = np.moveaxis(dpadded, axis, 0)
        inner = cells[lo : lo + size]
        if mode not in ("zeros", "constant") and (lo or hi):
            inner = inner.copy()
            index = source_index(mode, size, lo, hi)
            for q in (*range(lo), *range(lo + size, lo + size + hi)):
                inner[index[q]] += cells[q]
        dpadded = np.moveaxis(inner, 0, axis)
    return dpadded
