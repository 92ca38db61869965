"""Forward and input gradient of many channels: panels of weights times panels of cells.

Cells are packed as [panel][r][u][cell], a block of channels r at a time, weights as
[phase][r][τ][row]: u counts the places of the source that any tap meets, τ the taps of one phase.
Where order is 1, u and τ stand before r, so that a phase can read some of the places only.
"""

from dataclasses import dataclass

from convgrad.cpu.implicit_gemm.kernels.panels import PIECE, list_pieces, pack_panel, pack_rest
from convgrad.cpu.implicit_gemm.kernels.runs import RECORD, TABLE, find_runs
from convgrad.cpu.implicit_gemm.kernels.stores import expect_rows, finish_tile, weave_tiles
from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tile import each_panel, first_row, heights, product_step, rank_one
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "x", "w", "y", "places", "starts", "slots", "lists", "bands", "bias", "C", "K", "U", "B",
    "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "sz", "sh", "sw", "OZ", "OH", "OW",
    "yn", "yo", "yz", "yh", "yw", "yf", "phases", "units", "unit", "samples", "nb", "turns",
    "blocks", "cb", "rows", "flat", "line", "along", "order", "skips", "tall", "low", "shares",
    "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip

SOON = 32  # channels from now on, whose cells are asked for
ZEROS = 64  # elements of zeros that stand for a bias
LINE = 8  # words of a cache line: panels begin with one, lest registers be read from two
BAND = 4  # words of a band: where it begins in the result, its planes, rows and columns


def multiply(lanes: Lanes, tile: Tile) -> str:
    """result[m,q] = scale·Σ_{r,τ} weights[m,r,τ]·source[r, s·q + place(τ)] + bias[m] (+ result).

    For each of B bands: results that lie apart, each with its own taps.
    """
    return _multiply("multiply", lanes, tile, woven=False)


def weave(lanes: Lanes, tile: Tile) -> str:
    """The same where a band has `phases` results whose columns alternate, t·phases + f."""
    return _multiply("weave", lanes, tile, woven=True)


@dataclass(frozen=True)
class Room:
    """Where things are in a thread's scratch, and how many elements each panel takes of them.

    buffer: tiles; tables: runs; live, lists: what is multiplied where taps are left out.
    """

    none: Value
    buffer: Value
    tables: Value
    live: Value
    lists: Value
    packed: Value
    table: int
    alive: Value
    listed: Value


def _room(k: Kernel, a: dict[str, Value], scratch: Value, lanes: Lanes, tile: Tile) -> Room:
    width, words = tile.vectors * lanes.count, 8 // lanes.bytes
    buffer = scratch.at(ZEROS)
    tables = buffer.at((a["phases"] + 1) * width * (-(-tile.height // lanes.count) * lanes.count))
    table = -(-(TABLE + RECORD * width) // LINE) * LINE * words
    alive = a["skips"] * _lines(a["U"]) * words
    listed = a["skips"] * _lines(a["K"] * PIECE + a["B"] * a["phases"]) * words
    live = tables.at(a["nb"] * table)
    lists = live.at(a["nb"] * alive)
    packed = lists.at(a["nb"] * listed)
    return Room(scratch, buffer, tables, live, lists, packed, table, alive, listed)


def _lines(words: Value) -> Value:
    """So many words, or some more, that are whole cache lines."""
    return (words + (LINE - 1)) // LINE * LINE


def _multiply(name: str, lanes: Lanes, tile: Tile, woven: bool) -> str:
    """A part: some blocks of panels of cells, for a share of the panels of weights, of a group."""
    k, a = start(name, lanes, FIELDS)
    args, part, scratch = k.parameters
    width = tile.vectors * lanes.count
    group, unit, block, share = split(part, a["units"], a["blocks"], a["shares"])
    x = a["x"].at(group * a["xg"] + unit * (a["samples"] * a["xn"]))
    y = a["y"].at(group * a["yg"] + unit * (a["samples"] * a["yn"]))
    weights, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    room = _room(k, a, scratch, lanes, tile)
    with k.loop(ZEROS, step=lanes.count) as (i, _):
        room.none.store(k.zero(), i)
    none, top = k.constant("i64", 0), first_row(k, a, tile, share)
    panels = (a["unit"] + width - 1) // width
    begin = block * (a["nb"] * a["turns"])
    end = panels.minimum(begin + a["nb"] * a["turns"])
    with k.loop(end, start=begin, step=a["nb"]) as (first, _):
        count = a["nb"].minimum(end - first)
        with k.loop(count) as (p, _):
            k.do(find_runs(lanes, width, FIELDS), args, room.tables.at(p * room.table),
                 (first + p) * width)  # fmt: skip
        with k.loop(a["C"], step=a["cb"]) as (c0, _):
            _pack_cells(k, a, room, x.at(c0 * a["xc"]), c0, (first, count), tile)
            ahead = _Ahead(k, a, x, c0, (first, count), width)
            line = x.at(c0 * a["xc"] + first * width)
            fused = k.select(a["line"].equals(1), _whole(a, first, width).minimum(count), none)
            adds = k.select(c0 > 0, k.constant("i64", 1), a["accumulate"])
            later = c0 > 0
            for height in heights(tile):
                with each_panel(k, a, tile, height, share) as row0, k.loop(a["B"]) as (b, _):
                    band = a["bands"].at(b * BAND, "i64")
                    offset = k.select(later, room.none, bias.at(row0))
                    row = y.at(row0 * a["yo"] + band.load(0, "i64"))
                    turns = k.select(c0.equals(0) | _has_taps(a, b), count, k.constant("i64", 0))
                    with k.loop(turns) as (p, _):
                        with k.when(a["line"].equals(1)):
                            ahead.fetch(p, row0, height, b)
                        packs = row0.equals(top) & (p < fused)
                        at, into = (b, p, c0, row0), (band, row, offset, adds)
                        if not woven:
                            with k.when(packs):
                                _panel_times_panel(
                                    k,
                                    a,
                                    room,
                                    weights,
                                    at,
                                    into,
                                    tile,
                                    height,
                                    line=line.at(p * width),
                                )
                        with k.when(packs.equals(0)):
                            _panel_times_panel(k, a, room, weights, at, into, tile, height, woven)
    return k.text()


def _whole(a: dict[str, Value], first: Value, width: int) -> Value:
    """How many panels from the first one on have all their cells in the unit."""
    return a["unit"] // width - first


def _has_taps(a: dict[str, Value], band: Value) -> Value:
    """Whether anything is multiplied for a band; otherwise it is the bias alone."""
    first, last = (a["starts"].load((band + i) * a["phases"], "i64") for i in (0, 1))
    return first < last


def _pack_cells(
    k: Kernel, a: dict[str, Value], room: Room, x: Value, c0: Value,
    panels: tuple[Value, Value], tile: Tile,
) -> None:  # fmt: skip
    """A block of channels of some panels; and the pieces of their sums where taps are left out."""
    lanes, args = k.lanes, k.parameters[0]
    width, (first, count) = tile.vectors * lanes.count, panels
    channels = a["cb"].minimum(a["C"] - c0)
    with k.when(a["line"].equals(1)):
        whole = _whole(a, first, width)
        with k.when(whole < count):
            k.do(pack_rest(lanes, tile.vectors, FIELDS), args, x.at((first + whole) * width),
                 channels, a["unit"] % width, room.packed.at(whole * channels * width))  # fmt: skip
    with k.when(a["line"].equals(0)), k.loop(count) as (p, _):
        live, lists = room.live.at(p * room.alive), room.lists.at(p * room.listed)
        k.do(pack_panel(lanes, width, FIELDS), args, room.tables.at(p * room.table), live, x,
             channels, room.packed.at(p * (channels * a["U"] * width)))  # fmt: skip
        with k.when(a["skips"].equals(1)):
            k.do(list_pieces(lanes, FIELDS), args, live, lists)


class _Ahead:
    """What a line's cells are packed from next, asked for while panels are multiplied."""

    def __init__(
        self, k: Kernel, a: dict[str, Value], x: Value, c0: Value, panels: tuple[Value, Value],
        width: int,
    ) -> None:  # fmt: skip
        first, count = panels
        self.k, self.a, self.width = k, a, width
        after, none = c0 + a["cb"], k.constant("i64", 0)
        more = after < a["C"]
        channel, cell = k.select(more, after, none), k.select(more, first, first + count)
        self.place = x.at(channel * a["xc"] + cell * width)
        self.channels = a["cb"].minimum(a["C"] - channel)

    def fetch(self, panel: Value, row0: Value, height: int, band: Value) -> None:
        """The share of the channels that belongs to these rows, at a panel's place."""
        k, a = self.k, self.a
        low = row0 * self.channels // a["rows"]
        high = (row0 + height) * self.channels // a["rows"]
        with k.when(band.equals(0)), k.loop(high, start=low) as (c, _):
            for line in range(0, self.width, 64 // k.lanes.bytes):
                self.place.prefetch(panel * self.width + c * a["xc"] + line)


def _panel_times_panel(
    k: Kernel, a: dict[str, Value], room: Room, weights: Value,
    where: tuple[Value, Value, Value, Value], result: tuple[Value, Value, Value, Value],
    tile: Tile, height: int, woven: bool = False, line: Value | None = None,
) -> None:  # fmt: skip
    """One panel of cells times one of weights for each phase of a band, into the result.

    line: where a line's cells are, to be packed meanwhile.
    """
    lanes = k.lanes
    band, p, c0, row0 = where
    description, row, offset, adds = result
    args, width = k.parameters[0], tile.vectors * lanes.count
    channels = a["cb"].minimum(a["C"] - c0)
    table, cells = room.tables.at(p * room.table), room.packed.at(p * (channels * a["U"] * width))
    lists = k.select(a["skips"].equals(1), room.lists.at(p * room.listed), a["lists"])
    into = (table, description, row, offset, adds, room.buffer)
    if woven:
        expect_rows(k, a, table, row, height, width=2 * width)
    with k.loop(a["phases"]) as (f, _):
        phase = band * a["phases"] + f
        tap = a["starts"].load(phase, "i64")
        taps = a["starts"].load(phase + 1, "i64") - tap
        panel = weights.at(a["rows"] * a["C"] * tap + (c0 * a["rows"] + row0 * channels) * taps)
        product = (panel, cells, lists.at(tap * PIECE + phase, "i64"), channels)
        if woven:
            k.do(raw_tile(lanes, tile, height), *product,
                 room.buffer.at(f * (tile.height * width)))  # fmt: skip
        elif line is not None:
            k.do(packing_tile(lanes, tile, height), args, *product, *into, line)
        else:
            k.do(finished_tile(lanes, tile, height), args, *product, *into)
    if woven:
        k.do(weave_tiles(lanes, tile, height, FIELDS), args, *into)


def _sums(
    k: Kernel, weights: Value, cells: Value, pieces: Value, channels: Value, tile: Tile, height: int
) -> list[Value]:
    """Σ weights ⊗ cells over the pieces of a panel's sum: the micro-kernel."""
    width = tile.vectors * k.lanes.count
    with k.loop(pieces.load(0, "i64"), carry=[k.zero()] * (height * tile.vectors)) as (i, outer):
        piece = pieces.at(i * PIECE + 1, "i64")
        tap, place, number = (piece.load(word, "i64") * channels for word in range(PIECE))
        left, right = weights.at(tap * height), cells.at(place * width)
        with k.loop(number, carry=outer.values) as (t, inner):
            inner.values = product_step(
                k, left.at(t * height), right.at(t * width), tile, height, inner.values
            )
        outer.values = inner.values
    return outer.values


def raw_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile's sums as they are."""
    k = Kernel(
        f"raw_tile_{height}",
        ["weights: ptr", "cells: ptr", "pieces: ptr", "channels: i64", "to: ptr"], lanes,
    )  # fmt: skip
    weights, cells, pieces, channels, to = k.parameters
    for i, v in enumerate(_sums(k, weights, cells, pieces, channels, tile, height)):
        to.store(v, i * lanes.count)
    return k


def _sums_of_line(
    k: Kernel, weights: Value, line: Value, pitch: Value, channels: Value, to: Value, tile: Tile,
    height: int,
) -> list[Value]:  # fmt: skip
    """Σ weights ⊗ cells of a line with one tap, whose cells are packed as they are read."""
    count, width = k.lanes.count, tile.vectors * k.lanes.count
    with k.loop(channels, carry=[k.zero()] * (height * tile.vectors)) as (c, inner):
        cells, packed = line.at(c * pitch), to.at(c * width)
        for j in range(0, width * k.lanes.bytes, 64):
            cells.prefetch(pitch * SOON + j // k.lanes.bytes)
        vectors = [cells.vector(j * count) for j in range(tile.vectors)]
        for j, v in enumerate(vectors):
            packed.store(v, j * count)
        rows = [weights.at(c * height + i) for i in range(height)]
        inner.values = rank_one(k, rows, vectors, inner.values)
    return inner.values


TILE = ("args: ptr", "weights: ptr", "cells: ptr", "pieces: ptr", "channels: i64", "table: ptr",
        "band: ptr", "row: ptr", "bias: ptr", "adds: i64", "buffer: ptr")  # fmt: skip


def finished_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile: its sums, scaled and biased, into the rows of the result; the micro-kernel.

    pieces: see `list_pieces`. table: the panel's runs. row: where the first row begins.
    """
    k, a = start(f"finished_tile_{height}", lanes, FIELDS, TILE)
    _, weights, cells, pieces, channels, table, *_, row, _, _, _ = k.parameters
    expect_rows(k, a, table, row, height, width=tile.vectors * lanes.count)
    _finish(k, a, _sums(k, weights, cells, pieces, channels, tile, height), tile, height)
    return k


def packing_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """The same from a line's cells where they lie; they are packed into `cells` meanwhile."""
    k, a = start(f"packing_tile_{height}", lanes, FIELDS, (*TILE, "line: ptr"))
    _, weights, cells, _, channels, table, _, row, _, _, _, line = k.parameters
    expect_rows(k, a, table, row, height, width=tile.vectors * lanes.count)
    sums = _sums_of_line(k, weights, line, a["xc"], channels, cells, tile, height)
    _finish(k, a, sums, tile, height)
    return k


def _finish(k: Kernel, a: dict[str, Value], sums: list[Value], tile: Tile, height: int) -> None:
    """Sums scaled and biased, into the result."""
    table, band, row, bias, adds, buffer = k.parameters[5:11]
    scale = k.splat(a["scale"].to_element())
    done = [k.fma(v, scale, k.splat(bias.load(i // tile.vectors))) for i, v in enumerate(sums)]
    finish_tile(k, a, done, tile, height, (table, band, row, adds, buffer))


MULTIPLY = Generator("multiply", multiply, FIELDS, tallest_tiles)
WEAVE = Generator("weave", weave, FIELDS, tallest_tiles)
