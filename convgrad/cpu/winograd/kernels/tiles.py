"""Tiles of minimal filtering in registers: one lane is one channel.

A tile row is copied with its channels side by side, transformed along its columns and then along
its rows; t·t numbers of each tile and channel come out, one plane of memory for each.

Where taps are `apart` cells apart, so are the cells of a tile: a tile row has tiles of one residue
of the rows, and `apart` tiles with all residues of the columns lie woven into one another.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from convgrad.cpu.jit.language import Kernel, Value
from convgrad.cpu.kernels.frame import split
from convgrad.cpu.winograd.filtering import Matrix


def expand(k: Kernel, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """matrix · values; rows of points ±p share their even and their odd part."""
    rows, i, results = list(matrix), 0, []
    while i < len(rows):
        row = rows[i]
        even, odd = _parts(row)
        if i + 1 < len(rows) and any(odd) and _mirrored(row, rows[i + 1]):
            factor = next(c for c in odd if c and all(_is_dyadic(other / c) for other in odd))
            shared = linear(k, even, values)
            other = linear(k, [c / factor for c in odd], values)
            results += [k.fma(other, k.number(float(f)), shared) for f in (factor, -factor)]
            i += 2
        else:
            results.append(linear(k, row, values))
            i += 1
    return results


def contract(k: Kernel, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """matrixᵀ · values; points ±p are added and subtracted first."""
    coefficients, terms, i = [], [], 0
    while i < len(matrix):
        row = matrix[i]
        if i + 1 < len(matrix) and any(_parts(row)[1]) and _mirrored(row, matrix[i + 1]):
            even, odd = _parts(row)
            coefficients += [even, odd]
            terms += [values[i] + values[i + 1], values[i] - values[i + 1]]
            i += 2
        else:
            coefficients.append(row)
            terms.append(values[i])
            i += 1
    return [linear(k, column, terms) for column in zip(*coefficients, strict=True)]


def linear(k: Kernel, factors: Sequence[Fraction], values: Sequence[Value]) -> Value:
    """Σ factors · values, beginning with a factor of one where there is one."""
    pairs = [(f, v) for f, v in zip(factors, values, strict=True) if f]
    pairs.sort(key=lambda pair: pair[0] != 1)
    (first, total), *rest = pairs
    if first != 1:
        total = total * k.number(float(first))
    for factor, value in rest:
        total = total + value if factor == 1 else k.fma(value, k.number(float(factor)), total)
    return total


def _parts(row: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """The row's entries at even and at odd places, zero elsewhere."""
    even = [c if j % 2 == 0 else Fraction(0) for j, c in enumerate(row)]
    return even, [c if j % 2 else Fraction(0) for j, c in enumerate(row)]


def _is_dyadic(number: Fraction) -> bool:
    return number.denominator & (number.denominator - 1) == 0


def _mirrored(row: Sequence[Fraction], other: Sequence[Fraction]) -> bool:
    return all(c == (-d if j % 2 else d) for j, (c, d) in enumerate(zip(row, other, strict=True)))


@dataclass(frozen=True)
class Image:
    """An array that is read or written in tiles: strides, sizes, and pads of its three axes."""

    at: Value
    channels: Value
    sample: Value
    channel: Value
    strides: tuple[Value, Value, Value]
    size: tuple[Value, Value, Value]
    pads: tuple[Value, Value, Value]


@dataclass(frozen=True)
class Grid:
    """Tiles in the order sample, plane, tile row, tile column, each with `step` results on an axis.

    apart: cells between neighbours in a tile, on each axis. The tile rows of all residues of the
    rows stand together, and so do the tile columns; `rows` and `columns` are multiples of apart.
    """

    planes: Value
    rows: Value
    columns: Value
    step: int
    apart: tuple[Value, Value, Value]

    def top(self, run: "Run") -> Value:
        """The first row of a run's results."""
        apart = self.apart[1]
        return run.row // apart * (self.step - 1) * apart + run.row


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
    """A run's tiles: each one's number in the run, and its first column among the run's cells."""
    apart = grid.apart[2]
    with k.loop(run.count, step=apart) as (i, _), k.loop(apart) as (residue, _):
        yield i + residue, i * grid.step + residue


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
    """Transformed tiles: number (r, s) of tile i and channel c at (r·t + s)·plane + i·tile + c."""

    at: Value
    plane: Value
    tile: Value

    def end(self, points: int) -> Value:
        return self.at.at(self.plane * points)


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
    k: Kernel, image: Image, matrix: Matrix, grid: Grid, first: Value, last: Value,
    depth: Value, padded: Value, to: Planes, work: Work,
) -> None:  # fmt: skip
    """matrix · cells · matrixᵀ of the tiles first … last−1.

    depth: planes of the image that a tile needs, one behind the other along the channels, each
    with `padded` channels.
    """
    lanes, size = k.lanes.count, len(matrix[0])
    with k.loop(image.channels, step=lanes) as (c, _):
        offsets = [((c + j).minimum(image.channels - 1)) * image.channel for j in range(lanes)]
        with each_run(k, grid, first, last) as run, k.loop(depth) as (d, _):
            width = run.count * grid.step + grid.apart[2] * (size - grid.step)
            plane = run.z + d * grid.apart[0]
            copy_cells(k, image, run, grid, plane, c, offsets, size, width, work)
            with k.loop(width) as (i, _):
                cells = [work.cells.vector((work.line * r + i) * lanes) for r in range(size)]
                for r, v in enumerate(expand(k, matrix, cells)):
                    work.middle.store(v, (work.line * r + i) * lanes)
            place = to.at.at(run.local * to.tile + d * padded + c)
            points, apart = len(matrix), grid.apart[2] * lanes
            with k.loop(points) as (r, _), each_tile(k, grid, run) as (i, first_column):
                line = work.middle.at((r * work.line + first_column) * lanes)
                column = [line.vector(apart * s) for s in range(size)]
                at = place.at(i * to.tile + r * points * to.plane)
                for s, v in enumerate(expand(k, matrix, column)):
                    at.store(v, to.plane * s)


def copy_cells(
    k: Kernel, image: Image, run: Run, grid: Grid, plane: Value, c: Value, offsets: list[Value],
    height: int, width: Value, work: Work,
) -> None:  # fmt: skip
    """The rows of a run of tiles, as [row][column][channel]; padding is zero.

    Lanes without a channel repeat the last one. Writes up to a register of columns too many.
    """
    lanes = k.lanes.count
    (deep, high, wide), (planes, rows, columns) = image.strides, image.size
    z, top = plane - image.pads[0], grid.top(run) - image.pads[1]
    left = run.column * grid.step - image.pads[2]
    source = image.at.at(run.n * image.sample + z * deep + left * wide)
    exists = (z >= 0) & (z < planes)
    none = k.constant("i64", 0)
    with k.loop(height) as (r, _):
        row = top + r * grid.apart[1]
        inside = exists & (row >= 0) & (row < rows)
        line, to = source.at(row * high), work.cells.at(r * work.line * lanes)
        begin = k.select(inside, none - left, width)
        end = k.select(inside, columns - left, width)
        with k.when(wide.equals(1)), k.loop(width, step=lanes) as (i, _):
            mask = k.lanes_within(begin - i, end - i)
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
