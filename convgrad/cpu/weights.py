"""Weight gradient as outer products: how the work is laid out.

Parts are shares of the panels of input channels and of output channels, and pieces of the cells;
what the pieces give is added in order. The cut depends on the geometry and the machine, never on
the number of threads.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes, line_axes, shifts_of
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.kernels.outer import OUTER, PLACE
from convgrad.cpu.products import Strides, is_line, lifted_strides, named
from convgrad.cpu.tiling import (
    ELEMENTS,
    HEIGHTS,
    PARTS,
    SMALL,
    Panels,
    Tile,
    evenly,
    panels,
    vectors_for,
)

SUMS = 2 << 20  # bytes of tiles that one part keeps
PIECES = 2 << 20  # bytes that the pieces of a sum may take, all together
CELLS = 512  # cells of a block
GRADIENT = 320 << 10  # bytes of dy that a block copies


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


@dataclass(frozen=True)
class Split:
    """The tile and its panels, the block of cells, the shares and the pieces."""

    tile: Tile
    rows: Panels
    opanels: int
    area: Box
    cshares: int
    oshares: int
    pieces: int
    scratch: int


@lru_cache(maxsize=1024)
def weight_job(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of a weight gradient, for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    axes, xs, ys = forward_axes(g), lifted_strides(x, item), lifted_strides(dy, item)
    if is_line(problem, x, dy):
        axes = line_axes(g.positions)
        xs, ys = (*xs[:2], 0, 0, xs[-1]), (*ys[:2], 0, 0, ys[-1])
    cut, table = split(problem, axes), shifts_of(axes)
    deep, high, wide = axes
    size = g.group_out * g.group_in * g.taps
    values = named(
        taps=table.ctypes.data, C=g.group_in, O=g.group_out, K=g.taps,
        xn=xs[0], xc=xs[1], xz=xs[2], xh=xs[3], xw=xs[4],
        D=deep.source, H=high.source, W=wide.source, sz=deep.stride, sh=high.stride, sw=wide.stride,
        OZ=deep.size, OH=high.size, OW=wide.size,
        yn=ys[0], yo=ys[1], yz=ys[2], yh=ys[3], yw=ys[4], N=g.batch, NB=cut.area.samples,
        BZ=cut.area.planes, BR=cut.area.rows, BC=cut.area.columns,
        tall=cut.rows.tall, low=cut.rows.low, opanels=cut.opanels,
        cshares=cut.cshares, oshares=cut.oshares, pieces=cut.pieces,
        xg=g.group_in * xs[1], yg=g.group_out * ys[1], dwg=size, dws=g.groups * size,
    ) | cut.area.counts(axes, g.batch)  # fmt: skip
    parts = g.groups * cut.pieces * cut.cshares * cut.oshares
    element = ELEMENTS[problem.dtype.name]
    return Job(OUTER, element, cut.tile, values, parts, g.macs > SMALL, (table,))


def split(problem: Problem, axes: Axes) -> Split:
    """Shares of output channels first, since each share of input channels copies dy again."""
    g, item, where = problem.geometry, problem.dtype.itemsize, compiler.target()
    lanes = where.lanes(ELEMENTS[problem.dtype.name]).count
    vectors = min(vectors_for(g.group_in, where.level), -(-g.group_out // lanes))
    heights = HEIGHTS[where.level]
    most = heights.get(vectors) or max(m for v, m in heights.items() if v >= vectors)
    rows = panels(g.group_in, most)
    tile, width = Tile(rows.height, vectors), vectors * lanes
    opanels = -(-g.group_out // width)
    sums = g.taps * tile.height * width * item
    whole = prod(g.w_shape) * item
    pieces = max(1, min(PARTS // g.groups, PIECES // whole))
    cshares = oshares = 1

    def kept() -> int:
        return -(-rows.count // cshares) * -(-opanels // oshares) * sums

    while kept() > SUMS or g.groups * cshares * oshares * pieces < PARTS:
        if oshares < opanels:
            oshares += 1
        elif cshares < rows.count:
            cshares += 1
        else:
            break
    own = -(-opanels // oshares) * width * item
    area = cells_block(axes, g.batch, own)
    pieces = min(pieces, prod(area.counts(axes, g.batch).values()))
    scratch = kept() + (area.cells + lanes) * own + 8 * PLACE + 64
    return Split(tile, rows, opanels, area, cshares, oshares, pieces, scratch)


def cells_block(axes: Axes, batch: int, cell_bytes: int) -> Box:
    """A box of about CELLS cells, fewer where their bytes exceed GRADIENT: columns first."""
    deep, high, wide = (axis.size for axis in axes)
    most = max(16, min(CELLS, GRADIENT // cell_bytes))
    columns = evenly(wide, min(wide, most))
    rows = evenly(high, max(1, min(high, most // columns)))
    planes = evenly(deep, max(1, min(deep, most // (columns * rows))))
    few = max(1, min(batch, most // (columns * rows * planes)))
    return Box(evenly(max(1, batch), few), planes, rows, columns)
