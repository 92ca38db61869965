"""Winograd's weight gradient: outer products of transformed tiles, summed plane by plane."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.winograd.kernels.products import GRID, IMAGE, block_tiles, image, tile_grid
from convgrad.cpu.winograd.kernels.tiles import Image, Planes, Work, contract, transform
from convgrad.cpu.winograd.tiling import WinogradTile, winograd_tiles

FIELDS = (
    *IMAGE, *GRID, "dy", "dw", "yn", "yo", "yz", "yh", "yw", "O", "cpanels", "opanels",
    "cshares", "oshares", "pieces", "cpadded", "opadded", "cplane", "oplane", "yg", "dwg", "dws",
)  # fmt: skip


def winograd_outer(lanes: Lanes, tile: WinogradTile) -> str:
    """dw[o,c,k] = Gᵀ[Σ_tiles D[o] ⊙ V[c,k]]G / divisor².

    A part is a share of the input channels' panels and one of the output channels', at one plane k
    of the kernel's depth, of one group, over one piece of the blocks.
    """
    k, a = start("winograd_outer", lanes, FIELDS)
    _, part, scratch = k.parameters
    form, count = tile.filtering, lanes.count
    points, width = form.tile**2, tile.vectors * count
    group, piece, depth, cshare, oshare = split(
        part, a["pieces"], a["K"], a["cshares"], a["oshares"]
    )
    c0, c1 = (a["cpanels"] * (cshare + i) // a["cshares"] * width for i in (0, 1))
    o0, o1 = (a["opanels"] * (oshare + i) // a["oshares"] * count for i in (0, 1))
    c1, o1 = c1.minimum(a["C"]), o1.minimum(a["O"])
    a["pz"] = a["pz"] - depth * a["az"]
    outputs, inputs = o1 - o0, (c1 - c0 + width - 1) // width
    line = inputs * width
    panels = (outputs + tile.height - 1) // tile.height
    low = (panels * tile.height - outputs).minimum(panels)
    tall = panels - low
    plane = panels * tile.height * line
    sums = scratch  # [point][o][c]
    v = Planes(sums.at(plane * points + width), a["cplane"], a["cpadded"])
    d = Planes(v.end(points), a["oplane"], a["opadded"])
    work = Work.behind(d.end(points), a["line"], form.tile * count)
    grid = tile_grid(a, form)
    x = image(a, a["x"].at(group * a["xg"] + c0 * a["xc"]), c1 - c0)
    one, zero = k.constant("i64", 1), k.constant("i64", 0)
    dy = Image(
        a["dy"].at(group * a["yg"] + o0 * a["yo"]), outputs, a["yn"], a["yo"],
        (a["yz"], a["yh"], a["yw"]), (a["OZ"], a["OH"], a["OW"]), (zero, zero, zero),
    )  # fmt: skip
    with k.loop(plane * points, step=count) as (i, _):
        sums.store(k.zero(), i)
    micros = {h: tile_sums(lanes, tile, h) for h in (tile.height, tile.height - 1) if h}
    b0, b1 = (a["blocks"] * (piece + i) // a["pieces"] for i in (0, 1))
    with k.loop(b1, start=b0) as (block, _):
        first, last = block_tiles(a, block)
        transform(k, x, form.bt, grid, first, last, one, a["cpadded"], v, work)
        transform(k, dy, form.a, grid, first, last, one, a["opadded"], d, work)
        with k.loop(points) as (point, _), k.loop(inputs) as (p, _):
            to = sums.at(point * plane + p * width)
            b, rows = v.at.at(point * v.plane + p * width), d.at.at(point * d.plane)
            for height, micro in micros.items():
                number, begin = (tall, zero) if height == tile.height else (low, tall * tile.height)
                with k.loop(number) as (row, _):
                    o = begin + row * height
                    k.do(micro, to.at(o * line), rows.at(o), b, last - first, line, d.tile, v.tile)
    return finish(k, a, tile, (sums, plane, line), (outputs, c1 - c0), work,
                  a["dw"].at(piece * a["dws"] + group * a["dwg"]), (o0, c0, depth))  # fmt: skip


def tile_sums(lanes: Lanes, tile: WinogradTile, height: int) -> Kernel:
    """to[i][·] += Σ_t rows[t][i] · columns[t][·]: the micro-kernel."""
    k = Kernel(
        f"tile_sums_{height}",
        ["to: ptr", "rows: ptr", "columns: ptr", "count: i64", "pitch: i64", "rtile: i64",
         "ctile: i64"],
        lanes,
    )  # fmt: skip
    to, rows, columns, count, pitch, rtile, ctile = k.parameters
    vectors = range(tile.vectors)
    places = [to.at(pitch * i + j * lanes.count) for i in range(height) for j in vectors]
    with k.loop(count, carry=[k.zero()] * len(places)) as (t, sums):
        row, column = rows.at(t * rtile), columns.at(t * ctile)
        registers = [column.vector(j * lanes.count) for j in vectors]
        fresh = []
        for i in range(height):
            one = k.splat(row.load(i))
            fresh += [
                k.fma(one, r, sums.values[i * tile.vectors + j]) for j, r in enumerate(registers)
            ]
        sums.values = fresh
    for place, value in zip(places, sums.values, strict=True):
        place.store(place.vector() + value)
    return k


def finish(
    k: Kernel, a: dict[str, Value], tile: WinogradTile, sums: tuple[Value, Value, Value],
    size: tuple[Value, Value], work: Work, dw: Value, begin: tuple[Value, Value, Value],
) -> str:  # fmt: skip
    """dw from the sums: Gᵀ on both axes, and the channels' lanes taken apart."""
    form, lanes = tile.filtering, k.lanes.count
    at, plane, line = sums
    o0, c0, depth = begin
    taps = len(form.g[0])
    divisor = k.number(float(form.divisor**2))
    each = a["K"] * (taps * taps)
    with k.loop(size[0]) as (o, _), k.loop(size[1], step=lanes) as (c, _):
        place = at.at(o * line + c)
        columns = []
        for s in range(form.tile):
            column = [place.vector(plane * (r * form.tile + s)) for r in range(form.tile)]
            columns.append(contract(k, form.g, column))
        for r in range(taps):
            for s, v in enumerate(contract(k, form.g, [column[r] for column in columns])):
                work.cells.store(v / divisor, (r * taps + s) * lanes)
        to = dw.at(((o0 + o) * a["C"] + c0 + c) * each + depth * (taps * taps))
        with k.loop((size[1] - c).minimum(lanes)) as (j, _):
            for i in range(taps * taps):
                to.store(work.cells.load(j + i * lanes), j * each + i)
    return k.text()


WINOGRAD_OUTER = Generator("winograd_outer", winograd_outer, FIELDS, winograd_tiles)
