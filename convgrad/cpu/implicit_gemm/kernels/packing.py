"""Weights brought into the order in which a micro-kernel reads them."""

from collections.abc import Iterator
from contextlib import contextmanager

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tile import heights
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "w", "to", "taps", "where", "span", "R", "K", "so", "sr", "cb", "order", "form",
    "rows", "beside", "tall", "low", "wg", "tog",
)  # fmt: skip
BY_ROW, BY_SUM, BY_TAP, SCATTERED = range(4)  # which of the weights' axes is contiguous
TAP = 4  # words of a tap: its place in w, taps before its phase, taps of it, its number there
HOME = 3


def pack_weights(lanes: Lanes, tile: Tile) -> str:
    """to[phase][r block][panel][…][row] = w[row·so + r·sr + place(t)]; a part is some panels.

    … is [r][τ], or [τ][r] where order is 1; a block has cb of the R summed channels r. taps
    says of each t where it lies in w, and which tap τ of which phase it is.
    """
    k, a = start("pack_weights", lanes, FIELDS, arrays=("w",))
    count = a["tall"] + a["low"]
    group, block = split(k.parameters[1], (count + a["beside"] - 1) // a["beside"])
    w, to = a["w"].at(group * a["wg"]), a["to"].at(group * a["tog"])
    begin = block * a["beside"]
    end = (begin + a["beside"]).minimum(count)
    for height in heights(tile):
        tall = height == tile.height
        span = (begin, end.minimum(a["tall"]), k.constant("i64", 0))
        if not tall:
            span = (begin.maximum(a["tall"]), end, a["tall"])
        with k.loop(a["R"], step=a["cb"]) as (r0, _):
            Panels(k, a, height, span, to, r0, k.parameters[2]).pack(w.at(r0 * a["sr"]))
    return k.text()


class Panels:
    """Panels of one height, of the block of channels that begins with r0.

    span: low, high, extra: panels low ≤ panel < high, whose first row is panel·height + extra.
    homes: room for HOME words of each tap.
    """

    def __init__(
        self, k: Kernel, a: dict[str, Value], height: int, span: tuple[Value, Value, Value],
        to: Value, r0: Value, homes: Value,
    ) -> None:  # fmt: skip
        self.k, self.a, self.height, self.to = k, a, height, to
        self.low, self.high, self.extra = span
        self.channels = a["cb"].minimum(a["R"] - r0)
        self.before = r0 * a["rows"]
        self.homes = homes

    @contextmanager
    def each(self) -> Iterator[Value]:
        """For each panel: its first row."""
        with self.k.loop(self.high, start=self.low) as (panel, _):
            yield panel * self.height + self.extra

    def find_homes(self) -> None:
        """Of each tap: where it goes in row 0's panel, numbers for each row before and each r."""
        k, a, one = self.k, self.a, self.k.constant("i64", 1)
        by_tap = a["order"].equals(1)
        each_tap = k.select(by_tap, self.channels, one) * self.height
        with k.loop(a["K"]) as (t, _):
            first, taps, number = (a["taps"].load(t * TAP + i, "i64") for i in range(1, TAP))
            start = first * a["rows"] * a["R"] + self.before * taps + number * each_tap
            each_r = k.select(by_tap, one, taps) * self.height
            for i, word in enumerate((start, self.channels * taps, each_r)):
                self.homes.at(t * HOME, "i64").store(word, i)

    def home(self, t: Value) -> tuple[Value, Value, Value]:
        """What `find_homes` has found for a tap."""
        start, each_row, each_r = (self.homes.load(t * HOME + i, "i64") for i in range(HOME))
        return self.to.at(start), each_row, each_r

    def pack(self, w: Value) -> None:
        """A block of channels, a register at a time along the axis that is contiguous.

        Where that axis is short, panels go by for each channel: they share its cache lines.
        """
        k, a, lanes, height = self.k, self.a, self.k.lanes.count, self.height
        self.find_homes()
        so, channels = a["so"], self.channels
        with k.when(a["form"].equals(BY_ROW)), k.loop(a["K"]) as (t, _):
            home, each_row, each_r = self.home(t)
            source = w.at(a["taps"].load(t * TAP, "i64"))
            with k.loop(channels) as (r, _), self.each() as row:
                line, place = source.at(r * a["sr"] + row), home.at(row * each_row + r * each_r)
                for i in range(0, height, lanes):
                    few = min(lanes, height - i)
                    mask = k.lanes_below(k.constant("i64", few))
                    place.store_first(few, line.vector(i, mask), i)
        with k.when(a["form"].equals(BY_TAP)), k.loop(channels) as (r, _):
            source = w.at(r * a["sr"])
            with self.each() as row, k.loop(a["span"], step=lanes) as (j, _):
                columns = _columns(k, source.at(row * so + j), so, height, a["span"] - j)
                for i, column in enumerate(columns):
                    tap = a["where"].load(j + i, "i64")
                    with k.when(tap >= 0):
                        home, each_row, each_r = self.home(tap)
                        _store_column(home.at(row * each_row + r * each_r), column, height)
        with k.when(a["form"].equals(BY_SUM)), self.each() as row, k.loop(a["K"]) as (t, _):
            home, each_row, each_r = self.home(t)
            source, panel = w.at(row * so + a["taps"].load(t * TAP, "i64")), home.at(row * each_row)
            with k.loop(channels, step=lanes) as (r, _):
                columns = _columns(k, source.at(r), so, height, channels - r)
                for i, column in enumerate(columns):
                    with k.when(channels - r > i):
                        _store_column(panel.at((r + i) * each_r), column, height)
        with k.when(a["form"].equals(SCATTERED)), self.each() as row, k.loop(a["K"]) as (t, _):
            home, each_row, each_r = self.home(t)
            source, panel = w.at(row * so + a["taps"].load(t * TAP, "i64")), home.at(row * each_row)
            with k.loop(channels) as (r, _):
                for i in range(height):
                    panel.at(r * each_r).store(source.load(r * a["sr"] + so * i), i)


def _columns(k: Kernel, source: Value, pitch: Value, height: int, left: Value) -> list[list[Value]]:
    """A square of rows and consecutive elements, transposed: for each element its rows."""
    lanes, mask = k.lanes.count, k.lanes_below(left)
    columns: list[list[Value]] = [[] for _ in range(lanes)]
    for top in range(0, height, lanes):
        few = min(lanes, height - top)
        read = [source.at(pitch * (top + i)).vector(0, mask) for i in range(few)]
        for column, v in zip(columns, k.transpose(read + [k.zero()] * (lanes - few)), strict=True):
            column.append(v)
    return columns


def _store_column(to: Value, column: list[Value], height: int) -> None:
    lanes = to.kernel.lanes.count
    for top, v in zip(range(0, height, lanes), column, strict=True):
        to.store_first(min(lanes, height - top), v, top)


PACK_WEIGHTS = Generator("pack_weights", pack_weights, FIELDS, tallest_tiles)
