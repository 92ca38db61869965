"""Weight gradient of few channels: inner products along the cells."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import BLOCKS, SOURCE, split, start
from convgrad.cpu.kernels.packing import Rows, clear_behind, copy_block, copy_row
from convgrad.cpu.tiling import Tile, inner_tiles

FIELDS = (
    *SOURCE, *BLOCKS, "dy", "dw", "taps", "C", "O", "K", "yn", "yo", "yz", "yh", "yw",
    "cshares", "oshares", "pieces", "xg", "yg", "dwg", "dws",
)  # fmt: skip


def inner(lanes: Lanes, tile: Tile) -> str:
    """dw[o, (c,τ)] = Σ_q dy[o, q]·x[c, q + taps(τ)], vectors along the cells q.

    A tile is `height` rows of dy by `vectors` pairs (c,τ). A part is a share of the input channels
    and one of the output channels, of one group, over one piece of the blocks.
    """
    k, a = start("inner", lanes, FIELDS)
    _, part, scratch = k.parameters
    group, piece, cshare, oshare = split(part, a["pieces"], a["cshares"], a["oshares"])
    c0, c1 = (a["C"] * (cshare + i) // a["cshares"] for i in (0, 1))
    o0, o1 = (a["O"] * (oshare + i) // a["oshares"] for i in (0, 1))
    a["x"] = a["x"].at(group * a["xg"] + c0 * a["xc"])
    a["dy"] = a["dy"].at(group * a["yg"] + o0 * a["yo"])
    pairs, rows = (c1 - c0) * a["K"], o1 - o0
    sums = scratch.at(2 * (tile.height * tile.vectors + lanes.count))  # (rows, pairs)
    copy = sums.at(rows * pairs)
    phases = a["fz"] * a["fh"] * a["fw"]
    gradient = copy.at((c1 - c0) * phases * a["cells"])
    with k.loop(rows * pairs) as (i, _):
        sums.store(k.zero_element(), i)
    blocks = a["nn"] * a["nz"] * a["nr"]
    b0, b1 = (blocks * (piece + i) // a["pieces"] for i in (0, 1))
    image = a["x"]
    with k.loop(b1, start=b0) as (index, _):
        ib, iz, ir = split(index, a["nz"], a["nr"])
        n0, z0, r0 = ib * a["NB"], iz * a["BZ"], ir * a["BR"]
        samples, deep, high = (
            a["NB"].minimum(a["N"] - n0), a["BZ"].minimum(a["OZ"] - z0),
            a["BR"].minimum(a["OH"] - r0),
        )  # fmt: skip
        a["x"] = image.at(n0 * a["xn"])
        copy_block(k, a, copy, c1 - c0, samples, z0, r0)
        copy_gradient(k, a, gradient, rows, n0, samples, (z0, deep), (r0, high))
        end = (((samples - 1) * a["Dq"] + deep - 1) * a["Hq"] + high - 1) * a["Wq"] + a["OW"]
        with k.loop(pairs, step=tile.vectors) as (r, _):
            sources = []
            for j in range(tile.vectors):
                pair = (r + j).minimum(pairs - 1)
                tap = a["taps"].load(pair % a["K"], "i64")
                sources.append(copy.at(pair // a["K"] * phases * a["cells"] + tap))
            with k.loop(rows, step=tile.height) as (o, _):
                gradients = [
                    gradient.at((o + i).minimum(rows - 1) * a["cells"]) for i in range(tile.height)
                ]
                place = sums.at(o * pairs + r)
                limits = ((rows - o).minimum(tile.height), (pairs - r).minimum(tile.vectors))
                add_tile(k, tile, sources, gradients, end, scratch, place, pairs, limits)
    dw = a["dw"].at(piece * a["dws"] + group * a["dwg"] + o0 * a["C"] * a["K"] + c0 * a["K"])
    with k.loop(rows) as (o, _):
        line, to = sums.at(o * pairs), dw.at(o * a["C"] * a["K"])
        with k.loop(pairs, step=lanes.count) as (i, _):
            mask = k.lanes_below(pairs - i)
            to.store(line.vector(i, mask), i, mask)
    return k.text()


def add_tile(
    k: Kernel, tile: Tile, sources: list[Value], gradients: list[Value], end: Value,
    buffer: Value, place: Value, pitch: Value, limits: tuple[Value, Value],
) -> None:  # fmt: skip
    """place[i·pitch + j] += Σ_q gradients[i][q]·sources[j][q] for i, j below the limits.

    Beyond `end` the gradients' copies are zero up to a whole register.
    """
    k.do(tile_sums(k.lanes, tile), end, buffer, *sources, *gradients)
    with k.loop(limits[0]) as (i, _), k.loop(limits[1]) as (j, _):
        at = i * pitch + j
        place.store(place.load(at) + buffer.load(i * tile.vectors + j), at)


def tile_sums(lanes: Lanes, tile: Tile) -> Kernel:
    """buffer[i][j] = Σ_q gradients[i][q]·sources[j][q]: a micro-kernel with its own registers."""
    rows = [f"s{j}: ptr" for j in range(tile.vectors)] + [f"g{i}: ptr" for i in range(tile.height)]
    k = Kernel("tile_sums", ["end: i64", "buffer: ptr", *rows], lanes)
    end, buffer, *lines = k.parameters
    sources, gradients = lines[: tile.vectors], lines[tile.vectors :]
    count = tile.height * tile.vectors
    with k.loop(end, step=lanes.count, carry=[k.zero()] * count) as (q, sums):
        columns = [source.vector(q) for source in sources]
        fresh = []
        for i, line in enumerate(gradients):
            one = line.vector(q)
            fresh += [
                k.fma(one, v, sums.values[i * tile.vectors + j]) for j, v in enumerate(columns)
            ]
        sums.values = fresh
    for first in range(0, count, lanes.count):
        buffer.store(k.sums(sums.values[first : first + lanes.count]), first)
    return k


def copy_gradient(
    k: Kernel, a: dict[str, Value], to: Value, rows: Value, n0: Value, samples: Value,
    deep: tuple[Value, Value], high: tuple[Value, Value],
) -> None:  # fmt: skip
    """dy's rows in the cells of x's copy, zero where a cell is no result, and behind the end."""
    (z0, planes), (r0, lines) = deep, high
    none = k.constant("i64", 0)
    with k.loop(rows) as (o, _):
        own = to.at(o * a["cells"])
        with k.loop(samples) as (n, _), k.loop(a["Dq"]) as (z, _), k.loop(a["Hq"]) as (r, _):
            row = own.at(((n * a["Dq"] + z) * a["Hq"] + r) * a["Wq"])
            source = a["dy"].at(
                (n0 + n) * a["yn"] + o * a["yo"] + (z0 + z) * a["yz"] + (r0 + r) * a["yh"]
            )
            last = k.select((z < planes) & (r < lines), a["OW"], none)
            copy_row(k, row, source, Rows(none, last, a["yw"], none, a["Wq"]))
        clear_behind(k, a, own, samples)


INNER = Generator("inner", inner, FIELDS, inner_tiles)
