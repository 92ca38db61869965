"""Weights brought into the order in which a micro-kernel reads them."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "w", "to", "taps", "where", "span", "R", "K", "so", "sr", "cb", "order", "form", "rows",
    "tall", "low", "wg", "tog",
)  # fmt: skip
BY_ROW, BY_SUM, BY_TAP, SCATTERED = range(4)  # which of the weights' axes is contiguous


def pack_weights(lanes: Lanes, tile: Tile) -> str:
    """to[r block][panel][…][row] = w[row·so + r·sr + taps[τ]]; a part is one panel of one group.

    … is [r][τ], or [τ][r] where order is 1; a block has cb of the R summed channels r.
    """
    k, a = start("pack_weights", lanes, FIELDS)
    group, panel = split(k.parameters[1], a["tall"] + a["low"])
    w, to = a["w"].at(group * a["wg"]), a["to"].at(group * a["tog"])
    for height in {tile.height, tile.height - 1} - {0}:
        with k.when((panel < a["tall"]).equals(int(height == tile.height))):
            first = panel * height
            if height < tile.height:
                first = first + a["tall"]
            source = w.at(first * a["so"])
            with k.loop(a["R"], step=a["cb"]) as (r0, _):
                channels = a["cb"].minimum(a["R"] - r0)
                block = to.at((r0 * a["rows"] + first * channels) * a["K"])
                by_tap = a["order"].equals(1)
                each_r = k.select(by_tap, k.constant("i64", 1), a["K"]) * height
                each_tap = k.select(by_tap, channels, k.constant("i64", 1)) * height
                _pack_panel(k, a, height, source.at(r0 * a["sr"]), channels, block,
                            (each_r, each_tap))  # fmt: skip
    return k.text()


def _pack_panel(
    k: Kernel, a: dict[str, Value], height: int, source: Value, channels: Value, to: Value,
    each: tuple[Value, Value],
) -> None:  # fmt: skip
    """One panel's weights of a block, a register at a time along the axis that is contiguous."""
    lanes, (each_r, each_tap) = k.lanes.count, each
    with k.when(a["form"].equals(BY_ROW)), k.loop(channels) as (r, _), k.loop(a["K"]) as (t, _):
        column = source.at(r * a["sr"] + a["taps"].load(t, "i64"))
        place = to.at(r * each_r + t * each_tap)
        for i in range(0, height, lanes):
            few = min(lanes, height - i)
            mask = k.lanes_below(k.constant("i64", few))
            place.store(k.some(column.vector(i, mask), few), i)
    with k.when(a["form"].equals(BY_SUM)), k.loop(a["K"]) as (t, _):
        line, place = source.at(a["taps"].load(t, "i64")), to.at(t * each_tap)
        with k.loop(channels, step=lanes) as (r, _):
            columns = _columns(k, line.at(r), a["so"], height, channels - r)
            for i, column in enumerate(columns):
                with k.when(channels - r > i):
                    _store_column(place.at((r + i) * each_r), column, height)
    with k.when(a["form"].equals(BY_TAP)), k.loop(channels) as (r, _):
        line, place = source.at(r * a["sr"]), to.at(r * each_r)
        with k.loop(a["span"], step=lanes) as (j, _):
            columns = _columns(k, line.at(j), a["so"], height, a["span"] - j)
            for i, column in enumerate(columns):
                tap = a["where"].load(j + i, "i64")
                with k.when(tap >= 0):
                    _store_column(place.at(tap * each_tap), column, height)
    with k.when(a["form"].equals(SCATTERED)), k.loop(channels) as (r, _), k.loop(a["K"]) as (t, _):
        column = source.at(r * a["sr"] + a["taps"].load(t, "i64"))
        place = to.at(r * each_r + t * each_tap)
        for i in range(height):
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
