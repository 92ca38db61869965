"""What is compiled into a stencil kernel: how rows are read and written, and its register tile."""

from collections.abc import Iterator
from dataclasses import dataclass

from convgrad.cpu.jit.compiler import BITS, REGISTERS
from convgrad.cpu.kernels.rows import GATHER, PAIRS, RUNS

STRIP = 7  # taps below each other that share a row's load
STRIPS = 4  # different lengths of strips in a kernel, at most
RESIDUE = 3 + STRIPS  # words that describe a residue: see `stencil_jobs`


@dataclass(frozen=True)
class Strips:
    """A tile of one channel: `rows` rows of `vectors` registers; `strips` are lengths of strips."""

    strips: tuple[int, ...]
    rows: int
    vectors: int

    height: int = 1


@dataclass(frozen=True)
class Slots:
    """A tile of `height` channels by `vectors` registers of cells."""

    height: int
    vectors: int


@dataclass(frozen=True)
class Stencil:
    """read: how rows are copied. every: residues of the columns, 0 where more than two.
    contiguous: whether a row of the result is consecutive. narrow: a register's unused share."""

    tile: Strips | Slots
    read: int
    every: int
    contiguous: bool
    narrow: int

    @property
    def height(self) -> int:
        return self.tile.height

    @property
    def vectors(self) -> int:
        return self.tile.vectors


@dataclass(frozen=True)
class Sums:
    """A tile of a weight gradient: `height` output channels by strips of (taps, columns), over
    `rows` rows of dy at a time."""

    strips: tuple[tuple[int, int], ...]
    rows: int
    height: int
    read: int
    contiguous: bool
    narrow: int

    @property
    def vectors(self) -> int:
        return max(t * u for t, u in self.strips)


# channels → registers of cells: AVX multiplies by a number in memory, the others need registers
SLOTS = {
    16: {1: 8, 2: 6, 3: 4, 4: 3, 6: 2},
    32: {1: 12, 2: 10, 3: 8, 4: 6, 6: 4, 8: 3},
}
# taps of a strip → columns of it, in a weight gradient's tile
SUMS = {
    16: {1: 12, 2: 6, 3: 4},
    32: {1: 24, 2: 12, 3: 8},
}
# output channels → pairs (c, τ)
PAIRS_OF = {
    16: {1: 12, 2: 5, 3: 3, 4: 2},
    32: {1: 24, 2: 12, 3: 8, 4: 6, 6: 4},
}
ROWS = (8, 7, 6, 5, 4)


def shapes(level: str) -> Iterator[Stencil]:
    """The shapes that common layers take; others are made when a geometry asks for them."""
    registers = REGISTERS[level]
    for strips in ((3,), (5,), (7,), (2, 1), (3, 2), (7, 3)):
        for rows in (r for r in ROWS if r + strips[0] <= 14):
            yield Stencil(Strips(strips, rows, 1), RUNS, 1, True, 1)
        yield Stencil(Strips(strips, 4, 1), PAIRS, 1, True, 1)
        yield Stencil(Strips(strips, 4, 1), RUNS, 2, True, 1)
        yield Stencil(Strips(strips, 4, 1), GATHER, 0, False, 1)
    yield Stencil(Strips((1,), 1, 8), RUNS, 1, True, 1)
    for height, vectors in SLOTS[registers].items():
        yield Stencil(Slots(height, vectors), RUNS, 1, True, 1)
        yield Stencil(Slots(height, vectors), PAIRS, 2, True, 1)
        yield Stencil(Slots(height, vectors), GATHER, 0, False, 1)
    if BITS[level] > 128:
        yield Stencil(Strips((3,), 7, 1), RUNS, 1, True, 2)


def weight_shapes(level: str) -> Iterator[Sums]:
    """The same, of weight gradients."""
    registers = REGISTERS[level]
    for strips in (((3, 3),), ((3, 4), (1, 4)), ((2, 3), (1, 3))):
        yield Sums(strips, 2, 1, RUNS, True, 1)
        yield Sums(strips, 2, 1, PAIRS, True, 1)
        yield Sums(strips, 2, 1, GATHER, False, 1)
    for height, pairs in PAIRS_OF[registers].items():
        yield Sums(((1, pairs),), 1, height, RUNS, True, 1)
