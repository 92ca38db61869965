"""How a weight gradient is cut into parts: shares of channels, and pieces of a long sum.

The cut depends on the geometry and the machine, never on the number of threads.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import forward_axes
from convgrad.cpu.jit import compiler
from convgrad.cpu.tiling import (
    ELEMENTS,
    HEIGHTS,
    INNER_TILES,
    PARTS,
    Block,
    Tile,
    block,
    counts,
    panels,
    vectors_for,
)

CHANNELS = 64  # input channels of one share of an inner product
ACCUMULATORS = 256 << 10  # bytes of tiles that one part of an outer product keeps


@dataclass(frozen=True)
class Split:
    """The kernel, its tile and block, the shares, the pieces, and a thread's scratch in bytes."""

    kernel: str
    tile: Tile
    area: Block
    cshares: int
    oshares: int
    pieces: int
    scratch: int
    cpanels: int = 0
    opanels: int = 0


@lru_cache(maxsize=1024)
def weight_split(problem: Problem) -> Split:
    """Outer products where both sides have channels to fill a tile with, otherwise inner ones."""
    g = problem.geometry
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count
    many = g.group_in >= 8 and g.group_out >= lanes
    return _outer_split(problem) if many else _inner_split(problem)


def _outer_split(problem: Problem) -> Split:
    """Panels of both operands in the second cache, and the tiles of one part beside them."""
    g, item, axes = problem.geometry, problem.dtype.itemsize, forward_axes(problem.geometry)
    where = compiler.target()
    lanes = where.lanes(ELEMENTS[problem.dtype.name]).count
    vectors = vectors_for(g.group_in, where.level)
    vectors = min(vectors, -(-g.group_out // lanes))
    heights = HEIGHTS[where.level]
    most = heights.get(vectors) or max(m for v, m in heights.items() if v >= vectors)
    height = panels(g.group_in, most).height
    tile = Tile(height, vectors)
    width = vectors * lanes
    cpanels, opanels = -(-g.group_in // height), -(-g.group_out // width)
    sums = g.taps * height * width * item
    cshares = min(cpanels, -(-cpanels * opanels * sums // ACCUMULATORS))
    own_c = -(-cpanels // cshares)
    oshares = min(opanels, -(-own_c * opanels * sums // ACCUMULATORS))
    while g.groups * cshares * oshares < PARTS and (cshares < cpanels or oshares < opanels):
        if opanels > oshares and (oshares <= cshares or cshares == cpanels):
            oshares += 1
        else:
            cshares += 1
    own_c, own_o = -(-cpanels // cshares), -(-opanels // oshares)
    phases = prod(a.phases for a in axes)
    cell = (own_c * height * phases + own_o * width) * item
    area = block(axes, g.batch, cell)
    blocks = prod(counts(axes, area, g.batch).values())
    pieces = max(1, min(blocks, PARTS // (g.groups * cshares * oshares)))
    scratch = own_c * own_o * sums + area.pitch(item) * cell + 4 * width * item + 256
    return Split("outer", tile, area, cshares, oshares, pieces, scratch, cpanels, opanels)


def _inner_split(problem: Problem) -> Split:
    """Rows of both operands in the second cache; shares small enough for parts to go round."""
    g, item, axes = problem.geometry, problem.dtype.itemsize, forward_axes(problem.geometry)
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
