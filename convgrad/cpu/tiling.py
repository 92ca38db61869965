"""How big things are: the register tile, the panels of rows, and the block that stays in cache."""

from dataclasses import dataclass

from convgrad.cpu.correlation import Axes

ELEMENTS = {"float32": "float", "float64": "double"}
REGISTER = 64  # bytes of the widest register
CHUNK = 192  # cells of a 1×1 map: whole tiles of two, four or six registers
CELLS = 512  # cells of a block of a weight gradient
SMALL = 100_000  # multiply-adds below which a second thread costs more than it does
PARTS = 8  # a job is cut into at least this many parts where it can be
BLOCK = 640 << 10  # bytes of source that a thread keeps beside the weights in its second cache
# vectors in a tile's row → the most rows that leave registers for the operands: AVX multiplies by
# a number in memory, the others need a register for it, and SSE2 one more for each product
HEIGHTS = {
    "avx512": {2: 14, 4: 6, 6: 4},
    "avx2": {2: 6, 3: 4, 4: 2},
    "sse2": {2: 6, 3: 3, 4: 2},
    "neon": {2: 12, 4: 6, 6: 4},
}

# rows of dy in an inner product's tile → pairs (c,τ)
INNER_TILES = {
    level: {1: 12, 2: 9, 3: 7, 4: 6} if level in ("avx512", "neon") else {1: 6, 2: 4, 3: 3}
    for level in HEIGHTS
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


def inner_tiles(level: str) -> list[Tile]:
    """The tiles of inner products."""
    return [Tile(height, pairs) for height, pairs in INNER_TILES[level].items()]


def vectors_for(rows: int, level: str) -> int:
    """Registers in a tile's row: more where there are few rows."""
    heights = HEIGHTS[level]
    return max(v for v, most in heights.items() if v == min(heights) or rows <= most)


@dataclass(frozen=True)
class Block:
    """How many samples, planes and rows of the result are worked on at once, and the source's
    copy that they need: `planes`·`rows`·`columns` cells for each sample, channel and phase."""

    samples: int
    size: tuple[int, int]
    planes: int
    rows: int
    columns: int

    @property
    def cells(self) -> int:
        return self.samples * self.planes * self.rows * self.columns

    def pitch(self, item: int) -> int:
        """Cells between two phases or channels of the copy, with room for a register's excess."""
        return spread(self.cells + REGISTER // item, item)


@dataclass(frozen=True)
class Box:
    """How many samples, planes, rows and columns of the result are worked on at once."""

    samples: int
    planes: int
    rows: int
    columns: int

    @property
    def cells(self) -> int:
        return self.samples * self.planes * self.rows * self.columns

    def counts(self, axes: Axes, batch: int) -> dict[str, int]:
        """Boxes along samples, planes, rows and columns."""
        deep, high, wide = (axis.size for axis in axes)
        return {
            "nn": -(-batch // self.samples), "nz": -(-deep // self.planes),
            "nr": -(-high // self.rows), "nc": -(-wide // self.columns),
        }  # fmt: skip


def cells_block(axes: Axes, batch: int, cell_bytes: int) -> Box:
    """A box of about CELLS cells, fewer where their bytes exceed half a block: columns first."""
    deep, high, wide = (axis.size for axis in axes)
    most = max(16, min(CELLS, BLOCK // 2 // cell_bytes))
    columns = evenly(wide, min(wide, most))
    rows = evenly(high, max(1, min(high, most // columns)))
    planes = evenly(deep, max(1, min(deep, most // (columns * rows))))
    few = max(1, min(batch, most // (columns * rows * planes)))
    return Box(evenly(max(1, batch), few), planes, rows, columns)


def spread(cells: int, item: int) -> int:
    """At least `cells`, an odd number of cache lines: rows of the copy then fall in all sets."""
    lines = -(-cells * item // 64)
    return (lines + 1 - lines % 2) * 64 // item


def block(axes: Axes, batch: int, cell_bytes: int, budget: int = BLOCK) -> Block:
    """The largest block within the budget, rows first, then planes, then samples.

    cell_bytes: bytes for each cell of the copy, all channels and phases together.
    """
    deep, high, wide = axes

    def make(samples: int, planes: int, rows: int) -> Block:
        return Block(
            samples, (planes, rows), planes + deep.reach, rows + high.reach, wide.size + wide.reach
        )

    cell_bytes = max(1, cell_bytes)
    rows = min(high.size, _most(budget, cell_bytes, make(1, 1, 1).cells, high.reach))
    if rows < high.size:
        return make(1, 1, evenly(high.size, rows))
    plane = make(1, 1, rows).cells
    planes = min(deep.size, _most(budget, cell_bytes, plane, deep.reach))
    if planes < deep.size:
        return make(1, evenly(deep.size, planes), rows)
    cells = make(1, planes, rows).cells
    few = max(1, min(batch, budget // (cells * cell_bytes), 2048 // cells))
    return make(evenly(max(1, batch), few), planes, rows)


def _most(budget: int, cell_bytes: int, first: int, reach: int) -> int:
    """How many rows (or planes) fit, where one with its reach has `first` cells; at least one."""
    each = first // (1 + reach)
    return max(1, budget // (cell_bytes * each) - reach)


def evenly(total: int, most: int) -> int:
    """The size of equal pieces of `total`, none above `most`."""
    return -(-total // -(-total // most))


def tap_offsets(axes: Axes, b: Block, pitch: int) -> list[int]:
    """Where each tap reads in the copy, in cells, relative to the result's own cell."""
    deep, high, wide = axes
    offsets = []
    for z in deep.taps:
        for r in high.taps:
            for c in wide.taps:
                phase = (z.phase * high.phases + r.phase) * wide.phases + c.phase
                offsets.append(phase * pitch + (z.shift * b.rows + r.shift) * b.columns + c.shift)
    return offsets


def counts(axes: Axes, area: Block, batch: int) -> dict[str, int]:
    """Blocks along samples, planes and rows."""
    deep, high, _ = axes
    return {
        "nn": -(-batch // area.samples),
        "nz": -(-deep.size // area.size[0]),
        "nr": -(-high.size // area.size[1]),
    }
