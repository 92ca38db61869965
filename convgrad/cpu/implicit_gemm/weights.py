"""Weight gradient as outer products: how the work is laid out.

Lanes of a tile are output channels, rows are input channels of one tap; where these are few, pairs
(input channel, tap). Lanes are copied into panels: for a map with one tap, the operand with fewer
channels.

Parts are shares of the panels of input channels and of output channels, and pieces of the cells;
what the pieces give is added in order. The cut depends on the geometry and the machine, never on
the number of threads.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes, line_axes, shifts_of
from convgrad.cpu.implicit_gemm.kernels.outer import CELLS, OUTER, PLACE, copied_rows
from convgrad.cpu.implicit_gemm.products import Strides, is_line, lifted_strides, named
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.tiling import (
    ELEMENTS,
    HEIGHTS,
    PARTS,
    SMALL,
    Panels,
    Tile,
    evenly,
    panels,
)
from convgrad.geometry import Geometry

SUMS = 2 << 20  # bytes of tiles that one part keeps
PIECES = 2 << 20  # bytes that the pieces of a sum may take, all together
GRADIENT = 320 << 10  # bytes of the lanes' operand that a block copies
MIXED = 4  # up to so many input channels, a panel of rows has several taps
SHARES = 4  # from so many shares on, reading rows costs more than copying lanes
LATENCY = 8  # products that a processor has under way: a tile of fewer takes as long
STEP = 2  # products that could be made in the time that a step costs beside its own


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
    """The tile and its panels, the block of cells, the shares and the pieces.

    turned: lanes are input channels, rows output channels; mixed: taps in a panel of rows.
    """

    turned: bool
    mixed: int
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
    half = problem.wide != problem.dtype
    axes, xs, ys = forward_axes(g), lifted_strides(x, item), lifted_strides(dy, item)
    if is_line(problem, x, dy):
        axes = line_axes(g.positions)
        xs, ys = (*xs[:2], 0, 0, xs[-1]), (*ys[:2], 0, 0, ys[-1])
    cut, table = split(problem, axes), shifts_of(axes)
    deep, high, wide = axes
    size, units = g.group_out * g.group_in * g.taps, g.taps // cut.mixed
    rows, outputs, wo, wr = g.group_in, g.group_out, g.group_in * g.taps, units
    if cut.turned:
        rows, outputs, wo, wr = outputs, rows, 1, rows
        xs, ys = ys, xs
    values = named(
        taps=table.ctypes.data, O=outputs, units=units, mixed=cut.mixed,
        copies=int(half or (cut.mixed > 1 and any(map(any, g.pads)))), turned=int(cut.turned),
        xn=xs[0], xc=xs[1], xz=xs[2], xh=xs[3], xw=xs[4],
        D=deep.source, H=high.source, W=wide.source, sz=deep.stride, sh=high.stride, sw=wide.stride,
        OZ=deep.size, OH=high.size, OW=wide.size,
        yn=ys[0], yo=ys[1], yz=ys[2], yh=ys[3], yw=ys[4], N=g.batch, NB=cut.area.samples,
        BZ=cut.area.planes, BR=cut.area.rows, BC=cut.area.columns,
        tall=cut.rows.tall, low=cut.rows.low, opanels=cut.opanels,
        cshares=cut.cshares, oshares=cut.oshares, pieces=cut.pieces, wo=wo, wr=wr,
        xg=rows * xs[1], yg=outputs * ys[1], dwg=size, dws=g.groups * size,
    ) | cut.area.counts(axes, g.batch)  # fmt: skip
    parts = g.groups * cut.pieces * cut.cshares * cut.oshares
    element = ELEMENTS[problem.dtype.name]
    return Job(OUTER, element, cut.tile, values, parts, g.macs > SMALL, (table,))


def split(problem: Problem, axes: Axes) -> Split:
    """Shares of lanes first, since each share of rows copies the lanes again."""
    g, item, where = problem.geometry, problem.wide.itemsize, compiler.target()
    lanes = where.lanes(ELEMENTS[problem.dtype.name])
    whole = prod(g.w_shape) * item
    pieces = max(1, min(PARTS // g.groups, PIECES // whole))
    inputs, outputs = g.group_in, g.group_out
    turned = inputs < outputs and SHARES * g.groups * pieces > PARTS and has_one_tap(g)
    if turned:
        inputs, outputs = outputs, inputs
    mixed = g.taps if inputs <= MIXED else 1
    tile, rows = tile_for(inputs * mixed, outputs, lanes.count, HEIGHTS[where.level])
    width = tile.vectors * lanes.count
    opanels = -(-outputs // width)
    sums = g.taps // mixed * tile.height * width * item
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
    copied = copied_rows(lanes, tile) * item
    scratch = 8 * PLACE + copied + kept() + (area.cells + lanes.count) * own + 64
    return Split(turned, mixed, tile, rows, opanels, area, cshares, oshares, pieces, scratch)


def has_one_tap(g: Geometry) -> bool:
    """Whether each result is met by the input at its own place, and only there."""
    return g.taps == 1 and not any(map(any, g.pads)) and set(g.stride) == {1}


def tile_for(rows: int, outputs: int, lanes: int, heights: dict[int, int]) -> tuple[Tile, Panels]:
    """The tile that multiplies in the least time, and the panels of rows."""
    options = heights | {vectors: max(heights.values()) for vectors in range(1, min(heights))}

    def products(vectors: int) -> int:
        cut = panels(rows, options[vectors])
        step = max(cut.height * vectors, LATENCY) + STEP
        return cut.count * -(-outputs // (vectors * lanes)) * step

    vectors = min(options, key=products)
    cut = panels(rows, options[vectors])
    return Tile(cut.height, vectors), cut


def cells_block(axes: Axes, batch: int, cell_bytes: int) -> Box:
    """A box of about CELLS cells, fewer where their bytes exceed GRADIENT: columns first."""
    deep, high, wide = (axis.size for axis in axes)
    most = max(16, min(CELLS, GRADIENT // cell_bytes))
    columns = evenly(wide, min(wide, most))
    rows = evenly(high, max(1, min(high, most // columns)))
    planes = evenly(deep, max(1, min(deep, most // (columns * rows))))
    few = max(1, min(batch, most // (columns * rows * planes)))
    return Box(evenly(max(1, batch), few), planes, rows, columns)
