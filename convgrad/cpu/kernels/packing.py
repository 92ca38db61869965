"""Weights brought into the order in which a micro-kernel reads them."""

from collections.abc import Iterator
from contextlib import contextmanager

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tile import heights
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "w", "to", "taps", "where", "span", "R", "K", "so", "sr", "cb", "order", "form", "rows",
    "beside", "tall", "low", "wg", "tog",
)  # fmt: skip
BY_ROW, BY_SUM, BY_TAP, SCATTERED = range(4)  # which of the weights' axes is contiguous


def pack_weights(lanes: Lanes, tile: Tile) -> str:
    """to[r block][panel][…][row] = w[row·so + r·sr + taps[τ]]; a part is some panels of a group.

    … is [r][τ], or [τ][r] where order is 1; a block has cb of the R summed channels r.
    """
    k, a = start("pack_weights", lanes, FIELDS)
    count = a["tall"] + a["low"]
    group, block = split(k.parameters[1], (count + a["beside"] - 1) // a["beside"])
    w, to = a["w"].at(group * a["wg"]), a["to"].at(group * a["tog"])
    begin = block * a["beside"]
    end = (begin + a["beside"]).minimum(count)
    for height in heights(tile):
        tall = height == tile.height
        low, high = (begin, end.minimum(a["tall"])) if tall else (begin.maximum(a["tall"]), end)
        panels = Panels(k, a, height, low, high, k.constant("i64", 0) if tall else a["tall"])
        with k.loop(a["R"], step=a["cb"]) as (r0, _):
            channels = a["cb"].minimum(a["R"] - r0)
            panels.pack(w.at(r0 * a["sr"]), channels, to.at(r0 * a["rows"] * a["K"]))
    return k.text()


class Panels:
    """Panels of one height, low ≤ panel < high; a panel's first row is panel·height + extra."""

    def __init__(
        self, k: Kernel, a: dict[str, Value], height: int, low: Value, high: Value, extra: Value
    ) -> None:
        self.k, self.a, self.height = k, a, height
        self.low, self.high, self.extra = low, high, extra
        by_tap = a["order"].equals(1)
        self.each_r = k.select(by_tap, k.constant("i64", 1), a["K"]) * height
        self.by_tap = by_tap

    @contextmanager
    def each(self, w: Value, to: Value, channels: Value) -> Iterator[tuple[Value, Value]]:
        """For each panel: its first row in w, and its place among the packed."""
        with self.k.loop(self.high, start=self.low) as (panel, _):
            row = panel * self.height + self.extra
            yield w.at(row * self.a["so"]), to.at(row * channels * self.a["K"])

    def pack(self, w: Value, channels: Value, to: Value) -> None:
        """A block of channels, a register at a time along the axis that is contiguous.

        Where that axis is short, panels go by for each channel: they share its cache lines.
        """
        k, a, lanes = self.k, self.a, self.k.lanes.count
        each_tap = k.select(self.by_tap, channels, k.constant("i64", 1)) * self.height
        with k.when(a["form"].equals(BY_ROW)), k.loop(channels) as (r, _), k.loop(a["K"]) as (t, _):
            place = w.at(r * a["sr"] + a["taps"].load(t, "i64"))
            with self.each(place, to.at(r * self.each_r + t * each_tap), channels) as (row, panel):
                for i in range(0, self.height, lanes):
                    few = min(lanes, self.height - i)
                    mask = k.lanes_below(k.constant("i64", few))
                    panel.store(k.some(row.vector(i, mask), few), i)
        with k.when(a["form"].equals(BY_TAP)), k.loop(channels) as (r, _):
            with self.each(w.at(r * a["sr"]), to.at(r * self.each_r), channels) as (row, panel):
                with k.loop(a["span"], step=lanes) as (j, _):
                    columns = _columns(k, row.at(j), a["so"], self.height, a["span"] - j)
                    for i, column in enumerate(columns):
                        tap = a["where"].load(j + i, "i64")
                        with k.when(tap >= 0):
                            _store_column(panel.at(tap * each_tap), column, self.height)
        with k.when(a["form"].equals(BY_SUM)), self.each(w, to, channels) as (row, panel):
            with k.loop(a["K"]) as (t, _), k.loop(channels, step=lanes) as (r, _):
                line = row.at(a["taps"].load(t, "i64") + r)
                columns = _columns(k, line, a["so"], self.height, channels - r)
                for i, column in enumerate(columns):
                    with k.when(channels - r > i):
                        place = panel.at(t * each_tap + (r + i) * self.each_r)
                        _store_column(place, column, self.height)
        with k.when(a["form"].equals(SCATTERED)), self.each(w, to, channels) as (row, panel):
            with k.loop(channels) as (r, _), k.loop(a["K"]) as (t, _):
                column = row.at(r * a["sr"] + a["taps"].load(t, "i64"))
                place = panel.at(r * self.each_r + t * each_tap)
                for i in range(self.height):
                    place.store(column.load(a["so"] * i), i)


def _columns(k: Kernel, source: Value, pitch: Value, height: int, left: Value) -> list[list[Value]]:
    """A square of rows and consecutive elements, transposed: for each element its rows."""
    lanes, mask = k.lanes.count, k.lanes_below(left)
    columns: list[list[Value]] = [[] for _ in range(lanes)]
    for top in range(0, height, lanes):
        few = min(lanes, height - top)
        read = [source.at(pitch * (top + i)).vector(0, mask) for i in range(few)]
        for column, v in zip(columns, k.transpose(read + [k.zero()] * (lanes - few)), strict=True):
            column.append(k.some(v, few))
    return columns


def _store_column(to: Value, column: list[Value], height: int) -> None:
    lanes = to.kernel.lanes.count
    for top, v in zip(range(0, height, lanes), column, strict=True):
        to.store(v, top)


PACK_WEIGHTS = Generator("pack_weights", pack_weights, FIELDS, tallest_tiles)
