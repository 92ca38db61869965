"""Forward and input gradient of many channels: panels of weights times panels of cells.

Cells are packed as [panel][r][τ][cell], a block of channels r at a time, weights as [r][τ][row].
With `skips`, τ stands before r, and taps that meet nothing but padding are left out.
"""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.runs import PLACE, RECORD, TABLE, copy_runs, find_runs
from convgrad.cpu.kernels.tile import each_panel, heights, product_step
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "x", "w", "y", "taps", "starts", "bias", "C", "K", "packed", "xn", "xc", "xz", "xh", "xw",
    "D", "H", "W",
    "sz", "sh", "sw", "OZ", "OH", "OW", "yn", "yo", "yz", "yh", "yw", "yf", "phases", "columns",
    "units", "unit", "samples", "nb", "blocks", "cb", "rows", "flat", "skips",
    "tall", "low", "shares", "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip
ZEROS = 64  # elements of zeros that stand for a bias


def multiply(lanes: Lanes, tile: Tile) -> str:
    """result[m,q] = scale·Σ_{r,τ} weights[m,r,τ]·source[r, s·q + shift(τ)] + bias[m] (+ result)."""
    return _multiply("multiply", lanes, tile, woven=False)


def weave(lanes: Lanes, tile: Tile) -> str:
    """The same for `phases` results whose columns alternate, t·phases + f; all `columns` of them.

    Phase f has the taps from starts[f] to starts[f+1].
    """
    return _multiply("weave", lanes, tile, woven=True)


def _multiply(name: str, lanes: Lanes, tile: Tile, woven: bool) -> str:
    """A part is a block of panels of cells, for a share of the panels of weights, of one group."""
    k, a = start(name, lanes, FIELDS)
    args, part, scratch = k.parameters
    width, words = tile.vectors * lanes.count, 8 // lanes.bytes
    group, unit, block, share = split(part, a["units"], a["blocks"], a["shares"])
    x = a["x"].at(group * a["xg"] + unit * (a["samples"] * a["xn"]))
    y = a["y"].at(group * a["yg"] + unit * (a["samples"] * a["yn"]))
    weights, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    first = block * a["nb"]
    count = a["nb"].minimum((a["unit"] + width - 1) // width - first)
    none, size = scratch, tile.height * width
    buffer = none.at(ZEROS)
    tables = buffer.at((a["phases"] + 1) * width * (-(-tile.height // lanes.count) * lanes.count))
    table = (TABLE + RECORD * width) * words  # elements that the runs of a panel take
    lists = tables.at(a["nb"] * table)
    listed = (a["K"] * 2 + 2) * words  # elements that the pieces of a panel's sum take, each phase
    packed = lists.at(a["nb"] * a["phases"] * listed)
    shared = a["packed"] < a["K"]  # all phases read the same cells
    apart = k.select(shared, k.constant("i64", 1), a["phases"])
    with k.loop(ZEROS, step=lanes.count) as (i, _):
        none.store(k.zero(), i)
    with k.loop(count) as (p, _):
        k.do(find_runs(lanes, width, FIELDS), args, tables.at(p * table), (first + p) * width)
    with k.loop(a["C"], step=a["cb"]) as (c0, _):
        channels = a["cb"].minimum(a["C"] - c0)
        pitch = channels * a["packed"] * width
        later = c0 > 0
        adds = k.select(later, k.constant("i64", 1), a["accumulate"])
        with k.loop(count) as (p, _), k.loop(apart) as (f, _):
            tap, taps = _taps_of(a, f)
            k.do(pack_panel(lanes, width), args, tables.at(p * table),
                 lists.at((p * a["phases"] + f) * listed), x.at(c0 * a["xc"]), channels, tap, taps,
                 packed.at(p * pitch + channels * tap * width))  # fmt: skip
        for height in heights(tile):
            with each_panel(k, a, tile, height, share) as row0:
                offset, row = k.select(later, none, bias.at(row0)), y.at(row0 * a["yo"])
                with k.loop(count) as (p, _):
                    here = tables.at(p * table)
                    with k.loop(a["phases"]) as (f, _):
                        tap, taps = _taps_of(a, f)
                        panel = weights.at(
                            a["rows"] * a["C"] * tap + (c0 * a["rows"] + row0 * channels) * taps
                        )
                        at = k.select(shared, k.constant("i64", 0), f)
                        product = (
                            panel, packed.at(p * pitch + channels * _taps_of(a, at)[0] * width),
                            lists.at((p * a["phases"] + at) * listed),
                        )  # fmt: skip
                        if woven:
                            k.do(raw_tile(lanes, tile, height), *product, buffer.at(f * size))
                        else:
                            k.do(finished_tile(lanes, tile, height), args, *product, here, row,
                                 offset, adds, buffer)  # fmt: skip
                    if woven:
                        k.do(woven_tile(lanes, tile, height), args, here, row, offset, adds, buffer)
    return k.text()


def _taps_of(a: dict[str, Value], phase: Value) -> tuple[Value, Value]:
    """A phase's first tap, and how many it has."""
    first = a["starts"].load(phase, "i64")
    return first, a["starts"].load(phase + 1, "i64") - first


def pack_panel(lanes: Lanes, width: int) -> Kernel:
    """to[τ][r][cell] for the cells of a panel; and which taps τ meet the source at all.

    pieces: how many, then (first, number) of τ·channels + r in runs that need to be multiplied.
    """
    k, a = start(
        "pack_panel", lanes, FIELDS,
        ("args: ptr", "table: ptr", "pieces: ptr", "source: ptr", "channels: i64", "tap: i64",
         "taps: i64", "to: ptr"),
    )  # fmt: skip
    _, table, pieces, source, channels, tap, taps, to = k.parameters
    none, one = k.constant("i64", 0), k.constant("i64", 1)
    by_tap = a["skips"].equals(1)
    each_r = k.select(by_tap, one, taps) * width
    each_tap = k.select(by_tap, channels, one) * width
    with k.loop(taps, carry=[none, none, none]) as (t, found):
        number, first, end = found.values
        here = t * channels
        meets = copy_runs(k, a, table, a["taps"].at((tap + t) * 3, "i64"), source, channels,
                          to.at(t * each_tap), each_r, width)  # fmt: skip
        goes_on = (number > 0) & end.equals(here)
        fresh = meets & goes_on.equals(0)
        number = k.select(fresh, number + 1, number)
        first = k.select(fresh, here, first)
        end = k.select(meets, here + channels, end)
        piece = pieces.at(number * 2, "i64")
        piece.store(first, -1)
        piece.store(end - first, 0)
        found.values = [number, first, end]
    pieces.store(found.values[0], 0)
    return k


def _sums(
    k: Kernel, weights: Value, cells: Value, pieces: Value, tile: Tile, height: int
) -> list[Value]:
    """Σ weights ⊗ cells over the pieces of a panel's sum: the micro-kernel."""
    width = tile.vectors * k.lanes.count
    with k.loop(pieces.load(0, "i64"), carry=[k.zero()] * (height * tile.vectors)) as (i, outer):
        first, number = pieces.load(i * 2 + 1, "i64"), pieces.load(i * 2 + 2, "i64")
        left, right = weights.at(first * height), cells.at(first * width)
        with k.loop(number, carry=outer.values) as (t, inner):
            inner.values = product_step(
                k, left.at(t * height), right.at(t * width), tile, height, inner.values
            )
        outer.values = inner.values
    return outer.values


def raw_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile's sums as they are."""
    k = Kernel(
        f"raw_tile_{height}", ["weights: ptr", "cells: ptr", "pieces: ptr", "to: ptr"], lanes
    )
    weights, cells, pieces, to = k.parameters
    for i, v in enumerate(_sums(k, weights, cells, pieces, tile, height)):
        to.store(v, i * lanes.count)
    return k


def woven_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """The tiles of all phases, column by column in turn, into the rows of the result."""
    k, a = start(
        f"woven_tile_{height}", lanes, FIELDS,
        ("args: ptr", "table: ptr", "row: ptr", "bias: ptr", "adds: i64", "buffer: ptr"),
    )  # fmt: skip
    _, table, row, bias, adds, buffer = k.parameters
    width, count = tile.vectors * lanes.count, lanes.count
    size, scale = tile.height * width, a["scale"].to_element()
    low = [lane // 2 + lane % 2 * count for lane in range(count)]
    high = [lane + count // 2 for lane in low]
    records = table.at(TABLE, "i64")
    pairs = a["phases"].equals(2) & a["yw"].equals(2)
    with k.loop(table.load(1, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        tiles, cells = buffer.at(record.load(0, "i64")), record.load(1, "i64")
        to = row.at(record.load(PLACE, "i64"))
        left = (a["columns"] - record.load(5, "i64") * a["phases"]).minimum(cells * a["phases"])
        with k.when(pairs), k.loop(cells, step=count) as (c, _):
            masks = [k.lanes_below(left - c * 2 - part * count) for part in (0, 1)]
            fits = left - c * 2 >= 2 * count
            for h in range(height):
                source, place = tiles.at(c + h * width), to.at(a["yo"] * h + c * 2)
                even, odd = source.vector(), source.at(size).vector()
                offset = k.splat(bias.load(h))
                both = [
                    k.fma(k.shuffle(even, odd, lanes_), k.splat(scale), offset)
                    for lanes_ in (low, high)
                ]
                with k.when(fits):
                    for part, v in enumerate(both):
                        old = place.vector(part * count, k.mask_where(adds.equals(1), masks[part]))
                        place.store(v + old, part * count)
                with k.when(fits.equals(0)):
                    for part, v in enumerate(both):
                        at = place.at(part * count)
                        old = at.vector(0, k.mask_where(adds.equals(1), masks[part]))
                        at.store(v + old, 0, masks[part])
        with k.when(pairs.equals(0)), k.loop(cells) as (c, _), k.loop(a["phases"]) as (f, _):
            with k.when(c * a["phases"] + f < left):
                place = to.at(c * a["yw"] + f * a["yf"])
                for h in range(height):
                    at = place.at(a["yo"] * h)
                    value = k.fma(tiles.load(f * size + c + h * width), scale, bias.load(h))
                    with k.when(adds.equals(0)):
                        at.store(value)
                    with k.when(adds.equals(1)):
                        at.store(value + at.load())
    return k


def finished_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile: its sums, scaled and biased, into the rows of the result; the micro-kernel.

    table: the panel's runs. pieces: see `pack_panel`. row: where the first row begins.
    """
    k, a = start(
        f"finished_tile_{height}", lanes, FIELDS,
        ("args: ptr", "weights: ptr", "cells: ptr", "pieces: ptr", "table: ptr", "row: ptr",
         "bias: ptr", "adds: i64", "buffer: ptr"),
    )  # fmt: skip
    _, weights, cells, pieces, table, row, bias, adds, buffer = k.parameters
    count, width = lanes.count, tile.vectors * lanes.count
    outer = _sums(k, weights, cells, pieces, tile, height)
    scale = k.splat(a["scale"].to_element())
    sums = [k.fma(v, scale, k.splat(bias.load(i // tile.vectors))) for i, v in enumerate(outer)]
    beside = a["yo"].equals(1) & a["yw"].equals(1).equals(0)
    whole = table.load(0, "i64").equals(1) & beside.equals(0)
    begin = row.at(table.load(TABLE + PLACE, "i64"))
    places = [(i, j, begin.at(a["yo"] * i + j * count))
              for i in range(height) for j in range(tile.vectors)]  # fmt: skip
    with k.when(whole & adds.equals(0)):
        for i, j, at in places:
            at.store(sums[i * tile.vectors + j])
    with k.when(whole & adds.equals(1)):
        for i, j, at in places:
            at.store(sums[i * tile.vectors + j] + at.vector())
    with k.when(beside):
        _turn(k, sums, buffer, tile, height)
        _scatter_cells(k, a, table, row, buffer, adds, height)
    with k.when((whole | beside).equals(0)):
        for i, j, _ in places:
            buffer.store(sums[i * tile.vectors + j], i * width + j * count)
        _scatter(k, a, table, row, buffer, adds, height, width)
    return k


def _scatter(
    k: Kernel, a: dict[str, Value], table: Value, row: Value, buffer: Value, adds: Value,
    height: int, width: int,
) -> None:  # fmt: skip
    """The tile from the buffer, run by run, to where the runs lie in the result."""
    records, lanes = table.at(TABLE, "i64"), k.lanes.count
    with k.loop(table.load(1, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        tile, count = buffer.at(record.load(0, "i64")), record.load(1, "i64")
        to = row.at(record.load(PLACE, "i64"))
        with k.when(a["yw"].equals(1)), k.loop(count, step=lanes) as (c, _):
            mask = k.lanes_below(count - c)
            for h in range(height):
                at = to.at(a["yo"] * h + c)
                old = at.vector(0, k.mask_where(adds.equals(1), mask))
                at.store(tile.vector(c + h * width, mask) + old, 0, mask)
        with k.when(a["yw"].equals(1).equals(0)), k.loop(count) as (c, _):
            place = to.at(c * a["yw"])
            with k.when(adds.equals(0)):
                for h in range(height):
                    place.store(tile.load(c + h * width), a["yo"] * h)
            with k.when(adds.equals(1)):
                for h in range(height):
                    value = tile.load(c + h * width) + place.load(a["yo"] * h)
                    place.store(value, a["yo"] * h)


def _turn(k: Kernel, sums: list[Value], buffer: Value, tile: Tile, height: int) -> None:
    """The tile into the buffer as [cell][row], whole registers for each cell."""
    lanes = k.lanes.count
    pitch = -(-height // lanes) * lanes
    for j in range(tile.vectors):
        for top in range(0, height, lanes):
            rows = [sums[i * tile.vectors + j] for i in range(top, min(top + lanes, height))]
            for cell, v in enumerate(k.transpose(rows + [k.zero()] * (lanes - len(rows)))):
                buffer.store(v, (j * lanes + cell) * pitch + top)


def _scatter_cells(
    k: Kernel, a: dict[str, Value], table: Value, row: Value, buffer: Value, adds: Value,
    height: int,
) -> None:  # fmt: skip
    """The tile from [cell][row] to a result whose channels lie side by side."""
    records, lanes = table.at(TABLE, "i64"), k.lanes.count
    pitch = -(-height // lanes) * lanes
    with k.loop(table.load(1, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        cells, to = buffer.at(record.load(0, "i64") * pitch), row.at(record.load(PLACE, "i64"))
        with k.loop(record.load(1, "i64")) as (c, _):
            for top in range(0, height, lanes):
                few = min(lanes, height - top)
                mask = k.lanes_below(k.constant("i64", few))
                at = to.at(c * a["yw"] + top)
                old = at.vector(0, k.mask_where(adds.equals(1), mask))
                at.store(k.some(cells.vector(c * pitch + top) + old, few))


MULTIPLY = Generator("multiply", multiply, FIELDS, tallest_tiles)
WEAVE = Generator("weave", weave, FIELDS, tallest_tiles)
