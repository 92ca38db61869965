"""What is compiled into a stencil kernel: how rows are read and written, and its register tile."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from convgrad.cpu.jit.compiler import BITS, REGISTERS
from convgrad.cpu.stencil.kernels.rows import GATHER, PAIRS, QUADS, RUNS

STRIPS = 3  # different lengths of strips in a kernel, at most
RESIDUE = 3 + STRIPS  # words that describe a residue: see `jobs`
# Lengths of strips (taps below each other that share a row's load) that kernels are made with:
# those of 1, 2, 3, 5 and 7 taps, of stride 1 and 2. All others are cut into the last.
FEW_TAPS = 9  # of a kernel whose weights stay in registers
LENGTHS = ((1,), (2,), (3,), (5,), (7,), (2, 1), (3, 2), (4, 3), (3, 2, 1))
TILES = ((1, 1), (1, 4), (1, 8), (4, 1), (7, 1))  # rows and registers of a depthwise tile


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

    @property
    def writes(self) -> bool:
        """Whether tiles may write results themselves, whole registers of a row."""
        return isinstance(self.tile, Slots) and self.every == 1 and self.contiguous


Residues = tuple[tuple[tuple[int, int], ...], ...]  # of each residue the taps: (phase, shift)


class PlaneTap(NamedTuple):
    """A tap: the residue of its result, its row's phase and shift, and its place in `across`."""

    residue: int
    phase: int
    shift: int
    across: int


@dataclass(frozen=True)
class Planes:
    """A depthwise kernel over planes as they lie: the taps of the rows and of the columns.

    step: the columns' stride. vectors: registers of a row."""

    high: Residues
    wide: Residues
    step: int
    vectors: int

    @property
    def phases(self) -> int:
        return 1 + max(phase for taps in self.high for phase, _ in taps)

    @property
    def reach(self) -> int:
        return max(shift for taps in self.high for _, shift in taps)

    @property
    def across(self) -> list[tuple[int, int]]:
        """The phases and shifts of the columns that any residue has."""
        return sorted({tap for taps in self.wide for tap in taps}, key=lambda tap: tap[::-1])

    @property
    def loads(self) -> list[int]:
        """Where the registers that are loaded of a row begin, counted from a tap that has none."""
        return sorted({self.step * shift for _, shift in self.across})

    @property
    def taps(self) -> list[PlaneTap]:
        """In the order of the weights."""
        across = self.across
        return [
            PlaneTap(i * len(self.wide) + j, *above, across.index(tap))
            for i, rows in enumerate(self.high)
            for j, columns in enumerate(self.wide)
            for above in rows
            for tap in columns
        ]

    @property
    def keeps(self) -> bool:
        """Whether there are registers for all weights."""
        return len(self.taps) <= FEW_TAPS


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


@dataclass(frozen=True)
class Abreast:
    """A tile with channels abreast: `height` registers of channels by `columns` cells of a row.

    planes_in, planes_out: whether planes follow each other in memory, or channels do.
    narrow: as in Stencil.
    step: the stride, where it is compiled in; or 0.
    dense: whether the channels of a group are summed, or each has its own (depthwise)."""

    columns: int
    planes_in: bool
    planes_out: bool
    narrow: int
    step: int = 0
    height: int = 1
    dense: bool = False


@dataclass(frozen=True)
class SumsAbreast:
    """A tile of a depthwise weight gradient with channels abreast: taps of a kernel's rows and
    columns. planes: see Abreast."""

    rows: int
    columns: int
    planes: bool
    narrow: int


# channels → registers of cells: AVX multiplies by a number in memory, the others need registers
SLOTS = {
    16: {1: 8, 2: 5, 3: 3, 4: 3, 6: 2},
    32: {1: 12, 2: 10, 3: 7, 4: 6, 6: 4, 8: 3},
}
# taps of a strip → columns of it in a weight gradient's tile: the numbers to choose from
SUMS = {
    16: {1: (1, 3, 6, 12), 2: (3, 6), 3: (3, 4)},
    32: {1: (1, 3, 7, 12, 24), 2: (3, 5, 7, 12), 3: (3, 5, 7)},
}
# output channels → pairs (c, τ)
PAIRS_OF = {
    16: {1: 12, 2: 5, 3: 3, 4: 2},
    32: {1: 24, 2: 12, 3: 8, 4: 6, 6: 4},
}


def shapes(level: str) -> Iterator[Stencil]:
    """Every tile, with one way of reading and writing or another; common ones with all."""
    ways = ((RUNS, 1, True), (PAIRS, 1, True), (RUNS, 2, True), (GATHER, 0, False))
    for strips in LENGTHS:
        for rows, vectors in TILES:
            every = ways if (rows, strips) in ((4, (3,)), (4, (3, 2, 1))) else ways[:1]
            for way in every:
                yield Stencil(Strips(strips, rows, vectors), *way, 1)
    for height, vectors in SLOTS[REGISTERS[level]].items():
        for way in (*ways, (QUADS, 1, True)) if height == 4 else ways[:1]:
            yield Stencil(Slots(height, vectors), *way, 1)
    if BITS[level] > 128:
        yield Stencil(Strips((3,), 7, 1), RUNS, 1, True, 2)


def taps_of(size: int, stride: int) -> Residues:
    """The taps of `size` columns of a kernel in a forward map of this stride."""
    return (tuple((k % stride, k // stride) for k in range(size)),)


def woven(size: int, first: int) -> Residues:
    """Those of an input gradient of stride two, whose first result meets the tap k ≡ first."""
    met = [[k for k in range(size - 1, -1, -1) if k % 2 == (first + i) % 2] for i in (0, 1)]
    # Result 2·t + i meets tap k in cell t + (i + pad − k)/2, where pad ≡ first.
    cells = [[(first + i - k) // 2 for k in taps] for i, taps in enumerate(met)]
    begin = min(min(own) for own in cells)
    return tuple(tuple((0, cell - begin) for cell in own) for own in cells)


# Taps of rows, which are those of columns, and the columns' stride.
KERNELS = (
    *((taps_of(size, stride), stride) for stride in (1, 2) for size in (3, 5, 7)),
    *((woven(size, first), 1) for size, first in ((3, 1), (3, 0), (5, 0), (7, 1))),
)  # fmt: skip


def planes_shapes(level: str) -> Iterator[Planes]:
    """Every kernel, by one register of a row; by two as well where there are many registers."""
    for taps, step in KERNELS:
        for vectors in (1, 2) if REGISTERS[level] > 16 else (1,):
            yield Planes(taps, taps, step, vectors)


def plane_sums_shapes(level: str) -> Iterator[Planes]:
    """Kernels whose sums stay in registers."""
    for taps, step in KERNELS:
        shape = Planes(taps, taps, step, 1)
        if shape.keeps and len(taps) == 1:
            yield shape


def weight_shapes(level: str) -> Iterator[Sums]:
    """Every tile of each length of strip; one of each height."""
    columns = SUMS[REGISTERS[level]]
    for length, able in columns.items():
        for number in able:
            rows = 2 if length > 1 else 1
            yield Sums(((length, number),), rows, 1, RUNS, True, 1)
    for read, contiguous in ((PAIRS, True), (QUADS, True), (GATHER, False)):
        yield Sums(tuple((n, columns[n][-1]) for n in (3, 2, 1)), 2, 1, read, contiguous, 1)
    for height, pairs in PAIRS_OF[REGISTERS[level]].items():
        yield Sums(((1, pairs),), 1, height, RUNS, True, 1)


COLUMNS_ABREAST = (2, 4, 5, 7, 8)  # of a tile: the numbers to choose from

# registers of channels → cells of a dense tile: the numbers to choose from
CELLS_ABREAST = {
    16: {1: (4, 7, 8, 10), 2: (4, 5), 3: (3,)},
    32: {1: (4, 7, 8, 10, 14), 2: (4, 7, 8, 13), 3: (4, 7, 8), 4: (4, 6), 6: (4,)},
}


def abreast_shapes(level: str) -> Iterator[Abreast]:
    """Every tile, from planes and from channels that follow each other."""
    for columns in COLUMNS_ABREAST:
        for planes in (True, False):
            yield Abreast(columns, planes, planes, 1, 1 + columns % 2)
    for height, able in CELLS_ABREAST[REGISTERS[level]].items():
        for columns in able:
            for planes in (True, False):
                yield Abreast(columns, planes, planes, 1, int(planes), height, True)
    if BITS[level] > 128:
        for dense in (True, False):
            yield Abreast(7, True, True, 2, 2, 1, dense)
            yield Abreast(7, False, False, 2, 0, 1, dense)


# Sums that leave registers for the operands: AVX multiplies by a number in memory.
SUMS_ABREAST = {"avx512": 28, "avx2": 14, "sse2": 12, "neon": 25}


def sums_abreast_shapes(level: str) -> Iterator[SumsAbreast]:
    """The tiles of common kernels, from planes and from channels that follow each other."""
    most = SUMS_ABREAST[level]
    for rows, columns in ((1, 1), (1, 3), (3, 3), (2, 5), (5, 5), (2, 7), (4, 7)):
        if rows * columns <= most:
            for planes in (True, False):
                yield SumsAbreast(rows, columns, planes, 1)
    if BITS[level] > 128:
        yield SumsAbreast(3, 3, True, 2)
