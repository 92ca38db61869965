"""Forward and input gradient as products of panels: how the work is laid out.

The input gradient of a map with strides has a result for each residue of the strides. They share
what is packed of dy: residues of planes and rows are bands of one product, those of the columns are
the phases of a band, which are woven together as they are stored.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, line_axes
from convgrad.cpu.implicit_gemm.cut import Cut, cut_of
from convgrad.cpu.implicit_gemm.kernels.multiply import MULTIPLY, WEAVE
from convgrad.cpu.implicit_gemm.kernels.packing import (
    BY_ROW,
    BY_SUM,
    BY_TAP,
    PACK_WEIGHTS,
    SCATTERED,
    TAP,
)
from convgrad.cpu.implicit_gemm.taps import Bands, Taps, band_table, bands_of, piece_lists, taps_of
from convgrad.cpu.job import Job
from convgrad.cpu.tiling import ELEMENTS, PARTS, SMALL

Strides = tuple[int, ...]
BESIDE = 16  # panels of weights that are packed together where they share cache lines
ALONG = {2: 6}  # stride → taps of a row from which they are read together
LEAST_ALONG = 3  # for any larger stride


@dataclass(frozen=True)
class Product:
    """The jobs of a product: pack the weights into `weights` numbers, then multiply."""

    pack: Job
    multiply: Job
    weights: int
    cut: Cut


@dataclass(frozen=True)
class Roles:
    """What a product's rows and sums run over, and the strides (in elements) of its arrays.

    source, out: sample, channel and three axes. weights: row, summed channel, the kernel's axes.
    """

    rows: int
    sums: int
    source: tuple[int, ...]
    out: tuple[int, ...]
    weights: tuple[int, ...]
    weight_group: int


@lru_cache(maxsize=1024)
def product(problem: Problem, source: Strides, w: Strides, out: Strides) -> Product:
    """The product that is y or dx, for arrays with these strides in bytes."""
    g = problem.geometry
    role = roles(problem, source, w, out)
    bands = bands_of(problem)
    if is_line(problem, source, out):
        line = replace(
            role,
            source=(*role.source[:2], 0, 0, role.source[-1]),
            out=(*role.out[:2], 0, 0, role.out[-1]),
        )
        return _product(problem, line, [[line_axes(g.positions)]], taps_of(bands))
    if role.out[1] == 1:  # channels lie side by side, and columns apart in any case
        bands = [[axes] for phases in bands for axes in phases]
    return _product(problem, role, bands, taps_of(bands))


def roles(problem: Problem, source: Strides, w: Strides, out: Strides) -> Roles:
    """Forward: rows are output channels. Input gradient: rows are input channels."""
    g, item = problem.geometry, problem.dtype.itemsize
    first, second, *axes = (s // item for s in w)
    group = g.group_out * first
    here, there = lifted_strides(source, item), lifted_strides(out, item)
    if problem.direction == "input_grad":
        return Roles(g.group_in, g.group_out, here, there, (second, first, *axes), group)
    return Roles(g.group_out, g.group_in, here, there, (first, second, *axes), group)


def _product(problem: Problem, role: Roles, bands: Bands, taps: Taps) -> Product:
    g = problem.geometry
    cut = cut_of(problem, bands, taps)
    first = bands[0][0]
    deep, high, wide = first
    xn, xc, xz, xh, xw = role.source
    yn, yo, *spatial = role.out
    yz, yh, yw = (s * axis.every for s, axis in zip(spatial, first, strict=True))
    places, slots, starts = taps.places, taps.slots, taps.starts
    lists, table = piece_lists(taps), band_table(bands, spatial)
    even = len({tuple(band[1:]) for band in table.tolist()}) == 1
    flat = (
        yw == 1 and even and (high.size == 1 or yh == wide.size)
        and (deep.size == 1 or yz == wide.size * high.size)
    )  # fmt: skip
    order = int(cut.skips or not taps.aligned)
    units = g.batch // cut.samples
    blocks = g.groups * units * cut.blocks
    shares = min(cut.rows.count, -(-PARTS // blocks))
    size = role.rows * role.sums * len(slots)
    values = named(
        places=places.ctypes.data, starts=starts.ctypes.data, slots=slots.ctypes.data,
        lists=lists.ctypes.data, bands=table.ctypes.data, C=role.sums, K=len(slots), U=len(places),
        B=len(bands), xn=xn, xc=xc, xz=xz, xh=xh, xw=xw, D=deep.source, H=high.source,
        W=wide.source, sz=deep.stride, sh=high.stride, sw=wide.stride, OZ=deep.size, OH=high.size,
        OW=wide.size, yn=yn, yo=yo, yz=yz, yh=yh, yw=yw, yf=spatial[2], phases=len(bands[0]),
        units=units, unit=cut.unit, samples=cut.samples, nb=cut.panels, turns=cut.turns,
        blocks=cut.blocks, cb=cut.block, rows=role.rows, flat=int(flat),
        line=int(len(bands[0]) == 1 and _reads_a_line(first, taps, role)),
        along=_side_by_side(cut, first, taps, role), order=order, skips=int(cut.skips),
        tall=cut.rows.tall, low=cut.rows.low, shares=shares,
        xg=role.sums * xc, wg=size, yg=role.rows * yo, bg=role.rows,
    )  # fmt: skip
    job = Job(
        MULTIPLY if len(bands[0]) == 1 else WEAVE, ELEMENTS[problem.dtype.name], cut.tile, values,
        blocks * shares, g.macs > SMALL, (places, slots, starts, lists, table),
    )  # fmt: skip
    return Product(_pack(problem, role, taps, cut, order), job, g.groups * size, cut)


def _reads_a_line(axes: Axes, taps: Taps, role: Roles) -> bool:
    """Whether the cells of a sample are one run of the source, and each result meets its own."""
    deep, high, wide = axes
    one = len(taps.places) == 1 and not taps.places.any() and deep.size == high.size == 1
    return one and wide.size == wide.source and wide.stride == role.source[4] == 1


def _side_by_side(cut: Cut, axes: Axes, taps: Taps, role: Roles) -> int:
    """How many taps of a row are packed at once: cells lie apart, and their taps side by side."""
    steps = np.diff([tap.offset(axes[2]) for tap in axes[2].taps])
    stride = axes[2].stride
    many = len(steps) + 1 >= ALONG.get(stride, LEAST_ALONG)
    if cut.skips or stride == 1 or not (many and taps.aligned and role.source[4] == 1):
        return 0
    return len(steps) + 1 if (steps == 1).all() else 0


def _pack(problem: Problem, role: Roles, taps: Taps, cut: Cut, order: int) -> Job:
    """The job that packs the weights of all phases."""
    g = problem.geometry
    places = [
        sum(k * s for k, s in zip(tap[3 - g.rank :], role.weights[2:], strict=True))
        for tap in taps.kernel
    ]
    counts = np.diff(taps.starts)
    table = np.empty((len(places), TAP), np.int64)
    table[:, 0] = places
    table[:, 1], table[:, 2] = np.repeat(taps.starts[:-1], counts), np.repeat(counts, counts)
    table[:, 3] = np.arange(len(places)) - table[:, 1]
    values = named(
        tog=role.rows * role.sums * len(places), rows=role.rows, taps=table.ctypes.data,
        R=role.sums, K=len(places), so=role.weights[0], sr=role.weights[1], tall=cut.rows.tall,
        low=cut.rows.low, wg=role.weight_group, cb=cut.block, order=order,
    )  # fmt: skip
    single = order == 0 and len(counts) == 1
    extra, tables = _form(values, places, single)
    beside = BESIDE if extra["form"] in (BY_ROW, BY_TAP) else 1
    return Job(
        PACK_WEIGHTS, ELEMENTS[problem.dtype.name], cut.tile, values | {"beside": beside} | extra,
        g.groups * -(-cut.rows.count // beside), g.macs > SMALL, (table, *tables),
    )  # fmt: skip


def _form(
    values: dict[str, int], places: list[int], single: bool
) -> tuple[dict[str, int], tuple[np.ndarray, ...]]:
    """Along which axis of the weights registers are read: one that is contiguous.

    single: there is one phase, and its taps stand behind the channels.
    """
    count = len(places)
    if values["sr"] == count and places == list(range(count)) and single:
        table = np.array([(0, 0, 1, 0)], np.int64)
        return {"R": values["R"] * count, "K": 1, "sr": 1, "cb": values["cb"] * count,
                "form": BY_SUM, "taps": table.ctypes.data}, (table,)  # fmt: skip
    if values["so"] == 1:
        return {"form": BY_ROW}, ()
    if values["sr"] == 1:
        return {"form": BY_SUM}, ()
    step = min(values["so"], values["sr"])  # of the whole kernel, where its axes are contiguous
    if places and min(places) >= 0 and max(places) < step <= 4 * count:
        where = np.full(-(-step // 16) * 16, -1, np.int64)
        where[places] = range(count)
        return {"form": BY_TAP, "span": max(places) + 1, "where": where.ctypes.data}, (where,)
    return {"form": SCATTERED}, ()


def is_line(problem: Problem, source: Strides, out: Strides) -> bool:
    """A 1×1 map of images whose cells lie in one run each."""
    g = problem.geometry
    same = g.taps == 1 and g.positions == prod(g.in_size) and not any(map(any, g.pads))
    return same and _is_run(g.in_size, source) and _is_run(g.in_size, out)


def _is_run(size: tuple[int, ...], strides: Strides) -> bool:
    """Whether a step along any spatial axis is a whole number of steps along the last one."""
    run = strides[-1]
    for n, stride in zip(reversed(size), reversed(strides)):
        if n > 1 and stride != run:
            return False
        run *= n
    return True


def named(**values: int) -> dict[str, int]:
    """A kernel's arguments by name."""
    return values


def lifted_strides(strides: Strides, item: int) -> Strides:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)
