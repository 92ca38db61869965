"""Rows of an array brought into a padded copy, and rows of results brought out of it.

A copy is cells [channel][phase][sample][plane][row][column], `Wq` columns in a row, whole registers
of them, so that every store is a whole register. Padding cells are zero. Phase f of an axis holds
every s-th cell: cell j stands for position s·j + f − pad of the array.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from convgrad.cpu.jit.language import Kernel, Lanes, Value

# How a row's cells are read: one by one; consecutive; consecutive, parted into two or four phases.
GATHER, RUNS, PAIRS, QUADS = 0, 1, 2, 4

# For each plane of a copy: where its rows go, and where they come from.
Planes = Callable[[], AbstractContextManager[tuple[Value, Value]]]


def narrowed(lanes: Lanes, share: int) -> Lanes:
    """Registers of which only a share of the lanes is used, for short rows."""
    return replace(lanes, count=lanes.count // share)


def load_rows(
    k: Kernel, a: dict[str, Value], read: int, to: Value, channels: Value,
    samples: Value, deep: tuple[Value, Value], high: tuple[Value, Value],
) -> None:  # fmt: skip
    """The copy of `channels` channels: planes from deep[0] and rows from high[0], so many of each.

    read: PAIRS, or QUADS, where the columns are consecutive in memory and so many phases.
    """
    (z0, planes), (r0, rows) = deep, high
    every = a["fz"] * a["fh"]
    none = k.constant("i64", 0)
    with k.loop(every) as (f, _):
        fz, fh = f // a["fh"], f % a["fh"]
        first, last = (
            (((a["ph"] - fh + size).maximum(0) + a["sh"] - 1) // a["sh"] - r0).maximum(0)
            for size in (none, a["H"])
        )
        line = a["x"].at((r0 * a["sh"] + fh - a["ph"]) * a["xh"])
        with k.loop(planes) as (z, _):
            iz = (z0 + z) * a["sz"] + fz - a["pz"]
            inside = (iz >= 0) & (iz < a["D"])
            begin = k.select(inside, first.minimum(rows), rows)
            end = k.select(inside, last.minimum(rows), rows)
            origin = to.at(f * a["fw"] * a["cells"] + z * a["Hq"] * a["Wq"])
            source = line.at(iz * a["xz"] + begin * (a["sh"] * a["xh"]) - a["pw"] * a["xw"])

            @contextmanager
            def each_plane(skipped: Value, source=source, origin=origin):
                with k.loop(channels) as (c, _), k.loop(samples) as (n, _):
                    plane = (c * every * a["fw"] * a["cells"]) + n * a["Dq"] * a["Hq"] * a["Wq"]
                    yield origin.at(plane + skipped * a["Wq"]), source.at(c * a["xc"] + n * a["xn"])

            for low, high_row in ((none, begin), (end, rows)):
                with each_plane(low) as (plane, _), k.loop(a["fw"]) as (fw, _):
                    _clear(k, plane.at(fw * a["cells"]), (high_row - low) * a["Wq"])
            _copy_planes(k, a, read, lambda begin=begin, each=each_plane: each(begin), end - begin)


def _clear(k: Kernel, to: Value, count: Value) -> None:
    with k.loop(count, step=k.lanes.count) as (i, _):
        to.store(k.zero(), i)


def _copy_planes(
    k: Kernel, a: dict[str, Value], read: int, each_plane: Planes, rows: Value
) -> None:
    """`rows` rows of each plane: registers inside the array row by row, then the edges, masked."""
    lanes, step = k.lanes.count, a["sh"] * a["xh"]
    if read == GATHER:
        with each_plane() as (to, source):
            _gather(k, a, to, source, rows, step)
        return
    first = _whole(k, (a["pw"].maximum(0) + (read - 1)) // read + (lanes - 1)).minimum(a["Wq"])
    last = _whole(k, (a["W"] + a["pw"]).maximum(0) // read).minimum(a["Wq"]).maximum(first)
    with k.when(first < last), each_plane() as (to, source), k.loop(rows) as (r, _):
        row, line = to.at(r * a["Wq"]), source.at(r * step)
        with k.loop(last, start=first, step=lanes) as (q, _):
            _register(k, a, read, row, line, q, None)
    for start, stop in ((k.constant("i64", 0), first), (last, a["Wq"])):
        with k.loop(stop, start=start, step=lanes) as (q, _):
            masks = _masks(k, a, read, q)
            with each_plane() as (to, source), k.loop(rows) as (r, _):
                _register(k, a, read, to.at(r * a["Wq"]), source.at(r * step), q, masks)


def _whole(k: Kernel, number: Value) -> Value:
    """Rounded down to whole registers."""
    return number // k.lanes.count * k.lanes.count


def _masks(k: Kernel, a: dict[str, Value], read: int, q: Value) -> list[Value]:
    """Which lanes of the registers read for column q of the copy meet the array."""
    begin = a["pw"] - q * read
    return [
        k.lanes_within(begin - j * k.lanes.count, begin + a["W"] - j * k.lanes.count)
        for j in range(read)
    ]


def _register(
    k: Kernel, a: dict[str, Value], read: int, to: Value, source: Value, q: Value,
    masks: list[Value] | None,
) -> None:  # fmt: skip
    """One register of each phase."""
    lanes = k.lanes.count
    parts = [source.vector(q * read + j * lanes, masks[j] if masks else None) for j in range(read)]
    for phase, cells in enumerate(_parted(k, parts)):
        to.at(a["cells"] * phase).store(cells, q)


def _parted(k: Kernel, parts: list[Value]) -> list[Value]:
    """Every n-th lane of n registers that follow each other, for each first one: n is 1, 2 or 4."""
    if len(parts) == 1:
        return parts
    halves = []
    for first in range(2):
        lanes = range(first, 2 * k.lanes.count, 2)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        halves.append(_parted(k, [k.shuffle(a, b, lanes) for a, b in pairs]))
    return [phase for both in zip(*halves, strict=True) for phase in both]


def _gather(
    k: Kernel, a: dict[str, Value], to: Value, source: Value, rows: Value, step: Value
) -> None:
    """One cell at a time, wherever it lies."""
    with k.loop(rows) as (r, _), k.loop(a["fw"]) as (f, _):
        row, line = to.at(f * a["cells"] + r * a["Wq"]), source.at(r * step)
        with k.loop(a["Wq"]) as (q, _):
            at = q * a["sw"] + f
            near = at.maximum(a["pw"]).minimum(a["W"] + a["pw"] - 1)
            cell = line.load(near * a["xw"])
            row.store(k.select(near.equals(at), cell, k.zero_element()), q)


def interleave(
    k: Kernel, every: int, count: Value, parts: Value, pitch: Value, to: Value, ways: Value
) -> None:
    """to[ways·i + ρ] = part ρ [i]; parts lie `pitch` cells apart."""
    lanes = k.lanes.count
    if every == 2:
        with k.loop(count, step=lanes) as (i, _):
            even, odd = parts.vector(i), parts.at(pitch).vector(i)
            for half in range(2):
                order = [(half * lanes + lane) // 2 + lane % 2 * lanes for lane in range(lanes)]
                to.store(k.shuffle(even, odd, order), i * 2 + half * lanes)
        return
    with k.loop(ways) as (part, _):
        line = parts.at(part * pitch)
        with k.loop(count) as (i, _):
            to.store(line.load(i), i * ways + part)


class Finish:
    """result = scale·sum + bias (+ result), rows at a time."""

    def __init__(self, k: Kernel, a: dict[str, Value], contiguous: bool) -> None:
        self.k, self.a, self.contiguous = k, a, contiguous
        self.scalar = a["scale"].to_element()
        self.scale = k.splat(self.scalar)
        self.adds, self.plain = a["accumulate"].equals(1), a["accumulate"].equals(0)
        lanes, width = k.lanes.count, a["OW"]
        self.rest = width % lanes
        self.mask = k.lanes_below(self.rest)
        # rows that a register reaches into where a row is shorter
        self.behind = k.select(
            a["yh"].equals(width), (width + (lanes - 1)) // width - 1, k.constant("i64", 1 << 40)
        )

    def rows(
        self, source: Value, pitch: Value, to: Value, bias: Value, rows: Value, free: Value
    ) -> None:
        """`rows` rows of a plane, `pitch` cells apart, into the result's plane.

        free: whether what lies behind the plane in memory is written later.
        """
        if self.contiguous:
            self._rows(source, pitch, to, self.k.splat(bias), rows, free)
        else:
            self._scatter(source, pitch, to, bias, rows)

    def _rows(
        self, source: Value, pitch: Value, to: Value, bias: Value, rows: Value, free: Value
    ) -> None:
        """Whole registers: the last one of a row ends with the row, and overlaps the one before."""
        k, a, lanes = self.k, self.a, self.k.lanes.count
        width, rest = a["OW"], self.rest
        long, short = width >= lanes, width < lanes
        with k.when(self.adds), k.loop(rows) as (r, _):
            row, line = source.at(r * pitch), to.at(r * a["yh"])
            with k.loop(width - rest, step=lanes) as (q, _):
                line.store(k.fma(row.vector(q), self.scale, bias) + line.vector(q), q)
            with k.when(rest > 0):
                last = width - rest
                old = line.vector(last, self.mask)
                value = k.fma(row.vector(last), self.scale, bias)
                line.store(value + old, last, self.mask)
        with k.when(self.plain & long), k.loop(rows) as (r, _):
            row, line = source.at(r * pitch), to.at(r * a["yh"])
            with k.loop(width - rest, step=lanes) as (q, _):
                self._store(row, line, q, bias)
            with k.when(rest > 0):
                self._store(row, line, width - lanes, bias)
        with k.when(self.plain & short):
            # A whole register reaches into rows that are written later, if there are enough.
            none = k.constant("i64", 0)
            safe = k.select(free, rows, (rows - self.behind).maximum(0))
            with k.loop(safe) as (r, _):
                self._store(source.at(r * pitch), to.at(r * a["yh"]), none, bias)
            with k.loop(rows, start=safe) as (r, _):
                value = k.fma(source.at(r * pitch).vector(), self.scale, bias)
                to.at(r * a["yh"]).store(value, 0, self.mask)

    def _store(self, row: Value, line: Value, q: Value, bias: Value) -> None:
        line.store(self.k.fma(row.vector(q), self.scale, bias), q)

    def _scatter(self, source: Value, pitch: Value, to: Value, bias: Value, rows: Value) -> None:
        k, a = self.k, self.a
        with k.loop(rows) as (r, _), k.loop(a["OW"]) as (q, _):
            at = to.at(r * a["yh"] + q * a["yw"])
            value = source.load(r * pitch + q) * self.scalar + bias
            with k.when(self.adds):
                at.store(value + at.load())
            with k.when(self.adds.equals(0)):
                at.store(value)
