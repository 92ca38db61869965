"""Weight gradient of many channels: outer products, summed over cells in register tiles.

x is read where it lies, a number at a time; dy is copied into panels [cell][output channel]. A tap
meets a box of cells, so padding costs nothing and never takes part.
"""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tile import heights, rank_one
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "x", "dy", "dw", "taps", "C", "O", "K", "xn", "xc", "xz", "xh", "xw", "D", "H", "W",
    "sz", "sh", "sw", "OZ", "OH", "OW", "yn", "yo", "yz", "yh", "yw",
    "N", "NB", "BZ", "BR", "BC", "nn", "nz", "nr", "nc",
    "tall", "low", "opanels", "cshares", "oshares", "pieces", "xg", "yg", "dwg", "dws",
)  # fmt: skip
PLACE = 16  # words that tell where a block is


def outer(lanes: Lanes, tile: Tile) -> str:
    """dw[o,c,τ] = Σ_q x[c, s·q + shift(τ)]·dy[o, q]: rows are input channels, vectors outputs.

    A part is a share of the input channels' panels and one of the output channels', of one group,
    over one piece of the blocks of cells.
    """
    k, a = start("outer", lanes, FIELDS)
    args, part, scratch = k.parameters
    width, words = tile.vectors * lanes.count, 8 // lanes.bytes
    group, piece, cshare, oshare = split(part, a["pieces"], a["cshares"], a["oshares"])
    p0, p1 = ((a["tall"] + a["low"]) * (cshare + i) // a["cshares"] for i in (0, 1))
    o0, o1 = (a["opanels"] * (oshare + i) // a["oshares"] for i in (0, 1))
    x, dy = a["x"].at(group * a["xg"]), a["dy"].at(group * a["yg"])
    sums, size = scratch.at(PLACE * words), tile.height * width  # [c panel][τ][o panel][row][lane]
    row = a["K"] * (o1 - o0) * size
    total = (p1 - p0) * row
    panels = sums.at(total)
    cells = a["NB"] * a["BZ"] * a["BR"] * a["BC"]
    with k.loop(total, step=lanes.count) as (i, _):
        sums.store(k.zero(), i)
    blocks = a["nn"] * a["nz"] * a["nr"] * a["nc"]
    b0, b1 = (blocks * (piece + i) // a["pieces"] for i in (0, 1))
    with k.loop(b1, start=b0) as (index, _):
        place = _block(k, a, index, scratch)
        with k.loop(o1, start=o0) as (po, _):
            k.do(pack_gradient(lanes, width), args, place, dy, po * width,
                 panels.at((po - o0) * cells * width))  # fmt: skip
        for height in heights(tile):
            tall = height == tile.height
            low = p0 if tall else p0.maximum(a["tall"])
            high = p1.minimum(a["tall"]) if tall else p1
            with k.loop(high, start=low) as (p, _):
                first = p * height if tall else p * height + a["tall"]
                with k.loop(a["K"]) as (t, _), k.loop(o1 - o0) as (po, _):
                    tile_at = sums.at((p - p0) * row + (t * (o1 - o0) + po) * size)
                    k.do(tile_sums(lanes, tile, height), args, place, a["taps"].at(t * 3, "i64"),
                         x.at(first * a["xc"]), panels.at(po * cells * width), tile_at)  # fmt: skip
    dw = a["dw"].at(piece * a["dws"] + group * a["dwg"])
    with k.loop(o1, start=o0) as (po, _), k.loop(p1, start=p0) as (p, _):
        is_low = k.select(p < a["tall"], k.constant("i64", 0), k.constant("i64", 1))
        channels = k.constant("i64", tile.height) - is_low
        first = p * channels + is_low * a["tall"]
        k.do(write_weights(lanes, tile), args, sums.at((p - p0) * row + (po - o0) * size),
             (o1 - o0) * size, first, channels, po * width, dw)  # fmt: skip
    return k.text()


def _block(k: Kernel, a: dict[str, Value], index: Value, place: Value) -> Value:
    """First sample, plane, row and column of a block, and how many: eight words at `place`."""
    at = split(index, a["nz"], a["nr"], a["nc"])
    names = (("NB", "N"), ("BZ", "OZ"), ("BR", "OH"), ("BC", "OW"))
    for i, (number, (step, end)) in enumerate(zip(at, names)):
        first = number * a[step]
        place.store(first, 2 * i)
        place.store(a[step].minimum(a[end] - first), 2 * i + 1)
    return place


def pack_gradient(lanes: Lanes, width: int) -> Kernel:
    """to[cell][channel] of one panel of output channels, over the cells of a block."""
    k, a = start(
        "pack_gradient", lanes, FIELDS,
        ("args: ptr", "place: ptr", "dy: ptr", "channel: i64", "to: ptr"),
    )  # fmt: skip
    _, place, dy, channel, to = k.parameters
    n0, samples, z0, planes, r0, rows, c0, columns = (place.load(i, "i64") for i in range(8))
    channels = a["O"] - channel
    dy = dy.at(n0 * a["yn"] + channel * a["yo"] + z0 * a["yz"] + r0 * a["yh"] + c0 * a["yw"])
    with k.loop(samples) as (n, _), k.loop(planes) as (z, _), k.loop(rows) as (r, _):
        source = dy.at(n * a["yn"] + z * a["yz"] + r * a["yh"])
        row = to.at(((n * planes + z) * rows + r) * columns * width)
        for base in range(0, width, lanes.count):
            _pack_row(
                k, a, row.at(base), source.at(a["yo"] * base), columns, channels - base, width
            )
    return k


def _pack_row(
    k: Kernel, a: dict[str, Value], to: Value, source: Value, columns: Value, channels: Value,
    width: int,
) -> None:  # fmt: skip
    """to[column][lane] = source[lane][column], a register of channels; may write beyond the row."""
    lanes = k.lanes.count
    beside, along = a["yo"].equals(1), a["yw"].equals(1)
    with k.when(beside), k.loop(columns) as (c, _):
        to.store(source.at(c * a["yw"]).vector(0, k.lanes_below(channels)), c * width)
    square = along & beside.equals(0)
    full = channels >= lanes
    whole = k.select(square & full, columns // lanes * lanes, k.constant("i64", 0))
    with k.loop(whole, step=lanes) as (c, _):
        read = [source.at(a["yo"] * j).vector(c) for j in range(lanes)]
        for i, v in enumerate(k.transpose(read)):
            to.store(v, (c + i) * width)
    with k.when(square), k.loop(columns, start=whole, step=lanes) as (c, _):
        within = k.lanes_below(columns - c)
        read = [
            source.at(a["yo"] * j).vector(c, k.mask_where(channels > j, within))
            for j in range(lanes)
        ]
        for i, v in enumerate(k.transpose(read)):
            to.store(v, (c + i) * width)
    with k.when((beside | along).equals(0)), k.loop(columns) as (c, _):
        to.store(source.at(c * a["yw"]).gather(a["yo"], k.lanes_below(channels)), c * width)


def tile_sums(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """tile[i][j] += Σ_q x[i, s·q + tap]·panel[q][j] over the cells that the tap meets."""
    k, a = start(
        f"tile_sums_{height}", lanes, FIELDS,
        ("args: ptr", "place: ptr", "tap: ptr", "x: ptr", "panel: ptr", "tile: ptr"),
    )  # fmt: skip
    _, place, tap, x, panel, at = k.parameters
    width, step = tile.vectors * lanes.count, a["sw"] * a["xw"]
    n0, samples = place.load(0, "i64"), place.load(1, "i64")
    box = [
        _meeting(a, tap.load(i, "i64"), (s, size), place.load(2 * i + 2, "i64"),
                 place.load(2 * i + 3, "i64"))
        for i, (s, size) in enumerate((("sz", "D"), ("sh", "H"), ("sw", "W")))
    ]  # fmt: skip
    (z0, z1, iz), (r0, r1, ir), (c0, c1, ic) = box
    planes, rows, columns = (place.load(i, "i64") for i in (3, 5, 7))
    x = x.at(n0 * a["xn"] + iz * a["xz"] + ir * a["xh"] + ic * a["xw"])
    places = range(height * tile.vectors)
    first = [at.vector(i * lanes.count) for i in places]
    pitches = [a["xc"] * i for i in range(height)]
    with k.loop(samples, carry=first) as (n, outer_):
        image = x.at(n * a["xn"])
        with k.loop(z1, start=z0, carry=outer_.values) as (z, middle):
            with k.loop(r1, start=r0, carry=middle.values) as (r, inner):
                line = image.at(z * a["sz"] * a["xz"] + r * a["sh"] * a["xh"])
                b = panel.at(((n * planes + z) * rows + r) * columns * width)
                with k.loop(c1, start=c0, carry=inner.values) as (c, sums):
                    cell = line.at(c * step)
                    vectors = [b.at(c * width).vector(j * lanes.count) for j in range(tile.vectors)]
                    rows_ = [cell.at(pitch) for pitch in pitches]
                    sums.values = rank_one(k, rows_, vectors, sums.values)
                inner.values = sums.values
            middle.values = inner.values
        outer_.values = middle.values
    for i in places:
        at.store(outer_.values[i], i * lanes.count)
    return k


def _meeting(
    a: dict[str, Value], shift: Value, names: tuple[str, str], first: Value, count: Value
) -> tuple[Value, Value, Value]:
    """The cells of a block, counted from its first, that a tap meets: from, to; and where the
    block's first cell meets the source (perhaps outside)."""
    stride, size = a[names[0]], a[names[1]]
    begin = shift + first * stride
    low = (begin * -1 + (stride - 1)).maximum(0) // stride
    high = (size - begin + (stride - 1)).maximum(0) // stride
    return low, high.minimum(count), begin


def write_weights(lanes: Lanes, tile: Tile) -> Kernel:
    """dw[o][c][τ] from the tiles of one panel of input and one of output channels."""
    k, a = start(
        "write_weights", lanes, FIELDS,
        ("args: ptr", "sums: ptr", "pitch: i64", "channel: i64", "channels: i64", "output: i64",
         "dw: ptr"),
    )  # fmt: skip
    _, sums, pitch, channel, channels, output, dw = k.parameters
    width, count = tile.vectors * lanes.count, lanes.count
    outputs = (a["O"] - output).minimum(width)
    each = a["C"] * a["K"]
    to = dw.at(output * each + channel * a["K"])
    single = a["K"].equals(1)
    for height in heights(tile):
        with k.when(single & channels.equals(height)):
            _write_columns(k, to, sums, (height, width), outputs, each)
    with k.when(single.equals(0)), k.loop(channels) as (c, _):
        line, source = to.at(c * a["K"]), sums.at(c * width)
        whole = a["K"] // count * count
        with k.loop(whole, step=count) as (t, _):
            for base in range(0, width, count):
                read = [source.at((t + i) * pitch).vector(base) for i in range(count)]
                for j, v in enumerate(k.transpose(read)):
                    with k.when(outputs > base + j):
                        line.at((base + j) * each).store(v, t)
        with k.loop(outputs) as (j, _), k.loop(a["K"], start=whole) as (t, _):
            line.store(source.load(t * pitch + j), j * each + t)
    return k


def _write_columns(
    k: Kernel, to: Value, tile: Value, size: tuple[int, int], outputs: Value, each: Value
) -> None:
    """to[lane·each + row] = tile[row][lane]: the weights of one tap."""
    (height, width), count = size, k.lanes.count
    for base in range(0, width, count):
        for top in range(0, height, count):
            few = min(count, height - top)
            read = [tile.vector((top + i) * width + base) for i in range(few)]
            for j, v in enumerate(k.transpose(read + [k.zero()] * (count - few))):
                with k.when(outputs > base + j):
                    to.at((base + j) * each).store(k.some(v, few), top)


OUTER = Generator("outer", outer, FIELDS, tallest_tiles)
