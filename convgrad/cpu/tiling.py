"""How big things are: the register tile, and the panels of rows that it goes over."""

from dataclasses import dataclass

ELEMENTS = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "bfloat"}
SMALL = 100_000  # multiply-adds below which a second thread costs more than it does
PARTS = 8  # a job is cut into at least this many parts where it can be
# vectors in a tile's row → the most rows that leave registers for the operands: AVX multiplies by
# a number in memory, the others need a register for it, and SSE2 one more for each product
HEIGHTS = {
    "avx512": {2: 14, 4: 6, 6: 4},
    "avx2": {2: 6, 3: 4, 4: 2},
    "sse2": {2: 6, 3: 3, 4: 2},
    "neon": {2: 12, 4: 6, 6: 3},
}


@dataclass(frozen=True)
class Tile:
    """A register tile of `height` rows and `vectors` registers in each."""

    height: int
    vectors: int


@dataclass(frozen=True)
class Panels:
    """M rows cut into `tall` panels of height h and then `low` panels of height h − 1."""

    height: int
    tall: int
    low: int

    @property
    def count(self) -> int:
        return self.tall + self.low


def panels(rows: int, most: int) -> Panels:
    count = -(-rows // most)
    height = -(-rows // count)
    low = count * height - rows
    return Panels(height, count - low, low)


def tallest_tiles(level: str) -> list[Tile]:
    """The tallest tile of each width; lower ones are made, too."""
    return [Tile(height, vectors) for vectors, height in HEIGHTS[level].items()]


def vectors_for(rows: int, level: str) -> int:
    """Registers in a tile's row: more where there are few rows."""
    heights = HEIGHTS[level]
    return max(v for v, most in heights.items() if v == min(heights) or rows <= most)


def spread(cells: int, item: int) -> int:
    """At least `cells`, an odd number of cache lines: rows of the copy then fall in all sets."""
    lines = -(-cells * item // 64)
    return (lines + 1 - lines % 2) * 64 // item


def evenly(total: int, most: int) -> int:
    """The size of equal pieces of `total`, none above `most`."""
    return -(-total // -(-total // most))
