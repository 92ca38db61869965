"""Weight gradient of many channels: outer products, summed over cells in register tiles.

A tile's lanes are channels of one operand, copied into panels [cell][lane], a block of cells at a
time; its rows are pairs (channel, tap) of the other, read where they lie, a number at a time. A tap
meets a box of cells, so padding costs nothing and never takes part. Where channels are so few that
a panel of rows has several taps, and there is padding, rows are copied, with zeros for it; so are
numbers of a half type.
"""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tile import heights, rank_one
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "x", "dy", "dw", "taps", "units", "mixed", "O", "xn", "xc", "xz", "xh", "xw", "D", "H", "W",
    "sz", "sh", "sw", "OZ", "OH", "OW", "yn", "yo", "yz", "yh", "yw",
    "N", "NB", "BZ", "BR", "BC", "nn", "nz", "nr", "nc",
    "tall", "low", "opanels", "cshares", "oshares", "pieces", "xg", "yg", "dwg", "dws",
    "wo", "wr", "copies",
)  # fmt: skip
PLACE = 48  # words that tell where a block is
BOX, RUNS, ROWS = 8, 20, 32  # its words: what a tap meets; runs of cells; where rows lie
CELLS = 512  # cells of a block, at most


def pitch_of(lanes: Lanes) -> int:
    """Elements between two rows of copied cells: an odd number of cache lines."""
    return CELLS + 64 // lanes.bytes


def copied_rows(lanes: Lanes, tile: Tile) -> int:
    """Elements of scratch for a panel of rows that is copied; whole registers may reach beyond."""
    return tile.height * pitch_of(lanes) + 64 // lanes.bytes


def outer(lanes: Lanes, tile: Tile) -> str:
    """dw[o, (c,τ)] = Σ_q x[c, s·q + shift(τ)]·dy[o, q]: rows are pairs (c, τ), lanes outputs o.

    Rows come in units, one for each tap; or in a single one, with `mixed` > 1 taps of each channel.
    For a map with one tap and stride 1, x and dy may change places: lanes are then inputs.
    A part is a share of the panels of rows and one of the panels of lanes, of one group, over one
    piece of the blocks of cells.
    """
    k, a = start("outer", lanes, FIELDS, arrays=("x", "dy"))
    args, part, scratch = k.parameters
    width, words = tile.vectors * lanes.count, 8 // lanes.bytes
    group, piece, cshare, oshare = split(part, a["pieces"], a["cshares"], a["oshares"])
    p0, p1 = ((a["tall"] + a["low"]) * (cshare + i) // a["cshares"] for i in (0, 1))
    o0, o1 = (a["opanels"] * (oshare + i) // a["oshares"] for i in (0, 1))
    x, dy = a["x"].at(group * a["xg"]), a["dy"].at(group * a["yg"])
    copied = scratch.at(PLACE * words)
    sums, size = copied.at(copied_rows(lanes, tile)), tile.height * width
    row = a["units"] * (o1 - o0) * size  # sums: [rows' panel][unit][lanes' panel][row][lane]
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
            k.do(pack_lanes(lanes, width), args, place, dy, po * width,
                 panels.at((po - o0) * cells * width))  # fmt: skip
        for height in heights(tile):
            tall = height == tile.height
            low = p0 if tall else p0.maximum(a["tall"])
            high = p1.minimum(a["tall"]) if tall else p1
            with k.loop(high, start=low) as (p, _), k.loop(a["units"]) as (u, _):
                first = p * height if tall else p * height + a["tall"]
                k.do(find_rows(lanes, height), args, place, first, u, x, copied)
                with k.loop(o1 - o0) as (po, _):
                    tile_at = sums.at((p - p0) * row + (u * (o1 - o0) + po) * size)
                    k.do(tile_sums(lanes, tile, height), place, panels.at(po * cells * width),
                         tile_at)  # fmt: skip
    dw = a["dw"].at(piece * a["dws"] + group * a["dwg"])
    with k.loop(o1, start=o0) as (po, _), k.loop(p1, start=p0) as (p, _):
        is_low = k.select(p < a["tall"], k.constant("i64", 0), k.constant("i64", 1))
        rows = k.constant("i64", tile.height) - is_low
        first = p * rows + is_low * a["tall"]
        k.do(write_weights(lanes, tile), args, sums.at((p - p0) * row + (po - o0) * size),
             (o1 - o0) * size, first, rows, po * width, dw)  # fmt: skip
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


def pack_lanes(lanes: Lanes, width: int) -> Kernel:
    """to[cell][channel] of one panel of channels, over the cells of a block."""
    k, a = start(
        "pack_lanes", lanes, FIELDS,
        ("args: ptr", "place: ptr", "dy: array", "channel: i64", "to: ptr"),
    )  # fmt: skip
    _, place, dy, channel, to = k.parameters
    n0, samples, z0, planes, r0, rows, c0, columns = (place.load(i, "i64") for i in range(8))
    channels = a["O"] - channel
    dy = dy.at(n0 * a["yn"] + channel * a["yo"] + z0 * a["yz"] + r0 * a["yh"] + c0 * a["yw"])
    with k.loop(samples) as (n, _), k.loop(planes) as (z, _), k.loop(rows) as (r, _):
        source = dy.at(n * a["yn"] + z * a["yz"] + r * a["yh"])
        row = to.at(((n * planes + z) * rows + r) * columns * width)
        with k.loop(width, step=lanes.count) as (base, _):
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


def find_rows(lanes: Lanes, height: int) -> Kernel:
    """Where the rows (c, τ) of a panel lie over the cells of a block, and which cells they meet.

    Rows stay where they are, cells that lie in padding left out, but where a panel has several taps
    and there is padding: then they are copied to `to`, [row][cell], with zeros for the padding.
    """
    k, a = start(
        f"find_rows_{height}", lanes, FIELDS,
        ("args: ptr", "place: ptr", "row: i64", "unit: i64", "x: array", "to: ptr"),
    )  # fmt: skip
    _, place, row, unit, x, to = k.parameters
    x = x.at(place.load(0, "i64") * a["xn"])
    channel, tap = row // a["mixed"], unit + row % a["mixed"]
    copies = a["copies"].equals(1)
    with k.when(copies.equals(0)):
        _find_box(a, place, a["taps"].at(tap * 3, "i64"))
        _in_place(k, a, place, x, channel, tap, height)
    with k.when(copies):
        _copy_rows(k, a, place, x, to, channel, tap, height)
    return k


def _find_box(a: dict[str, Value], place: Value, tap: Value) -> None:
    """Into the words at BOX: for each axis the first and last cell of the block that a tap meets,
    and where the block's first cell meets the source."""
    for i, (s, size) in enumerate((("sz", "D"), ("sh", "H"), ("sw", "W"))):
        first, count = place.load(2 * i + 2, "i64"), place.load(2 * i + 3, "i64")
        low, high, begin = _meeting(a, tap.load(i, "i64"), (s, size), first, count)
        for j, word in enumerate((low, high.maximum(low), begin)):
            place.store(word, BOX + 3 * i + j)


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


def _box(place: Value) -> list[tuple[Value, Value, Value]]:
    """The words at BOX, for each axis."""
    words = [place.load(BOX + i, "i64") for i in range(9)]
    return [(words[i], words[i + 1], words[i + 2]) for i in (0, 3, 6)]


def _next_row(k: Kernel, a: dict[str, Value], channel: Value, tap: Value) -> tuple[Value, Value]:
    """The channel and the tap of the row behind this one."""
    several, one = a["mixed"] > 1, k.constant("i64", 1)
    behind = tap + k.select(several, one, k.constant("i64", 0))
    wraps = several.equals(0) | behind.equals(a["mixed"])
    first = k.select(several, k.constant("i64", 0), tap)
    return k.select(wraps, channel + 1, channel), k.select(wraps, first, behind)


def _in_place(
    k: Kernel, a: dict[str, Value], place: Value, x: Value, channel: Value, tap: Value, height: int
) -> None:
    """The words at RUNS and at ROWS, for rows that are read where they lie."""
    (z0, z1, iz), (r0, r1, ir), (c0, c1, ic) = _box(place)
    planes, rows, columns = (place.load(i, "i64") for i in (3, 5, 7))
    deep, high, wide = (a[s] * a[x_] for s, x_ in (("sz", "xz"), ("sh", "xh"), ("sw", "xw")))
    words = (
        place.load(1, "i64"), z1 - z0, r1 - r0, c1 - c0, (z0 * rows + r0) * columns + c0,
        planes * rows * columns, rows * columns, columns, a["xn"], deep, high, wide,
    )  # fmt: skip
    for i, word in enumerate(words):
        place.store(word, RUNS + i)
    x = x.at(iz * a["xz"] + z0 * deep + ir * a["xh"] + r0 * high + ic * a["xw"] + c0 * wide)
    first = _offset(a, tap)
    for i in range(height):
        place.store(x.at(channel * a["xc"] + (_offset(a, tap) - first)), ROWS + i)
        channel, tap = _next_row(k, a, channel, tap)


def _offset(a: dict[str, Value], tap: Value) -> Value:
    """Where the first result meets the source, in elements from the source's first cell."""
    z, r, c = (a["taps"].at(tap * 3, "i64").load(axis, "i64") for axis in range(3))
    return z * a["xz"] + r * a["xh"] + c * a["xw"]


def _copy_rows(
    k: Kernel, a: dict[str, Value], place: Value, x: Value, to: Value, channel: Value, tap: Value,
    height: int,
) -> None:  # fmt: skip
    """The words at RUNS and at ROWS, for rows that are copied: a single run of all cells."""
    samples, planes, rows, columns = (place.load(i, "i64") for i in (1, 3, 5, 7))
    pitch, cells = pitch_of(k.lanes), samples * planes * rows * columns
    one, none = k.constant("i64", 1), k.constant("i64", 0)
    words = (one, one, one, cells, none, none, none, none, none, none, none, one)
    for i, word in enumerate(words):
        place.store(word, RUNS + i)
    for i in range(height):
        place.store(to.at(i * pitch), ROWS + i)
    with k.loop(height, carry=[channel, tap]) as (i, row):
        channel, tap = row.values
        _find_box(a, place, a["taps"].at(tap * 3, "i64"))
        line = to.at(i * pitch)
        (z0, z1, _), (r0, r1, _), (c0, c1, _) = _box(place)
        met = samples * (z1 - z0) * (r1 - r0) * (c1 - c0)
        with k.when(met < cells), k.loop(cells, step=k.lanes.count) as (c, _):
            line.store(k.zero(), c)
        _copy_row(k, a, place, x.at(channel * a["xc"]), line)
        row.values = list(_next_row(k, a, channel, tap))


def _copy_row(k: Kernel, a: dict[str, Value], place: Value, x: Value, to: Value) -> None:
    """The cells that one row's tap meets, to their places in the block."""
    samples, planes, rows, columns = (place.load(i, "i64") for i in (1, 3, 5, 7))
    (z0, z1, iz), (r0, r1, ir), (c0, c1, ic) = _box(place)
    step = a["sw"] * a["xw"]
    x = x.at(iz * a["xz"] + ir * a["xh"] + ic * a["xw"] + c0 * step)
    runs = _Runs(k, step, c1 - c0)
    with k.loop(samples) as (n, _), k.loop(z1, start=z0) as (z, _), k.loop(r1, start=r0) as (r, _):
        line = x.at(n * a["xn"] + z * (a["sz"] * a["xz"]) + r * (a["sh"] * a["xh"]))
        runs.copy(line, to.at(((n * planes + z) * rows + r) * columns + c0))


class _Runs:
    """Runs of `count` cells, `step` apart in the source, made contiguous.

    What is written beyond a run is zero, up to a register, and written again by a later run.
    """

    def __init__(self, k: Kernel, step: Value, count: Value) -> None:
        self.k, self.step, self.count = k, step, count
        lanes = k.lanes.count
        self.one, self.two = step.equals(1), step.equals(2)
        self.whole = count // lanes * lanes
        self.pairs = (count - 1).maximum(0) // lanes * lanes
        left = count - self.pairs
        self.rest = k.lanes_below(count - self.whole)
        self.near, self.beyond = (k.lanes_below(left * 2 - 1 - lanes * i) for i in (0, 1))

    def copy(self, line: Value, to: Value) -> None:
        k, lanes = self.k, self.k.lanes.count
        even = [2 * lane for lane in range(lanes)]
        with k.when(self.one):
            with k.loop(self.whole, step=lanes) as (c, _):
                to.store(line.vector(c), c)
            with k.when(self.whole < self.count):
                to.store(line.vector(self.whole, self.rest), self.whole)
        with k.when(self.two):
            with k.loop(self.pairs, step=lanes) as (c, _):
                at = line.at(c * 2)
                to.store(k.shuffle(at.vector(), at.vector(lanes), even), c)
            with k.when(self.pairs < self.count):
                at = line.at(self.pairs * 2)
                low, high = at.vector(0, self.near), at.vector(lanes, self.beyond)
                to.store(k.shuffle(low, high, even), self.pairs)
        with k.when((self.one | self.two).equals(0)), k.loop(self.count) as (c, _):
            to.store(line.load(c * self.step), c)


def tile_sums(lanes: Lanes, tile: Tile, height: int) -> Kernel:
    """tile[i][j] += Σ_q rows[i][q]·panel[q][j] over the cells that a panel of rows meets."""
    k = Kernel(f"tile_sums_{height}", ["place: ptr", "panel: ptr", "tile: ptr"], lanes)
    place, panel, at = k.parameters
    width = tile.vectors * lanes.count
    (
        samples,
        planes,
        runs,
        run,
        first,
        each_sample,
        each_plane,
        each_run,
        sample,
        plane,
        row,
        step,
    ) = (place.load(RUNS + i, "i64") for i in range(12))
    rows = [place.load(ROWS + i, "ptr") for i in range(height)]
    places = range(height * tile.vectors)
    begin = [at.vector(i * lanes.count) for i in places]
    with k.loop(samples, carry=begin) as (n, outer_):
        with k.loop(planes, carry=outer_.values) as (z, middle):
            with k.loop(runs, carry=middle.values) as (r, inner):
                b = panel.at((first + n * each_sample + z * each_plane + r * each_run) * width)
                here = n * sample + z * plane + r * row
                with k.loop(run, carry=[here, *inner.values]) as (c, turn):
                    vectors = [b.at(c * width).vector(j * lanes.count) for j in range(tile.vectors)]
                    at_, *sums = turn.values
                    sums = rank_one(k, [one.at(at_) for one in rows], vectors, sums)
                    turn.values = [at_ + step, *sums]
                inner.values = turn.values[1:]
            middle.values = inner.values
        outer_.values = middle.values
    for i in places:
        at.store(outer_.values[i], i * lanes.count)
    return k


def write_weights(lanes: Lanes, tile: Tile) -> Kernel:
    """dw[o][row][unit] from the tiles of one panel of rows and one of lanes."""
    k, a = start(
        "write_weights", lanes, FIELDS,
        ("args: ptr", "sums: ptr", "pitch: i64", "first: i64", "rows: i64", "output: i64",
         "dw: ptr"),
    )  # fmt: skip
    _, sums, pitch, first, rows, output, dw = k.parameters
    width, count = tile.vectors * lanes.count, lanes.count
    outputs = (a["O"] - output).minimum(width)
    each, units = a["wo"], a["units"]
    to = dw.at(output * each + first * a["wr"])
    along = each.equals(1)
    single = units.equals(1) & along.equals(0)
    with k.when(along), k.loop(rows) as (i, _), k.loop(width, step=count) as (base, _):
        to.at(i * a["wr"]).store(sums.vector(i * width + base), base, k.lanes_below(outputs - base))
    for height in heights(tile):
        with k.when(single & rows.equals(height)):
            _write_columns(k, to, sums, (height, width), outputs, each)
    with k.when((single | along).equals(0)), k.loop(rows) as (c, _):
        line, source = to.at(c * a["wr"]), sums.at(c * width)
        whole = units // count * count
        with k.loop(whole, step=count) as (t, _), k.loop(width, step=count) as (base, _):
            read = [source.at((t + i) * pitch).vector(base) for i in range(count)]
            for j, v in enumerate(k.transpose(read)):
                with k.when(outputs > base + j):
                    line.at((base + j) * each).store(v, t)
        with k.loop(outputs) as (j, _), k.loop(units, start=whole) as (t, _):
            line.store(source.load(t * pitch + j), j * each + t)
    return k


def _write_columns(
    k: Kernel, to: Value, tile: Value, size: tuple[int, int], outputs: Value, each: Value
) -> None:
    """to[lane·each + row] = tile[row][lane]."""
    (height, width), count = size, k.lanes.count
    with k.loop(width, step=count) as (base, _):
        for top in range(0, height, count):
            few = min(count, height - top)
            read = [tile.vector((top + i) * width + base) for i in range(few)]
            for j, v in enumerate(k.transpose(read + [k.zero()] * (count - few))):
                with k.when(outputs > base + j):
                    to.at((base + j) * each).store_first(few, v, top)


OUTER = Generator("outer", outer, FIELDS, tallest_tiles)
