"""Forward and input gradient of many channels: panels of weights times panels of cells."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.correlate import each_panel, heights, product_step
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.runs import PLACE, RECORD, TABLE, copy_runs, find_runs
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "x", "w", "y", "taps", "bias", "C", "K", "xn", "xc", "xz", "xh", "xw", "D", "H", "W",
    "sz", "sh", "sw", "OZ", "OH", "OW", "yn", "yo", "yz", "yh", "yw",
    "units", "unit", "samples", "nb", "blocks", "cb", "rows", "flat", "skips",
    "tall", "low", "shares", "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip
ZEROS = 64  # elements of zeros that stand for a bias


def multiply(lanes: Lanes, tile: Tile) -> str:
    """result[m,q] = scale·Σ_{r,τ} weights[m,r,τ]·source[r, s·q + shift(τ)] + bias[m] (+ result).

    A part is a block of panels of cells, for a share of the panels of weights, of one group. Cells
    are packed as [panel][r][τ][cell], `cb` channels at a time, and weights lie as [r][τ][row]; with
    `skips`, τ stands before r, and taps that meet only padding are left out.
    """
    k, a = start("multiply", lanes, FIELDS)
    args, part, scratch = k.parameters
    width, words = tile.vectors * lanes.count, 8 // lanes.bytes
    group, unit, block, share = split(part, a["units"], a["blocks"], a["shares"])
    x = a["x"].at(group * a["xg"] + unit * (a["samples"] * a["xn"]))
    y = a["y"].at(group * a["yg"] + unit * (a["samples"] * a["yn"]))
    weights, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    first = block * a["nb"]
    count = a["nb"].minimum((a["unit"] + width - 1) // width - first)
    none = scratch
    buffer = none.at(ZEROS)
    tables = buffer.at(tile.height * width)
    table = (TABLE + RECORD * width) * words  # elements that the runs of a panel take
    lists = tables.at(a["nb"] * table)
    listed = (a["K"] * 2 + 2) * words  # elements that the pieces of a panel's sum take
    packed = lists.at(a["nb"] * listed)
    with k.loop(ZEROS, step=lanes.count) as (i, _):
        none.store(k.zero(), i)
    with k.loop(count) as (p, _):
        k.do(find_runs(lanes, width, FIELDS), args, tables.at(p * table), (first + p) * width)
    with k.loop(a["C"], step=a["cb"]) as (c0, _):
        channels = a["cb"].minimum(a["C"] - c0)
        pitch = channels * a["K"] * width
        later = c0 > 0
        adds = k.select(later, k.constant("i64", 1), a["accumulate"])
        with k.loop(count) as (p, _):
            k.do(pack_panel(lanes, width), args, tables.at(p * table), lists.at(p * listed),
                 x.at(c0 * a["xc"]), channels, packed.at(p * pitch))  # fmt: skip
        for height in heights(tile):
            with each_panel(k, a, tile, height, share) as row0:
                panel = weights.at((c0 * a["rows"] + row0 * channels) * a["K"])
                offset, row = k.select(later, none, bias.at(row0)), y.at(row0 * a["yo"])
                with k.loop(count) as (p, _):
                    k.do(finished_tile(lanes, tile, height), args, panel, packed.at(p * pitch),
                         tables.at(p * table), lists.at(p * listed), row, offset, adds, buffer)  # fmt: skip
    return k.text()


def pack_panel(lanes: Lanes, width: int) -> Kernel:
    """to[τ][r][cell] for the cells of a panel; and which taps τ meet the source at all.

    pieces: how many, then (first, number) of τ·channels + r in runs that need to be multiplied.
    """
    k, a = start(
        "pack_panel", lanes, FIELDS,
        ("args: ptr", "table: ptr", "pieces: ptr", "source: ptr", "channels: i64", "to: ptr"),
    )  # fmt: skip
    _, table, pieces, source, channels, to = k.parameters
    none, one = k.constant("i64", 0), k.constant("i64", 1)
    by_tap = a["skips"].equals(1)
    each_r = k.select(by_tap, one, a["K"]) * width
    each_tap = k.select(by_tap, channels, one) * width
    with k.loop(a["K"], carry=[none, none, none]) as (t, found):
        number, first, end = found.values
        here = t * channels
        meets = copy_runs(k, a, table, a["taps"].at(t * 3, "i64"), source, channels,
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


def finished_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile: its sums, scaled and biased, into the rows of the result; the micro-kernel.

    table: the panel's runs. pieces: see `pack_panel`. row: where the first row begins.
    """
    k, a = start(
        f"finished_tile_{height}", lanes, FIELDS,
        ("args: ptr", "weights: ptr", "cells: ptr", "table: ptr", "pieces: ptr", "row: ptr",
         "bias: ptr", "adds: i64", "buffer: ptr"),
    )  # fmt: skip
    _, weights, cells, table, pieces, row, bias, adds, buffer = k.parameters
    count, width = lanes.count, tile.vectors * lanes.count
    with k.loop(pieces.load(0, "i64"), carry=[k.zero()] * (height * tile.vectors)) as (i, outer):
        first, number = pieces.load(i * 2 + 1, "i64"), pieces.load(i * 2 + 2, "i64")
        left, right = weights.at(first * height), cells.at(first * width)
        with k.loop(number, carry=outer.values) as (t, inner):
            inner.values = product_step(
                k, left.at(t * height), right.at(t * width), tile, height, inner.values
            )
        outer.values = inner.values
    scale = k.splat(a["scale"].to_element())
    sums = [
        k.fma(v, scale, k.splat(bias.load(i // tile.vectors))) for i, v in enumerate(outer.values)
    ]
    whole = table.load(0, "i64").equals(1)
    begin = row.at(table.load(TABLE + PLACE, "i64"))
    places = [(i, j, begin.at(a["yo"] * i + j * count))
              for i in range(height) for j in range(tile.vectors)]  # fmt: skip
    with k.when(whole & adds.equals(0)):
        for i, j, at in places:
            at.store(sums[i * tile.vectors + j])
    with k.when(whole & adds.equals(1)):
        for i, j, at in places:
            at.store(sums[i * tile.vectors + j] + at.vector())
    with k.when(whole.equals(0)):
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


MULTIPLY = Generator("multiply", multiply, FIELDS, tallest_tiles)
