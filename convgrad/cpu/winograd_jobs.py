"""A problem as jobs of Winograd's kernels."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import lifted
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.kernels.winograd import WINOGRAD, WINOGRAD_WEIGHTS
from convgrad.cpu.tiling import ELEMENTS, PARTS, spread
from convgrad.cpu.winograd_tiling import WinogradTile, winograd_tiles

Strides = tuple[int, ...]
SOURCE_BYTES = 256 << 10  # transformed tiles of a block
PRODUCT_BYTES = 128 << 10  # their products with a group of panels


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
