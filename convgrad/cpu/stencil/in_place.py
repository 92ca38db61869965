"""Depthwise problems as jobs of the kernels that read planes where they lie: who may, and tables.

in_place    whether a depthwise map of arrays with these strides is done without a copy
plane_work  the job of y or dx
"""

from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.correlation import Tap
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.axes import Line, channels, elements, lengths, lines, strips_of
from convgrad.cpu.stencil.jobs import SMALL, Work, pack_job
from convgrad.cpu.stencil.kernels.planes import ENTRY, IN_ORDER, MASKED, PLANES, WHOLE
from convgrad.cpu.stencil.layout import LONG, PART, share_of_lanes
from convgrad.cpu.stencil.shapes import (
    FACTORS_IN_PLACE,
    RESIDUE,
    ROWS_IN_PLACE,
    InPlace,
)
from convgrad.cpu.tiling import ELEMENTS

MASKING = ("avx2", "avx512")  # where a register's masked load costs what a load does
FEW_TAPS, MOST_TAPS = 9, 25  # of a kernel: edges are masked anew for each tap


def in_place(problem: Problem, source: Strides, other: Strides) -> bool:
    """Few taps a channel, rows of consecutive columns, strides of one or two, masked loads."""
    deep, high, wide = lines(problem)
    item = problem.dtype.itemsize
    return (
        compiler.target().level in MASKING
        and problem.wide == problem.dtype  # rows that are zeros lie among those of the array
        and channels(problem) == (1, 1)
        and source[-1] == item == other[-1]
        and deep.every == 1
        and (wide.stride, high.every, wide.every) in ROWS_IN_PLACE
        and min(high.size, wide.size) > 2
        and problem.geometry.taps <= _most_taps(problem)
        and wide.source * item <= LONG
    )


def plane_bytes(problem: Problem) -> int:
    """Scratch of one thread: the table of rows, and a row of zeros; none where rows are long."""
    width, item = lines(problem)[2].source, problem.dtype.itemsize
    if width * item > LONG or channels(problem) != (1, 1) or problem.direction == "weight_grad":
        return 0
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count
    rows = max(max(able) for able in ROWS_IN_PLACE.values())
    return (table_cells(problem, rows) + width + lanes) * item


def _most_taps(problem: Problem) -> int:
    """From how many taps on a copy costs less: for results of residues sooner."""
    apart = problem.direction == "input_grad" and any(s > 1 for s in problem.geometry.stride)
    return FEW_TAPS if apart else MOST_TAPS


@lru_cache(maxsize=1024)
def plane_shape(problem: Problem) -> InPlace:
    _, high, wide = lines(problem)
    share = share_of_lanes(wide.size, ELEMENTS[problem.dtype.name])
    strips = lengths(problem)
    able = ROWS_IN_PLACE[wide.stride, high.every, wide.every]
    rows = min(
        (r for r in able if r == able[0] or r + strips[0] <= 14),
        key=lambda r: (-(-high.size // r) * (r + strips[0] / 2), -r),
    )
    every = (high.every, wide.every)
    return InPlace(strips, rows, wide.stride, every, _columns(problem), share)


def _columns(problem: Problem) -> tuple[tuple[int, ...], ...]:
    """For each residue the number of strips of each length, if few, and those beside each other."""
    deep, high, wide = lines(problem)
    if problem.geometry.taps > FACTORS_IN_PLACE or len(deep.residues[0]) > 1:
        return ()
    found = []
    for index in range(high.every * wide.every):
        own = [strip for i, strip in strips_of(problem) if i == index]
        counts = []
        for length in lengths(problem):
            firsts = [strip[0][1] for strip in own if len(strip) == length]
            if len(set(firsts)) > 1:
                return ()
            counts.append(len(firsts))
        found.append(tuple(counts))
    return tuple(found)


@lru_cache(maxsize=1024)
def plane_work(problem: Problem, source: Strides, w: Strides, out: Strides) -> Work:
    """The jobs of y or dx for arrays with these strides in bytes, read and written in place."""
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    shape = plane_shape(problem)
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count // shape.narrow
    xn, xc, xz, xh, _ = elements(source, item)
    yn, yc, yz, yh, _ = elements(out, item)
    columns, masks, offsets = register_tables(wide, lanes, shape.step, problem.dtype)
    count = high.reach + shape.rows
    picks, taps, residues = _tables(problem, shape, w, count, offsets)
    deeps = depths(deep)
    tiles = -(-high.size // shape.rows)
    spilled = wide.every * lanes - wide.total
    behind = -(-max(spilled, 0) // wide.total) if yh == wide.total else 1 << 40
    dense = (yh, yz) == (wide.total, wide.total * high.total) and yc == yz * deep.total
    planes = g.batch * g.groups
    runs, shares = _parts(problem, planes, tiles if spilled <= 0 else 1)
    values = {
        "taps": taps.ctypes.data, "residues": residues.ctypes.data,
        "columns": columns.ctypes.data, "masks": masks.ctypes.data, "deeps": deeps.ctypes.data,
        "xn": xn, "xc": xc, "xz": xz, "xh": xh, "D": deep.source, "H": high.source,
        "W": wide.source, "ph": high.pad, "sz": deep.stride, "sh": high.stride, "sw": wide.stride,
        "fh": high.phases, "reachh": high.reach, "ndeep": len(deeps), "G": g.groups,
        "planes": planes, "runs": runs, "shares": shares, "tiles": tiles, "L": len(picks),
        "ncolumns": len(columns), "TZ": deep.size, "OZ": deep.total, "OH": high.total,
        "yn": yn, "yc": yc, "yz": yz, "yh": yh, "free": int(dense and yn == g.groups * yc),
        "behind": behind, "zeros": table_cells(problem, shape.rows),
    }  # fmt: skip
    job = Job(
        PLANES, ELEMENTS[problem.dtype.name], shape, values, runs * shares, g.macs > SMALL,
        (taps, residues, columns, masks, deeps),
    )  # fmt: skip
    return Work(pack_job(problem, w, picks, 1), job, g.groups * len(picks))


def _parts(problem: Problem, planes: int, tiles: int) -> tuple[int, int]:
    """Runs of planes, and shares of their tiles of rows: parts of some tens of microseconds."""
    g, item = problem.geometry, problem.dtype.itemsize
    numbers = (prod(g.x_shape) + prod(g.y_shape)) * item
    parts = max(1, round((2 * g.macs * item / 4 / 50e9 + numbers / 8e9) / PART))
    runs = min(planes, parts)
    return runs, min(tiles, max(1, parts // runs)) if runs < 16 else 1


def table_cells(problem: Problem, rows: int) -> int:
    """Elements that the table of rows takes."""
    deep, high, _ = lines(problem)
    addresses = len(depths(deep)) * high.phases * (high.reach + rows)
    return addresses * 8 // problem.dtype.itemsize


def depths(deep: Line) -> np.ndarray:
    """Where each tap meets the source for result 0, along the planes."""
    return np.array([_offset(deep, tap) for tap in deep.residues[0]], np.int64)


def _offset(line: Line, tap: Tap) -> int:
    return line.stride * tap.shift + tap.phase - line.pad


def register_tables(
    wide: Line, lanes: int, step: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """The registers of a row; their masks; and for each offset of a tap where its masks are.

    Masks of a register: the lanes of the results that are in the row; those that no register before
    has; and for each offset the cells that are.
    """
    every, total = wide.every, wide.total
    even = total // every  # results that all residues have
    starts = list(range(0, even - lanes + 1, lanes)) or [0]
    if starts[-1] + lanes < wide.size:
        starts.append(max(0, even - lanes if total % every == 0 else wide.size - lanes))
    offsets = sorted({_offset(wide, tap) for taps in wide.residues for tap in taps})
    lane, after = np.arange(lanes), 0
    own: dict[bytes, int] = {}
    masks: list[np.ndarray] = []
    columns = []
    for first in starts:
        cells = every * first + np.arange(every * lanes)
        fresh = (cells >= after) & (cells < total)
        read = [
            ((c := step * first + offset + half * lanes + lane) >= 0) & (c < wide.source)
            for offset in offsets
            for half in range(step)
        ]
        mask = np.concatenate([cells < total, fresh, *read])
        if mask.tobytes() not in own:
            own[mask.tobytes()] = sum(m.size for m in masks)
            masks.append(mask)
        spills = bool((cells >= total).any())
        way = WHOLE if not spills else IN_ORDER if len(starts) == 1 else MASKED
        columns.append((first, own[mask.tobytes()], way, int(fresh.all())))
        after = every * (first + lanes)
    words = -np.concatenate(masks).astype(f"i{dtype.itemsize}")
    places = {offset: (2 * every + i * step) * lanes for i, offset in enumerate(offsets)}
    return np.array(columns, np.int64), words, places


def _tables(
    problem: Problem, shape: InPlace, w: Strides, count: int, offsets: dict[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each weight lies in w, the strips, and the residues: see `jobs`."""
    g, item = problem.geometry, problem.dtype.itemsize
    _, high, wide = lines(problem)
    axes = [s // item for s in w[2:]]
    picks: list[int] = []
    taps: list[tuple[int, ...]] = []
    residues: list[int] = []
    strips = strips_of(problem)
    for index in range(high.every * wide.every):
        words = [0, len(picks), len(taps)]
        for length in shape.strips:
            own = [s for i, s in strips if i == index and len(s) == length]
            picks += [
                sum(t.k * s for t, s in zip(tap[3 - g.rank :], axes, strict=True))
                for strip in own for tap in strip
            ]  # fmt: skip
            taps += [entry(problem, strip[0], count, offsets) for strip in own]
            words.append(len(own))
        residues += words + [0] * (RESIDUE - len(words))
    table = np.array(taps, np.int64).reshape(-1, ENTRY)
    return np.array(picks, np.int64), table, np.array(residues, np.int64)


def entry(
    problem: Problem, tap: tuple[Tap, Tap, Tap], count: int, offsets: dict[int, int]
) -> tuple[int, int, int]:
    """The words of a strip that begins with this tap: its row, its column, its masks."""
    deep, high, wide = lines(problem)
    z, h, w = tap
    depth = list(deep.residues[0]).index(z)
    offset = _offset(wide, w)
    return (depth * high.phases + h.phase) * count + h.shift, offset, offsets[offset]
