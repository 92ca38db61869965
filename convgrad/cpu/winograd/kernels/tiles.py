"""Tiles of minimal filtering in registers: one lane is one channel.

A tile row is copied with its channels side by side, transformed along its columns and then along
its rows; t·t numbers of each tile and channel come out, one plane of memory for each.

Where taps are `apart` cells apart, so are the cells of a tile: a tile row has tiles of one residue
of the rows, and `apart` tiles with all residues of the columns lie woven into one another. What the
parts of the taps read begins a shift further; their columns are copied once for all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from convgrad.cpu.jit.language import Kernel, Operand, Value
from convgrad.cpu.kernels.frame import split
from convgrad.cpu.winograd.filtering import Matrix
from convgrad.cpu.winograd.kernels.matrices import expand


@dataclass(frozen=True)
class Image:
    """An array that is read in tiles: strides and sizes of its three axes, and how it is read.

    step: cells from one result to the next. pads: in front of it. shifts: for each of `planes`
    parts of planes and rows, by how many planes and rows it begins further on; columns: for each of
    `parts` of the columns, by how many columns. None: there is one of each.
    """

    at: Value
    channels: Value
    sample: Value
    channel: Value
    strides: tuple[Value, Value, Value]
    size: tuple[Value, Value, Value]
    step: tuple[Value, Value, Value]
    pads: tuple[Value, Value, Value]
    planes: Value
    parts: Value
    shifts: Value | None
    columns: Value | None

    def shift(self, plane: Value) -> tuple[Operand, Operand]:
        """Planes and rows to the cells of a part."""
        if self.shifts is None:
            return 0, 0
        return self.shifts.load(plane * 2, "i64"), self.shifts.load(plane * 2 + 1, "i64")

    def column(self, part: Value) -> Operand:
        """Columns to the cells of a part."""
        return 0 if self.columns is None else self.columns.load(part, "i64")

    def channels_from(self, first: Value, count: Value) -> "Image":
        return replace(self, at=self.at.at(first * self.channel), channels=count)


@dataclass(frozen=True)
class Grid:
    """Tiles in the order sample, plane, tile row, tile column.

    step: results of a tile on its rows' and columns' axis; apart: results between neighbours in a
    tile. The tile rows of all residues of the rows stand together, and so do the tile columns;
    `rows` and `columns` are multiples of apart.
    """

    planes: Value
    rows: Value
    columns: Value
    step: tuple[int, int]
    apart: tuple[Value, Value]

    def top(self, run: "Run") -> Value:
        """The first row of a run's results."""
        apart = self.apart[0]
        return run.row // apart * (self.step[0] - 1) * apart + run.row


@dataclass(frozen=True)
class Run:
    """Consecutive tiles of one tile row: the first one's place, and which of a block it is.

    column and count are multiples of the columns' `apart`: the first column is `step·column`.
    """

    n: Value
    z: Value
    row: Value
    column: Value
    count: Value
    local: Value


@contextmanager
def each_tile(k: Kernel, grid: Grid, run: Run) -> Iterator[tuple[Value, Value]]:
    """A run's tiles: each one's number in the run, and its first column among the run's results."""
    apart = grid.apart[1]
    with k.loop(run.count, step=apart) as (i, _), k.loop(apart) as (residue, _):
        yield i + residue, i * grid.step[1] + residue


@contextmanager
def each_run(k: Kernel, grid: Grid, first: Value, last: Value) -> Iterator[Run]:
    """The tiles first … last−1, cut where a tile row ends."""
    with k.loop((last - 1) // grid.columns + 1, start=first // grid.columns) as (line, _):
        begin = line * grid.columns
        low, high = begin.maximum(first), (begin + grid.columns).minimum(last)
        n, z, row = split(line, grid.planes, grid.rows)
        yield Run(n, z, row, low - begin, high - low, low - first)


@dataclass(frozen=True)
class Planes:
    """Transformed tiles: number (r, s) of tile i and channel c at (r·t + s)·plane + i·tile + c.

    width: where it is not 0, panels of so many channels stand `panel` apart.
    """

    at: Value
    plane: Value
    tile: Value
    width: int = 0
    panel: Value | None = None

    def channel(self, c: Value) -> Value:
        return c if self.panel is None else c // self.width * self.panel + c % self.width

    def end(self, points: int) -> Value:
        return self.at.at(self.plane * points)


@dataclass(frozen=True)
class Rows:
    """Rows cut into `tall` register tiles of one height, and then `low` ones of one less."""

    height: Value
    tall: Value
    low: Value
    most: int

    @staticmethod
    def of(count: Value, most: int) -> "Rows":
        """`count` rows, none of them twice, in tiles of up to `most`."""
        tiles = ((count + most - 1) // most).maximum(1)
        height = (count + tiles - 1) // tiles
        low = tiles * height - count
        return Rows(height, tiles - low, low, most)

    def each(self, k: Kernel) -> Iterator[tuple[int, Value]]:
        """Each tile's height and first row; what is written for one is written for all heights."""
        for height in range(1, self.most + 1):
            with k.when(self.height.equals(height)):
                with k.loop(self.tall) as (i, _):
                    yield height, i * height
                if height > 1:
                    with k.loop(self.low) as (i, _):
                        yield height - 1, self.tall * height + i * (height - 1)


@dataclass(frozen=True)
class Work:
    """Memory of one tile row: its cells, and the cells after the first transform, `line` apart."""

    cells: Value
    middle: Value
    line: Value

    @staticmethod
    def behind(at: Value, line: Value, size: int) -> "Work":
        """Laid out from here on, for up to `size` numbers at each place of a line."""
        return Work(at, at.at(line * size), line)


def transform(
    k: Kernel, image: Image, matrices: tuple[Matrix, Matrix], grid: Grid, first: Value, last: Value,
    padded: Value, to: Planes, work: Work,
) -> None:  # fmt: skip
    """matrix · cells · matrixᵀ of the tiles first … last−1, for each part of the taps.

    The parts stand one behind the other, each with `padded` channels.
    """
    lanes, (down, along) = k.lanes.count, matrices
    height, size = len(down[0]), len(along[0])
    beyond = (size - grid.step[1]) * grid.apart[1] * image.step[2]
    beyond = beyond + image.column(image.parts - 1)
    with k.loop(image.channels, step=lanes) as (c, _):
        offsets = [((c + j).minimum(image.channels - 1)) * image.channel for j in range(lanes)]
        with each_run(k, grid, first, last) as run, k.loop(image.planes) as (d, _):
            ahead = to_next_run(k, image, grid, run, (first, last))
            width = run.count * grid.step[1] * image.step[2] + beyond
            copy_cells(k, image, run, grid, d, c, offsets, height, width, work, ahead)
            middle = work.cells if len(down) == 1 else work.middle
            if len(down) > 1:
                with k.loop(width) as (i, _):
                    cells = [work.cells.vector((work.line * r + i) * lanes) for r in range(height)]
                    for r, v in enumerate(expand(k, down, cells)):
                        middle.store(v, (work.line * r + i) * lanes)
            points, apart = len(along), grid.apart[1] * image.step[2] * lanes
            with k.loop(image.parts) as (part, _):
                shift = image.column(part)
                own = (d * image.parts + part) * padded + to.channel(c)
                place = to.at.at(run.local * to.tile + own)
                with k.loop(len(down)) as (r, _), each_tile(k, grid, run) as (i, column):
                    line = middle.at((r * work.line + column * image.step[2] + shift) * lanes)
                    row = [line.vector(apart * s) for s in range(size)]
                    at = place.at(i * to.tile + r * points * to.plane)
                    for s, v in enumerate(expand(k, along, row)):
                        at.store(v, to.plane * s)


def to_next_run(k: Kernel, image: Image, grid: Grid, run: Run, tiles: tuple[Value, Value]) -> Value:
    """How far the cells are that are copied after a run's: those of the next tile row, or of the
    first one of the next channels."""
    first, last = tiles
    line = ((run.n * grid.planes) + run.z) * grid.rows + run.row
    ends = (run.local + run.count) >= (last - first)
    begin = first // grid.columns
    n, z, row = split(k.select(ends, begin, line + 1), grid.planes, grid.rows)
    other = Run(n, z, row, run.column, run.count, run.local)
    channels = k.select(ends, image.channel * k.lanes.count, k.constant("i64", 0))
    return place(image, grid, other) - place(image, grid, run) + channels


def place(image: Image, grid: Grid, run: Run) -> Value:
    """The first cell of a run, but for its column, pads and shifts."""
    deep, high, _ = image.strides
    z, top = run.z * image.step[0], grid.top(run) * image.step[1]
    return run.n * image.sample + z * deep + top * high


def copy_cells(
    k: Kernel, image: Image, run: Run, grid: Grid, part: Value, c: Value, offsets: list[Value],
    height: int, width: Value, work: Work, ahead: Value,
) -> None:  # fmt: skip
    """The rows of a run of tiles, as [row][column][channel]; padding is zero.

    Lanes without a channel repeat the last one. Writes up to a register of columns too many.
    """
    lanes = k.lanes.count
    (deep, high, wide), (planes, rows, columns) = image.strides, image.size
    z_shift, row_shift = image.shift(part)
    z = run.z * image.step[0] - image.pads[0] + z_shift
    top = grid.top(run) * image.step[1] - image.pads[1] + row_shift
    left = run.column * grid.step[1] * image.step[2] - image.pads[2]
    source = image.at.at(run.n * image.sample + z * deep + left * wide)
    exists = (z >= 0) & (z < planes)
    none = k.constant("i64", 0)
    with k.loop(height) as (r, _):
        row = top + r * grid.apart[0] * image.step[1]
        inside = exists & (row >= 0) & (row < rows)
        line, to = source.at(row * high), work.cells.at(r * work.line * lanes)
        begin = k.select(inside, none - left, width)
        end = k.select(inside, columns - left, width)
        with k.when(wide.equals(1)), k.loop(width, step=lanes) as (i, _):
            mask = k.lanes_within(begin - i, end - i)
            with k.when(image.step[1] > 1):
                for offset in offsets:
                    line.prefetch(offset + i + ahead)
            read = [line.at(offset + i).vector(0, mask) for offset in offsets]
            for column, v in enumerate(k.transpose(read)):
                to.store(v, (i + column) * lanes)
        with k.when(wide.equals(1).equals(0)), k.loop(width) as (i, _):
            meets, at = (i >= begin) & (i < end), line.at(i * wide)
            side_by_side = image.channel.equals(1)
            mask = k.mask_where(meets & side_by_side, k.lanes_below(image.channels - c))
            to.store(at.vector(c, mask), i * lanes)
            with k.when(meets & side_by_side.equals(0)):
                for j, offset in enumerate(offsets):
                    to.store(at.load(offset), i * lanes + j)
