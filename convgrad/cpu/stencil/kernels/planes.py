"""Depthwise maps over planes where they lie: no copy, edges masked as they are loaded.

A row of the result is registers that begin at `columns`; the last one ends with the row and
overlaps the one before. Down a register's column, each row of the source is loaded once, its cells
parted by the stride's phase, and added to all rows of the result that it belongs to; these are in
the making in registers, and the first of them is stored when the next row comes.
"""

from dataclasses import dataclass, replace

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.plane_rows import (
    AHEAD,
    Column,
    cells,
    clear_row,
    column,
    in_order,
)
from convgrad.cpu.stencil.shapes import Planes, planes_shapes

WHOLE, IN_ORDER, MASKED = 0, 1, 2  # always; where what it spills over is written later; never
FIELDS = (
    "x", "w", "y", "bias", "columns", "masks", "xn", "xc", "xz", "xh", "sz", "H", "W", "ph", "pw",
    "sh", "leading", "trailing", "G", "planes", "runs", "shares", "tiles", "BR", "size",
    "L", "ncolumns", "TZ", "OZ", "OH", "yn", "yc", "yz", "yh", "free", "behind", "accumulate",
    "scale",
)  # fmt: skip


def planes(lanes: Lanes, shape: Planes) -> str:
    """y[n,c,t] = scale·Σ_τ w[c,τ]·x[n, c, s·t + τ] + bias[c] (+ y), for one channel at a time.

    A part is a run of the N·C planes, over a share of the blocks of BR rows.
    """
    k, a = start("planes", lanes, FIELDS)
    _, part, zeros = k.parameters
    run, share = split(part, a["shares"])
    p0, p1 = (a["planes"] * (run + i) // a["runs"] for i in (0, 1))
    b0, b1 = (a["tiles"] * (share + i) // a["shares"] for i in (0, 1))
    clear_row(k, zeros, a["W"])
    scale = k.splat(a["scale"].to_element())
    with k.loop(p1, start=p0) as (p, _):
        n, c = p // a["G"], p % a["G"]
        source, result = a["x"].at(n * a["xn"] + c * a["xc"]), a["y"].at(n * a["yn"] + c * a["yc"])
        weights, bias = a["w"].at(c * a["L"]), k.splat(a["bias"].load(c))
        # Rows of the part that are written from this plane on, as far as they follow in memory.
        following = k.select(a["free"].equals(1), (p1 - p) * a["OZ"] * a["OH"], a["OH"])
        with k.loop(a["TZ"]) as (z, _), k.loop(b1, start=b0) as (block, _):
            t0 = block * a["BR"]
            t1 = (t0 + a["BR"]).minimum(a["size"])
            passed = k.select(a["free"].equals(1), z * a["OH"], k.constant("i64", 0))
            plane, to = source.at(z * a["sz"] * a["xz"]), result.at(z * a["yz"])
            finish = Finish(scale, bias, to, following - passed - a["behind"])
            with k.loop(a["ncolumns"], step=shape.vectors) as (q, _):
                _down(k, a, shape, (plane, zeros), weights, (t0, t1), q, finish)
    return k.text()


@dataclass(frozen=True)
class Finish:
    """How sums become results: scale, bias, their plane; how many of its rows may spill over, and
    how many rows of each register are stored as they are."""

    scale: Value
    bias: Value
    to: Value
    safe: Value
    limits: tuple[Value, ...] = ()


def blocks_of(a: dict[str, Value], shape: Planes, t0: Value, t1: Value) -> tuple[Value, Value]:
    """The first and the last block of rows of the source that results t0 … t1 − 1 meet.

    Block b is rows s·b − pad … s·b − pad + s − 1; blocks that are all padding are left out.
    """
    return t0.maximum(a["leading"]), (t1 + (shape.reach - 1)).minimum(a["trailing"])


def _down(
    k: Kernel, a: dict[str, Value], shape: Planes, source: tuple[Value, Value], weights: Value,
    rows: tuple[Value, Value], q: Value, finish: Finish,
) -> None:  # fmt: skip
    """Rows t0 … t1 − 1 of some registers of results.

    When block b comes, row b − reach − 1 is finished, and b − reach … b − 1 are in the making.
    It is stored before the block is read: what is computed behind a store would have all that it
    reads loaded before it.
    """
    t0, t1 = rows
    columns = [column(k, a, shape, q + v) for v in range(shape.vectors)]
    finish = replace(finish, limits=tuple(_limit(k, a, at, finish.safe) for at in columns))
    reach, ways = shape.reach, len(shape.high) * len(shape.wide)
    each = shape.vectors * ways  # registers of a row of results
    first, last = blocks_of(a, shape, t0, t1)
    zeros = [k.zero()] * each
    kept = [k.splat(weights.load(i)) for i in range(len(shape.taps) if shape.keeps else 0)]
    with k.loop(last + 1, start=first, carry=zeros * (reach + 1)) as (b, state):
        _write(k, a, shape, state.values[:each], b - (reach + 1), t0, columns, finish)
        sums = [*state.values[each:], *zeros]
        for phase in range(shape.phases):
            row = b * a["sh"] + phase - a["ph"]
            # Otherwise no block is without a row.
            padded = shape.phases > 1
            read = [cells(k, a, shape, source, row, at, padded) for at in columns]
            for across, own in enumerate(zip(*read, strict=True)):
                for i, tap in enumerate(shape.taps):
                    if (tap.phase, tap.across) != (phase, across):
                        continue
                    factor = kept[i] if kept else k.splat(weights.load(i))
                    for v, cell in enumerate(own):
                        at = ((reach - tap.shift) * shape.vectors + v) * ways + tap.residue
                        sums[at] = k.fma(cell, factor, sums[at])
        state.values = sums
    for m in range(reach + 1):
        t = last - (reach - m)
        with k.when(t < t1):
            _write(k, a, shape, state.values[m * each :][:each], t, t0, columns, finish)


def _limit(k: Kernel, a: dict[str, Value], at: Column, safe: Value) -> Value:
    """How many rows of a register are stored as they are."""
    none = k.constant("i64", 0)
    limit = k.select(at.way.equals(IN_ORDER), safe, none)
    limit = k.select(at.way.equals(WHOLE), a["OH"], limit.minimum(a["OH"]))
    return k.select(a["accumulate"].equals(1), none, limit)


def _write(
    k: Kernel, a: dict[str, Value], shape: Planes, sums: list[Value], t: Value, t0: Value,
    columns: list[Column], finish: Finish,
) -> None:  # fmt: skip
    """Result t of each residue of the rows, if it is one of the block."""
    high, wide, count = len(shape.high), len(shape.wide), k.lanes.count
    for h in range(high):
        row = t * high + h
        for v, at in enumerate(columns):
            values = _finished(k, shape, sums[(v * high + h) * wide :][:wide], finish)
            line = finish.to.at(row * a["yh"] + at.first * wide)
            plain = (t >= t0) & (row < finish.limits[v])
            with k.when(plain):
                for j, value in enumerate(values):
                    line.store(value, j * count)
                    line.prefetch(AHEAD // k.lanes.bytes + j * count, write=True)
            with k.when(plain.equals(0) & (t >= t0) & (row < a["OH"])):
                _write_row(k, a, values, line, at)


def _write_row(
    k: Kernel, a: dict[str, Value], values: list[Value], line: Value, at: Column
) -> None:
    """Lanes that no register before has; added to what is there, where that is asked for."""
    count, adds = k.lanes.count, a["accumulate"].equals(1)
    whole = adds & at.whole.equals(1)
    with k.when(whole):
        for j, value in enumerate(values):
            line.store(value + line.vector(j * count), j * count)
    with k.when(whole.equals(0)):
        for j, value in enumerate(values):
            fresh = at.masks.mask((len(values) + j) * count)
            more = value + line.vector(j * count, fresh)
            line.store(k.select(adds, more, value), j * count, fresh)


def _finished(k: Kernel, shape: Planes, sums: list[Value], finish: Finish) -> list[Value]:
    """scale·sum + bias in the order of the columns: one register, or two that are interleaved."""
    count = k.lanes.count
    values = [k.fma(part, finish.scale, finish.bias) for part in sums]
    if len(values) == 2:
        orders = [
            [(half * count + lane) // 2 + lane % 2 * count for lane in range(count)]
            for half in range(2)
        ]
        return [k.shuffle(values[0], values[1], order) for order in orders]
    return [in_order(k, shape, value) for value in values]


PLANES = Generator("planes", planes, FIELDS, planes_shapes)
