"""A problem as jobs of Winograd's kernels."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import lifted
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.kernels.winograd_outer import WINOGRAD_OUTER
from convgrad.cpu.kernels.winograd import (
    WINOGRAD,
    WINOGRAD_FEW,
    WINOGRAD_SOURCE,
    WINOGRAD_WEIGHTS,
)
from convgrad.cpu.tiling import ELEMENTS, PARTS, spread
from convgrad.cpu.winograd_tiling import WinogradTile, winograd_tiles

Strides = tuple[int, ...]
SOURCE_BYTES = 256 << 10  # transformed tiles of a block
PRODUCT_BYTES = 128 << 10  # their products with a group of panels
SUM_BYTES = 2560 << 10  # sums of a weight gradient's part
OPERAND_BYTES = 1024 << 10  # its transformed tiles of a block
PIECES = 4  # a piece is a quarter of the transformed weights


@dataclass(frozen=True)
class Correlation:
    """The sizes of a correlation with three axes: its source, its result, its kernel."""

    rows: int
    sums: int
    source: tuple[int, int, int]
    size: tuple[int, int, int]
    pads: tuple[int, int, int]
    depth: int


@dataclass(frozen=True)
class Blocks:
    """Tiles of a result, how many a block has, and how much memory it takes, in numbers.

    few: whether all tiles are transformed beforehand instead of all weights. beforehand: numbers
    of that. panels: of rows; group: panels in a group, whose products are kept.
    """

    few: bool
    tile: WinogradTile
    rows: int
    columns: int
    tiles: int
    block: int
    blocks: int
    panels: int
    group: int
    shares: int
    padded: int
    vplane: int
    uplane: int
    mplane: int
    line: int
    beforehand: int
    scratch: int


def correlation(problem: Problem) -> Correlation:
    """Forward: over x. Input gradient: over dy, with the kernel turned around."""
    g = problem.geometry
    pads = [lo for lo, _ in g.pads]
    depth = g.kernel[0] if g.rank == 3 else 1
    rows, sums, source, size = g.group_out, g.group_in, g.in_size, g.out_size
    if problem.direction == "input_grad":
        pads = [k - 1 - lo for k, lo in zip(g.kernel, pads, strict=True)]
        rows, sums, source, size = sums, rows, size, source
    return Correlation(
        rows, sums, lifted(source, 1), lifted(size, 1), lifted(tuple(pads), 0), depth
    )


@lru_cache(maxsize=1024)
def blocks(problem: Problem) -> Blocks:
    """Whichever is less work in memory is transformed beforehand: all weights or all tiles."""
    g, item, c = problem.geometry, problem.dtype.itemsize, correlation(problem)
    where = compiler.target()
    lanes = where.lanes(ELEMENTS[problem.dtype.name]).count
    (tile,) = winograd_tiles(where.level)
    form, width = tile.filtering, tile.vectors * lanes
    points = form.tile**2
    padded = -(-c.sums // lanes) * lanes
    deep, high, wide = c.size
    rows, columns = -(-high // form.step), -(-wide // form.step)
    tiles = g.batch * deep * rows * columns
    panels = -(-c.rows // width)
    few = tiles <= c.rows and panels * g.groups >= PARTS
    size = points * item
    budget, each = (PRODUCT_BYTES, width) if few else (SOURCE_BYTES, padded * c.depth)
    most = max(2 * tile.height, budget // (size * each))
    count = -(-tiles // most)
    block = -(-tiles // count)
    group = 1 if few else max(1, min(panels, PRODUCT_BYTES // (size * block * width)))
    high_block = -(-block // tile.height) * tile.height
    vplane = spread((tiles + tile.height if few else high_block) * padded * c.depth, item)
    uplane = spread((1 if few else panels) * c.depth * c.sums * width, item)
    mplane = spread(high_block * group * width, item)
    line = form.step * min(columns, block) + form.tile - form.step + lanes
    shares = max(1, min(panels, -(-PARTS // max(1, count * g.groups))))
    work = 2 * line * form.tile * lanes + 16 * lanes * lanes
    return Blocks(
        few, tile, rows, columns, tiles, block, count, panels, group, shares, padded, vplane,
        uplane, mplane, line, g.groups * points * (vplane if few else uplane),
        points * (mplane + (uplane if few else vplane)) + work,
    )  # fmt: skip


@dataclass(frozen=True)
class Jobs:
    """Transform weights or tiles into `numbers` numbers, then multiply."""

    few: bool
    transform: Job
    multiply: Job
    numbers: int


@lru_cache(maxsize=1024)
def jobs(problem: Problem, source: Strides, w: Strides, out: Strides) -> Jobs:
    """The jobs of y or dx, for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    c, cut, element = correlation(problem), blocks(problem), ELEMENTS[problem.dtype.name]
    points = cut.tile.filtering.tile**2
    first, second, *axes = (s // item for s in w)
    so, sr = (second, first) if problem.direction == "input_grad" else (first, second)
    taps = _taps(problem, tuple(axes))
    xn, xc, *xs = _strides(source, item)
    yn, yo, *ys = _strides(out, item)
    values = dict(
        xn=xn, xc=xc, xz=xs[0], xh=xs[1], xw=xs[2], D=c.source[0], H=c.source[1], W=c.source[2],
        pz=c.pads[0], ph=c.pads[1], pw=c.pads[2], C=c.sums, K=c.depth, xg=c.sums * xc,
        OZ=c.size[0], OH=c.size[1], OW=c.size[2], TY=cut.rows, TX=cut.columns, tiles=cut.tiles,
        block=cut.block, blocks=cut.blocks, line=cut.line, yn=yn, yo=yo, yz=ys[0], yh=ys[1],
        yw=ys[2], yg=c.rows * yo, bg=c.rows, taps=taps.ctypes.data, M=c.rows, so=so, sr=sr,
        wg=g.group_out * first, panels=cut.panels, few=cut.group, shares=cut.shares,
        padded=cut.padded, vplane=cut.vplane, uplane=cut.uplane, mplane=cut.mplane,
        ug=points * cut.uplane, vg=points * cut.vplane,
    )  # fmt: skip

    def job(generator: Generator, parts: int, **other: int) -> Job:
        return Job(generator, element, cut.tile, values | other, g.groups * parts, True, (taps,))

    if cut.few:
        shares = min(cut.padded // (_width(cut.tile, element) // cut.tile.vectors), PARTS)
        transform = job(WINOGRAD_SOURCE, cut.blocks * shares, shares=shares)
        return Jobs(True, transform, job(WINOGRAD_FEW, cut.panels), cut.beforehand)
    transform = job(WINOGRAD_WEIGHTS, cut.panels)
    multiply = job(WINOGRAD, cut.blocks * cut.shares)
    return Jobs(False, transform, multiply, cut.beforehand)


def _width(tile: WinogradTile, element: str) -> int:
    return tile.vectors * compiler.target().lanes(element).count


def _taps(problem: Problem, strides: tuple[int, ...]) -> np.ndarray:
    """Where the weights of each tap lie; turned around for the input gradient."""
    kernel = problem.geometry.kernel
    places = np.array(
        [sum(i * s for i, s in zip(tap, strides, strict=True)) for tap in np.ndindex(kernel)],
        np.int64,
    )
    return places[::-1].copy() if problem.direction == "input_grad" else places


def _strides(strides: Strides, item: int) -> tuple[int, ...]:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)


@dataclass(frozen=True)
class Shares:
    """How a weight gradient is cut, and a thread's memory, in numbers."""

    tile: WinogradTile
    rows: int
    columns: int
    tiles: int
    block: int
    blocks: int
    cpanels: int
    opanels: int
    cshares: int
    oshares: int
    pieces: int
    cpadded: int
    opadded: int
    cplane: int
    oplane: int
    line: int
    scratch: int


@lru_cache(maxsize=1024)
def shares(problem: Problem) -> Shares:
    """Shares of channels whose sums fit; pieces of the tiles where that makes too few parts."""
    g, item = problem.geometry, problem.dtype.itemsize
    where = compiler.target()
    lanes = where.lanes(ELEMENTS[problem.dtype.name]).count
    (tile,) = winograd_tiles(where.level)
    form, width = tile.filtering, tile.vectors * lanes
    points = form.tile**2
    cpanels, opanels = -(-g.group_in // width), -(-g.group_out // lanes)
    cshares = oshares = 1

    def padded() -> tuple[int, int]:
        return -(-cpanels // cshares) * width, -(-opanels // oshares) * lanes

    while prod(padded()) * points * item > SUM_BYTES and padded() != (width, lanes):
        if padded()[0] > padded()[1]:
            cshares += 1
        else:
            oshares += 1
    deep, high, wide = lifted(g.out_size, 1)
    rows, columns = -(-high // form.step), -(-wide // form.step)
    tiles = g.batch * deep * rows * columns
    most = max(4, OPERAND_BYTES // (points * sum(padded()) * item))
    blocks = -(-tiles // most)
    block = -(-tiles // blocks)
    depth = g.kernel[0] if g.rank == 3 else 1
    parts = g.groups * depth * cshares * oshares
    pieces = max(1, min(blocks, PIECES, PARTS // parts))
    own_c, own_o = padded()
    cplane, oplane = spread(block * own_c, item), spread(block * own_o + tile.height, item)
    line = form.step * min(columns, block) + form.tile - form.step + lanes
    sums = points * own_c * (own_o + 2 * tile.height) + width
    scratch = sums + points * (cplane + oplane) + 2 * line * form.tile * lanes + 256
    return Shares(
        tile, rows, columns, tiles, block, blocks, cpanels, opanels, cshares, oshares, pieces,
        own_c, own_o, cplane, oplane, line, scratch,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def outer_job(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of a weight gradient, for arrays with these strides in bytes."""
    g, item, cut = problem.geometry, problem.dtype.itemsize, shares(problem)
    xn, xc, *xs = _strides(x, item)
    yn, yo, *ys = _strides(dy, item)
    source, size = lifted(g.in_size, 1), lifted(g.out_size, 1)
    pads = lifted(tuple(lo for lo, _ in g.pads), 0)
    depth = g.kernel[0] if g.rank == 3 else 1
    numbers = g.group_out * g.group_in * g.taps
    values = dict(
        xn=xn, xc=xc, xz=xs[0], xh=xs[1], xw=xs[2], D=source[0], H=source[1], W=source[2],
        pz=pads[0], ph=pads[1], pw=pads[2], C=g.group_in, K=depth, O=g.group_out,
        OZ=size[0], OH=size[1], OW=size[2], TY=cut.rows, TX=cut.columns,
        tiles=cut.tiles, block=cut.block, blocks=cut.blocks, line=cut.line, yn=yn, yo=yo,
        yz=ys[0], yh=ys[1], yw=ys[2], cpanels=cut.cpanels, opanels=cut.opanels,
        cshares=cut.cshares, oshares=cut.oshares, pieces=cut.pieces, cpadded=cut.cpadded,
        opadded=cut.opadded, cplane=cut.cplane, oplane=cut.oplane, xg=g.group_in * xc,
        yg=g.group_out * yo, dwg=numbers, dws=g.groups * numbers,
    )  # fmt: skip
    parts = g.groups * depth * cut.pieces * cut.cshares * cut.oshares
    return Job(WINOGRAD_OUTER, ELEMENTS[problem.dtype.name], cut.tile, values, parts, True)
