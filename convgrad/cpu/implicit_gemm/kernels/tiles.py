"""The micro-kernel, and what becomes of its sums: one panel of cells times one of weights.

Cells are packed as [r][u][cell], weights as [phase][r][τ][row]: u counts the places of the source
that any tap meets, τ the taps of one phase. Where order is 1, u and τ stand before r, so that a
phase can read some of the places only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from convgrad.cpu.implicit_gemm.kernels.panels import PIECE
from convgrad.cpu.implicit_gemm.kernels.stores import (
    expect_rows,
    finish_tile,
    first_cell,
    weave_tiles,
)
from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.kernels.frame import start
from convgrad.cpu.kernels.tile import product_step, rank_one
from convgrad.cpu.tiling import Tile

FIELDS = (
    "x", "w", "y", "places", "starts", "slots", "lists", "bands", "bias", "C", "K", "U", "B",
    "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "sz", "sh", "sw", "OZ", "OH", "OW",
    "yn", "yo", "yz", "yh", "yw", "yf", "phases", "units", "unit", "samples", "nb", "turns",
    "blocks", "cb", "rows", "flat", "line", "along", "order", "skips", "tall", "low", "shares",
    "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip

SHARE = 1 << 16  # a share of 1: see `Soon`
SOON = 32  # channels from now on, whose cells are asked for
BAND = 4  # words of a band: where it begins in the result, its planes, rows and columns


@dataclass(frozen=True)
class Cells:
    """A panel of packed cells of some channels, and its table of runs.

    lists: the pieces that the sums of each phase have: see `list_pieces`.
    """

    at: Value
    channels: Value
    table: Value
    lists: Value


@dataclass(frozen=True)
class Rows:
    """A panel of packed weights: those of the phase of taps t … t+n−1 at every·t + own·n."""

    at: Value
    every: Value
    own: Value

    def panel(self, tap: Value, taps: Value) -> Value:
        return self.at.at(self.every * tap + self.own * taps)


@dataclass(frozen=True)
class Target:
    """A group's result and bias in memory; zeros that stand for a bias; room for tiles."""

    y: Value
    bias: Value
    none: Value
    buffer: Value


@dataclass(frozen=True)
class Result:
    """Where a panel of rows goes in a band of the result, what is added, and room for tiles.

    row: where its first row begins there; adds: 1 where the result is added to.
    """

    band: Value
    row: Value
    bias: Value
    adds: Value
    buffer: Value


@dataclass(frozen=True)
class Soon:
    """Lines of the source that are packed soon, a panel wide: a tile asks for some of them.

    share: how many for each product of its sums, in SHAREs of one line.
    """

    at: Value
    share: Value


@contextmanager
def each_tile(
    k: Kernel, a: dict[str, Value], target: Target, c0: Value, row0: Value, count: Value
) -> Iterator[tuple[Value, Value, Result]]:
    """For each band and each of `count` panels of cells: their numbers, and where they go.

    c0: the first channel; sums of later ones are added to those before.
    """
    later, one = c0 > 0, k.constant("i64", 1)
    adds = k.select(later, one, a["accumulate"])
    bias = k.select(later, target.none, target.bias.at(row0))
    with k.loop(a["B"]) as (b, _):
        band = a["bands"].at(b * BAND, "i64")
        row = target.y.at(row0 * a["yo"] + band.load(0, "i64"))
        turns = k.select(c0.equals(0) | _has_taps(a, b), count, k.constant("i64", 0))
        with k.loop(turns) as (p, _):
            yield b, p, Result(band, row, bias, adds, target.buffer)


def _has_taps(a: dict[str, Value], band: Value) -> Value:
    """Whether anything is multiplied for a band; otherwise it is the bias alone."""
    first, last = (a["starts"].load((band + i) * a["phases"], "i64") for i in (0, 1))
    return first < last


def panel_times_panel(
    k: Kernel, a: dict[str, Value], band: Value, rows: Rows, cells: Cells, result: Result,
    tile: Tile, height: int, woven: bool = False, line: Value | None = None,
    soon: Soon | None = None,
) -> None:  # fmt: skip
    """A panel of cells times one of weights for each phase of a band, into the result.

    line: where the cells lie in the source, if they are still to be packed. soon: see there.
    """
    lanes, args, width = k.lanes, k.parameters[0], tile.vectors * k.lanes.count
    into = (cells.table, result.band, result.row, result.bias, result.adds, result.buffer)
    first = a["starts"].load(band * a["phases"], "i64")
    share = _share_of_lines(k, a, band, cells.channels, tile, height)
    with k.loop(a["phases"]) as (f, _):
        phase = band * a["phases"] + f
        tap = a["starts"].load(phase, "i64")
        taps = a["starts"].load(phase + 1, "i64") - tap
        pieces = cells.lists.at(tap * PIECE + phase, "i64")
        product = (rows.panel(tap, taps), cells.at, pieces, cells.channels)
        if woven:
            to = result.buffer.at(f * (tile.height * width))
            lines = (first_cell(cells.table, result.row), a["yo"], share)
            k.do(
                raw_tile(lanes, tile, height), *product, to, *lines, (tap - first) * cells.channels
            )
        elif line is not None:
            k.do(packing_tile(lanes, tile, height), args, *product, *into, line)
        elif soon is not None:
            k.do(asking_tile(lanes, tile, height), args, *product, *into, soon.at, soon.share)
        else:
            k.do(finished_tile(lanes, tile, height), args, *product, *into)
    if woven:
        k.do(weave_tiles(lanes, tile, height, FIELDS), args, *into)


def _share_of_lines(
    k: Kernel, a: dict[str, Value], band: Value, channels: Value, tile: Tile, height: int
) -> Value:
    """Lines of a woven result for each product of a band, in SHAREs: the first band asks for all.

    A panel's cells lie beside those of other phases, and below them are those of other bands.
    """
    none, one = k.constant("i64", 0), k.constant("i64", 1)
    lines = a["B"] * a["phases"] * (height * tile.vectors * k.lanes.count * k.lanes.bytes // 64)
    products = a["starts"].load(a["phases"], "i64") * channels
    return k.select(band.equals(0), lines * SHARE // products.maximum(one), none)


def _sums(
    k: Kernel, weights: Value, cells: Value, pieces: Value, channels: Value, tile: Tile,
    height: int, expect: Callable[[Value], None] = lambda t: None,
) -> list[Value]:  # fmt: skip
    """Σ weights ⊗ cells over the pieces of a panel's sum: the micro-kernel.

    The weights behind a piece, mostly the next panel's, are asked for as far ahead as it is long;
    expect(t) asks for more beside product t of the sum, lest many requests wait for each other.
    """
    width = tile.vectors * k.lanes.count
    with k.loop(pieces.load(0, "i64"), carry=[k.zero()] * (height * tile.vectors)) as (i, outer):
        piece = pieces.at(i * PIECE + 1, "i64")
        tap, place, number = (piece.load(word, "i64") * channels for word in range(PIECE))
        left, right = weights.at(tap * height), cells.at(place * width)
        later = left.at(number * height)
        with k.loop(number, carry=outer.values) as (t, inner):
            later.prefetch(t * height)
            expect(tap + t)
            inner.values = product_step(
                k, left.at(t * height), right.at(t * width), tile, height, inner.values
            )
        outer.values = inner.values
    return outer.values


def raw_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile's sums as they are, while a share of the result's lines is asked for.

    before: products of the band that were made before.
    """
    k = Kernel(
        f"raw_tile_{height}",
        ["weights: ptr", "cells: ptr", "pieces: ptr", "channels: i64", "to: ptr", "row: array",
         "pitch: i64", "share: i64", "before: i64"], lanes,
    )  # fmt: skip
    weights, cells, pieces, channels, to, row, pitch, share, before = k.parameters

    def expect(t: Value) -> None:
        line = (before + t) * share // SHARE
        row.prefetch(line % height * pitch + line // height * (64 // lanes.bytes), write=True)

    for i, v in enumerate(_sums(k, weights, cells, pieces, channels, tile, height, expect)):
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
        "band: ptr", "row: array", "bias: ptr", "adds: i64", "buffer: ptr")  # fmt: skip


def finished_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """One tile: its sums, scaled and biased, into the rows of the result; the micro-kernel.

    pieces: see `list_pieces`. table: the panel's runs. row: where the first row begins.
    """
    k, a = start(f"finished_tile_{height}", lanes, FIELDS, TILE)
    _, weights, cells, pieces, channels, table, *_, row, _, _, _ = k.parameters
    expect_rows(k, a, table, row, height, width=tile.vectors * lanes.count)
    _finish(k, a, _sums(k, weights, cells, pieces, channels, tile, height), tile, height)
    return k


def asking_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """The same for one tap, while lines of the result, and those of `Soon`, are asked for."""
    signature = (*TILE, "soon: array", "share: i64")
    k, a = start(f"asking_tile_{height}", lanes, FIELDS, signature)
    _, weights, cells, pieces, channels, table, *_, row, _, _, _, soon, share = k.parameters
    width, line = tile.vectors * lanes.count, 64 // lanes.bytes
    begin, every = first_cell(table, row), k.constant("i64", height * SHARE) // channels

    def expect(t: Value) -> None:
        source = soon.at(t * share // SHARE * a["xc"])
        results = begin.at(t * every // SHARE * a["yo"])
        for j in range(0, width, line):
            source.prefetch(j)
            results.prefetch(j, write=True)
        results.prefetch(width - 1, write=True)

    _finish(k, a, _sums(k, weights, cells, pieces, channels, tile, height, expect), tile, height)
    return k


def packing_tile(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """The same from a line's cells where they lie; they are packed into `cells` meanwhile."""
    k, a = start(f"packing_tile_{height}", lanes, FIELDS, (*TILE, "line: array"))
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
