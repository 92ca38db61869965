"""A problem as jobs of Winograd's kernels."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import lifted
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.tiling import ELEMENTS, PARTS, spread
from convgrad.cpu.winograd.kernels.products import (
    WINOGRAD,
    WINOGRAD_FEW,
    WINOGRAD_SOURCE,
    WINOGRAD_WEIGHTS,
)
from convgrad.cpu.winograd.tiling import ImageTiles, WinogradTile, image_tiles, winograd_tiles

Strides = tuple[int, ...]
SOURCE_BYTES = 512 << 10  # transformed tiles of a block
PRODUCT_BYTES = 256 << 10  # their products with a group of panels
# Where tiles are transformed beforehand: the transformed weights of a group, and its panels, each
# with products of its own.
WEIGHT_BYTES = 2560 << 10
MOST_PANELS = 4


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
    of that. panels: of rows; group: panels whose products are kept, and, where there are few tiles,
    whose weights are transformed together; shares: of the panels.
    """

    few: bool
    tile: WinogradTile
    tiles: ImageTiles
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
        pads = [d * (k - 1) - lo for d, k, lo in zip(g.dilation, g.kernel, pads, strict=True)]
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
    tiles = image_tiles(g, c.size, form)
    panels = -(-c.rows // width)
    few = tiles.count <= c.rows and panels * g.groups >= PARTS
    size = points * item
    budget, each = (PRODUCT_BYTES, width) if few else (SOURCE_BYTES, padded * c.depth)
    block, count = tiles.blocks(max(2 * tile.height, budget // (size * each)))
    if few:
        most = min(MOST_PANELS, WEIGHT_BYTES // (size * c.depth * c.sums * width))
        shares = -(-panels // max(1, min(most, panels * g.groups // PARTS)))
        group = -(-panels // shares)
    else:
        shares = max(1, min(panels, -(-PARTS // (count * g.groups))))
        group = max(1, min(panels, PRODUCT_BYTES // (size * block * width)))
    high_block = -(-block // tile.height) * tile.height
    vplane = spread((tiles.count + tile.height if few else high_block) * padded * c.depth, item)
    uplane = spread((group if few else panels) * c.depth * c.sums * width, item)
    mplane = spread(high_block * group * width, item)
    line = tiles.line(block, lanes)
    work = 2 * line * form.tile * lanes + 16 * lanes * lanes
    return Blocks(
        few, tile, tiles, block, count, panels, group, shares, padded, vplane, uplane, mplane, line,
        g.groups * points * (vplane if few else uplane),
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
    xn, xc, *xs = strides_of(source, item)
    yn, yo, *ys = strides_of(out, item)
    values = {
        "xn": xn, "xc": xc, "xz": xs[0], "xh": xs[1], "xw": xs[2], "D": c.source[0],
        "H": c.source[1], "W": c.source[2], "pz": c.pads[0], "ph": c.pads[1], "pw": c.pads[2],
        "C": c.sums, "K": c.depth, "xg": c.sums * xc, "OZ": c.size[0], "OH": c.size[1],
        "OW": c.size[2], "block": cut.block, "blocks": cut.blocks, "line": cut.line, "yn": yn,
        "yo": yo, "yz": ys[0], "yh": ys[1], "yw": ys[2], "yg": c.rows * yo, "bg": c.rows,
        "taps": taps.ctypes.data, "M": c.rows, "so": so, "sr": sr, "wg": g.group_out * first,
        "panels": cut.panels, "few": cut.group, "shares": cut.shares, "padded": cut.padded,
        "vplane": cut.vplane, "uplane": cut.uplane,
        "mplane": cut.mplane, "ug": points * cut.uplane, "vg": points * cut.vplane,
    } | tile_fields(cut.tiles)  # fmt: skip

    def job(generator: Generator, parts: int, **other: int) -> Job:
        return Job(generator, element, cut.tile, values | other, g.groups * parts, True, (taps,))

    if cut.few:
        shares = min(cut.padded // (_width(cut.tile, element) // cut.tile.vectors), PARTS)
        transform = job(WINOGRAD_SOURCE, cut.blocks * shares, shares=shares)
        return Jobs(True, transform, job(WINOGRAD_FEW, cut.shares), cut.beforehand)
    transform = job(WINOGRAD_WEIGHTS, cut.panels)
    multiply = job(WINOGRAD, cut.blocks * cut.shares)
    return Jobs(False, transform, multiply, cut.beforehand)


def tile_fields(tiles: ImageTiles) -> dict[str, int]:
    """A kernel's arguments about the tiles of an image."""
    deep, high, wide = tiles.apart
    return {
        "TY": tiles.rows, "TX": tiles.columns, "az": deep, "ah": high, "aw": wide,
        "tiles": tiles.count,
    }  # fmt: skip


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


def strides_of(strides: Strides, item: int) -> tuple[int, ...]:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)
