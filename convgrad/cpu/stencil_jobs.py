"""A problem of few channels in each group as a job of a stencil kernel: copies, tiles, tables.

Line      one axis of the copy: pads, phases, and the taps of each residue of the result
Area      how much of it is worked on at once
job       the kernel's arguments for arrays with given strides
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Tap, forward_axes, input_grad_axes
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.kernels.rows import GATHER, PAIRS, RUNS
from convgrad.cpu.kernels.stencil import PACK_STENCIL, STENCIL
from convgrad.cpu.kernels.stencil_weights import STENCIL_WEIGHTS
from convgrad.cpu.stencil_shapes import (
    LENGTHS,
    PAIRS_OF,
    RESIDUE,
    SLOTS,
    SUMS,
    TILES,
    Slots,
    Stencil,
    Strips,
    Sums,
)
from convgrad.cpu.tiling import ELEMENTS, evenly

Strides = tuple[int, ...]
NEAR, FAR = 24 << 10, 192 << 10  # bytes of a block: in the first cache, in the second
PART = 40e-6  # seconds that a part should take
SMALL = 30_000  # multiply-adds below which a second thread costs more than it does


@dataclass(frozen=True)
class Line:
    """One axis: cell j of phase f of the copy is source cell stride·j + f − pad; result t of
    residue ρ stands at every·t + ρ and meets cell t + shift of a tap's phase."""

    source: int
    pad: int
    stride: int
    phases: int
    every: int
    size: int
    total: int
    residues: tuple[tuple[Tap, ...], ...]

    @property
    def reach(self) -> int:
        return max((tap.shift for taps in self.residues for tap in taps), default=0)


@dataclass(frozen=True)
class Area:
    """Samples, planes and rows of a block, registers in a row, and the copy's rows and columns."""

    samples: int
    planes: int
    rows: int
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


@lru_cache(maxsize=1024)
def lines(problem: Problem) -> tuple[Line, Line, Line]:
    g = problem.geometry
    if problem.direction != "input_grad":
        return tuple(
            Line(a.source, a.pad, a.stride, a.phases, 1, a.size, a.size, (a.taps,))
            for a in forward_axes(g)
        )  # type: ignore[return-value]
    every = input_grad_axes(g)
    made = []
    for axis, size in enumerate((*(1,) * (3 - g.rank), *g.in_size)):
        residues = sorted({axes[axis].first: axes[axis] for axes in every}.items())
        pad = max((a.pad for _, a in residues if a.taps), default=0)
        taps = tuple(
            tuple(
                sorted((Tap(t.k, 0, t.shift + pad - a.pad) for t in a.taps), key=lambda t: t.shift)
            )
            for _, a in residues
        )
        first = residues[0][1]
        made.append(Line(first.source, pad, 1, 1, len(residues), first.size, size, taps))
    return tuple(made)  # type: ignore[return-value]


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
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    element = ELEMENTS[problem.dtype.name]
    share = share_of_lanes(wide.size, element)
    lanes = compiler.target().lanes(element).count // share
    sums, rows = channels(problem)
    tile = None if problem.direction == "weight_grad" else _tile(problem, lanes)
    step, vectors = (tile.rows, tile.vectors) if isinstance(tile, Strips) else (1, 1)
    registers = -(-wide.size // lanes)
    registers = -(-registers // vectors) * vectors
    columns = -(-(registers * lanes + wide.reach) // lanes) * lanes
    phases = deep.phases * high.phases * wide.phases

    def make(samples: int, planes: int, lines_: int) -> Area:
        staged = -(-lines_ // step) * step
        return Area(
            samples, planes, lines_, registers, lanes, staged,
            (planes + deep.reach, staged + high.reach, columns),
        )  # fmt: skip

    def taken(area: Area) -> int:
        if tile is None:
            return (area.cells * phases * sums + area.stage * rows) * item
        ways = wide.every * deep.every * high.every
        stage = area.stage * tile.height * ways * (2 if wide.every > 1 else 1)
        return (area.cells * phases * sums + stage) * item

    near, far = (NEAR, FAR) if sums * rows == 1 else (FAR, FAR)
    area = _largest(high.size, lambda n: taken(make(1, 1, n)), near, far, 4 * high.reach, step)
    if area < high.size:
        return share, tile, make(1, 1, area)
    planes = _largest(
        deep.size, lambda n: taken(make(1, n, high.size)), near, far, 4 * deep.reach, 1
    )
    if planes < deep.size:
        return share, tile, make(1, planes, high.size)
    each = taken(make(1, deep.size, high.size))
    few = 1 if sums * rows == 1 else max(1, min(g.batch, NEAR // max(1, each), 8))
    return share, tile, make(evenly(max(1, g.batch), few), deep.size, high.size)


def _largest(total: int, taken, near: int, far: int, enough: int, step: int) -> int:
    """How many of `total` make a block: as fit in the first cache, or enough for their reach."""
    if taken(total) <= near:
        return total
    count = total
    while count > 1 and (taken(count) > far or (taken(count) > near and count // 2 >= enough)):
        count = -(-count // 2)
    count = -(-count // step) * step
    return count if count < total else total


def channels(problem: Problem) -> tuple[int, int]:
    """Channels that are copied, and channels of the result (of dy, in a weight gradient)."""
    g = problem.geometry
    if problem.direction == "input_grad":
        return g.group_out, g.group_in
    return g.group_in, g.group_out


def _tile(problem: Problem, lanes: int) -> Strips | Slots:
    sums, rows = channels(problem)
    registers = compiler.target().registers
    if sums * rows > 1:
        able = SLOTS[registers]
        fits = [h for h in able if h <= rows]
        height = min(
            fits, key=lambda h: (-(-rows // h) * (h * able[h] + h + able[h]) / able[h], -h)
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


@lru_cache(maxsize=1024)
def lengths(problem: Problem) -> tuple[int, ...]:
    """The lengths of strips that a depthwise kernel is made with."""
    high = lines(problem)[1]
    found = {len(run) for taps in high.residues for run in _runs(taps)} or {1}
    own = tuple(sorted(found, reverse=True))
    return own if own in LENGTHS else LENGTHS[-1]


@lru_cache(maxsize=1024)
def strips_of(problem: Problem) -> list[tuple[int, list[tuple[Tap, Tap, Tap]]]]:
    """Every residue's taps as strips: (residue, taps one below the other)."""
    deep, high, wide = lines(problem)
    most, found = lengths(problem)[0], []
    for index, (zs, hs, ws) in enumerate(product(deep.residues, high.residues, wide.residues)):
        strips = [run[i : i + most] for run in _runs(hs) for i in range(0, len(run), most)]
        for z, strip, w in product(zs, strips, ws):
            found.append((index, [(z, h, w) for h in strip]))
    return found


def _runs(taps: Sequence[Tap]) -> list[list[Tap]]:
    """Taps of one phase with consecutive shifts."""
    runs: list[list[Tap]] = []
    for tap in sorted(taps, key=lambda t: (t.phase, t.shift)):
        last = runs[-1][-1] if runs else None
        if last and (last.phase, last.shift + 1) == (tap.phase, tap.shift):
            runs[-1].append(tap)
        else:
            runs.append([tap])
    return runs


def _offset(problem: Problem, area: Area, taps: tuple[Tap, Tap, Tap], channel: int = 0) -> int:
    """Where a tap reads in the copy, relative to the result's own cell."""
    deep, high, wide = lines(problem)
    z, h, w = taps
    _, rows, columns = area.copy
    phase = (z.phase * high.phases + h.phase) * wide.phases + w.phase
    phases = deep.phases * high.phases * wide.phases
    place = (z.shift * rows + h.shift) * columns + w.shift
    return (channel * phases + phase) * area.cells + place


@dataclass(frozen=True, eq=False)
class Work:
    """The job that packs the weights into `weights` numbers, and the job itself."""

    pack: Job
    stencil: Job
    weights: int


@lru_cache(maxsize=1024)
def work(problem: Problem, source: Strides, w: Strides, out: Strides) -> Work:
    """The jobs of y or dx for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    sums, rows = channels(problem)
    share, tile, area = layout(problem)
    assert tile is not None
    here, there = elements(source, item), elements(out, item)
    first, second, *axes = (s // item for s in w)
    if problem.direction == "input_grad":
        first, second = second, first
    stage_row = area.registers * area.lanes
    stage_h, stage_z = high.every * stage_row, high.every * area.stage_rows * stage_row
    part = deep.every * high.every * area.stage
    picks, taps, residues = _tables(
        problem, area, tile, (second, *axes), (stage_z, stage_row, part)
    )
    slots = _slots(area, deep.every * stage_z, stage_h, tile.vectors)
    panels = -(-rows // tile.height)
    number = g.groups * panels * len(picks) * tile.height
    kind = _kind(wide, here[4])
    plain = kind != GATHER and wide.every <= 2 and there[4] == 1
    way = (kind, wide.every, True) if plain else (GATHER, 0, False)
    shape = Stencil(tile, *way, share)
    cut = parts_of(problem, area)
    element = ELEMENTS[problem.dtype.name]
    threaded = g.macs > SMALL
    pack = pack_job(problem, w, picks, tile.height)
    yn, yo, yz, yh, yw = there
    values = _source(problem, here) | _area(problem, area) | {
        "taps": taps.ctypes.data, "residues": residues.ctypes.data, "slots": slots.ctypes.data,
        "TZ": deep.size, "TR": high.size, "runs": cut.runs, "shares": cut.shares,
        "G": g.groups, "C": sums, "O": rows, "panels": panels, "L": len(picks),
        "nresidues": len(residues) // RESIDUE,
        "ez": deep.every, "eh": high.every, "ew": wide.every,
        "stageh": stage_h, "stagez": stage_z, "part": part, "GB": together(problem),
        "most": _staged(problem), "copy": _copy_size(problem, area),
        "stage": wide.every * _staged(problem) * part if wide.every > 1 else 0,
        "yn": yn, "yo": yo, "yz": yz, "yh": yh, "yw": yw,
        "OZ": deep.total, "OH": high.total, "OW": wide.total,
    }  # fmt: skip
    parts = cut.samples * cut.runs * cut.shares
    tables = (taps, residues, slots)
    return Work(pack, Job(STENCIL, element, shape, values, parts, threaded, tables), number)


def pack_job(problem: Problem, w: Strides, picks: np.ndarray, height: int) -> Job:
    """The job that packs panels of `height` rows of weights, in the order of `picks`."""
    g = problem.geometry
    _, rows = channels(problem)
    first, second, *_ = (s // problem.dtype.itemsize for s in w)
    group = g.group_out * first
    row = second if problem.direction == "input_grad" else first
    each = max(1, 2048 // max(1, len(picks) * rows))
    values = {
        "picks": picks.ctypes.data, "G": g.groups, "each": each, "L": len(picks), "O": rows,
        "panels": -(-rows // height), "so": row, "wg": group,
    }  # fmt: skip
    element, parts = ELEMENTS[problem.dtype.name], -(-g.groups // each)
    return Job(PACK_STENCIL, element, height, values, parts, g.macs > SMALL, (picks,))


def _tables(
    problem: Problem, area: Area, tile: Strips | Slots, strides: tuple[int, ...],
    stage: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Where each weight lies in w, where the taps read in the copy, and the residues.

    A residue: its offset in the stage, its first weight, its first tap, and its number of strips of
    each length (or of taps).
    """
    g = problem.geometry
    deep, high, wide = lines(problem)
    sums, _ = channels(problem)
    channel, *axes = strides
    every = list(product(deep.residues, high.residues, wide.residues))
    strips = strips_of(problem)

    def place(tap: tuple[Tap, Tap, Tap]) -> int:
        return sum(t.k * s for t, s in zip(tap[3 - g.rank :], axes, strict=True))

    picks: list[int] = []
    taps: list[int] = []
    residues: list[int] = []
    for index, residue in enumerate(every):
        rest, rw = divmod(index, wide.every)
        rz, rh = divmod(rest, high.every)
        offset = rw * _staged(problem) * stage[2] + rz * stage[0] + rh * stage[1]
        words = [offset, len(picks), len(taps)]
        if isinstance(tile, Strips):
            for length in tile.strips:
                own = [s for i, s in strips if i == index and len(s) == length]
                picks += [place(tap) for strip in own for tap in strip]
                taps += [_offset(problem, area, strip[0]) for strip in own]
                words.append(len(own))
        else:
            own_taps = list(product(*residue))
            for c in range(sums):
                picks += [c * channel + place(tap) for tap in own_taps]
                taps += [_offset(problem, area, tap, c) for tap in own_taps]
            words.append(sums * len(own_taps))
        residues += words + [0] * (RESIDUE - len(words))
    return tuple(np.array(t, np.int64) for t in (picks, taps, residues))  # type: ignore[return-value]


def _slots(area: Area, plane: int, row: int, vectors: int) -> np.ndarray:
    """Where each register of a block lies in the copy and in the stage; the last one repeated."""
    _, copy_rows, columns = area.copy
    found = []
    for n, z, r, q in product(
        range(area.samples), range(area.planes), range(area.rows), range(area.registers)
    ):
        here = ((n * area.copy[0] + z) * copy_rows + r) * columns + q * area.lanes
        found.append((here, (n * area.planes + z) * plane + r * row + q * area.lanes))
    found += [found[-1]] * vectors
    return np.array(found, np.int64)


@lru_cache(maxsize=1024)
def weight_work(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of dw for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    wide = lines(problem)[2]
    here, there = elements(x, item), elements(dy, item)
    share, _, area = layout(problem)
    shape, tiles = weight_tiles(problem)
    kind = _kind(wide, here[4])
    way = (kind, True) if kind != GATHER and there[4] == 1 else (GATHER, False)
    shape = Sums(shape.strips, shape.rows, shape.height, *way, share)
    taps, picks = weight_tables(problem, area, shape, tiles)
    count = len(picks) // shape.height
    slots, numbers, last = _weight_slots(problem, area, shape.rows)
    cut = parts_of(problem, area)
    yn, yo, yz, yh, yw = there
    size = g.group_out * g.group_in * g.taps
    values = _source(problem, here) | _area(problem, area) | {
        "taps": taps.ctypes.data, "slots": slots.ctypes.data, "picks": picks.ctypes.data,
        "G": g.groups, "runs": cut.runs, "pieces": cut.shares, "C": g.group_in, "O": g.group_out,
        "panels": -(-g.group_out // shape.height), "L": count, "CK": g.group_in * g.taps,
        "part": area.stage, "GB": together(problem), "copy": _copy_size(problem, area),
        "gradient": area.stage * g.group_out * together(problem), "dws": g.groups * size,
        "yn": yn, "yo": yo, "yz": yz, "yh": yh, "yw": yw, "slots_full": 0, "slots_last": last,
    }  # fmt: skip
    values |= dict(zip(("OZ", "OH", "OW"), (a.size for a in lines(problem)), strict=True))
    values |= {f"tiles{i}": len(own) for i, own in enumerate(tiles)}
    values |= {f"full{i}": n for i, n in enumerate(numbers[0])}
    values |= {f"last{i}": n for i, n in enumerate(numbers[1])}
    return Job(
        STENCIL_WEIGHTS, ELEMENTS[problem.dtype.name], shape, values, cut.runs * cut.shares,
        g.macs > SMALL, (taps, slots, picks),
    )  # fmt: skip


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
    for run in _runs(high.residues[0]):
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


def weight_tables(
    problem: Problem, area: Area, shape: Sums, tiles: list[list[Tile]]
) -> tuple[np.ndarray, np.ndarray]:
    """Where each column of each tile reads in the copy; where each sum goes in dw."""
    g = problem.geometry
    kernel = (*(1,) * (3 - g.rank), *g.kernel)
    taps, picks = [], []
    for (length, columns), own in zip(shape.strips, tiles, strict=True):
        for tile in own:
            taps += [_offset(problem, area, strip[0], c) for c, strip in tile]
            for m, t, u in product(range(shape.height), range(length), range(columns)):
                c, strip = tile[u]
                z, h, w = (tap.k for tap in strip[t])
                place = (z * kernel[1] + h) * kernel[2] + w
                picks.append((m * g.group_in + c) * g.taps + place)
    return np.array(taps, np.int64), np.array(picks, np.int64)


def _weight_slots(
    problem: Problem, area: Area, rows: int
) -> tuple[np.ndarray, tuple[list[int], list[int]], int]:
    """The slots of a whole block and of the last one, the numbers of each kind, and where the last
    block's begin."""
    deep, high, _ = lines(problem)
    last = (
        _rest(problem.geometry.batch, area.samples), _rest(deep.size, area.planes),
        _rest(high.size, area.rows),
    )  # fmt: skip
    whole = (area.samples, area.planes, area.rows)
    tables, numbers = [], []
    for block in (whole, last):
        kinds = _kinds(problem, area, rows, block)
        numbers.append([len(kind) for kind in kinds])
        tables.append([slot for kind in kinds for slot in kind])
    table = np.array(tables[0] + tables[1], np.int64).reshape(-1, 2)
    return table, (numbers[0], numbers[1]), 2 * len(tables[0])


def _rest(total: int, each: int) -> int:
    return total - (-(-total // each) - 1) * each


def _kinds(
    problem: Problem, area: Area, rows: int, block: tuple[int, int, int]
) -> list[list[tuple[int, int]]]:
    """Pairs of rows and single rows; whole registers, and those at a row's end."""
    wide = lines(problem)[2]
    whole, rest = divmod(wide.size, area.lanes)
    samples, planes, high = block
    together = high // rows * rows if rows > 1 else 0
    kinds: list[list[tuple[int, int]]] = [[], [], [], []]
    _, copy_rows, columns = area.copy
    for n, z in product(range(samples), range(planes)):
        for r in (*range(0, together, rows), *range(together, high)):
            here = ((n * area.copy[0] + z) * copy_rows + r) * columns
            there = ((n * area.planes + z) * area.stage_rows + r) * area.registers * area.lanes
            single = 2 * (r >= together)
            for q in range(whole + (rest > 0)):
                kinds[single + (q == whole)].append((here + q * area.lanes, there + q * area.lanes))
    return kinds


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
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, _ = lines(problem)
    blocks = -(-deep.size // area.planes) * -(-high.size // area.rows)
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


def _kind(wide: Line, step: int) -> int:
    if step != 1 or wide.stride > 2:
        return GATHER
    if wide.stride == 2 and wide.phases == 2:
        return PAIRS
    return RUNS if wide.stride == 1 else GATHER


def _copy_size(problem: Problem, area: Area) -> int:
    """Cells of the copy, and behind them what whole registers read."""
    deep, high, wide = lines(problem)
    sums, _ = channels(problem)
    phases = deep.phases * high.phases * wide.phases
    return together(problem) * area.cells * phases * sums + 8 * area.lanes


@lru_cache(maxsize=1024)
def together(problem: Problem) -> int:
    """Groups that are copied at once: as many small ones as the first cache holds."""
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    sums, rows = channels(problem)
    _, tile, area = layout(problem)
    cells = area.cells * deep.phases * high.phases * wide.phases * sums
    ways = wide.every * deep.every * high.every * (2 if wide.every > 1 else 1)
    staged = area.stage * (ways if isinstance(tile, Strips) else rows if tile is None else 0)
    if tile is None:
        staged += _sum_cells(problem)
    return max(1, min(g.groups, NEAR // ((cells + staged) * item), 64))


def _staged(problem: Problem) -> int:
    """Channels in the stage: those of a panel, or a depthwise kernel's groups."""
    tile = layout(problem)[1]
    assert tile is not None
    return together(problem) if isinstance(tile, Strips) else tile.height


def _sum_cells(problem: Problem) -> int:
    """Cells that the sums of a group take."""
    shape, tiles = weight_tiles(problem)
    lanes = layout(problem)[2].lanes
    length = sum(len(own) * t * u for (t, u), own in zip(shape.strips, tiles, strict=True))
    panels = -(-problem.geometry.group_out // shape.height)
    return -(-panels * length * shape.height // lanes) * lanes * lanes


def thread_bytes(problem: Problem) -> int:
    """Scratch of one thread."""
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    _, tile, area = layout(problem)
    if tile is None:
        each = area.stage * g.group_out + _sum_cells(problem)
        return (_copy_size(problem, area) + together(problem) * each) * item
    part = deep.every * high.every * area.stage * _staged(problem)
    return (_copy_size(problem, area) + part * wide.every * (2 if wide.every > 1 else 1)) * item


def _source(problem: Problem, strides: tuple[int, ...]) -> dict[str, int]:
    values: dict[str, int] = dict(zip(("xn", "xc", "xz", "xh", "xw"), strides, strict=True))
    for line, size, axis in zip(lines(problem), "DHW", "zhw", strict=True):
        values |= {
            size: line.source, f"p{axis}": line.pad, f"s{axis}": line.stride,
            f"f{axis}": line.phases,
        }  # fmt: skip
    return values


def _area(problem: Problem, area: Area) -> dict[str, int]:
    deep, high, _ = lines(problem)
    batch = problem.geometry.batch
    return {
        "cells": area.cells, "Dq": area.copy[0], "Hq": area.copy[1], "Wq": area.copy[2],
        "N": batch, "NB": area.samples, "BZ": area.planes, "BR": area.rows,
        "reachz": deep.reach, "reachh": high.reach, "nv": area.registers,
        "nn": -(-batch // area.samples), "nz": -(-deep.size // area.planes),
        "nr": -(-high.size // area.rows),
    }  # fmt: skip


def elements(strides: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)
