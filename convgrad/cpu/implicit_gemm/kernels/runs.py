"""Panels of consecutive cells of a result, and what they read: runs are pieces of its rows.

A panel has a table: word 0 is 1 where the panel may be stored as it lies, word NUMBER the number of
runs, word PLAIN 1 where its cells fill it and are one run of the source; then a record for each
run, RECORD words: its first lane, its number of cells, where its sample begins in the source, its
plane, row and first column, and where it begins in the result.
"""

from collections.abc import Callable

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.kernels.frame import split, start

TABLE = 3  # words before the records
NUMBER, PLAIN = 1, 2
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
    plain = a["line"].equals(1) & number.equals(1) & (end - cell).equals(width)
    for word, fact in ((0, whole), (PLAIN, plain)):
        table.store(k.select(fact, k.constant("i64", 1), k.constant("i64", 0)), word)
    table.store(number, NUMBER)
    return k


def line_of(table: Value, source: Value) -> Value:
    """Where the cells of a panel begin that are one run of the source: see PLAIN."""
    record = table.at(TABLE, "i64")
    return source.at(record.load(2, "i64") + record.load(5, "i64"))


def copy_runs(
    k: Kernel, a: dict[str, Value], table: Value, tap: Value, source: Value, channels: Value,
    to: Value, row: Value, width: int,
) -> Value:  # fmt: skip
    """to[row·r + cell] = source[r, s·cell + tap] for the cells of a panel, zero outside the source.

    Returns whether any cell lies inside. Where none does and a["skips"] is 1, nothing is written.
    """
    records, number = table.at(TABLE, "i64"), table.load(NUMBER, "i64")
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


def copy_patches(
    k: Kernel, a: dict[str, Value], table: Value, tap: Value, source: Value, channels: Value,
    to: Value, pitches: tuple[Value, Value], width: int,
) -> None:  # fmt: skip
    """The same for a row of taps, a["along"] of them side by side, where cells lie apart.

    Registers hold taps of one cell, and are transposed. pitches: in `to`, of a channel and a tap.
    """
    lanes, (each_r, each_tap) = k.lanes.count, pitches
    records = table.at(TABLE, "i64")
    shifts = [tap.load(i, "i64") for i in range(3)]
    with k.loop(table.load(NUMBER, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        offset, first, last, _ = _place(k, a, record, shifts)
        lane, count = record.load(0, "i64"), record.load(1, "i64")
        with (
            k.loop(count, step=lanes) as (j, _),
            k.loop(a["along"], step=lanes) as (t, _),
        ):
            begin, place = source.at(offset + j * a["sw"] + t), to.at(t * each_tap + lane + j)
            far = (j + (lanes - 1)) * a["sw"] + t + lanes
            whole = (
                (a["along"] - t >= lanes) & (count - j >= lanes)
                & (first <= j * a["sw"] + t) & (last >= far)
            )  # fmt: skip
            with k.when(whole), k.loop(channels) as (c, _):
                read = [begin.at(c * a["xc"] + a["sw"] * n).vector() for n in range(lanes)]
                for n, v in enumerate(k.transpose(read)):
                    place.store(v, c * each_r + each_tap * n)
            with k.when(whole.equals(0)):
                some, keep = k.lanes_below(a["along"] - t), k.lanes_below(count - j)
                spills = lane + j + lanes > width
                masks = []
                for cell in range(lanes):
                    at = (j + cell) * a["sw"] + t
                    exists = k.mask_where(count - j > cell, some)
                    masks.append(k.lanes_within(first - at, last - at) & exists)
                with k.loop(channels) as (c, _):
                    line = begin.at(c * a["xc"])
                    read = [line.at(a["sw"] * n).vector(0, mask) for n, mask in enumerate(masks)]
                    for n, v in enumerate(k.transpose(read)):
                        here = place.at(c * each_r + each_tap * n)
                        with k.when((a["along"] - t > n) & spills):
                            here.store(k.select(keep, v, here.vector()))
                        with k.when((a["along"] - t > n) & spills.equals(0)):
                            here.store(v)


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
    """A register's worth of a run, for all channels: to[r·row + lane] from source[r·pitch + …]."""

    def __init__(
        self, k: Kernel, source: Value, to: Value, channels: Value, pitch: Value, row: Value
    ) -> None:
        self.k, self.source, self.to, self.row = k, source, to, row
        self.channels, self.pitch = channels, pitch

    def copy(self, condition: Value, read: Callable[[Value], Value], keep: Value | None) -> None:
        """Where the condition holds: read(line) for each channel; `keep` says which lanes count."""
        k = self.k
        with k.when(condition), k.loop(self.channels) as (c, _):
            value, at = read(self.source.at(c * self.pitch)), self.to.at(c * self.row)
            at.store(value if keep is None else k.select(keep, value, at.vector()))


def _copy_piece(
    k: Kernel, a: dict[str, Value], piece: _Piece, low: Value, high: Value, step: Value,
    spills: Value, left: Value,
) -> None:  # fmt: skip
    """Columns low ≤ e < high exist; a register that spills over the panel's row keeps the rest."""
    lanes = k.lanes.count
    beside = piece.pitch.equals(1) & step.equals(1).equals(0)
    apart = beside.equals(0)
    one, two = apart & step.equals(1), apart & step.equals(2)
    keep, within = k.lanes_below(left), k.lanes_within(low, high)
    plain = one & (low <= 0) & (high >= lanes) & spills.equals(0)
    piece.copy(plain, lambda line: line.vector(), None)
    piece.copy(one & plain.equals(0), lambda line: line.vector(0, within), keep)
    even = [2 * lane for lane in range(lanes)]
    bottom, top = low * a["xw"], (high - 1) * a["xw"] + 1  # in elements of memory
    easy = two & (bottom <= 0) & (top >= 2 * lanes) & spills.equals(0)
    piece.copy(easy, lambda line: k.shuffle(line.vector(), line.vector(lanes), even), None)
    near = k.lanes_within(bottom, top)
    beyond = k.lanes_within(bottom - lanes, (top - lanes).minimum(lanes - 1))
    piece.copy(
        two & easy.equals(0),
        lambda line: k.shuffle(line.vector(0, near), line.vector(lanes, beyond), even),
        keep,
    )
    mask = k.steps_within(a["sw"], low, high) & keep
    piece.copy(
        apart & (one | two).equals(0), lambda line: line.gather(step, mask), keep
    )  # fmt: skip
    with k.when(beside):
        _copy_square(k, a, piece, low, high, step, keep, spills.equals(0))


def _copy_square(
    k: Kernel, a: dict[str, Value], piece: _Piece, low: Value, high: Value, step: Value,
    keep: Value, plain: Value,
) -> None:  # fmt: skip
    """Channels that lie side by side: registers of channels, one for each cell, transposed."""
    lanes = k.lanes.count
    exist = [(a["sw"] * i >= low) & (a["sw"] * i < high) for i in range(lanes)]
    with k.loop(piece.channels, step=lanes) as (c, _):
        some = k.lanes_below(piece.channels - c)
        read = [
            piece.source.at(step * i + c).vector(0, k.mask_where(here, some))
            for i, here in enumerate(exist)
        ]
        for i, v in enumerate(k.transpose(read)):
            at = piece.to.at((c + i) * piece.row)
            with k.when((piece.channels - c > i) & plain):
                at.store(v)
            with k.when((piece.channels - c > i) & plain.equals(0)):
                at.store(k.select(keep, v, at.vector()))
