"""How a problem of few channels is worked on: its register tile, the areas of its copy, its parts.

Area      how much of the copy is worked on at once
layout    the tile and the area;  weight_tiles  the tiles of a weight gradient
parts_of  how the work is cut into parts
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Tap
from convgrad.cpu.jit import compiler
from convgrad.cpu.stencil.axes import (
    channels,
    lengths,
    lines,
    runs_of,
)
from convgrad.cpu.stencil.kernels.rows import RUNS
from convgrad.cpu.stencil.shapes import PAIRS_OF, SLOTS, SUMS, TILES, Slots, Strips, Sums
from convgrad.cpu.tiling import ELEMENTS, evenly

NEAR, FAR = 24 << 10, 192 << 10  # bytes of a block: in the first cache, in the second
LONG = 1 << 20  # of a row, from which on it is worked on in parts
PART = 40e-6  # seconds that a part should take


@dataclass(frozen=True)
class Area:
    """Samples, planes, rows and columns of a block (columns of a residue), registers in a row, and
    the copy's rows and columns."""

    samples: int
    planes: int
    rows: int
    columns: int
    registers: int
    lanes: int
    stage_rows: int
    copy: tuple[int, int, int]  # planes, rows, columns

    @property
    def cells(self) -> int:
        """Cells of one phase of one channel of the copy."""
        return self.samples * prod(self.copy)

    @property
    def stage(self) -> int:
        """Cells of one residue of the columns of one channel of results, without `every`."""
        return self.samples * self.planes * self.stage_rows * self.registers * self.lanes


def share_of_lanes(width: int, element: str) -> int:
    """The share 1, 2 or 4 of a register that wastes the fewest lanes on rows of this width."""
    lanes = compiler.target().lanes(element).count
    able = [s for s in (1, 2, 4) if lanes // s >= 16 // (4 if element == "float" else 8)]

    def cost(share: int) -> tuple[int, int]:
        few = lanes // share
        return (-(-width // few) * (few + 4), share)  # a register costs more than its lanes

    return min(able, key=cost)


@lru_cache(maxsize=1024)
def layout(problem: Problem) -> tuple[int, Strips | Slots | None, Area]:
    """The share of a register, the tile (None in a weight gradient) and the area of a block."""
    g, item = problem.geometry, problem.wide.itemsize
    deep, high, wide = lines(problem)
    element = ELEMENTS[problem.dtype.name]
    share = share_of_lanes(wide.size, element)
    lanes = compiler.target().lanes(element).count // share
    sums, rows = channels(problem)
    tile = None if problem.direction == "weight_grad" else _tile(problem, lanes)
    step, vectors = (tile.rows, tile.vectors) if isinstance(tile, Strips) else (1, 1)
    phases = deep.phases * high.phases * wide.phases

    def make(samples: int, planes: int, lines_: int, width: int) -> Area:
        staged = -(-lines_ // step) * step
        registers = -(-width // (lanes * vectors)) * vectors
        columns = -(-(registers * lanes + wide.reach) // lanes) * lanes
        return Area(
            samples, planes, lines_, width, registers, lanes, staged,
            (planes + deep.reach, staged + high.reach, columns),
        )  # fmt: skip

    def taken(area: Area) -> int:
        if tile is None:
            return (area.cells * phases * sums + area.stage * rows) * item
        ways = wide.every * deep.every * high.every
        stage = area.stage * tile.height * ways * (2 if wide.every > 1 else 1)
        return (area.cells * phases * sums + stage) * item

    width = wide.size
    if tile is not None and taken(make(1, 1, 1, width)) > LONG:
        whole = vectors * lanes  # parts of a row are whole registers
        width = _largest(width, lambda n: taken(make(1, 1, 1, n)), FAR, LONG, 8 * wide.reach, whole)
    near, far = (NEAR, FAR) if sums * rows == 1 else (FAR, FAR)
    area = _largest(
        high.size, lambda n: taken(make(1, 1, n, width)), near, far, 4 * high.reach, step
    )
    if area < high.size or width < wide.size:
        return share, tile, make(1, 1, area, width)
    planes = _largest(
        deep.size, lambda n: taken(make(1, n, high.size, width)), near, far, 4 * deep.reach, 1
    )
    if planes < deep.size:
        return share, tile, make(1, planes, high.size, width)
    each = taken(make(1, deep.size, high.size, width))
    few = 1 if sums * rows == 1 else max(1, min(g.batch, NEAR // max(1, each), 8))
    return share, tile, make(evenly(max(1, g.batch), few), deep.size, high.size, width)


def _largest(total: int, taken, near: int, far: int, enough: int, step: int) -> int:
    """How many of `total` make a block: as fit in the first cache, or enough for their reach."""
    if taken(total) <= near:
        return total
    count = total
    while count > 1 and (taken(count) > far or (taken(count) > near and count // 2 >= enough)):
        count = -(-count // 2)
    count = -(-count // step) * step
    return count if count < total else total


def _tile(problem: Problem, lanes: int) -> Strips | Slots:
    sums, rows = channels(problem)
    registers = compiler.target().registers
    if sums * rows > 1:
        able = SLOTS[registers]
        fits = [h for h in able if h <= rows]
        # a weight's load costs less than that of cells, which lie across cache lines
        height = min(
            fits, key=lambda h: (-(-rows // h) * (h * able[h] + 0.6 * h + able[h]) / able[h], -h)
        )
        return Slots(height, able[height])
    _, high, wide = lines(problem)
    registers = -(-wide.size // lanes)
    able = [(r, v) for r, v in TILES if r + lengths(problem)[0] <= 14 and (r == 1 or v == 1)]
    if high.size < 4:
        able = [(1, v) for r, v in TILES if r == 1]

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        r, v = tile
        return -(-high.size // r) * r * -(-registers // v) * v * (1 + 1 / (r * v)), -r

    return Strips(lengths(problem), *min(able, key=cost))


def copy_offset(problem: Problem, area: Area, taps: tuple[Tap, Tap, Tap], channel: int = 0) -> int:
    """Where a tap reads in the copy, relative to the result's own cell."""
    deep, high, wide = lines(problem)
    z, h, w = taps
    _, rows, columns = area.copy
    phase = (z.phase * high.phases + h.phase) * wide.phases + w.phase
    phases = deep.phases * high.phases * wide.phases
    place = (z.shift * rows + h.shift) * columns + w.shift
    return (channel * phases + phase) * area.cells + place


Tile = list[tuple[int, list[tuple[Tap, Tap, Tap]]]]  # (channel, strip) for each column


@lru_cache(maxsize=1024)
def weight_tiles(problem: Problem) -> tuple[Sums, list[list[Tile]]]:
    """The tile of a weight gradient, and for each length of strip its tiles of columns."""
    g = problem.geometry
    registers = compiler.target().registers
    if g.group_in * g.group_out > 1:
        able = PAIRS_OF[registers]
        height = min(
            (h for h in able if h <= g.group_out),
            key=lambda h: (-(-g.group_out // h) * (h * able[h] + h + able[h]) / able[h], -h),
        )
        taps = [(c, [t[1][0]]) for c in range(g.group_in) for t in _single(problem)]
        columns = able[height]
        shape = Sums(((1, columns),), 1, height, RUNS, True, 1)
        return shape, [_tiled(taps, columns)]
    most = SUMS[registers]
    high = lines(problem)[1]
    cut: dict[int, list[list[Tap]]] = {}
    longest = max(most) if high.size > 1 else 1  # rows of dy share what is loaded of x
    for run in runs_of(high.residues[0]):
        for i in range(0, len(run), longest):
            cut.setdefault(len(run[i : i + longest]), []).append(run[i : i + longest])
    shapes, tiles = [], []
    deep, _, wide = lines(problem)
    for length in sorted(cut, reverse=True):
        strips = [
            [(z, h, w) for h in run]
            for z, run, w in product(deep.residues[0], cut[length], wide.residues[0])
        ]
        columns = min(most[length], key=lambda u: (-(-len(strips) // u) * (u + 1), -u))
        shapes.append((length, columns))
        tiles.append(_tiled([(0, strip) for strip in strips], columns))
    return Sums(tuple(shapes), 2 if high.size > 1 else 1, 1, RUNS, True, 1), tiles


def _single(problem: Problem) -> list[tuple[int, list[tuple[Tap, Tap, Tap]]]]:
    deep, high, wide = (line.residues[0] for line in lines(problem))
    return [(0, [tap]) for tap in product(deep, high, wide)]


def _tiled(strips: list, columns: int) -> list[Tile]:
    """Tiles of `columns` strips; the last one is filled up with copies of its last strip."""
    tiles = [strips[i : i + columns] for i in range(0, len(strips), columns)]
    tiles[-1] = tiles[-1] + [tiles[-1][-1]] * (columns - len(tiles[-1]))
    return tiles


@lru_cache(maxsize=1024)
def together(problem: Problem) -> int:
    """Groups that are copied at once: as many small ones as the first cache holds."""
    g, item = problem.geometry, problem.wide.itemsize
    deep, high, wide = lines(problem)
    sums, rows = channels(problem)
    _, tile, area = layout(problem)
    cells = area.cells * deep.phases * high.phases * wide.phases * sums
    ways = wide.every * deep.every * high.every * (2 if wide.every > 1 else 1)
    staged = area.stage * (ways if isinstance(tile, Strips) else rows if tile is None else 0)
    if tile is None:
        staged += _sum_cells(problem)
    return max(1, min(g.groups, NEAR // ((cells + staged) * item), 64))


def staged(problem: Problem) -> int:
    """Channels in the stage: those of a panel, or a depthwise kernel's groups."""
    tile = layout(problem)[1]
    assert tile is not None
    return together(problem) if isinstance(tile, Strips) else tile.height


def copy_size(problem: Problem, area: Area) -> int:
    """Cells of the copy, and behind them what whole registers read."""
    deep, high, wide = lines(problem)
    sums, _ = channels(problem)
    phases = deep.phases * high.phases * wide.phases
    return together(problem) * area.cells * phases * sums + 8 * area.lanes


def _sum_cells(problem: Problem) -> int:
    """Cells that the sums of a group take."""
    shape, tiles = weight_tiles(problem)
    lanes = layout(problem)[2].lanes
    length = sum(len(own) * t * u for (t, u), own in zip(shape.strips, tiles, strict=True))
    panels = -(-problem.geometry.group_out // shape.height)
    return -(-panels * length * shape.height // lanes) * lanes * lanes


def thread_bytes(problem: Problem) -> int:
    """Scratch of one thread."""
    g, item = problem.geometry, problem.wide.itemsize
    deep, high, wide = lines(problem)
    _, tile, area = layout(problem)
    if tile is None:
        each = area.stage * g.group_out + _sum_cells(problem)
        return (copy_size(problem, area) + together(problem) * each) * item
    part = deep.every * high.every * area.stage * staged(problem)
    return (copy_size(problem, area) + part * wide.every * (2 if wide.every > 1 else 1)) * item


@dataclass(frozen=True)
class Cut:
    """How many blocks of samples, runs of groups, and shares of the blocks there are."""

    samples: int
    runs: int
    shares: int


def parts_of(problem: Problem, area: Area) -> Cut:
    """Parts of some tens of microseconds; of a long sum, at most as many pieces as are needed.

    A weight gradient's pieces are shares of all blocks, samples too.
    """
    g, item = problem.geometry, problem.wide.itemsize
    deep, high, wide = lines(problem)
    blocks = -(-deep.size // area.planes) * -(-high.size // area.rows)
    blocks *= -(-wide.size // area.columns)
    samples = -(-g.batch // area.samples)
    numbers = g.batch * (prod(g.x_shape[1:]) + prod(g.y_shape[1:])) * item
    whole = (2 * g.macs * item / 4 / 50e9 + numbers / 8e9) / g.groups  # of one group
    if problem.direction == "weight_grad":
        runs = min(g.groups, max(1, round(g.groups * whole / PART)))
        shares = (
            1
            if runs >= 16
            else min(samples * blocks, max(1, round(whole * g.groups / runs / PART)))
        )
        return Cut(1, runs, max(1, min(shares, 32 // runs)))
    one = whole / samples
    runs = min(g.groups, max(1, round(g.groups * one / PART)))
    shares = min(blocks, max(1, round(one * g.groups / runs / PART)))
    return Cut(samples, runs, shares)
