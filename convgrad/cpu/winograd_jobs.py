"""A problem as jobs of Winograd's kernels."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import lifted
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.kernels.winograd_outer import WINOGRAD_OUTER
from convgrad.cpu.kernels.winograd import WINOGRAD, WINOGRAD_WEIGHTS
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
    """Tiles of a result, how many a block has, and a thread's memory, in numbers."""

    tile: WinogradTile
    rows: int
    columns: int
    tiles: int
    block: int
    blocks: int
    panels: int
    few: int
    shares: int
    padded: int
    vplane: int
    mplane: int
    line: int

    def scratch(self, lanes: int) -> int:
        points = self.tile.filtering.tile
        work = 2 * self.line * points * lanes + 16 * lanes * lanes
        return (self.vplane + self.mplane) * points**2 + work


def correlation(problem: Problem) -> Correlation:
    """Forward: over x. Input gradient: over dy, with the kernel turned around."""
    g = problem.geometry
    pads = [lo for lo, _ in g.pads]
    depth = g.kernel[0] if g.rank == 3 else 1
    if problem.direction == "input_grad":
        pads = [k - 1 - lo for k, lo in zip(g.kernel, pads, strict=True)]
        return Correlation(
            g.group_in, g.group_out, lifted(g.out_size, 1), lifted(g.in_size, 1),
            lifted(tuple(pads), 0), depth,
        )  # fmt: skip
    return Correlation(
        g.group_out, g.group_in, lifted(g.in_size, 1), lifted(g.out_size, 1),
        lifted(tuple(pads), 0), depth,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def blocks(problem: Problem) -> Blocks:
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
    most = SOURCE_BYTES // (points * padded * c.depth * item)
    most = max(2, most // tile.height) * tile.height
    count = -(-tiles // most)
    block = -(-tiles // count)
    panels = -(-c.rows // width)
    few = max(1, min(panels, PRODUCT_BYTES // (points * block * width * item)))
    shares = max(1, min(panels, -(-PARTS // max(1, count * g.groups))))
    height = -(-block // tile.height) * tile.height
    vplane = spread(height * padded * c.depth, item)
    mplane = spread(height * few * width, item)
    line = form.step * min(columns, block) + form.tile - form.step + lanes
    return Blocks(
        tile, rows, columns, tiles, block, count, panels, few, shares, padded, vplane, mplane, line
    )


@dataclass(frozen=True)
class Jobs:
    """Transform the weights into `weights` numbers, then multiply."""

    transform: Job
    multiply: Job
    weights: int


@lru_cache(maxsize=1024)
def jobs(problem: Problem, source: Strides, w: Strides, out: Strides) -> Jobs:
    """The jobs of y or dx, for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    c, cut, element = correlation(problem), blocks(problem), ELEMENTS[problem.dtype.name]
    lanes = compiler.target().lanes(element).count
    width, points = cut.tile.vectors * lanes, cut.tile.filtering.tile**2
    first, second, *axes = (s // item for s in w)
    so, sr = (second, first) if problem.direction == "input_grad" else (first, second)
    taps = _taps(problem, tuple(axes))
    uplane = spread(cut.panels * c.depth * c.sums * width, item)
    size = points * uplane
    transform = Job(
        WINOGRAD_WEIGHTS, element, cut.tile,
        dict(taps=taps.ctypes.data, M=c.rows, C=c.sums, K=c.depth, so=so, sr=sr,
             panels=cut.panels, plane=uplane, wg=g.group_out * first, tog=size),
        g.groups * cut.panels, True, (taps,),
    )  # fmt: skip
    xn, xc, *xs = _strides(source, item)
    yn, yo, *ys = _strides(out, item)
    values = dict(
        xn=xn, xc=xc, xz=xs[0], xh=xs[1], xw=xs[2], D=c.source[0], H=c.source[1], W=c.source[2],
        pz=c.pads[0], ph=c.pads[1], pw=c.pads[2], C=c.sums, K=c.depth,
        OZ=c.size[0], OH=c.size[1], OW=c.size[2], TY=cut.rows, TX=cut.columns, tiles=cut.tiles,
        block=cut.block, blocks=cut.blocks, line=cut.line, yn=yn, yo=yo, yz=ys[0], yh=ys[1],
        yw=ys[2], M=c.rows, panels=cut.panels, few=cut.few, shares=cut.shares, padded=cut.padded,
        vplane=cut.vplane, mplane=cut.mplane, uplane=uplane, xg=c.sums * xc, wg=size,
        yg=c.rows * yo, bg=c.rows,
    )  # fmt: skip
    multiply = Job(
        WINOGRAD, element, cut.tile, values, g.groups * cut.blocks * cut.shares, True
    )
    return Jobs(transform, multiply, g.groups * size)


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


def weight_bytes(problem: Problem) -> int:
    """Bytes of the transformed weights."""
    c, cut, item = correlation(problem), blocks(problem), problem.dtype.itemsize
    lanes = compiler.target().lanes(ELEMENTS[problem.dtype.name]).count
    width = cut.tile.vectors * lanes
    plane = spread(cut.panels * c.depth * c.sums * width, item)
    return problem.geometry.groups * cut.tile.filtering.tile**2 * plane * item


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
        channels=g.group_in, OZ=size[0], OH=size[1], OW=size[2], TY=cut.rows, TX=cut.columns,
        tiles=cut.tiles, block=cut.block, blocks=cut.blocks, line=cut.line, yn=yn, yo=yo,
        yz=ys[0], yh=ys[1], yw=ys[2], cpanels=cut.cpanels, opanels=cut.opanels,
        cshares=cut.cshares, oshares=cut.oshares, pieces=cut.pieces, cpadded=cut.cpadded,
        opadded=cut.opadded, cplane=cut.cplane, oplane=cut.oplane, xg=g.group_in * xc,
        yg=g.group_out * yo, dwg=numbers, dws=g.groups * numbers,
    )  # fmt: skip
    parts = g.groups * depth * cut.pieces * cut.cshares * cut.oshares
    return Job(WINOGRAD_OUTER, ELEMENTS[problem.dtype.name], cut.tile, values, parts, True)
