"""Forward and input gradient of many channels: panels of weights times panels of cells.

All weights are packed beforehand, cells a block of channels of some panels at a time.
"""

from dataclasses import dataclass

from convgrad.cpu.implicit_gemm.kernels.panels import PIECE, list_pieces, pack_panel
from convgrad.cpu.implicit_gemm.kernels.runs import PLAIN, RECORD, TABLE, find_runs, line_of
from convgrad.cpu.implicit_gemm.kernels.tiles import (
    FIELDS,
    SHARE,
    Cells,
    Rows,
    Soon,
    Target,
    each_tile,
    panel_times_panel,
)
from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tile import each_panel, heights, rows_of
from convgrad.cpu.tiling import Tile, tallest_tiles

ZEROS = 64  # elements of zeros that stand for a bias
LINE = 8  # words of a cache line: panels begin with one, lest registers be read from two


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
    width: int

    def cells(self, panel: Value, a: dict[str, Value], channels: Value) -> Cells:
        """A panel of packed cells."""
        at = self.packed.at(panel * (channels * a["U"] * self.width))
        skips = a["skips"].equals(1)
        lists = at.kernel.select(skips, self.lists.at(panel * self.listed), a["lists"])
        return Cells(at, channels, self.tables.at(panel * self.table), lists)


def _room(k: Kernel, a: dict[str, Value], scratch: Value, lanes: Lanes, tile: Tile) -> Room:
    width, words = tile.vectors * lanes.count, 8 // lanes.bytes
    buffer = scratch.at(ZEROS)
    tables = buffer.at(tile_room(a, lanes, tile))
    table = panel_words(lanes, width)
    alive = a["skips"] * _lines(a["U"]) * words
    listed = a["skips"] * _lines(a["K"] * PIECE + a["B"] * a["phases"]) * words
    live = tables.at(a["nb"] * table)
    lists = live.at(a["nb"] * alive)
    packed = lists.at(a["nb"] * listed)
    return Room(scratch, buffer, tables, live, lists, packed, table, alive, listed, width)


def tile_room(a: dict[str, Value], lanes: Lanes, tile: Tile) -> Value:
    """Elements that the tiles of a band take, or a tile that is turned around."""
    return (a["phases"] + 1) * (tile.vectors * lanes.count * _evenly(tile.height, lanes.count))


def panel_words(lanes: Lanes, width: int) -> int:
    """Elements that a panel's table takes."""
    return _evenly(TABLE + RECORD * width, LINE) * (8 // lanes.bytes)


def _evenly(number: int, step: int) -> int:
    return -(-number // step) * step


def _lines(words: Value) -> Value:
    """So many words, or some more, that are whole cache lines."""
    return (words + (LINE - 1)) // LINE * LINE


def _multiply(name: str, lanes: Lanes, tile: Tile, woven: bool) -> str:
    """A part: some blocks of panels of cells, for a share of the panels of weights, of a group."""
    k, a = start(name, lanes, FIELDS, arrays=("x", "y"))
    args, part, scratch = k.parameters
    width = tile.vectors * lanes.count
    group, unit, block, share = split(part, a["units"], a["blocks"], a["shares"])
    x = a["x"].at(group * a["xg"] + unit * (a["samples"] * a["xn"]))
    y = a["y"].at(group * a["yg"] + unit * (a["samples"] * a["yn"]))
    packed, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    room = _room(k, a, scratch, lanes, tile)
    with k.loop(ZEROS, step=lanes.count) as (i, _):
        room.none.store(k.zero(), i)
    target = Target(y, bias, room.none, room.buffer)
    rows = rows_of(k, a, tile, share)
    panels = (a["unit"] + width - 1) // width
    begin = block * (a["nb"] * a["turns"])
    end = panels.minimum(begin + a["nb"] * a["turns"])
    with k.loop(end, start=begin, step=a["nb"]) as (first, _):
        count = a["nb"].minimum(end - first)
        with k.loop(count) as (p, _):
            k.do(find_runs(lanes, width, FIELDS), args, room.tables.at(p * room.table),
                 (first + p) * width)  # fmt: skip
        with k.loop(a["C"], step=a["cb"]) as (c0, _):
            source = x.at(c0 * a["xc"])
            _pack_cells(k, a, room, source, c0, count, tile)
            ahead = _Ahead(k, a, x, c0, (first, count), width, rows)
            channels = a["cb"].minimum(a["C"] - c0)
            for height in heights(tile):
                with each_panel(k, a, tile, height, share) as row0:
                    own = c0 * a["rows"] + row0 * channels
                    weights = Rows(packed, a["rows"] * a["C"], own)
                    with each_tile(k, a, target, c0, row0, count) as (b, p, result):
                        cells = room.cells(p, a, channels)
                        panel = (k, a, b, weights, cells, result, tile, height)
                        if woven:
                            panel_times_panel(*panel, woven)
                        else:
                            packs = row0.equals(rows[0]) & cells.table.load(PLAIN, "i64").equals(1)
                            with k.when(packs):
                                panel_times_panel(*panel, line=line_of(cells.table, source))
                            with k.when(packs.equals(0) & a["line"].equals(1)):
                                panel_times_panel(*panel, soon=ahead.share(p, row0, height))
                            with k.when(packs.equals(0) & a["line"].equals(0)):
                                panel_times_panel(*panel)
    return k.text()


def _pack_cells(
    k: Kernel, a: dict[str, Value], room: Room, x: Value, c0: Value, count: Value, tile: Tile
) -> None:
    """A block of channels of some panels; and the pieces of their sums where taps are left out.

    Plain panels are packed by the tile that multiplies them first.
    """
    lanes, args, width = k.lanes, k.parameters[0], tile.vectors * k.lanes.count
    channels = a["cb"].minimum(a["C"] - c0)
    with k.loop(count) as (p, _):
        table, live = room.tables.at(p * room.table), room.live.at(p * room.alive)
        with k.when(table.load(PLAIN, "i64").equals(0)):
            k.do(pack_panel(lanes, width, FIELDS), args, table, live, x, channels,
                 room.packed.at(p * (channels * a["U"] * width)))  # fmt: skip
        with k.when(a["skips"].equals(1)):
            k.do(list_pieces(lanes, FIELDS), args, live, room.lists.at(p * room.listed))


class _Ahead:
    """What a line's cells are packed from next, asked for while panels are multiplied.

    By those of a share but the first one, which packs what was asked for before.
    """

    def __init__(
        self, k: Kernel, a: dict[str, Value], x: Value, c0: Value, panels: tuple[Value, Value],
        width: int, rows: tuple[Value, Value, Value],
    ) -> None:  # fmt: skip
        first, count = panels
        self.a, self.width = a, width
        after, none = c0 + a["cb"], k.constant("i64", 0)
        more = after < a["C"]
        channel, self.cell = k.select(more, after, none), k.select(more, first, first + count)
        self.x, self.channels = x.at(channel * a["xc"]), a["cb"].minimum(a["C"] - channel)
        self.here = a["cb"].minimum(a["C"] - c0)
        _, self.second, last = rows
        self.rows = (last - self.second).maximum(1)
        self.last = (a["unit"] - 1).maximum(0)

    def share(self, panel: Value, row0: Value, height: int) -> Soon:
        """The share of the channels that belongs to these rows, at a panel's place."""
        a = self.a
        low, high = (
            (row0 + rows - self.second).maximum(0) * self.channels // self.rows
            for rows in (0, height)
        )
        cell = ((self.cell + panel) * self.width).minimum(self.last)
        place = cell // a["OW"] * a["xn"] + cell % a["OW"]
        return Soon(self.x.at(place + low * a["xc"]), (high - low) * SHARE // self.here)


MULTIPLY = Generator("multiply", multiply, FIELDS, tallest_tiles)
WEAVE = Generator("weave", weave, FIELDS, tallest_tiles)
