"""Panels of consecutive cells of a result, and what they read: runs are pieces of its rows.

A panel has a table: word 0 is 1 where the panel may be stored as it lies, word 1 the number of
runs; then a record for each run, RECORD words: its first lane, its number of cells, where its
sample begins in the source, its plane, row and first column, and where it begins in the result.
"""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.kernels.frame import split, start

TABLE = 2  # words before the records
RECORD = 8
PLACE = 6  # the word of a record that says where the run begins in the result


def find_runs(lanes: Lanes, width: int, fields: tuple[str, ...]) -> Kernel:
    """Fill the table of the panel that begins at `cell` of its unit."""
    k, a = start("find_runs", lanes, fields, ("args: ptr", "table: ptr", "cell: i64"))
    _, table, cell = k.parameters
    end = (cell + width).minimum(a["unit"])
    row0, rows = cell // a["OW"], (end + a["OW"] - 1) // a["OW"]
    records = table.at(TABLE, "i64")
    with k.loop(rows, start=row0) as (row, _):
        n, z, r = split(row, a["OZ"], a["OH"])
        begin = cell.maximum(row * a["OW"])
        count, c = end.minimum((row + 1) * a["OW"]) - begin, begin - row * a["OW"]
        place = n * a["yn"] + z * a["yz"] + r * a["yh"] + c * a["yw"]
        record = records.at((row - row0) * RECORD, "i64")
        for i, word in enumerate((begin - cell, count, n * a["xn"], z, r, c, place)):
            record.store(word, i)
    number = rows - row0
    last = records.at((number - 1) * RECORD, "i64")
    places = last.load(PLACE, "i64") - records.load(PLACE, "i64")
    whole = (
        a["flat"].equals(1) & (end - cell).equals(width) & places.equals(last.load(0, "i64"))
    )  # fmt: skip
    table.store(k.select(whole, k.constant("i64", 1), k.constant("i64", 0)), 0)
    table.store(number, 1)
    return k


def copy_runs(
    k: Kernel, a: dict[str, Value], table: Value, tap: Value, source: Value, channels: Value,
    to: Value, row: Value, width: int,
) -> Value:  # fmt: skip
    """to[row·r + cell] = source[r, s·cell + tap] for the cells of a panel, zero outside the source.

    Returns whether any cell lies inside. Where none does and a["skips"] is 1, nothing is written.
    """
    records, number = table.at(TABLE, "i64"), table.load(1, "i64")
    shifts = [tap.load(i, "i64") for i in range(3)]
    no, yes = k.constant("i64", 0), k.constant("i64", 1)
    with k.loop(number, carry=[no]) as (i, found):
        meets = _place(k, a, records.at(i * RECORD, "i64"), shifts)[-1]
        found.values = [k.select(meets, yes, found.values[0])]
    (live,) = found.values
    live = k.select(a["skips"].equals(1), live, yes)
    with k.when(live.equals(1)), k.loop(number) as (i, _):
        record = records.at(i * RECORD, "i64")
        offset, first, last, _ = _place(k, a, record, shifts)
        lane, count = record.load(0, "i64"), record.load(1, "i64")
        step = a["sw"] * a["xw"]
        with k.loop(count, step=k.lanes.count) as (j, _):
            run = _Piece(k, source.at(offset + j * step), to.at(lane + j), channels, a["xc"], row)
            low, high = first - j * a["sw"], last - j * a["sw"]
            spills = lane + j + k.lanes.count > width
            _copy_piece(k, a, run, low, high, step, spills, count - j)
    return live.equals(1)


def _place(
    k: Kernel, a: dict[str, Value], record: Value, shifts: list[Value]
) -> tuple[Value, Value, Value, Value]:
    """Where a run begins in the source, the columns (counted from there) that exist, and whether
    any of its cells lies on one."""
    n, z, r, c = (record.load(word, "i64") for word in range(2, 6))
    iz, ir, ic = (t * a[s] + by for t, s, by in zip((z, r, c), ("sz", "sh", "sw"), shifts))
    inside = (iz >= 0) & (iz < a["D"]) & (ir >= 0) & (ir < a["H"])
    offset = n + iz * a["xz"] + ir * a["xh"] + ic * a["xw"]
    first = k.constant("i64", 0) - ic
    last = k.select(inside, a["W"] - ic, first)
    reach = (record.load(1, "i64") - 1) * a["sw"]
    return offset, first, last, (first < last) & (last > 0) & (first <= reach)


class _Piece:
    """A register's worth of a run, for all channels."""

    def __init__(
        self, k: Kernel, source: Value, to: Value, channels: Value, pitch: Value, row: Value
    ) -> None:
        self.k, self.source, self.to, self.width = k, source, to, row
        self.channels, self.pitch = channels, pitch


def _copy_piece(
    k: Kernel, a: dict[str, Value], piece: _Piece, low: Value, high: Value, step: Value,
    spills: Value, left: Value,
) -> None:  # fmt: skip
    """Columns low ≤ e < high exist; a register that spills over the panel's row keeps the rest."""
    lanes = k.lanes.count
    keep = k.lanes_below(left)
    one, two = step.equals(1), step.equals(2)
    plain = one & (low <= 0) & (high >= lanes) & spills.equals(0)
    with k.when(plain), k.loop(piece.channels) as (c, _):
        piece.to.store(piece.source.vector(c * piece.pitch), c * piece.width)
    within = k.lanes_within(low, high)
    with k.when(one & plain.equals(0)), k.loop(piece.channels) as (c, _):
        value, at = piece.source.vector(c * piece.pitch, within), piece.to.at(c * piece.width)
        at.store(k.select(keep, value, at.vector()))
    even = [2 * lane for lane in range(lanes)]
    beyond = k.lanes_within(low - lanes, (high - lanes).minimum(lanes - 1))
    easy = two & (low <= 0) & (high >= 2 * lanes) & spills.equals(0)
    with k.when(easy), k.loop(piece.channels) as (c, _):
        row = piece.source.at(c * piece.pitch)
        piece.to.store(k.shuffle(row.vector(), row.vector(lanes), even), c * piece.width)
    with k.when(two & easy.equals(0)), k.loop(piece.channels) as (c, _):
        row, at = piece.source.at(c * piece.pitch), piece.to.at(c * piece.width)
        value = k.shuffle(row.vector(0, within), row.vector(lanes, beyond), even)
        at.store(k.select(keep, value, at.vector()))
    mask = k.steps_within(a["sw"], low, high)
    with k.when((one | two).equals(0)), k.loop(piece.channels) as (c, _):
        value = piece.source.at(c * piece.pitch).gather(step, mask & keep)
        at = piece.to.at(c * piece.width)
        at.store(k.select(keep, value, at.vector()))
