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
from convgrad.cpu.kernels.outer import CELLS, OUTER, PLACE, pitch_of
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
)

SUMS = 2 << 20  # bytes of tiles that one part keeps
PIECES = 2 << 20  # bytes that the pieces of a sum may take, all together
MIX = 4
LOOP = 2  # products that could be made in the time that a step costs beside its products
LATENCY = 8  # products that a processor has under way: a tile of fewer takes as long
TURN = True
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
    channels: int
    mixed: int
    turned: bool
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
    outputs, mixed = g.group_out, cut.mixed
    dw = {"wo": g.group_in * g.taps, "wr": g.taps // mixed}
    if cut.turned:
        xs, ys, outputs = ys, xs, g.group_in
        dw = {"wo": 1, "wr": g.group_in}
    copies = cut.mixed > 1 and any(map(any, g.pads))
    values = named(
        taps=table.ctypes.data, O=outputs, units=g.taps // mixed, mixed=mixed,
        xn=xs[0], xc=xs[1], xz=xs[2], xh=xs[3], xw=xs[4],
        D=deep.source, H=high.source, W=wide.source, sz=deep.stride, sh=high.stride, sw=wide.stride,
        OZ=deep.size, OH=high.size, OW=wide.size,
        yn=ys[0], yo=ys[1], yz=ys[2], yh=ys[3], yw=ys[4], N=g.batch, NB=cut.area.samples,
        BZ=cut.area.planes, BR=cut.area.rows, BC=cut.area.columns,
        tall=cut.rows.tall, low=cut.rows.low, opanels=cut.opanels,
        cshares=cut.cshares, oshares=cut.oshares, pieces=cut.pieces,
        turned=int(cut.turned), xg=cut.channels * xs[1], yg=outputs * ys[1], dwg=size, dws=g.groups * size,
        copies=int(copies),
    ) | dw | cut.area.counts(axes, g.batch)  # fmt: skip
    parts = g.groups * cut.pieces * cut.cshares * cut.oshares
    element = ELEMENTS[problem.dtype.name]
    return Job(OUTER, element, cut.tile, values, parts, g.macs > SMALL, (table,))


def split(problem: Problem, axes: Axes) -> Split:
    """Shares of output channels first, since each share of input channels copies dy again."""
    g, item, where = problem.geometry, problem.dtype.itemsize, compiler.target()
    kind = where.lanes(ELEMENTS[problem.dtype.name])
    lanes = kind.count
    channels, outputs = g.group_in, g.group_out
    plain = g.taps == 1 and not any(map(any, g.pads)) and set(g.stride) == {1}
    turned = TURN and plain and channels < outputs
    if turned:
        channels, outputs = outputs, channels
    mixed = g.taps if channels <= MIX else 1
    rows, vectors = tile_for(channels * mixed, outputs, lanes, HEIGHTS[where.level])
    tile, width = Tile(rows.height, vectors), vectors * lanes
    opanels = -(-outputs // width)
    units = g.taps // mixed
    sums = units * tile.height * width * item
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
    copied = (tile.height * pitch_of(kind) + 64) * item
    scratch = kept() + (area.cells + lanes) * own + copied + 8 * PLACE + 64
    return Split(
        tile, rows, channels, mixed, turned, opanels, area, cshares, oshares, pieces, scratch
    )


def tile_for(rows: int, outputs: int, lanes: int, heights: dict[int, int]) -> tuple[Panels, int]:
    """The panels of rows, and the registers in a tile's row, that multiply in the fewest steps."""
    options = heights | {v: max(heights.values()) for v in range(1, min(heights))}

    def steps(vectors: int) -> int:
        cut = panels(rows, options[vectors])
        products = max(cut.height * vectors, LATENCY) + LOOP
        return cut.count * -(-outputs // (vectors * lanes)) * products

    vectors = min(options, key=steps)
    return panels(rows, options[vectors]), vectors


def cells_block(axes: Axes, batch: int, cell_bytes: int) -> Box:
    """A box of about CELLS cells, fewer where their bytes exceed GRADIENT: columns first."""
    deep, high, wide = (axis.size for axis in axes)
    most = max(16, min(CELLS, GRADIENT // cell_bytes))
    columns = evenly(wide, min(wide, most))
    rows = evenly(high, max(1, min(high, most // columns)))
    planes = evenly(deep, max(1, min(deep, most // (columns * rows))))
    few = max(1, min(batch, most // (columns * rows * planes)))
    return Box(evenly(max(1, batch), few), planes, rows, columns)
