"""Winograd's weight gradient: outer products of transformed tiles, summed plane by plane."""

from dataclasses import dataclass, replace
from itertools import pairwise

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.winograd.kernels.matrices import contract
from convgrad.cpu.winograd.kernels.products import store_sums
from convgrad.cpu.winograd.kernels.tiles import Image, Planes, Rows, Work, transform
from convgrad.cpu.winograd.kernels.transforms import (
    GRID,
    IMAGE,
    NONE,
    block_tiles,
    image,
    source_matrices,
    tile_grid,
)
from convgrad.cpu.winograd.tiling import WinogradTile, winograd_tiles

FIELDS = (
    *IMAGE, *GRID, "dy", "dw", "yn", "yo", "yz", "yh", "yw", "OZ", "OH", "OW", "O", "taps", "lists",
    "cpanels", "opanels", "cshares", "oshares", "pieces", "cpadded", "cpanel", "otile",
    "cplane", "oplane", "few", "v", "u", "vg", "ug",
    "yg", "each", "dwg", "dws",
)  # fmt: skip


@dataclass(frozen=True)
class Sums:
    """Sums [point][output][part of the columns][input] of a share of the channels."""

    at: Value
    plane: Value
    line: Value
    part: Value


def winograd_outer(lanes: Lanes, tile: WinogradTile) -> str:
    """dw[o,c,k] = Gᵀ[Σ_tiles D[o] ⊙ V[c,k]]G / divisor.

    A part is a share of the input channels' panels and one of the output channels', for the taps of
    one part of planes and rows, of one group, over one piece of the blocks.
    """
    k, a = start("winograd_outer", lanes, FIELDS, arrays=("x", "dy"))
    _, part, scratch = k.parameters
    count, points = lanes.count, tile.points
    width = tile.vectors * count
    group, piece, plane, cshare, oshare = split(
        part, a["pieces"], a["K"], a["cshares"], a["oshares"]
    )
    c0, c1 = (a["cpanels"] * (cshare + i) // a["cshares"] * width for i in (0, 1))
    o0, o1 = (a["opanels"] * (oshare + i) // a["oshares"] * count for i in (0, 1))
    c1, o1 = c1.minimum(a["C"]), o1.minimum(a["O"])
    outputs, inputs = o1 - o0, (c1 - c0 + width - 1) // width
    line = inputs * a["Q"] * width
    sums = Sums(scratch, outputs * line, line, inputs * width)
    wide = k.constant("i64", width)
    v = Planes(sums.at.at(sums.plane * points + width), a["cplane"], wide, width, a["cpanel"])
    d = Planes(v.end(points), a["oplane"], a["otile"])
    few = a["few"].equals(1)
    work = Work.behind(k.select(few, v.at, d.end(points)), a["line"], tile.rows.tile * count)
    grid = tile_grid(a, tile)
    zero, one = k.constant("i64", 0), k.constant("i64", 1)
    a["shifts"] = a["shifts"].at(plane * 2, "i64")
    x = replace(image(a, group), planes=one).channels_from(c0, c1 - c0)
    dy = gradient(a, group, zero, one).channels_from(o0, outputs)
    micros = {h: tile_sums(lanes, tile, h) for h in range(1, tile.height + 1)}
    cut = Rows.of(outputs, tile.height)
    b0, b1 = (a["blocks"] * (piece + i) // a["pieces"] for i in (0, 1))
    with k.loop(b1, start=b0) as (block, _):
        first, last = block_tiles(a, block)
        with k.when(few.equals(0)):
            transform(k, x, source_matrices(tile), grid, first, last, a["cpadded"], v, work)
            transform(k, dy, (tile.rows.a, tile.columns.a), grid, first, last, zero, d, work)
        own = plane * a["Q"] * a["cpadded"] + c0 // width * a["cpanel"] + first * width
        columns = k.select(few, a["v"].at(group * a["vg"] + own), v.at)
        rows = k.select(few, a["u"].at(group * a["ug"] + first * a["otile"] + o0), d.at)
        with k.loop(points) as (point, _):
            met = a["lists"].at((point * a["K"] + plane) * (a["Q"] + 1), "i64")
            with k.loop(met.load(0, "i64")) as (q, _), k.loop(inputs) as (p, _):
                q = met.load(q + 1, "i64")
                to = sums.at.at(point * sums.plane + q * sums.part + p * width)
                b = columns.at(point * v.plane + q * a["cpadded"] + p * a["cpanel"])
                for height, o in cut.each(k):
                    k.do(
                        micros[height], to.at(o * line), rows.at(point * d.plane + o), b,
                        last - first, line, d.tile, v.tile, block.equals(b0),
                    )  # fmt: skip
    dw = a["dw"].at(piece * a["dws"] + group * a["dwg"] + (o0 * a["C"] + c0) * a["each"])
    return finish(k, a, tile, sums, (outputs, c1 - c0), work, dw, plane)


def gradient(a: dict[str, Value], group: Value, zero: Value, one: Value) -> Image:
    """dy, which is read as its tiles stand."""
    return Image(
        a["dy"].at(group * a["yg"]), a["O"], a["yn"], a["yo"], (a["yz"], a["yh"], a["yw"]),
        (a["OZ"], a["OH"], a["OW"]), (one, one, one), (zero, zero, zero), one, one, None, None,
    )  # fmt: skip


def tile_sums(lanes: Lanes, tile: WinogradTile, height: int) -> Kernel:
    """to[i][·] (+)= Σ_t rows[t][i] · columns[t][·]: the micro-kernel; it adds unless `fresh`."""
    k = Kernel(
        f"tile_sums_{height}",
        ["to: ptr", "rows: ptr", "columns: ptr", "count: i64", "pitch: i64", "rtile: i64",
         "ctile: i64", "fresh: i1"],
        lanes,
    )  # fmt: skip
    to, rows, columns, count, pitch, rtile, ctile, fresh = k.parameters
    vectors = range(tile.vectors)
    places = [to.at(pitch * i + j * lanes.count) for i in range(height) for j in vectors]
    with k.loop(count, carry=[k.zero()] * len(places)) as (t, sums):
        row, column = rows.at(t * rtile), columns.at(t * ctile)
        registers = [column.vector(j * lanes.count) for j in vectors]
        following = []
        for i in range(height):
            one = k.splat(row.load(i))
            following += [
                k.fma(one, r, sums.values[i * tile.vectors + j]) for j, r in enumerate(registers)
            ]
        sums.values = following
    store_sums(k, places, sums.values, fresh)
    return k


def finish(
    k: Kernel, a: dict[str, Value], tile: WinogradTile, sums: Sums, size: tuple[Value, Value],
    work: Work, dw: Value, plane: Value,
) -> str:  # fmt: skip
    """dw from the sums: Gᵀ on both axes, and the channels' lanes taken apart, tap by tap.

    Where a part has no tap, the points that only this tap meets have no sums.
    """
    lanes, along = k.lanes.count, tile.columns.tile
    divisor = k.number(float(tile.divisor))
    with (
        k.loop(size[0]) as (o, _), k.loop(a["Q"]) as (q, _), k.loop(size[1], step=lanes) as (c, _)
    ):  # fmt: skip
        place = sums.at.at(o * sums.line + q * sums.part + c)
        columns = []
        for s in range(along):
            column = [place.vector(sums.plane * (r * along + s)) for r in range(tile.rows.tile)]
            columns.append(contract(k, tile.rows.g, column))
        results = [
            v / divisor
            for r in range(tile.rows.taps)
            for v in contract(k, tile.columns.g, [column[r] for column in columns])
        ]
        for i, v in enumerate(results):
            work.cells.store(v, i * lanes)
        to = dw.at((o * a["C"] + c) * a["each"])
        taps = a["taps"].at((plane * a["Q"] + q) * tile.taps, "i64")
        found = [taps.load(i, "i64") for i in range(tile.taps)]
        count = (size[1] - c).minimum(lanes)
        side_by_side = found[0].equals(NONE).equals(0)
        for before, tap in pairwise(found):
            side_by_side = side_by_side & tap.equals(before + 1)
        with k.when(side_by_side), k.loop(count) as (j, _):
            own = to.at(j * a["each"] + found[0])
            for i in range(tile.taps):
                own.store(work.cells.load(i * lanes + j), i)
        with k.when(side_by_side.equals(0)), k.loop(count) as (j, _):
            for i, tap in enumerate(found):
                with k.when(tap.equals(NONE).equals(0)):
                    to.store(work.cells.load(i * lanes + j), j * a["each"] + tap)
    return k.text()


WINOGRAD_OUTER = Generator("winograd_outer", winograd_outer, FIELDS, winograd_tiles)
