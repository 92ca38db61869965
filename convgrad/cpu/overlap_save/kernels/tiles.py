"""Tiles of an image to spectra and back, two tiles as the real and the imaginary part of one.

A tile is TR × TC cells. Its transform goes through a buffer [panel of columns][row][re | im][lane]:
panels of columns are copied from the image and transformed, then groups of rows are turned into
panels, transformed in their turn, and stand as [group of rows][column][re | im][lane], with rows
and columns in the order of reversed digits. One such [re | im][lane] is a *cell* of a spectrum.

A line (rank 1) of TR·TC cells is a tile whose rows follow each other in memory: its transform has
factors exp(−2πi·f·c/(TR·TC)) between columns and rows (Bailey 1990, FFTs in hierarchical memory).

    xn xc xh xw, H W       strides and size of the source;  ph pw pads in front
    yn yc yh yw, OH OW     strides and size of the result
    TR TC, BR BC           size of a tile, and of the results that it yields (steps between tiles)
    LR LC                  rows and columns of a tile that are read, the others being zero
    nc, tiles, pairs       tiles side by side, tiles and pairs of a channel
    sc sp sf               strides of the spectra: of a channel, of a pair, of a cell
"""

from collections.abc import Iterable
from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.overlap_save.kernels import fft

SOURCE = ("x", "xn", "xc", "xh", "xw", "H", "W", "ph", "pw", "LR", "LC")
RESULT = ("y", "yn", "yc", "yh", "yw", "OH", "OW", "scale", "bias", "accumulate")
TILES = (
    "TR", "TC", "BR", "BC", "nc", "tiles", "pairs", "column_passes", "row_passes", "line_factors",
)  # fmt: skip
SPECTRA = ("spectra", "sc", "sp", "sf", "first", "count")
Arguments = dict[str, Value]


@dataclass(frozen=True)
class Rank:
    """What the kernels are compiled for: 1, lines, or 2, images."""

    rank: int


def ranks(_level: str) -> Iterable[Rank]:
    return Rank(1), Rank(2)


@dataclass(frozen=True)
class Rooms:
    """The scratch of a part: a panel of rows, the buffer, and from one panel of it to the next."""

    row: Value
    buffer: Value
    pitch: Value


def rooms(a: Arguments, scratch: Value, lanes: Lanes) -> Rooms:
    cell = 2 * lanes.count
    return Rooms(scratch, scratch.at(a["TC"] * cell), (a["TR"] + 2) * cell)


@dataclass(frozen=True)
class Side:
    """One tile of a pair: whether there is one, and where its results begin."""

    there: Value
    row: Value
    column: Value


def sides(a: Arguments, pair: Value) -> list[Side]:
    both = (pair * 2, pair * 2 + 1)
    return [Side(i < a["tiles"], i // a["nc"] * a["BR"], i % a["nc"] * a["BC"]) for i in both]


def copy_in(lanes: Lanes) -> Kernel:
    """panel[t][lane] = source[r + t, c + lane] where that is a cell of the image, else zero."""
    names = ("r", "c", "H", "W", "xh", "xw", "rows")
    k = Kernel("copy_in", ["panel: ptr", "source: ptr", *(f"{n}: i64" for n in names)], lanes)
    panel, source, r, c, high, wide, xh, xw, rows = k.parameters
    cell, count = 2 * lanes.count, lanes.count
    first = (r * -1).maximum(0).minimum(rows)
    last = (high - r).minimum(rows).maximum(first)
    with k.loop(first) as (t, _):
        panel.store(k.zero(), t * cell)
    with k.loop(rows, start=last) as (t, _):
        panel.store(k.zero(), t * cell)
    corner, dense = source.at(r * xh + c * xw), xw.equals(1)
    whole = (c >= 0) & (c + count <= wide)
    with k.when(dense & whole), k.loop(last, start=first) as (t, _):
        panel.store(corner.vector(t * xh), t * cell)
    with k.when(dense & whole.equals(0)):
        mask = k.lanes_within(c * -1, wide - c)
        with k.loop(last, start=first) as (t, _):
            panel.store(corner.vector(t * xh, mask), t * cell)
    with k.when(dense.equals(0)), k.loop(last, start=first) as (t, _):
        copy_scalars(k, panel.at(t * cell), corner.at(t * xh), c, wide, xw)
    return k


def copy_in_line(lanes: Lanes) -> Kernel:
    """panel[t][lane] = source[c + t·step + lane] where that is a cell of the line, else zero."""
    names = ("c", "step", "W", "xw", "rows")
    k = Kernel("copy_in_line", ["panel: ptr", "source: ptr", *(f"{n}: i64" for n in names)], lanes)
    panel, source, c, step, wide, xw, rows = k.parameters
    with k.loop(rows) as (t, _):
        at, to = c + t * step, panel.at(t * (2 * lanes.count))
        whole = xw.equals(1) & (at >= 0) & (at + lanes.count <= wide)
        with k.when(whole):
            to.store(source.vector(at))
        with k.when(whole.equals(0)):
            copy_scalars(k, to, source.at(at * xw), at, wide, xw)
    return k


def copy_scalars(k: Kernel, to: Value, source: Value, c: Value, wide: Value, xw: Value) -> None:
    """One register's worth, source being the place of column c."""
    to.store(k.zero())
    with k.loop((wide - c).minimum(k.lanes.count), start=(c * -1).maximum(0)) as (lane, _):
        to.store(source.load(lane * xw), lane)


def copy_out(lanes: Lanes) -> Kernel:
    """out[t, lane] = scale·panel[t][lane] + bias (+ out[t, lane]), lane < columns − t·step."""
    names = ("rows", "columns", "step", "yh", "yw")
    k = Kernel(
        "copy_out",
        ["panel: ptr", "out: ptr", *(f"{n}: i64" for n in names), "scale: double", "bias: double",
         "accumulate: i64"],
        lanes,
    )  # fmt: skip
    panel, out, rows, columns, step, yh, yw, scale, bias, accumulate = k.parameters
    scales, biases = k.splat(scale), k.splat(bias)
    with k.loop(rows) as (t, _):
        left, to, row = columns - t * step, out.at(t * yh), panel.at(t * (2 * lanes.count))
        whole = yw.equals(1) & (left >= lanes.count)
        with k.when(whole):
            value = k.fma(row.vector(), scales, biases)
            with k.when(accumulate.equals(0)):
                to.store(value)
            with k.when(accumulate.equals(1)):
                to.store(value + to.vector())
        with k.when(whole.equals(0)), k.loop(left.minimum(lanes.count)) as (lane, _):
            number = row.load(lane) * scale + bias
            with k.when(accumulate.equals(0)):
                to.store(number, lane * yw)
            with k.when(accumulate.equals(1)):
                to.store(number + to.load(lane * yw), lane * yw)
    return k


def columns_in(k: Kernel, a: Arguments, rank: Rank, room: Rooms, x: Value, pair: Value) -> None:
    """Copy both tiles of a pair into the buffer, and transform its columns that are not zero."""
    lanes, none = k.lanes, k.constant("i64", 0)
    both = [(s.there, s.row - a["ph"], s.column - a["pw"]) for s in sides(a, pair)]
    with k.loop(a["TC"], step=lanes.count) as (c, _):
        panel = room.buffer.at(c // lanes.count * room.pitch)
        some = k.constant("i1", 0)
        for number, (there, r, c0) in enumerate(both):
            to, wide = panel.at(number * lanes.count), a["W"].minimum(c0 + a["LC"])
            if rank.rank == 1:
                wide = k.select(there, wide, none)
                k.do(copy_in_line(lanes), to, x, c0 + c, a["TC"], wide, a["xw"], a["TR"])
                continue
            high = k.select(there, a["H"].minimum(r + a["LR"]), none)
            k.do(copy_in(lanes), to, x, r, c0 + c, high, wide, a["xh"], a["xw"], a["TR"])
            some = some | (there & (c0 + c < wide))
        if rank.rank == 1:
            k.do(fft.forward(lanes), panel, a["TR"], a["column_passes"])
        else:
            with k.when(some):
                k.do(fft.forward(lanes), panel, a["TR"], a["column_passes"])


def columns_out(
    k: Kernel, a: Arguments, rank: Rank, room: Rooms, y: Value, bias: Value, pair: Value
) -> None:  # fmt: skip
    """Transform the buffer's columns that hold results back, and copy those to y."""
    lanes = k.lanes
    both = sides(a, pair)
    last = a["TC"] if rank.rank == 1 else a["BC"].minimum(a["OW"])
    with k.loop(last, step=lanes.count) as (c, _):
        panel = room.buffer.at(c // lanes.count * room.pitch)
        k.do(fft.inverse(lanes), panel, a["TR"], a["column_passes"])
        for number, side in enumerate(both):
            columns = (a["OW"] - side.column).minimum(a["BC"]) - c
            if rank.rank == 1:
                rows, step, stride = a["TR"], a["TC"], a["TC"] * a["yw"]
            else:
                rows, step, stride = (a["OH"] - side.row).minimum(a["BR"]), 0, a["yh"]
            rows = k.select(side.there, rows, k.constant("i64", 0))
            k.do(
                copy_out(lanes), panel.at(number * lanes.count),
                y.at(side.row * a["yh"] + (side.column + c) * a["yw"]), rows, columns,
                k.value(step, "i64"), stride, a["yw"], a["scale"], bias, a["accumulate"],
            )  # fmt: skip


def turn(lanes: Lanes, back: bool) -> Kernel:
    """A group of rows of the buffer as a panel [column][re | im][row]; or the panel `back`."""
    name = "turn_back" if back else "turn"
    k = Kernel(name, ["row: ptr", "group: ptr", "pitch: i64", "columns: i64"], lanes)
    row, group, pitch, columns = k.parameters
    count = lanes.count
    with k.loop(columns, step=count) as (c, _):
        source, to = row.at(c * (2 * count)), group.at(c // count * pitch)
        if not back:
            source, to = to, source
        read = [fft.read(source, lane) for lane in range(count)]
        re, im = (k.transpose([number[part] for number in read]) for part in (0, 1))
        for lane in range(count):
            fft.write(to, lane, (re[lane], im[lane]))
    return k


def times(lanes: Lanes, conjugate: bool) -> Kernel:
    """row[t] *= by[t], or by[t]*"""
    name = "times_conjugate" if conjugate else "times"
    k = Kernel(name, ["row: ptr", "by: ptr", "columns: i64"], lanes)
    row, by, columns = k.parameters
    product = fft.multiply_conjugate if conjugate else fft.multiply
    with k.loop(columns) as (t, _):
        fft.write(row, t, product(fft.read(row, t), fft.read(by, t)))
    return k


def rows_in(k: Kernel, a: Arguments, rank: Rank, room: Rooms, r: Value) -> None:
    """The group of rows r of the buffer, transformed, in the panel of rows."""
    lanes = k.lanes
    group = room.buffer.at(r * (2 * lanes.count))
    k.do(turn(lanes, back=False), room.row, group, room.pitch, a["TC"])
    if rank.rank == 1:
        k.do(
            times(lanes, conjugate=False), room.row, a["line_factors"].at(r * a["TC"] * 2), a["TC"]
        )
    k.do(fft.forward(lanes), room.row, a["TC"], a["row_passes"])


def rows_out(k: Kernel, a: Arguments, rank: Rank, room: Rooms, r: Value) -> None:
    """The panel of rows, transformed back, as the group of rows r of the buffer."""
    lanes = k.lanes
    group = room.buffer.at(r * (2 * lanes.count))
    k.do(fft.inverse(lanes), room.row, a["TC"], a["row_passes"])
    if rank.rank == 1:
        k.do(times(lanes, conjugate=True), room.row, a["line_factors"].at(r * a["TC"] * 2), a["TC"])
    k.do(turn(lanes, back=True), room.row, group, room.pitch, a["TC"])


def tile_spectra(lanes: Lanes, rank: Rank) -> str:
    """spectra[channel, p] of pair first + p of all samples' pairs.

    A part is a share of the groups of rows of one of them: its columns are transformed by each.
    """
    k, a = start("tile_spectra", lanes, TILE_SPECTRA.fields)
    _, part, scratch = k.parameters
    channel, p, share = split(part, a["count"], a["shares"])
    n, pair = split(a["first"] + p, a["pairs"])
    room = rooms(a, scratch, lanes)
    columns_in(k, a, rank, room, a["x"].at(n * a["xn"] + channel * a["xc"]), pair)
    to = a["spectra"].at(channel * a["sc"] + p * a["sp"])
    groups = a["TR"] // lanes.count
    last = groups * (share + 1) // a["shares"]
    with k.loop(last, start=groups * share // a["shares"]) as (group, _):
        rows_in(k, a, rank, room, group * lanes.count)
        cells = to.at(group * a["TC"] * a["sf"])
        with k.loop(a["TC"]) as (t, _):
            fft.write(cells.at(t * a["sf"]), 0, fft.read(room.row, t))
    return k.text()


def tile_results(lanes: Lanes, rank: Rank) -> str:
    """Results of pair first + p from spectra[channel, p]; a part is one of them."""
    k, a = start("tile_results", lanes, TILE_RESULTS.fields)
    _, part, scratch = k.parameters
    channel, p = split(part, a["count"])
    n, pair = split(a["first"] + p, a["pairs"])
    room = rooms(a, scratch, lanes)
    source = a["spectra"].at(channel * a["sc"] + p * a["sp"])
    with k.loop(a["TR"], step=lanes.count) as (r, _):
        cells = source.at(r // lanes.count * a["TC"] * a["sf"])
        with k.loop(a["TC"]) as (t, _):
            fft.write(room.row, t, fft.read(cells.at(t * a["sf"]), 0))
        rows_out(k, a, rank, room, r)
    y = a["y"].at(n * a["yn"] + channel * a["yc"])
    columns_out(k, a, rank, room, y, a["bias"].load(channel), pair)
    return k.text()


def filter_tiles(lanes: Lanes, rank: Rank) -> str:
    """Results of pairs of tiles of channels that have one kernel each, from spectra[channel].

    Tiles to spectra, products with the conjugate spectrum of w, and back, without leaving scratch.
    """
    k, a = start("filter_tiles", lanes, FILTER_TILES.fields)
    _, part, scratch = k.parameters
    n, channel, pair = split(part, a["count"], a["pairs"])
    room = rooms(a, scratch, lanes)
    columns_in(k, a, rank, room, a["x"].at(n * a["xn"] + channel * a["xc"]), pair)
    spectrum = a["spectra"].at(channel * a["sc"])
    with k.loop(a["TR"], step=lanes.count) as (r, _):
        rows_in(k, a, rank, room, r)
        k.do(times(lanes, conjugate=True), room.row, spectrum.at(r * a["TC"] * 2), a["TC"])
        rows_out(k, a, rank, room, r)
    y = a["y"].at(n * a["yn"] + channel * a["yc"])
    columns_out(k, a, rank, room, y, a["bias"].load(channel), pair)
    return k.text()


TILE_SPECTRA = Generator("tile_spectra", tile_spectra, (*SOURCE, *TILES, *SPECTRA, "shares"), ranks)
TILE_RESULTS = Generator("tile_results", tile_results, (*RESULT, *TILES, *SPECTRA), ranks)
FILTER_TILES = Generator("filter_tiles", filter_tiles, (*SOURCE, *RESULT, *TILES, *SPECTRA), ranks)
