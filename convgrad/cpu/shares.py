"""How a weight gradient is cut into parts: shares of channels, and pieces of a long sum.

The cut depends on the geometry and the machine, never on the number of threads.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes
from convgrad.cpu.jit import compiler
from convgrad.cpu.tiling import (
    ELEMENTS,
    HEIGHTS,
    INNER_TILES,
    PARTS,
    Block,
    Box,
    Panels,
    Tile,
    block,
    cells_block,
    counts,
    panels,
    vectors_for,
)

CHANNELS = 64  # input channels of one share of an inner product
ACCUMULATORS = 2 << 20  # bytes of tiles that one part of an outer product keeps
PIECES = 2 << 20  # bytes that the pieces of a sum may take, all together


@dataclass(frozen=True)
class Split:
    """The kernel, its tile and block, the shares, the pieces, and a thread's scratch in bytes."""

    kernel: str
    tile: Tile
    area: Block | Box
    cshares: int
    oshares: int
    pieces: int
    scratch: int
    cut: Panels | None = None
    opanels: int = 0


@lru_cache(maxsize=1024)
def weight_split(problem: Problem, axes: Axes | None = None) -> Split:
    """Outer products where both sides have channels to fill a tile with, otherwise inner ones."""
    g = problem.geometry
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count
    many = g.group_in >= 8 and g.group_out >= lanes
    axes = axes or forward_axes(g)
    return _outer_split(problem, axes) if many else _inner_split(problem, axes)


def _outer_split(problem: Problem, axes: Axes) -> Split:
    """Panels of dy in the second cache; the tiles of a part pass by it once for each block."""
    g, item = problem.geometry, problem.dtype.itemsize
    where = compiler.target()
    lanes = where.lanes(ELEMENTS[problem.dtype.name]).count
    vectors = min(vectors_for(g.group_in, where.level), -(-g.group_out // lanes))
    heights = HEIGHTS[where.level]
    most = heights.get(vectors) or max(m for v, m in heights.items() if v >= vectors)
    cut = panels(g.group_in, most)
    tile = Tile(cut.height, vectors)
    width = vectors * lanes
    opanels = -(-g.group_out // width)
    sums = g.taps * tile.height * width * item
    cshares = oshares = 1

    def own(count: int, shares: int) -> int:
        return -(-count // shares)

    whole = g.groups * g.group_out * g.group_in * g.taps * item
    pieces = max(1, min(PARTS // g.groups, PIECES // whole))
    while (
        own(cut.count, cshares) * own(opanels, oshares) * sums > ACCUMULATORS
        or g.groups * cshares * oshares * pieces < PARTS
    ) and (cshares < cut.count or oshares < opanels):
        if oshares < opanels:
            oshares += 1
        else:
            cshares += 1
    own_o = own(opanels, oshares)
    area = cells_block(axes, g.batch, own_o * width * item)
    blocks = prod(area.counts(axes, g.batch).values())
    pieces = max(1, min(blocks, pieces))
    scratch = own(cut.count, cshares) * own_o * sums + (area.cells + 2 * lanes) * own_o * width * item + 512
    return Split("outer", tile, area, cshares, oshares, pieces, scratch, cut, opanels)


def _inner_split(problem: Problem, axes: Axes) -> Split:
    """Rows of both operands in the second cache; shares small enough for parts to go round."""
    g, item = problem.geometry, problem.dtype.itemsize
    phases = prod(a.phases for a in axes)
    cshares, oshares = -(-g.group_in * phases // CHANNELS), -(-g.group_out // (2 * CHANNELS))
    cshares = min(cshares, g.group_in)
    while (
        g.groups * cshares * oshares < PARTS
        and max(g.group_in // cshares, g.group_out // oshares) > 16
    ):
        if g.group_in * phases // cshares >= g.group_out // oshares and cshares < g.group_in:
            cshares += 1
        else:
            oshares += 1
    own_c, own_o = -(-g.group_in // cshares), -(-g.group_out // oshares)
    cell = (own_c * phases + own_o) * item
    area = block(axes, g.batch, cell)
    blocks = prod(counts(axes, area, g.batch).values())
    pieces = max(1, min(blocks, PARTS // (g.groups * cshares * oshares)))
    tile = _inner_tile(own_o)
    scratch = own_c * own_o * g.taps * item + area.pitch(item) * cell + 4096
    return Split("inner", tile, area, cshares, oshares, pieces, scratch)


def _inner_tile(rows: int) -> Tile:
    heights = INNER_TILES[compiler.target().level]
    height = max((h for h in heights if h <= rows), default=1)
    return Tile(height, heights[height])
