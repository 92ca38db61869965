"""Depthwise kernels that read planes where they lie: no copy, edges masked as they are loaded.

A row of the result is registers that begin at `columns`; the last one ends with the row and
overlaps the one before. A row of the source is found through a table of addresses, in which a row
of padding is a row of zeros.
"""

from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Operand, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.rows import ask_ahead, narrowed
from convgrad.cpu.stencil.shapes import RESIDUE, InPlace, in_place_shapes

ENTRY = 3  # words of a strip: its row in the table of rows, its first column, its mask
COLUMN = 4  # words of a register of a row: first result, its masks, how it is stored, if whole
WHOLE, IN_ORDER, MASKED = 0, 1, 2  # always; where what it spills over is written later; never
FIELDS = (
    "x", "w", "y", "bias", "taps", "residues", "columns", "masks", "deeps",
    "xn", "xc", "xz", "xh", "D", "H", "W", "ph", "sz", "sh", "sw", "fh", "reachh", "ndeep",
    "G", "planes", "runs", "shares", "tiles", "L", "ncolumns", "TZ", "OZ", "OH",
    "yn", "yc", "yz", "yh", "free", "behind", "zeros", "accumulate", "scale",
)  # fmt: skip


def planes(lanes: Lanes, shape: InPlace) -> str:
    """y[n,c,t] = scale·Σ_τ w[c,τ]·x[n, c, s·t + τ] + bias[c] (+ y), for one channel at a time.

    A part is a run of the N·C planes, over a share of the tiles of rows.
    """
    k, a = start("planes", narrowed(lanes, shape.narrow), FIELDS)
    _, part, rows = k.parameters
    run, share = split(part, a["shares"])
    p0, p1 = (a["planes"] * (run + i) // a["runs"] for i in (0, 1))
    t0, t1 = (a["tiles"] * (share + i) // a["shares"] for i in (0, 1))
    zeros = clear_zeros(k, a, rows)
    scale = k.splat(a["scale"].to_element())
    high, wide = shape.every
    with k.loop(p1, start=p0) as (p, _):
        n, c = p // a["G"], p % a["G"]
        source, result = a["x"].at(n * a["xn"] + c * a["xc"]), a["y"].at(n * a["yn"] + c * a["yc"])
        weights, bias = a["w"].at(c * a["L"]), k.splat(a["bias"].load(c))
        # Rows of the part that are written from this plane on, as far as they follow in memory.
        following = k.select(a["free"].equals(1), (p1 - p) * a["OZ"] * a["OH"], a["OH"])
        with k.loop(a["TZ"]) as (z, _), k.loop(t1, start=t0) as (tile, _):
            r = tile * shape.rows
            passed = k.select(a["free"].equals(1), z * a["OH"], k.constant("i64", 0))
            safe = following - passed - a["behind"]
            point_at_rows(k, a, rows, zeros, source, z, r, a["reachh"] + shape.rows)
            begin = source.at(z * a["sz"] * a["xz"] + r * a["sh"] * a["xh"])
            ask_ahead(k, begin, a["sh"] * shape.rows * a["xh"])
            begin = result.at(z * a["yz"] + r * high * a["yh"])
            ask_ahead(k, begin, a["yh"] * (high * shape.rows), write=True)
            to = result.at(z * a["yz"])
            with k.loop(a["ncolumns"]) as (q, _):
                first, masks, way, whole = (
                    a["columns"].load(q * COLUMN + i, "i64") for i in range(COLUMN)
                )
                on = a["masks"].at(masks)
                sums = [
                    _residue(k, a, shape, rows, weights, on, first * a["sw"], index)
                    for index in range(high * wide)
                ]
                far, none = k.constant("i64", 1 << 40), k.constant("i64", 0)
                limit = k.select(way.equals(IN_ORDER), safe, k.select(way.equals(WHOLE), far, none))
                out = [
                    _finished(k, shape, [part[i] for part in sums[h * wide :][:wide]], scale, bias)
                    for i in range(shape.rows)
                    for h in range(high)
                ]
                line = to.at(r * high * a["yh"] + first * wide)
                place = Rows(r * high, a["OH"], limit, line, a["yh"], on, whole)
                _write(k, a, shape, out, place)
    return k.text()


def clear_zeros(k: Kernel, a: dict[str, Value], scratch: Value) -> Value:
    """A row of zeros in scratch, behind the table of rows."""
    zeros = scratch.at(a["zeros"])
    with k.loop(a["W"], step=k.lanes.count) as (i, _):
        zeros.store(k.zero(), i)
    return zeros


def point_at_rows(
    k: Kernel, a: dict[str, Value], rows: Value, zeros: Value, source: Value, z: Value, r: Value,
    count: Value,
) -> None:  # fmt: skip
    """rows[τz][phase][j]: where row s·(r + j) + phase − pad of the plane that τz meets begins."""
    with k.loop(a["ndeep"]) as (d, _), k.loop(a["fh"]) as (f, _):
        iz = z * a["sz"] + a["deeps"].load(d, "i64")
        inside = (iz >= 0) & (iz < a["D"])
        plane = source.at(iz * a["xz"])
        table, first = rows.at((d * a["fh"] + f) * count, "ptr"), r * a["sh"] + f - a["ph"]
        with k.loop(count) as (j, _):
            row = first + j * a["sh"]
            there = inside & (row >= 0) & (row < a["H"])
            table.store(k.select(there, plane.at(row * a["xh"]), zeros), j)


def cells_at(k: Kernel, row: Value, masks: list[Value]) -> Value:
    """A register of a row's cells, or every second one of two, in the order of `spread_order`."""
    parts = [row.vector(j * k.lanes.count, mask) for j, mask in enumerate(masks)]
    if len(parts) == 1:
        return parts[0]
    return k.shuffle(parts[0], parts[1], [2 * lane for lane in spread_order(k.lanes)])


def spread_order(lanes: Lanes) -> list[int]:
    """Cells of two registers' every second lane, such that no lane crosses 128 bits."""
    half = max(1, min(lanes.count, 16 // lanes.bytes) // 2)
    blocks = range(lanes.count // (2 * half))
    return [
        side * lanes.count // 2 + block * half + lane
        for block in blocks
        for side in range(2)
        for lane in range(half)
    ]


def _residue(
    k: Kernel, a: dict[str, Value], shape: InPlace, rows: Value, weights: Value, masks: Value,
    column: Value, index: int,
) -> list[Value]:  # fmt: skip
    """The sums of one residue's taps, for each row of the tile."""
    words = [a["residues"].load(index * RESIDUE + i, "i64") for i in range(RESIDUE)]
    weights, table = weights.at(words[1]), a["taps"].at(words[2] * ENTRY, "i64")
    sums = [k.zero()] * shape.rows
    if shape.columns:
        strips = []
        for strip, number in zip(shape.strips, shape.columns[index], strict=True):
            own = [_strip(k, shape, weights, table, masks, e, strip) for e in range(number)]
            strips.append((rows.at(own[0][0] if own else 0, "ptr"), strip, own))
            weights, table = weights.at(number * strip), table.at(number * ENTRY, "i64")
        return _add_strips(k, shape, strips, column, sums)
    for strip, number in zip(shape.strips, words[3:], strict=False):
        with k.loop(number, carry=sums) as (entry, state):
            own = _strip(k, shape, weights, table, masks, entry, strip)
            lines = rows.at(own[0], "ptr")
            state.values = _add_strips(k, shape, [(lines, strip, [own])], column, state.values)
        sums = state.values
        weights, table = weights.at(number * strip), table.at(number * ENTRY, "i64")
    return sums


Strip = tuple[Value, Value, list[Value], list[Value]]  # row, column, masks, factors


def _strip(
    k: Kernel, shape: InPlace, weights: Value, table: Value, masks: Value, entry: Operand, size: int
) -> Strip:
    base, offset, mask = (table.at(i, "i64").load(entry * ENTRY, "i64") for i in range(ENTRY))
    on = [masks.mask(mask + j * k.lanes.count) for j in range(shape.step)]
    return base, offset, on, [k.splat(weights.at(entry * size).load(t)) for t in range(size)]


def _add_strips(
    k: Kernel, shape: InPlace, strips: list[tuple[Value, int, list[Strip]]], column: Value,
    sums: list[Value],
) -> list[Value]:  # fmt: skip
    """Row by row, so that only as many sums as a strip has taps are in the making at a time.

    Strips of one length stand beside each other and read the same rows.
    """
    sums = list(sums)
    for i in range(shape.rows + max(size for _, size, _ in strips) - 1):
        for lines, size, beside in strips:
            if not beside or i >= shape.rows + size - 1:
                continue
            line = lines.load(i, "ptr").at(column)
            for _, offset, on, factors in beside:
                cells = cells_at(k, line.at(offset), on)
                for t, factor in enumerate(factors):
                    if 0 <= i - t < shape.rows:
                        sums[i - t] = k.fma(cells, factor, sums[i - t])
    return sums


@dataclass(frozen=True)
class Rows:
    """Where the registers of a tile go: its first row and how many there are, how far whole
    registers may be stored, their pointer, masks, and whether the registers are the rows' first."""

    first: Value
    total: Value
    limit: Value
    to: Value
    pitch: Value
    masks: Value
    whole: Value


def _write(
    k: Kernel, a: dict[str, Value], shape: InPlace, rows: list[list[Value]], place: Rows
) -> None:
    """Registers of rows of results, whole ones in a row of stores where that is allowed."""
    count, end = k.lanes.count, place.first + len(rows)
    inside, plain = end <= place.total, a["accumulate"].equals(0)
    fast = plain & inside & (end <= place.limit)
    with k.when(fast):
        for i, values in enumerate(rows):
            for j, value in enumerate(values):
                place.to.store(value, place.pitch * i + j * count)
    with k.when(fast.equals(0)):
        for i, values in enumerate(rows):
            row, line = place.first + i, place.to.at(place.pitch * i)
            with k.when(row < place.total):
                _write_row(k, plain, values, line, row < place.limit, place)


def _write_row(
    k: Kernel, plain: Value, values: list[Value], line: Value, free: Value, place: Rows
) -> None:
    count = k.lanes.count
    with k.when(plain & free):
        for j, value in enumerate(values):
            line.store(value, j * count)
    with k.when(plain & free.equals(0)):
        for j, value in enumerate(values):
            line.store(value, j * count, place.masks.mask(j * count))
    with k.when(plain.equals(0) & place.whole.equals(1)):
        for j, value in enumerate(values):
            line.store(value + line.vector(j * count), j * count)
    with k.when(plain.equals(0) & place.whole.equals(0)):
        for j, value in enumerate(values):
            fresh = place.masks.mask((len(values) + j) * count)
            line.store(value + line.vector(j * count, fresh), j * count, fresh)


def _finished(
    k: Kernel, shape: InPlace, sums: list[Value], scale: Value, bias: Value
) -> list[Value]:
    """scale·sum + bias in the order of the columns: one register, or two that are interleaved."""
    count = k.lanes.count
    values = [k.fma(part, scale, bias) for part in sums]
    if len(values) == 2:
        orders = [
            [(half * count + lane) // 2 + lane % 2 * count for lane in range(count)]
            for half in range(2)
        ]
        return [k.shuffle(values[0], values[1], order) for order in orders]
    if shape.step == 2:
        order = spread_order(k.lanes)
        return [k.shuffle(values[0], values[0], [order.index(i) for i in range(count)])]
    return values


PLANES = Generator("planes", planes, FIELDS, in_place_shapes)
