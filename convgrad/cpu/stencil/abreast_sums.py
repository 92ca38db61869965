"""Depthwise weight gradients with channels abreast: the job, and its tiles of taps."""

from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.abreast import (
    SUMS_BYTES,
    block,
    copy_size,
    lanes_of,
    offset,
    places_in_copy,
    share,
    together,
    way,
)
from convgrad.cpu.stencil.axes import Line, elements, lines
from convgrad.cpu.stencil.jobs import SMALL
from convgrad.cpu.stencil.kernels.abreast_weights import ABREAST_WEIGHTS
from convgrad.cpu.stencil.layout import PART
from convgrad.cpu.stencil.shapes import SUMS_ABREAST, SumsAbreast
from convgrad.cpu.tiling import ELEMENTS


@lru_cache(maxsize=1024)
def sums_tile(problem: Problem) -> tuple[int, int]:
    """Rows and columns of taps whose sums are kept in registers together."""
    g = problem.geometry
    *above, across = g.kernel
    down = above[-1] if above else 1
    most = SUMS_ABREAST[compiler.target().level]

    def cost(tile: tuple[int, int]) -> float:
        a, b = tile
        return -(-down // a) * -(-across // b) * (max(a * b, 8) + 1)

    able = [(a, b) for a in range(1, 8) for b in range(1, 8) if a * b <= most]
    return min((t for t in able if t[0] <= down and t[1] <= across), key=cost)


@lru_cache(maxsize=1024)
def abreast_sums(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of dw for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    _, high, wide = lines(problem)
    lanes, area = lanes_of(problem), block(problem)
    xn, xc, _, xh, xw = elements(x, item)
    yn, yc, _, yh, yw = elements(dy, item)
    rows, columns = sums_tile(problem)
    shape = SumsAbreast(rows, columns, bool(way(x, wide.source, item)), share(problem))
    above, across = high.residues[0], wide.residues[0]
    taps, picks = [], []
    for i, j in product(_starts(len(above), rows), _starts(len(across), columns)):
        taps.append((offset(high, above[i]) * area.columns + offset(wide, across[j])) * lanes)
        picks += [
            (i + m) * len(across) + j + n for m, n in product(range(rows), range(columns))
        ]  # fmt: skip
    where, which = np.array(taps, np.int64), np.array(picks, np.int64)
    places = places_in_copy(wide, area, lanes)
    blocks, nr = -(-g.groups // lanes), -(-high.size // area.results)
    numbers = (prod(g.x_shape) + prod(g.y_shape)) * item
    seconds = 2 * g.macs * item / 4 / 50e9 + numbers / 8e9
    parts = max(1, round(seconds / PART))
    pieces = min(g.batch * nr, parts, 32)  # where channels follow each other, of few runs
    runs = min(blocks, parts if shape.planes else -(-min(parts, 16) // pieces))
    runs = max(
        runs, -(-blocks // max(1, SUMS_BYTES // (len(picks) * lanes * problem.wide.itemsize)))
    )
    pieces = 1 if runs >= 16 else max(1, min(pieces, parts // runs, 32 // runs))
    copy = copy_size(problem, area)
    beside = 1 if shape.planes else together(problem, area)
    gradient = -(-area.results * wide.size // lanes) * lanes * lanes
    values = {
        "taps": where.ctypes.data, "places": places.ctypes.data, "picks": which.ctypes.data,
        "N": g.batch, "C": g.groups, "xn": xn, "xc": xc, "xh": xh, "xw": xw,
        "H": high.source, "W": wide.source, "yn": yn, "yc": yc, "yh": yh, "yw": yw,
        "OH": high.size, "OW": wide.size, "runs": runs, "pieces": pieces, "blocks": blocks,
        "nr": nr, "BR": area.results, "sh": high.stride, "sw": wide.stride, "ph": high.pad,
        "pw": wide.pad, "ah": _apart(high), "aw": _apart(wide), "rows": area.rows,
        "pitch": area.columns, "tiles": len(taps), "L": len(picks), "CK": g.taps,
        "dws": g.groups * g.taps, "GB": beside, "copy": copy,
        "gradient": gradient, "stage": beside * copy, "sums": beside * (copy + gradient),
        "ahead": xn if nr == 1 else area.results * high.stride * xh,
        "aheady": yn if nr == 1 else area.results * yh,
    }  # fmt: skip
    return Job(
        ABREAST_WEIGHTS, ELEMENTS[problem.dtype.name], shape, values, runs * pieces,
        g.macs > SMALL, (where, places, which),
    )  # fmt: skip


def _starts(total: int, each: int) -> list[int]:
    """Where tiles of `each` taps begin; the last one may overlap the one before."""
    return [min(i, total - each) for i in range(0, total, each)]


def _apart(line: Line) -> int:
    taps = line.residues[0]
    return offset(line, taps[1]) - offset(line, taps[0]) if len(taps) > 1 else 1
