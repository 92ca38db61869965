"""Weight gradient of many channels: outer products of panels that are transposed when copied."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.correlate import product_step
from convgrad.cpu.kernels.frame import BLOCKS, SOURCE, split, start
from convgrad.cpu.kernels.packing import Rows, columns, source_row, transpose_row
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    *SOURCE, *BLOCKS, "dy", "dw", "taps", "C", "O", "K", "yn", "yo", "yz", "yh", "yw",
    "cpanels", "opanels", "cshares", "oshares", "pieces", "xg", "yg", "dwg", "dws",
)  # fmt: skip


def outer(lanes: Lanes, tile: Tile) -> str:
    """dw[o,c,τ] = Σ_q x[c, q + taps(τ)]·dy[o, q]: x in panels of rows, dy in panels of vectors.

    A part is a share of the input channels' panels and one of the output channels', of one group,
    over one split of the blocks.
    """
    k, a = start("outer", lanes, FIELDS)
    _, part, scratch = k.parameters
    height, width = tile.height, tile.vectors * lanes.count
    group, piece, cshare, oshare = split(part, a["pieces"], a["cshares"], a["oshares"])
    c0, c1 = (a["cpanels"] * (cshare + i) // a["cshares"] for i in (0, 1))
    o0, o1 = (a["opanels"] * (oshare + i) // a["oshares"] for i in (0, 1))
    a["x"], a["dy"] = a["x"].at(group * a["xg"]), a["dy"].at(group * a["yg"])
    cells = a["cells"]
    size = height * width
    micro = tile_sums(lanes, tile)
    sums = scratch  # [c panel][τ][o panel][height][width]
    xs = sums.at((c1 - c0) * a["K"] * (o1 - o0) * size)
    phases = a["fz"] * a["fh"] * a["fw"]
    dys = xs.at((c1 - c0) * phases * cells * height + lanes.count)
    with k.loop((c1 - c0) * a["K"] * (o1 - o0) * size, step=lanes.count) as (i, _):
        sums.store(k.zero(), i)
    blocks = a["nn"] * a["nz"] * a["nr"]
    b0, b1 = (blocks * (piece + i) // a["pieces"] for i in (0, 1))
    with k.loop(b1, start=b0) as (index, _):
        ib, iz, ir = split(index, a["nz"], a["nr"])
        n0, z0, r0 = ib * a["NB"], iz * a["BZ"], ir * a["BR"]
        samples, planes, rows = (
            a["NB"].minimum(a["N"] - n0), a["BZ"].minimum(a["OZ"] - z0),
            a["BR"].minimum(a["OH"] - r0),
        )  # fmt: skip
        with k.loop(c1, start=c0) as (p, _):
            transposed_source(k, a, xs.at((p - c0) * phases * cells * height), p, tile,
                              n0, samples, z0, r0)  # fmt: skip
        with k.loop(o1, start=o0) as (p, _):
            transposed_gradient(k, a, dys.at((p - o0) * cells * width), p, width,
                                n0, samples, (z0, planes), (r0, rows))  # fmt: skip
        end = (((samples - 1) * a["Dq"] + planes - 1) * a["Hq"] + rows - 1) * a["Wq"] + a["OW"]
        with k.loop(c1 - c0) as (p, _), k.loop(a["K"]) as (t, _):
            source = xs.at((p * phases * cells + a["taps"].load(t, "i64")) * height)
            with k.loop(o1 - o0) as (po, _):
                tile_at = sums.at(((p * a["K"] + t) * (o1 - o0) + po) * size)
                gradient = dys.at(po * cells * width)
                k.do(micro, tile_at, source, gradient, end)
    write_weights(
        k, a, tile, sums, (c0, c1), (o0, o1), a["dw"].at(piece * a["dws"] + group * a["dwg"])
    )
    return k.text()


def tile_sums(lanes: Lanes, tile: Tile) -> Kernel:
    """tile += Σ_q source[q] ⊗ gradient[q]: the micro-kernel, with all registers to itself."""
    k = Kernel("tile_sums", ["tile: ptr", "source: ptr", "gradient: ptr", "end: i64"], lanes)
    at, source, gradient, end = k.parameters
    places = range(tile.height * tile.vectors)
    with k.loop(end, carry=[at.vector(i * lanes.count) for i in places]) as (q, sums):
        a, b = source.at(q * tile.height), gradient.at(q * (tile.vectors * lanes.count))
        sums.values = product_step(k, a, b, tile, tile.height, sums.values)
    for i in places:
        at.store(sums.values[i], i * lanes.count)
    return k


def transposed_source(
    k: Kernel, a: dict[str, Value], to: Value, panel: Value, tile: Tile,
    n0: Value, samples: Value, z0: Value, r0: Value,
) -> None:  # fmt: skip
    """One panel of input channels as [phase][cell][channel], padding cells zero."""
    cells = a["cells"]
    first = panel * tile.height
    with k.loop(a["fz"]) as (fz, _), k.loop(a["fh"]) as (fh, _), k.loop(a["fw"]) as (fw, _):
        phase = to.at(((fz * a["fh"] + fh) * a["fw"] + fw) * cells * tile.height)
        with k.loop(samples) as (n, _), k.loop(a["Dq"]) as (z, _), k.loop(a["Hq"]) as (r, _):
            row = phase.at(((n * a["Dq"] + z) * a["Hq"] + r) * a["Wq"] * tile.height)
            iz, ir, inside = source_row(a, z0 + z, r0 + r, fz, fh)
            source = a["x"].at((n0 + n) * a["xn"] + first * a["xc"] + iz * a["xz"] + ir * a["xh"])
            transpose_row(
                k, row, source, columns(k, a, fw, inside), a["C"] - first, a["xc"], tile.height
            )


def transposed_gradient(
    k: Kernel, a: dict[str, Value], to: Value, panel: Value, width: int,
    n0: Value, samples: Value, deep: tuple[Value, Value], high: tuple[Value, Value],
) -> None:  # fmt: skip
    """One panel of output channels as [cell][channel], zero where a cell is no result."""
    (z0, planes), (r0, rows) = deep, high
    first, none = panel * width, k.constant("i64", 0)
    with k.loop(samples) as (n, _), k.loop(a["Dq"]) as (z, _), k.loop(a["Hq"]) as (r, _):
        row = to.at(((n * a["Dq"] + z) * a["Hq"] + r) * a["Wq"] * width)
        source = a["dy"].at(
            (n0 + n) * a["yn"] + first * a["yo"] + (z0 + z) * a["yz"] + (r0 + r) * a["yh"]
        )
        last = k.select((z < planes) & (r < rows), a["OW"], none)
        gradient = Rows(none, last, a["yw"], none, a["Wq"])
        transpose_row(k, row, source, gradient, a["O"] - first, a["yo"], width)


def write_weights(
    k: Kernel, a: dict[str, Value], tile: Tile, sums: Value,
    channels: tuple[Value, Value], outputs: tuple[Value, Value], dw: Value,
) -> None:  # fmt: skip
    """dw[o][c][τ] from the tiles."""
    (c0, c1), (o0, o1) = channels, outputs
    height, width = tile.height, tile.vectors * k.lanes.count
    with k.loop(c1, start=c0) as (p, _), k.loop(o1, start=o0) as (po, _):
        with k.loop(a["K"]) as (t, _):
            tile_at = sums.at((((p - c0) * a["K"] + t) * (o1 - o0) + po - o0) * (height * width))
            rows = (a["C"] - p * height).minimum(height)
            with k.loop((a["O"] - po * width).minimum(width)) as (j, _), k.loop(rows) as (i, _):
                place = ((po * width + j) * a["C"] + p * height + i) * a["K"] + t
                dw.store(tile_at.load(i * width + j), place)


OUTER = Generator("outer", outer, FIELDS, tallest_tiles)
