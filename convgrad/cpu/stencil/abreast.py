"""Jobs of the kernels that have channels abreast: who may, blocks, tables.

abreast       whether a map of arrays with these strides is done with channels abreast
abreast_work  the job of y or dx
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.correlation import Tap
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.axes import Line, channels, elements, lines
from convgrad.cpu.stencil.in_place import MASKING, able_in_place, is_narrow
from convgrad.cpu.stencil.jobs import SMALL, Work, pack_job
from convgrad.cpu.stencil.kernels.abreast import ABREAST, WORDS
from convgrad.cpu.stencil.layout import PART
from convgrad.cpu.stencil.shapes import CELLS_ABREAST, COLUMNS_ABREAST, Abreast
from convgrad.cpu.tiling import ELEMENTS

NEAR, FAR = 24 << 10, 512 << 10  # bytes of a block: in the first cache, in the second
TURNING = 6  # products that cost what transposing a result of a dense group does
NARROW = 28  # columns up to which dense groups' results of two residues do
TOGETHER = 8  # blocks of channels that are brought in together, at most
SUMS_BYTES = 64 << 10  # of the sums of a run of channels


@dataclass(frozen=True)
class Block:
    """Rows of results of a block, and the rows and columns of its copy."""

    results: int
    rows: int
    columns: int


def abreast(problem: Problem, source: Strides, out: Strides) -> bool:
    """Whether it may, and is not faster on planes where they lie."""
    wide, item = lines(problem)[2], problem.dtype.itemsize
    if not able(problem):
        return False
    ways = way(source, wide.source, item), way(out, wide.total, item)
    if None in ways or problem.direction == "weight_grad":
        return None not in ways and ways[0] == ways[1]
    return not (all(ways) and better_as_planes(problem))


@lru_cache(maxsize=1024)
def able(problem: Problem) -> bool:
    """Two axes at most, enough channels to fill registers, rows that fit into the second cache."""
    deep, high, wide = lines(problem)
    return (
        compiler.target().level in MASKING
        and (problem.direction != "weight_grad" or not is_dense(problem))
        and (deep.source, deep.pad, deep.total, len(deep.residues[0])) == (1, 0, 1, 1)
        and min(high.pad, wide.pad) >= 0
        and share(problem) > 0
        and _taken(problem, block(problem)) <= FAR
    )


def better_as_planes(problem: Problem) -> bool:
    """Depthwise, rows of more than half a register of results.

    Dense, strides of two at most: what does not fill registers; and rows that do.
    """
    _, _, wide = lines(problem)
    if is_dense(problem):
        if wide.stride > 2 or wide.every > 2:
            return False
        if share(problem) > 1 or wide.every > 1:
            return share(problem) > 1 or wide.total > NARROW
        lanes, numbers = lanes_of(problem), channels(problem)[0] * problem.geometry.taps
        return numbers * -(-wide.size // lanes) * lanes <= (numbers + TURNING) * wide.size
    return able_in_place(problem) and not is_narrow(problem)


def is_dense(problem: Problem) -> bool:
    """Whether a group has more channels than one on a side."""
    return channels(problem) != (1, 1)


def beside(problem: Problem) -> int:
    """Channels of the result that may be in one register: of a group, or all where depthwise."""
    return channels(problem)[1] if is_dense(problem) else problem.geometry.groups


def share(problem: Problem) -> int:
    """The share of a register that the channels fill: 1, 2, 4, or 0 where they are too few."""
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name])
    able = [s for s in (1, 2, 4) if lanes.count // s * lanes.bytes >= 16]
    fits = [s for s in able if beside(problem) >= lanes.count // s]
    return fits[0] if fits else 0


def way(strides: Strides, width: int, item: int) -> bool | None:
    """Whether an array is read as planes, or as channels that follow each other; None: neither."""
    if strides[1] == item:
        return False
    dense = strides[-1] == item and (len(strides) < 4 or strides[-2] == width * item)
    return True if dense else None


def lanes_of(problem: Problem) -> int:
    return compiler.target().lanes(ELEMENTS[problem.dtype.name]).count // share(problem)


@lru_cache(maxsize=1024)
def tile(problem: Problem) -> tuple[int, int]:
    """Registers of channels and cells of a row."""
    wide, most = lines(problem)[2], beside(problem) // lanes_of(problem)
    if is_dense(problem):
        able = CELLS_ABREAST[compiler.target().registers]
        sizes = [(v, n) for v, cells in able.items() for n in cells if v <= most]
    else:
        sizes = [(1, n) for n in COLUMNS_ABREAST]
    blocks = -(-beside(problem) // lanes_of(problem))

    def cost(size: tuple[int, int]) -> tuple[float, int]:
        v, n = size
        return (-(-blocks // v) * -(-wide.size // n) * (v * n + 1.5 * v + 0.5 * n + 1), -v * n)

    return min(sizes, key=cost)


@lru_cache(maxsize=1024)
def block(problem: Problem) -> Block:
    """As many rows as the first cache holds, or enough for the rows that blocks share."""
    high = lines(problem)[1]
    count = high.size
    while count > 1:
        bytes_ = _taken(problem, _block(problem, count))
        if bytes_ <= NEAR or (bytes_ <= FAR and count * high.stride < 6 * _reach(high)):
            break
        count = -(-count // 2)
    return _block(problem, -(-high.size // -(-high.size // count)))


def _block(problem: Problem, results: int) -> Block:
    _, high, wide = lines(problem)
    cells = tile(problem)[1]
    columns = max(
        (-(-wide.size // cells) * cells - 1) * wide.stride + _reach(wide) + 1,
        wide.pad + wide.source,
    )
    return Block(results, (results - 1) * high.stride + _reach(high) + 1, columns)


def _taken(problem: Problem, area: Block) -> int:
    _, high, wide = lines(problem)
    lanes = lanes_of(problem)
    staged = area.results * high.every * wide.total * tile(problem)[0] + lanes
    return (copy_size(problem, area) + staged * lanes) * problem.wide.itemsize


def copy_size(problem: Problem, area: Block) -> int:
    """Numbers of the copy of a block, and behind them what whole registers reach into."""
    lanes = lanes_of(problem)
    if is_dense(problem):
        cells = area.rows * area.columns * channels(problem)[0]
        return -(-cells // lanes) * lanes + lanes
    return copy_rows(problem, area) * area.columns * lanes


def copy_rows(problem: Problem, area: Block) -> int:
    """The rows of the copy, and behind them what whole registers of cells reach into."""
    return area.rows + 1 + -(-lanes_of(problem) // lines(problem)[2].source)


def abreast_bytes(problem: Problem) -> int:
    """Scratch of one thread; none where it is not able."""
    if not able(problem):
        return 0
    area = block(problem)
    sums = 0
    if problem.direction == "weight_grad":
        padded = 2 * problem.geometry.taps  # tiles of taps overlap
        sums = max(SUMS_BYTES, padded * lanes_of(problem) * problem.wide.itemsize)
    return together(problem, area) * _taken(problem, area) + sums


def together(problem: Problem, area: Block) -> int:
    """Blocks of channels that are brought in together where channels follow each other."""
    return max(1, min(TOGETHER, FAR // _taken(problem, area)))


def offset(line: Line, tap: Tap) -> int:
    """Cells from the first that result 0's window may meet to the tap's."""
    return line.stride * tap.shift + tap.phase


def _reach(line: Line) -> int:
    return max((offset(line, tap) for taps in line.residues for tap in taps), default=0)


def places_in_copy(line: Line, area: Block, lanes: int) -> np.ndarray:
    """Where each cell of a run of rows goes in the copy; what lies behind the last, to its end."""
    r, q = np.divmod(np.arange(area.rows * line.source + lanes), line.source)
    places = np.minimum(r, area.rows) * area.columns + q + line.pad
    places[area.rows * line.source :] = area.rows * area.columns
    return places * lanes


@lru_cache(maxsize=1024)
def abreast_work(problem: Problem, source: Strides, w: Strides, out: Strides) -> Work:
    """The jobs of y or dx for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    _, high, wide = lines(problem)
    sums, _ = channels(problem)
    lanes, area, dense = lanes_of(problem), block(problem), is_dense(problem)
    xn, xc, _, xh, xw = elements(source, item)
    yn, yc, _, yh, yw = elements(out, item)
    planes = bool(way(source, wide.source, item)), bool(way(out, wide.total, item))
    height, cells = tile(problem)
    fixed = wide.stride if wide.stride <= 2 and (planes[0] or not dense) else 0
    shape = Abreast(cells, *planes, share(problem), fixed, height, dense)
    copy, cell = copy_size(problem, area), 1 if planes[0] else sums
    pitch = area.columns * (cell if dense else lanes)
    channel = area.rows * area.columns if planes[0] else 1
    step = (pitch, cell if dense else lanes, channel)
    picks, taps, residues, rows = _tables(problem, w, step)
    places = places_in_copy(wide, area, lanes)
    blocks, nr = -(-beside(problem) // (lanes * height)), -(-high.size // area.results)
    together_ = blocks if dense else 1 if planes[0] else together(problem, area)
    runs = -(-blocks // together_)
    groups = g.groups if dense else 1
    units = g.batch * groups * runs * nr
    numbers = (prod(g.x_shape) + prod(g.y_shape)) * item
    seconds = 2 * g.macs * item / 4 / 50e9 + numbers / 8e9
    parts = max(1, min(units, round(seconds / PART)))
    line = not planes[0] and xw == sums  # a row is one run of numbers
    values = {
        "taps": taps.ctypes.data, "residues": residues.ctypes.data, "lines": rows.ctypes.data,
        "places": places.ctypes.data, "N": g.batch, "G": groups, "C": sums, "O": beside(problem),
        "xn": xn, "xc": xc, "xh": xh, "xw": xw, "H": high.source, "W": wide.source,
        "yn": yn, "yc": yc, "yh": yh, "yw": yw, "OH": high.total, "OW": wide.total,
        "units": units, "parts": parts, "blocks": blocks, "runs": runs, "GB": together_, "nr": nr,
        "BR": area.results, "size": high.size, "sh": high.stride,
        "sw": wide.stride, "ph": high.pad, "pw": wide.pad, "eh": high.every, "ew": wide.every,
        "rows": area.rows, "pitch": pitch, "cell": step[1], "channel": channel,
        "run": wide.source * sums if line else sums, "beside": 1 if line else wide.source,
        "nresidues": len(residues) // WORDS, "L": len(picks), "copy": 0 if dense else copy,
        "stage": copy if dense else together_ * copy, "ahead": xc * lanes,
    }  # fmt: skip
    job = Job(
        ABREAST, ELEMENTS[problem.dtype.name], shape, values, parts, g.macs > SMALL,
        (taps, residues, rows, places),
    )  # fmt: skip
    pack = pack_job(problem, w, picks, lanes * height, not dense)
    return Work(pack, job, groups * blocks * lanes * height * len(picks))


def _tables(
    problem: Problem, w: Strides, steps: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where each weight lies in w, where its tap reads, the residues, and each row's taps.

    steps: of the copy, from row to row, cell to cell, and channel to channel.
    """
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    first, second, *axes = (s // item for s in w)
    of_channel = first if problem.direction == "input_grad" else second
    every = range(channels(problem)[0])
    picks: list[int] = []
    taps: list[int] = []
    residues: list[int] = []
    rows: list[tuple[int, int]] = []
    for rho, above in enumerate(high.residues):
        above = sorted(above, key=lambda tap: offset(high, tap))
        for t in range(high.size):
            met = [
                i for i, tap in enumerate(above)
                if 0 <= high.stride * t + offset(high, tap) - high.pad < high.source
            ]  # fmt: skip
            rows.append((met[0] if met else 0, len(met)))
        for column, across in enumerate(wide.residues):
            count = -(-(wide.total - column) // wide.every)
            residues += [rho, column, count, len(picks), len(taps), len(across) * len(every)]
            for h, c, v in product(above, every, across):
                tap = (deep.residues[0][0], h, v)[3 - g.rank :]
                picks.append(
                    c * of_channel + sum(t.k * s for t, s in zip(tap, axes, strict=True))
                )  # fmt: skip
                place = (offset(high, h), offset(wide, v), c)
                taps.append(sum(n * s for n, s in zip(place, steps, strict=True)))
    return tuple(np.array(t, np.int64) for t in (picks, taps, residues, rows))  # type: ignore[return-value]
