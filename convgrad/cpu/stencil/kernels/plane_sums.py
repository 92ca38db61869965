"""Depthwise weight gradient over planes where they lie: see `planes`. A tap's sum is a register."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.plane_rows import (
    AHEAD,
    Column,
    cells,
    clear_row,
    column,
    order,
)
from convgrad.cpu.stencil.shapes import Planes, plane_sums_shapes

FIELDS = (
    "x", "dy", "dw", "columns", "masks", "N", "C", "xn", "xc", "xh", "H", "ph", "pw",
    "yn", "yc", "yh", "OH", "BR", "runs", "pieces", "ncolumns", "zeros", "dws",
)  # fmt: skip


def plane_sums(lanes: Lanes, shape: Planes) -> str:
    """dw[c,τ] = Σ_{n,p} dy[n,c,p]·x[n, c, s·p + τ].

    A part is a run of channels of a piece of the samples; sums lie in scratch behind the zeros, a
    register each, until their lanes are added up.
    """
    k, a = start("plane_sums", lanes, FIELDS)
    _, part, zeros = k.parameters
    count, number = lanes.count, len(shape.taps)
    run, piece = split(part, a["pieces"])
    c0, c1 = (a["C"] * (run + i) // a["runs"] for i in (0, 1))
    n0, n1 = (a["N"] * (piece + i) // a["pieces"] for i in (0, 1))
    clear_row(k, zeros, a["zeros"] + (c1 - c0) * (number * count))
    sums = zeros.at(a["zeros"])
    with k.loop(n1, start=n0) as (n, _), k.loop(c1, start=c0) as (c, _):
        own = sums.at((c - c0) * (number * count))
        x, dy = a["x"].at(n * a["xn"] + c * a["xc"]), a["dy"].at(n * a["yn"] + c * a["yc"])
        totals = [own.vector(i * count) for i in range(number)]
        with k.loop(a["OH"], step=a["BR"], carry=totals) as (t0, outer):
            rows = t0, (t0 + a["BR"]).minimum(a["OH"])
            with k.loop(a["ncolumns"], carry=outer.values) as (q, state):
                at = column(k, a, shape, q)
                state.values = _down(k, a, shape, (x, zeros), dy, rows, at, state.values)
            outer.values = state.values
        for i, total in enumerate(outer.values):
            own.store(total, i * count)
    with k.loop(c1, start=c0) as (c, _):
        own = sums.at((c - c0) * (number * count))
        place = a["dw"].at(piece * a["dws"] + c * number)
        for first in range(0, number, count):
            some = range(first, min(first + count, number))
            total = k.sums([own.vector(i * count) for i in some])
            place.store_first(len(some), total, first)
    return k.text()


def _down(
    k: Kernel, a: dict[str, Value], shape: Planes, source: tuple[Value, Value], dy: Value,
    rows: tuple[Value, Value], at: Column, totals: list[Value],
) -> list[Value]:  # fmt: skip
    """Totals, and what a register of each of these rows of dy adds to them.

    The rows of x that the next row of dy meets too stay in registers.
    """
    height, width = len(shape.high[0]), len(shape.across)
    stays = (height - shape.step) * width

    def row(t: Value, i: int) -> list[Value]:
        return list(cells(k, a, shape, source, t * shape.step + i - a["ph"], at))

    fresh = at.masks.mask(k.lanes.count)
    begin = [cell for i in range(height - shape.step) for cell in row(rows[0], i)]
    with k.loop(rows[1], start=rows[0], carry=[*begin, *totals]) as (t, state):
        read = state.values[:stays]
        for i in range(height - shape.step, height):
            read += row(t, i)
        line = dy.at(t * a["yh"] + at.first)
        line.prefetch(AHEAD // k.lanes.bytes, near=True)
        g = line.vector(0, fresh)
        if shape.step > 1:
            g = k.shuffle(g, g, order(k.lanes))
        pairs = zip(read, state.values[stays:], strict=True)
        sums = [k.fma(cell, g, total) for cell, total in pairs]
        state.values = [*read[shape.step * width :], *sums]
    return state.values[stays:]


PLANE_SUMS = Generator("plane_sums", plane_sums, FIELDS, plane_sums_shapes)
