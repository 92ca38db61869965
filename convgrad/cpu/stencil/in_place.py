"""Depthwise problems as jobs of the kernels that read planes where they lie: who may, and tables.

in_place    whether a depthwise map of arrays with these strides is done without a copy
plane_work  the job of y or dx
"""

from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.axes import Line, channels, elements, lines
from convgrad.cpu.stencil.jobs import SMALL, Work, pack_job
from convgrad.cpu.stencil.kernels.planes import IN_ORDER, MASKED, PLANES, WHOLE
from convgrad.cpu.stencil.layout import LONG, PART
from convgrad.cpu.stencil.shapes import KERNELS, Planes, Residues
from convgrad.cpu.tiling import ELEMENTS

MASKING = ("avx2", "avx512")  # where a register's masked load costs what a load does
BLOCK = 8 << 10  # bytes of a block of rows: what is asked for ahead comes just in time


def in_place(problem: Problem, source: Strides, other: Strides) -> bool:
    """A kernel of a common size, rows of consecutive columns, strides of one or two."""
    item = problem.dtype.itemsize
    return able_in_place(problem) and source[-1] == item == other[-1]


@lru_cache(maxsize=1024)
def able_in_place(problem: Problem) -> bool:
    """So the geometry allows it: no result meets nothing but padding."""
    deep, high, wide = lines(problem)
    return (
        compiler.target().level in MASKING
        and problem.wide == problem.dtype  # rows that are zeros lie among those of the array
        and channels(problem) == (1, 1)
        and (deep.pad, deep.every, [(t.phase, t.shift) for t in deep.residues[0]])
        == (0, 1, [(0, 0)])
        and (deep.size - 1) * deep.stride < deep.source
        and residues(high) == residues(wide)
        and high.stride == wide.stride
        and (residues(wide), wide.stride) in KERNELS
        and leading(high) <= high.reach
        and trailing(high) >= high.size - 1
        and wide.source * problem.dtype.itemsize <= LONG
    )


def is_narrow(problem: Problem) -> bool:
    """Few results in a row: channels abreast are faster, where there are enough."""
    target, width = compiler.target(), lines(problem)[2].size
    most = target.lanes(ELEMENTS[problem.dtype.name]).count
    return width <= (most // 2 if target.registers > 16 else most)


def residues(line: Line) -> Residues:
    return tuple(tuple((tap.phase, tap.shift) for tap in taps) for taps in line.residues)


def leading(line: Line) -> int:
    """The first block of rows that is not all padding: see `blocks_of`."""
    return max(0, -(-(line.pad - line.stride + 1) // line.stride))


def trailing(line: Line) -> int:
    """The last one."""
    return (line.source - 1 + line.pad) // line.stride


def plane_bytes(problem: Problem) -> int:
    """Scratch of one thread: a row of zeros."""
    if problem.direction == "weight_grad" or not able_in_place(problem):
        return 0
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count
    return (lines(problem)[2].source + lanes) * problem.dtype.itemsize


@lru_cache(maxsize=1024)
def plane_shape(problem: Problem) -> Planes:
    _, high, wide = lines(problem)
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name])
    many = compiler.target().registers > 16 and wide.size > lanes.count
    return Planes(residues(high), residues(wide), wide.stride, 2 if many else 1)


@lru_cache(maxsize=1024)
def plane_work(problem: Problem, source: Strides, w: Strides, out: Strides) -> Work:
    """The jobs of y or dx for arrays with these strides in bytes, read and written in place."""
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    shape = plane_shape(problem)
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count
    xn, xc, xz, xh, _ = elements(source, item)
    yn, yc, yz, yh, _ = elements(out, item)
    columns, masks = register_tables(wide, lanes, shape, problem.dtype)
    picks = _picks(problem, w)
    rows = block_rows(problem, shape, len(columns))
    tiles = -(-high.size // rows)
    spilled = wide.every * lanes - wide.total
    behind = -(-max(spilled, 0) // wide.total) if yh == wide.total else 1 << 40
    dense = (yh, yz) == (wide.total, wide.total * high.total) and yc == yz * deep.total
    planes = g.batch * g.groups
    runs, shares = _parts(problem, planes, tiles if spilled <= 0 else 1)
    values = {
        "columns": columns.ctypes.data, "masks": masks.ctypes.data,
        "xn": xn, "xc": xc, "xz": xz, "xh": xh, "sz": deep.stride, "H": high.source,
        "W": wide.source, "ph": high.pad, "pw": wide.pad, "sh": high.stride,
        "leading": leading(high), "trailing": trailing(high), "G": g.groups, "planes": planes,
        "runs": runs, "shares": shares, "tiles": tiles, "BR": rows, "size": high.size,
        "L": len(picks), "ncolumns": len(columns), "TZ": deep.size, "OZ": deep.total,
        "OH": high.total, "yn": yn, "yc": yc, "yz": yz, "yh": yh,
        "free": int(dense and yn == g.groups * yc), "behind": behind,
    }  # fmt: skip
    job = Job(
        PLANES, ELEMENTS[problem.dtype.name], shape, values, runs * shares, g.macs > SMALL,
        (columns, masks),
    )  # fmt: skip
    return Work(pack_job(problem, w, picks, 1), job, g.groups * len(picks))


def block_rows(problem: Problem, shape: Planes, columns: int) -> int:
    """Rows of results that are worked on at once: what they meet stays in the first cache."""
    _, high, wide = lines(problem)
    row = (wide.source * high.stride + wide.total * high.every) * problem.dtype.itemsize
    if columns <= shape.vectors:
        return high.size
    most = max(4 * high.reach, BLOCK // row, 1)
    return -(-high.size // -(-high.size // most))


def _parts(problem: Problem, planes: int, tiles: int) -> tuple[int, int]:
    """Runs of planes, and shares of their tiles of rows: parts of some tens of microseconds."""
    g, item = problem.geometry, problem.dtype.itemsize
    numbers = (prod(g.x_shape) + prod(g.y_shape)) * item
    parts = max(1, round((2 * g.macs * item / 4 / 50e9 + numbers / 8e9) / PART))
    runs = min(planes, parts)
    return runs, min(tiles, max(1, parts // runs)) if runs < 16 else 1


def register_tables(
    wide: Line, lanes: int, shape: Planes, dtype: np.dtype, once: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The registers of a row, and their masks.

    Masks of a register: the lanes of the results that are in the row; those that no register before
    has; and for each load of `shape` the cells that are. once: in those lanes only.
    """
    every, total = wide.every, wide.total
    even = total // every  # results that all residues have
    starts = list(range(0, even - lanes + 1, lanes)) or [0]
    if starts[-1] + lanes < wide.size:
        starts.append(max(0, even - lanes if total % every == 0 else wide.size - lanes))
    lane, after = np.arange(lanes), 0
    own: dict[bytes, int] = {}
    masks: list[np.ndarray] = []
    columns = []
    for first in starts:
        cells = every * first + np.arange(every * lanes)
        fresh = (cells >= after) & (cells < total)
        begin = shape.step * first - wide.pad
        read = [
            ((c := begin + offset + half * lanes + lane) >= 0)
            & (c < wide.source)
            & (not once or fresh[(half * lanes + lane) // shape.step])
            for offset, half in product(shape.loads, range(shape.step))
        ]
        mask = np.concatenate([cells < total, fresh, *read])
        if mask.tobytes() not in own:
            own[mask.tobytes()] = sum(m.size for m in masks)
            masks.append(mask)
        spills = bool((cells >= total).any())
        way = WHOLE if not spills else IN_ORDER if len(starts) == 1 else MASKED
        columns.append((first, own[mask.tobytes()], way, int(fresh.all())))
        after = every * (first + lanes)
    none = np.zeros(2 * every * lanes, bool)
    while len(columns) % shape.vectors:
        first, place, way, _ = columns[-1]
        # the last register again, which then adds nothing
        begin = sum(m.size for m in masks)
        read = np.concatenate(masks)[place + none.size :][: masks[0].size - none.size]
        masks.append(np.concatenate([none, read]))
        columns.append((first, begin, way, 0))
    words = -np.concatenate(masks).astype(f"i{dtype.itemsize}")
    return np.array(columns, np.int64), words


def _picks(problem: Problem, w: Strides) -> np.ndarray:
    """Where each weight lies in w, in the order of `Planes.taps`."""
    g = problem.geometry
    axes = [s // problem.dtype.itemsize for s in w[2:]]
    deep, high, wide = lines(problem)
    depth = deep.residues[0][0]
    return np.array(
        [
            sum(t.k * s for t, s in zip((depth, h, v)[3 - g.rank :], axes, strict=True))
            for above, across in product(high.residues, wide.residues)
            for h, v in product(above, across)
        ],
        np.int64,
    )  # fmt: skip
