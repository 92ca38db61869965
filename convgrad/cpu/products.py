"""Forward and input gradient as products of panels: how the work is laid out.

A map is one product, or, for the input gradient of a map with strides, one for each residue of the
planes and rows; the residues of the columns are phases of one product, which weaves them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes, input_grad_axes, line_axes, shifts_of
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.kernels.multiply import MULTIPLY, WEAVE, ZEROS
from convgrad.cpu.kernels.packing import BY_ROW, BY_SUM, BY_TAP, PACK_WEIGHTS, SCATTERED
from convgrad.cpu.kernels.runs import RECORD, TABLE
from convgrad.cpu.tiling import ELEMENTS, HEIGHTS, PARTS, SMALL, Panels, Tile, panels, vectors_for

Strides = tuple[int, ...]
DEPTH = 512  # products in a row of a tile before its sums are put down
PANELS = 192 << 10  # bytes of packed cells that a thread keeps beside a panel of weights
MOST_PANELS = 64
BESIDE = 16  # panels of weights that are packed together where they share cache lines
BALANCE = 16  # a product is cut into at least this many blocks of cells where it can be


@dataclass(frozen=True)
class Product:
    """The jobs of one product: pack the weights into `weights` numbers, then multiply.

    packs: each with its place among the packed weights, in numbers.
    offset: bytes from the start of the result's array to the first cell.
    """

    packs: tuple[tuple[Job, int], ...]
    multiply: Job
    weights: int
    offset: int


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


@dataclass(frozen=True)
class Cut:
    """How a product is cut: its tile, the panels of rows, and the blocks of panels of cells.

    samples: whose cells lie in one unit; block: summed channels in a block.
    """

    tile: Tile
    rows: Panels
    width: int
    samples: int
    unit: int
    block: int
    panels: int
    blocks: int
    by_tap: bool


@lru_cache(maxsize=1024)
def products(problem: Problem, source: Strides, w: Strides, out: Strides) -> tuple[Product, ...]:
    """The products that make up y or dx, for arrays with these strides in bytes."""
    g = problem.geometry
    role = roles(problem, source, w, out)
    if is_line(problem, source, out):
        ((axes,),) = phases_of(problem)
        line = replace(
            role,
            source=(*role.source[:2], 0, 0, role.source[-1]),
            out=(*role.out[:2], 0, 0, role.out[-1]),
        )
        return (_product(problem, line, [line_axes(g.positions)], [axes]),)
    groups = phases_of(problem)
    if role.out[1] == 1:  # channels lie side by side, and columns apart in any case
        groups = [[axes] for phases in groups for axes in phases]
    return tuple(_product(problem, role, phases, phases) for phases in groups)


def phases_of(problem: Problem) -> list[list[Axes]]:
    """The products of a map: for each, the axes of its phases."""
    if problem.direction == "forward":
        return [[forward_axes(problem.geometry)]]
    every = input_grad_axes(problem.geometry)
    return [list(phases) for _, phases in groupby(every, key=lambda axes: axes[:2])]


def roles(problem: Problem, source: Strides, w: Strides, out: Strides) -> Roles:
    """Forward: rows are output channels. Input gradient: rows are input channels."""
    g, item = problem.geometry, problem.dtype.itemsize
    first, second, *axes = (s // item for s in w)
    group = g.group_out * first
    here, there = lifted_strides(source, item), lifted_strides(out, item)
    if problem.direction == "input_grad":
        return Roles(g.group_in, g.group_out, here, there, (second, first, *axes), group)
    return Roles(g.group_out, g.group_in, here, there, (first, second, *axes), group)


def _product(
    problem: Problem, role: Roles, phases: Sequence[Axes], kernel: Sequence[Axes]
) -> Product:
    """kernel: the axes whose taps say where the weights lie."""
    g, item = problem.geometry, problem.dtype.itemsize
    cut = cut_of(problem, phases)
    shifts = [shifts_of(axes) for axes in phases]
    table = np.concatenate(shifts)
    starts = np.cumsum([0, *map(len, shifts)], dtype=np.int64)
    deep, high, wide = phases[0]
    xn, xc, xz, xh, xw = role.source
    yn, yo, *spatial = role.out
    yz, yh, yw = (s * axis.every for s, axis in zip(spatial, phases[0], strict=True))
    flat = (
        yw == 1 and (high.size == 1 or yh == wide.size)
        and (deep.size == 1 or yz == wide.size * high.size)
    )  # fmt: skip
    units = g.batch // cut.samples
    blocks = g.groups * units * cut.blocks
    shares = min(cut.rows.count, -(-PARTS // blocks))
    size = role.rows * role.sums * len(table)
    shared = all(np.array_equal(shifts[0], other) for other in shifts)
    packed = len(shifts[0]) if shared else len(table)
    values = named(
        taps=table.ctypes.data, starts=starts.ctypes.data, C=role.sums, K=len(table), packed=packed,
        xn=xn, xc=xc, xz=xz, xh=xh, xw=xw, D=deep.source, H=high.source, W=wide.source,
        sz=deep.stride, sh=high.stride, sw=wide.stride, OZ=deep.size, OH=high.size, OW=wide.size,
        yn=yn, yo=yo, yz=yz, yh=yh, yw=yw, yf=spatial[2], phases=len(phases),
        columns=sum(axes[2].size for axes in phases), units=units, unit=cut.unit,
        samples=cut.samples, nb=cut.panels, blocks=cut.blocks, cb=cut.block, rows=role.rows,
        flat=int(flat), skips=int(cut.by_tap), tall=cut.rows.tall, low=cut.rows.low, shares=shares,
        xg=role.sums * xc, wg=size, yg=role.rows * yo, bg=role.rows,
    )  # fmt: skip
    generator = MULTIPLY if len(phases) == 1 else WEAVE
    job = Job(
        generator, ELEMENTS[problem.dtype.name], cut.tile, values, blocks * shares,
        g.macs > SMALL, (table, starts),
    )  # fmt: skip
    packs = tuple(
        (_pack(problem, role, axes, cut, size), role.rows * role.sums * int(first))
        for axes, first in zip(kernel, starts)
        if shifts_of(axes).size
    )
    offset = sum(axis.first * s for axis, s in zip(phases[0], role.out[2:], strict=True)) * item
    return Product(packs, job, g.groups * size, offset)


@lru_cache(maxsize=4096)
def _positions(phases: tuple[Axes, ...]) -> int:
    return prod(axis.size for axis in phases[0])


def cut_of(problem: Problem, phases: Sequence[Axes]) -> Cut:
    """The tile's panels and the blocks of cells, from the geometry and the machine alone."""
    g, item = problem.geometry, problem.dtype.itemsize
    rows, sums = g.group_out, g.group_in
    if problem.direction == "input_grad":
        rows, sums = sums, rows
    where = compiler.target()
    vectors = vectors_for(rows, where.level)
    cut = panels(rows, HEIGHTS[where.level][vectors])
    width = vectors * where.lanes(ELEMENTS[problem.dtype.name]).count
    taps = max(1, sum(len(shifts_of(axes)) for axes in phases))
    positions = _positions(tuple(phases))
    together = positions < 16 * width  # whatever the batch: a sample has the same bits in any
    samples, units = (g.batch, 1) if together else (1, g.batch)
    unit = samples * positions
    block = -(-sums // max(1, round(sums * taps / DEPTH / len(phases))))
    count = -(-unit // width)
    most = PANELS // (block * taps * width * item)
    most = max(1, min(MOST_PANELS, most, -(-count * units * g.groups // BALANCE)))
    blocks = -(-count // most)
    by_tap = not together and any(
        len(axis.taps) > 1 and 8 * max(abs(tap.offset(axis)) for tap in axis.taps) > axis.size
        for axes in phases
        for axis in axes
    )
    return Cut(
        Tile(cut.height, vectors), cut, width, samples, unit, block, -(-count // blocks),
        -(-count // -(-count // blocks)), by_tap,
    )  # fmt: skip


def scratch(problem: Problem, phases: Sequence[Axes]) -> int:
    """Bytes that a thread works in for one product."""
    cut, item = cut_of(problem, phases), problem.dtype.itemsize
    taps = max(1, sum(len(shifts_of(axes)) for axes in phases))
    tile = cut.tile.height * cut.width
    words = (TABLE + RECORD * cut.width) + len(phases) * (2 * taps + 2)
    numbers = (
        ZEROS
        + (len(phases) + 1) * (tile + 16 * cut.width)
        + cut.panels * taps * cut.block * cut.width
    )
    return 8 * cut.panels * words + (numbers + 2 * cut.width) * item


def _pack(problem: Problem, role: Roles, axes: Axes, cut: Cut, group: int) -> Job:
    """The job that packs the weights of one phase; `group` numbers lie between two groups."""
    g = problem.geometry
    places = [
        sum(k * s for k, s in zip(tap[3 - g.rank :], role.weights[2:], strict=True))
        for tap in (
            (z.k, r.k, c.k) for z in axes[0].taps for r in axes[1].taps for c in axes[2].taps
        )
    ]
    table = np.array(places, np.int64)
    values = named(
        tog=group, rows=role.rows, taps=table.ctypes.data, R=role.sums, K=len(places),
        so=role.weights[0], sr=role.weights[1], tall=cut.rows.tall, low=cut.rows.low,
        wg=role.weight_group, cb=cut.block, order=int(cut.by_tap),
    )  # fmt: skip
    extra, tables = _form(values, places, not cut.by_tap or len(places) == 1)
    beside = BESIDE if extra["form"] in (BY_ROW, BY_TAP) else 1
    extra = extra | {"beside": beside}
    return Job(
        PACK_WEIGHTS, ELEMENTS[problem.dtype.name], cut.tile, values | extra,
        g.groups * -(-cut.rows.count // beside), g.macs > SMALL, (table, *tables),
    )  # fmt: skip


def _form(
    values: dict[str, int], places: list[int], taps_inside: bool
) -> tuple[dict[str, int], tuple[np.ndarray, ...]]:
    """Along which axis of the weights registers are read: one that is contiguous."""
    count = len(places)
    if values["sr"] == count and places == list(range(count)) and taps_inside:
        return {"R": values["R"] * count, "K": 1, "sr": 1, "cb": values["cb"] * count,
                "form": BY_SUM}, ()  # fmt: skip
    if values["so"] == 1:
        return {"form": BY_ROW}, ()
    if values["sr"] == 1:
        return {"form": BY_SUM}, ()
    step = min(values["so"], values["sr"])  # of the whole kernel, where its axes are contiguous
    if min(places) >= 0 and max(places) < step <= 4 * count:
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
