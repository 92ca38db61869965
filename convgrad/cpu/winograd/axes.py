"""A map in tiles, one axis at a time: parts of the taps, phases of the results, where they stand.

The taps of an axis are cut into parts of as many as a filtering F(m, r) has, with a stride s one
set of them for each residue of the taps: k = s·(r·part + j) + residue. What a part reads is an
image of its own, its cells s apart, whose products are summed like those of another channel.

    forward       result p = Σ over parts:  cell s·p + s·d·(r·part + j) + residue − pad
    input_grad    result p of phase f, cell s·p + f of dx, with the taps turned around

Source: Winograd 1980 (several short filters instead of a long one); for strides: Yepez & Ko 2020,
Stride 2 1-D, 2-D, and 3-D Winograd for Convolutional Neural Networks.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.winograd.filtering import F11, Filtering
from convgrad.geometry import Geometry

NO_TAP = -1
Taps = tuple[tuple[tuple[int, ...], ...], ...]  # for each phase and part


@dataclass(frozen=True)
class TiledAxis:
    """One axis of a map whose results are made in tiles.

    source, result: cells of the arrays. size: results of each phase. stride: cells of the source
    from one result to the next; apart: results between the cells of a tile (the dilation).
    shifts: the source cell of result 0 for each part. taps: for each phase and part the taps in the
    order in which they meet cells, NO_TAP where there is none. every: phases.
    """

    form: Filtering
    source: int
    result: int
    size: int
    stride: int
    apart: int
    shifts: tuple[int, ...]
    taps: Taps
    every: int = 1

    @property
    def tiles(self) -> int:
        """Tiles of all residues of `apart`."""
        return -(-self.size // (self.apart * self.form.step)) * self.apart

    @property
    def reach(self) -> int:
        """Cells of the source that one tile reads beyond one for each of its results."""
        spread = max(self.shifts) - min(self.shifts)
        return spread + self.stride * self.apart * (self.form.tile - self.form.step)

    def meets(self) -> np.ndarray:
        """Whether a part's taps are met at a point: (phases, parts, points)."""
        return _meets(self.form, self.taps)


@lru_cache(maxsize=256)
def _meets(form: Filtering, taps: Taps) -> np.ndarray:
    return np.array([
        [form.meets([j for j, k in enumerate(part) if k != NO_TAP]) for part in phase]
        for phase in taps
    ])  # fmt: skip


@lru_cache(maxsize=256)
def _products(form: Filtering, taps: Taps) -> int:
    return int(_meets(form, taps).sum())


TiledAxes = tuple[TiledAxis, TiledAxis, TiledAxis]


@lru_cache(maxsize=1024)
def tiled_axes(problem: Problem, rows: Filtering, columns: Filtering) -> TiledAxes:
    """Planes, rows and columns of a map: those of y, of dx, or for dw of y."""
    g = problem.geometry
    none = [(1, 1, 1, 1, 1, (0, 0))] * (3 - g.rank)
    sizes = zip(g.in_size, g.out_size, g.kernel, g.stride, g.dilation, g.pads, strict=True)
    make = _turned if problem.direction == "input_grad" else _straight
    z, r, c = (
        make(form, n, out, k, s, d, lo)
        for form, (n, out, k, s, d, (lo, _)) in zip(
            (F11, rows, columns), [*none, *sizes], strict=True
        )
    )
    return z, r, c


def taps_of_phase(g: Geometry, axis: int) -> int:
    """The most taps of one residue of the stride."""
    return -(-g.kernel[axis] // g.stride[axis])


def _straight(form: Filtering, n: int, out: int, k: int, s: int, d: int, lo: int) -> TiledAxis:
    r = form.taps
    parts = [
        (residue, residue + s * np.arange(first, first + r))
        for first in range(0, -(-k // s), r) for residue in range(s)
    ]  # fmt: skip
    parts = [(residue, taps) for residue, taps in parts if taps[0] < k]
    taps = tuple(tuple(int(t) if t < k else NO_TAP for t in taps) for _, taps in parts)
    shifts = tuple(d * int(taps[0]) - lo for _, taps in parts)
    return TiledAxis(form, n, out, out, s, d, shifts, (taps,))


def _turned(form: Filtering, n: int, out: int, k: int, s: int, d: int, lo: int) -> TiledAxis:
    """The taps of each phase turned around, so that result 0 of phase f is cell f of dx."""
    r = form.taps
    phases, taps = range(s), []
    for f in phases:
        met = [i for i in reversed(range(k)) if (f + lo - d * i) % s == 0]
        taps.append([(i, (f + lo - d * i) // s) for i in met])  # tap, cell of dy
    cells = [cell for phase in taps for _, cell in phase]
    first, count = min(cells), (max(cells) - min(cells)) // d + 1
    starts = range(0, count, r)
    turned = []
    for phase in taps:
        row = [NO_TAP] * (count + r)
        for tap, cell in phase:
            row[(cell - first) // d] = tap
        turned.append(tuple(tuple(row[j : j + r]) for j in starts))
    shifts = tuple(first + d * j for j in starts)
    return TiledAxis(form, out, n, -(-n // s), 1, d, shifts, tuple(turned), s)


def meeting(axes: TiledAxes) -> np.ndarray:
    """Which parts meet: (phases, parts, points), all axes together."""
    z, r, c = (axis.meets() for axis in axes)
    all_three = np.einsum("aix,bjy,ckz->abcijkxyz", z, r, c)
    phases, parts, points = (prod(m.shape[i] for m in (z, r, c)) for i in range(3))
    return all_three.reshape(phases, parts, points)


def products(axes: TiledAxes) -> int:
    """Products of one tile of all phases, for one pair of channels."""
    return prod(_products(axis.form, axis.taps) for axis in axes)


def tap_places(axes: TiledAxes, strides: tuple[int, int, int], none: int) -> np.ndarray:
    """Where the tap of each (phase, part, place in the form) lies in the weights, or `none`."""
    tables = [np.array(axis.taps) for axis in axes]  # (phases, parts, taps)
    places, missing = np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 1), bool)
    for table, stride in zip(tables, strides, strict=True):
        shape = [places.shape[i] * table.shape[i] for i in range(3)]
        both = places[:, None, :, None, :, None] + (table * stride)[None, :, None, :, None, :]
        gone = missing[:, None, :, None, :, None] | (table == NO_TAP)[None, :, None, :, None, :]
        places, missing = both.reshape(shape), gone.reshape(shape)
    return np.where(missing, none, places).astype(np.int64)
