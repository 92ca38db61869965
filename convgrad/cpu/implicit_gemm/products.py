"""Forward and input gradient as products of panels: how the work is laid out.

The input gradient of a map with strides has a result for each residue of the strides. They share
what is packed of dy: residues of planes and rows are bands of one product, those of the columns are
the phases of a band, which are woven together as they are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, pairwise
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes, input_grad_axes, line_axes, shifts_of
from convgrad.cpu.implicit_gemm.kernels.multiply import LINE, MULTIPLY, WEAVE, ZEROS
from convgrad.cpu.implicit_gemm.kernels.packing import (
    BY_ROW,
    BY_SUM,
    BY_TAP,
    HOME,
    PACK_WEIGHTS,
    SCATTERED,
    TAP,
)
from convgrad.cpu.implicit_gemm.kernels.panels import PIECE
from convgrad.cpu.implicit_gemm.kernels.runs import RECORD, TABLE
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.tiling import ELEMENTS, HEIGHTS, PARTS, SMALL, Panels, Tile, panels, vectors_for

Strides = tuple[int, ...]
DEPTH = 512  # products in a row of a tile before its sums are put down
PANELS = 192 << 10  # bytes of packed cells that a thread keeps beside a panel of weights
MOST_PANELS = 64
BESIDE = 16  # panels of weights that are packed together where they share cache lines
TURNS = 16  # blocks of cells in a part: while one is multiplied, the next is asked for
ALONG = {2: 6}  # stride → taps of a row from which they are read together
LEAST_ALONG = 3  # for any larger stride
BALANCE = 16  # a product is cut into at least this many blocks of cells where it can be


@dataclass(frozen=True)
class Product:
    """The jobs of a product: pack the weights into `weights` numbers, then multiply."""

    pack: Job
    multiply: Job
    weights: int


@dataclass(frozen=True)
class Taps:
    """What the phases of a product read: places of the source, and which of them each tap meets.

    places: (U, 3), where result 0 meets the source on each axis; slots: for the taps of all phases
    one after the other, which place they meet; starts: where each phase's taps begin, and the end;
    kernel: for each tap its index in the kernel, on three axes.
    """

    places: np.ndarray
    slots: np.ndarray
    starts: np.ndarray
    kernel: tuple[tuple[int, int, int], ...]

    @property
    def aligned(self) -> bool:
        """Whether every phase meets every place, in order."""
        every = np.arange(len(self.places))
        return all(
            np.array_equal(self.slots[a:b], every) for a, b in zip(self.starts, self.starts[1:])
        )


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

    samples: whose cells lie in one unit; block: summed channels in a block; turns: blocks of
    `panels` panels that a part goes through.
    """

    tile: Tile
    rows: Panels
    width: int
    samples: int
    unit: int
    block: int
    panels: int
    turns: int
    blocks: int
    skips: bool


Bands = list[list[Axes]]  # for each residue of planes and rows: its phases, the residues of columns


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


def bands_of(problem: Problem) -> Bands:
    """A map's results: one, or the input gradient's for each residue of the strides."""
    if problem.direction == "forward":
        return [[forward_axes(problem.geometry)]]
    every = input_grad_axes(problem.geometry)
    return [list(phases) for _, phases in groupby(every, key=lambda axes: axes[:2])]


def taps_of(bands: Bands) -> Taps:
    """The taps of all phases; places are numbered as the phase with the most taps meets them."""
    phases = [axes for band in bands for axes in band]
    shifts = [[tuple(map(int, shift)) for shift in shifts_of(axes)] for axes in phases]
    numbers = {shift: 0 for each in sorted(shifts, key=len, reverse=True) for shift in each}
    numbers = {shift: number for number, shift in enumerate(numbers)}
    kernel = [
        (z.k, r.k, c.k)
        for axes in phases
        for z in axes[0].taps for r in axes[1].taps for c in axes[2].taps
    ]  # fmt: skip
    return Taps(
        np.array(list(numbers), np.int64).reshape(-1, 3),
        np.array([numbers[shift] for each in shifts for shift in each], np.int64),
        np.cumsum([0, *map(len, shifts)], dtype=np.int64),
        tuple(kernel),
    )


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
    lists, table = _lists(taps), _bands(bands, spatial)
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
        line=int(_reads_a_line(cut, first, taps, role)),
        along=_side_by_side(cut, first, taps, role), order=order, skips=int(cut.skips),
        tall=cut.rows.tall, low=cut.rows.low, shares=shares,
        xg=role.sums * xc, wg=size, yg=role.rows * yo, bg=role.rows,
    )  # fmt: skip
    job = Job(
        MULTIPLY if len(bands[0]) == 1 else WEAVE, ELEMENTS[problem.dtype.name], cut.tile, values,
        blocks * shares, g.macs > SMALL, (places, slots, starts, lists, table),
    )  # fmt: skip
    return Product(_pack(problem, role, taps, cut, order), job, g.groups * size)


def _bands(bands: Bands, spatial: Sequence[int]) -> np.ndarray:
    """For each band: where it begins in the result, its planes, rows, and columns of all phases."""
    return np.array(
        [
            (
                sum(axis.first * s for axis, s in zip(phases[0], spatial, strict=True)),
                phases[0][0].size, phases[0][1].size, sum(axes[2].size for axes in phases),
            )
            for phases in bands
        ],
        np.int64,
    )  # fmt: skip


def _lists(taps: Taps) -> np.ndarray:
    """For each phase how many pieces its sum has, and for each (first tap, its place, number)."""
    starts = taps.starts.tolist()
    lists = np.zeros(len(starts) - 1 + PIECE * len(taps.slots), np.int64)
    for phase, (begin, end) in enumerate(pairwise(starts)):
        slots = taps.slots[begin:end]
        firsts = [t for t in range(len(slots)) if t == 0 or slots[t] != slots[t - 1] + 1]
        at = begin * PIECE + phase
        lists[at] = len(firsts)
        for i, (t, after) in enumerate(pairwise([*firsts, len(slots)])):
            lists[at + 1 + i * PIECE : at + 1 + (i + 1) * PIECE] = t, slots[t], after - t
    return lists


def _reads_a_line(cut: Cut, axes: Axes, taps: Taps, role: Roles) -> bool:
    """Whether the cells of a unit are one run of the source, and each result meets its own cell."""
    _, _, xz, xh, xw = role.source
    deep, high, wide = axes
    return (
        cut.samples == 1 and len(taps.places) == 1 and not taps.places.any() and xw == 1
        and all(axis.size == axis.source and axis.stride == 1 for axis in axes)
        and (high.size == 1 or xh == wide.size)
        and (deep.size == 1 or xz == wide.size * high.size)
    )  # fmt: skip


def _side_by_side(cut: Cut, axes: Axes, taps: Taps, role: Roles) -> int:
    """How many taps of a row are packed at once: cells lie apart, and their taps side by side."""
    steps = np.diff([tap.offset(axes[2]) for tap in axes[2].taps])
    stride = axes[2].stride
    many = len(steps) + 1 >= ALONG.get(stride, LEAST_ALONG)
    if cut.skips or stride == 1 or not (many and taps.aligned and role.source[4] == 1):
        return 0
    return len(steps) + 1 if (steps == 1).all() else 0


@lru_cache(maxsize=4096)
def _positions(axes: Axes) -> int:
    return prod(axis.size for axis in axes)


def cut_of(problem: Problem, bands: Bands, taps: Taps) -> Cut:
    """The tile's panels and the blocks of cells, from the geometry and the machine alone."""
    g, item = problem.geometry, problem.dtype.itemsize
    rows, sums = g.group_out, g.group_in
    if problem.direction == "input_grad":
        rows, sums = sums, rows
    where = compiler.target()
    vectors = vectors_for(rows, where.level)
    cut = panels(rows, HEIGHTS[where.level][vectors])
    width = vectors * where.lanes(ELEMENTS[problem.dtype.name]).count
    places = max(1, len(taps.places))
    positions = _positions(bands[0][0])
    together = positions < 16 * width  # whatever the batch: a sample has the same bits in any
    samples, units = (g.batch, 1) if together else (1, g.batch)
    unit = samples * positions
    block = -(-sums // max(1, round(sums * _depth(taps) / DEPTH)))
    count = -(-unit // width)
    most = PANELS // (block * places * width * item)
    most = max(1, min(MOST_PANELS, most, -(-count * units * g.groups // BALANCE)))
    blocks = -(-count // most)
    turns = max(1, min(TURNS, blocks * units * g.groups // (2 * BALANCE)))
    skips = not together and any(
        len(axis.taps) > 1 and 8 * max(abs(tap.offset(axis)) for tap in axis.taps) > axis.source
        for phases in bands
        for axes in phases
        for axis in axes
    )
    each = -(-count // blocks)
    return Cut(
        Tile(cut.height, vectors), cut, width, samples, unit, block, each, turns,
        -(-count // (each * turns)), skips,
    )  # fmt: skip


def _depth(taps: Taps) -> float:
    """Products in a phase's sum for each channel, between its own taps and all that are packed."""
    counts = [n for n in np.diff(taps.starts).tolist() if n]
    return (len(taps.places) + sum(counts) / max(1, len(counts))) / 2


def scratch(problem: Problem) -> int:
    """Bytes that a thread works in: see `multiply`; packing weights takes a table of the taps."""
    bands = bands_of(problem)
    taps = taps_of(bands)
    cut, item = cut_of(problem, bands, taps), problem.dtype.itemsize
    count, places, phases = len(taps.slots), len(taps.places), len(bands[0])
    words = TABLE + RECORD * cut.width + 3 * LINE
    if cut.skips:
        words += places + PIECE * count + len(bands) * phases
    numbers = (
        ZEROS
        + (phases + 1) * cut.width * (cut.tile.height + 16)
        + cut.panels * max(1, places) * cut.block * cut.width
    )
    return max(8 * HOME * count, 8 * cut.panels * words + (numbers + 2 * cut.width) * item)


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
