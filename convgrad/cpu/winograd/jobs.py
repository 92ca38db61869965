"""A problem as jobs of Winograd's kernels."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.jit import compiler
from convgrad.cpu.jit.language import Lanes
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.tiling import ELEMENTS, PARTS, spread
from convgrad.cpu.winograd.axes import meeting, tap_places
from convgrad.cpu.winograd.kernels.products import WINOGRAD, WINOGRAD_FEW
from convgrad.cpu.winograd.kernels.transforms import NONE, WINOGRAD_SOURCE, WINOGRAD_WEIGHTS
from convgrad.cpu.winograd.tiling import (
    RUN,
    ImageTiles,
    WinogradTile,
    image_tiles,
    register_tile,
)

Strides = tuple[int, ...]
CHUNK = 16 << 10  # bytes of a panel of weights that stay in the first cache
SOURCE_BYTES = 512 << 10  # transformed tiles of a block
PRODUCT_BYTES = 256 << 10  # their products with a group of panels
MOST_SOURCE_BYTES = 1280 << 10  # the same where a block of all channels would be too small
MOST_PRODUCT_BYTES = 1536 << 10
AHEAD_BYTES = 16 << 20  # transformed weights, more than caches hold: they are asked for ahead
TAPS = 192  # of some channels that are read at once
# Where tiles are transformed beforehand: the transformed weights of a group, and its panels, each
# with products of its own.
WEIGHT_BYTES = 2560 << 10
MOST_PANELS = 4


@dataclass(frozen=True)
class Blocks:
    """Tiles of a result, how many a block has, and how much memory it takes, in numbers.

    few: whether all tiles are transformed beforehand instead of all weights. beforehand: numbers
    of that. rows, sums: channels of the result and of the source. panels: of rows; group: panels
    whose products are kept, and, where there are few tiles, whose weights are transformed together;
    shares: of the panels. step: channels of which one part of the taps after the other is summed,
    which is the order of every sum; chunk: channels that are transformed at once.
    """

    few: bool
    tile: WinogradTile
    tiles: ImageTiles
    rows: int
    sums: int
    block: int
    blocks: int
    panels: int
    group: int
    shares: int
    step: int
    chunk: int
    padded: int
    vtile: int
    vplane: int
    uplane: int
    mplane: int
    line: int
    beforehand: int
    scratch: int


@lru_cache(maxsize=1024)
def blocks(problem: Problem) -> Blocks:
    """Whichever is less work in memory is transformed beforehand: all weights or all tiles."""
    g, item = problem.geometry, problem.wide.itemsize
    rows, sums = g.group_out, g.group_in
    if problem.direction == "input_grad":
        rows, sums = sums, rows
    tiles = image_tiles(problem)
    tile, lanes, parts, phases = register_tile(tiles), lanes_of(problem), tiles.parts, tiles.phases
    width, size = tile.vectors * lanes.count, tile.points * item
    panels = -(-rows // width)
    few = tiles.count <= rows * phases and panels * g.groups >= PARTS // 2
    least, each = 2 * tile.height, size * parts
    step = _step(lanes, tile, each, phases)
    chunk, group = sums, 1
    if few:
        each *= phases * width
        group = max(1, min(MOST_PANELS, panels * g.groups // PARTS))
        if each * sums <= WEIGHT_BYTES:
            group = min(group, WEIGHT_BYTES // (each * sums))
            most = max(least, PRODUCT_BYTES // (size * phases * width))
        else:
            group = min(group, max(1, MOST_SOURCE_BYTES // (each * step)))
            chunk = max(1, MOST_SOURCE_BYTES // (each * group * step)) * step
            most = max(least, MOST_PRODUCT_BYTES // (size * phases * width * group))
        shares = -(-panels // group)
        group = -(-panels // shares)
        block, count = tiles.blocks(most)
    else:
        most, budget = SOURCE_BYTES // (each * sums), PRODUCT_BYTES
        if most < least and each * sums * least > MOST_SOURCE_BYTES:
            most = max(1, min(2 * least, MOST_SOURCE_BYTES // (each * step)))
            chunk = max(1, MOST_SOURCE_BYTES // (each * most * step)) * step
            budget = MOST_PRODUCT_BYTES
        block, count = tiles.blocks(max(least, most))
        shares = max(1, min(panels, -(-PARTS // (count * g.groups))))
        group = max(1, min(-(-panels // shares), budget // (size * block * phases * width)))
    chunk = min(chunk, sums)
    padded = -(-(sums if few else chunk) // lanes.count) * lanes.count
    vtile = spread(padded * parts, item)
    vplane = spread((tiles.count if few else block) * vtile, item)
    uplane = spread((group * chunk if few else panels * sums) * phases * parts * width, item)
    mplane = spread(block * group * phases * width, item)
    line = tiles.line(block, lanes.count)
    work = max(2 * line * tile.rows.tile, (taps_together(g.taps) + 1) * g.taps) * lanes.count
    work += 16 * lanes.count**2
    return Blocks(
        few, tile, tiles, rows, sums, block, count, panels, group, shares, step, chunk, padded,
        vtile, vplane, uplane, mplane, line, g.groups * tile.points * (vplane if few else uplane),
        tile.points * (mplane + (uplane if few else vplane)) + work,
    )  # fmt: skip


def taps_together(taps: int) -> int:
    """Channels whose taps are read at once."""
    return max(1, TAPS // taps)


def _step(lanes: Lanes, tile: WinogradTile, each: int, phases: int) -> int:
    """Channels of a panel of weights that stay in the first cache, and whose tiles fit, and whose
    weights of all phases fit."""
    width = tile.vectors * lanes.count
    fit = MOST_SOURCE_BYTES // (each * max(2 * tile.height, phases * width))
    return max(RUN, min(CHUNK // (lanes.bytes * width), fit) // RUN * RUN)


def lanes_of(problem: Problem) -> Lanes:
    """The registers of this machine for the problem's dtype."""
    return compiler.target().lanes(ELEMENTS[problem.dtype.name])


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
    g, item, cut = problem.geometry, problem.dtype.itemsize, blocks(problem)
    element, points, tiles = ELEMENTS[problem.dtype.name], cut.tile.points, cut.tiles
    first, second, *axes = (s // item for s in w)
    so, sr = (second, first) if problem.direction == "input_grad" else (first, second)
    taps = tap_places(tiles.axes, lifted_kernel(dense_strides(g.kernel)), NONE)
    places = np.array([np.dot(at, axes) for at in np.ndindex(*g.kernel)], np.int64)
    dense = (places == np.arange(g.taps)).all() and min(so, sr) > 0
    together = taps_together(g.taps) if dense and sr == g.taps else int(dense)
    lists = meeting_lists(meeting(tiles.axes))
    reads, tables = image_fields(tiles, source, item, cut.sums)
    yn, yo, *ys = strides_of(out, item)
    values = reads | tile_fields(tiles) | {
        "block": cut.block, "blocks": cut.blocks, "line": cut.line, "yn": yn,
        "yo": yo, "yz": ys[0], "yh": ys[1], "yw": ys[2], "yg": cut.rows * yo, "bg": cut.rows,
        **dict(zip(("OZ", "OH", "OW"), (axis.result for axis in tiles.axes), strict=True)),
        **dict(zip(("ez", "eh", "ew"), (axis.every for axis in tiles.axes), strict=True)),
        "taps": taps.ctypes.data, "lists": lists.ctypes.data, "M": cut.rows, "so": so, "sr": sr,
        "wg": g.group_out * first, "each": g.taps, "places": places.ctypes.data,
        "together": together, "panels": cut.panels, "phases": tiles.phases, "few": cut.group,
        "shares": cut.shares, "step": cut.step, "chunk": cut.chunk, "padded": cut.padded,
        "ahead": int(not cut.few and cut.beforehand * problem.wide.itemsize > AHEAD_BYTES),
        "vtile": cut.vtile, "vplane": cut.vplane, "uplane": cut.uplane, "mplane": cut.mplane,
        "ug": points * cut.uplane, "vg": points * cut.vplane,
    }  # fmt: skip

    def job(generator: Generator, parts: int, **other: int) -> Job:
        kept = (taps, places, lists, *tables)
        return Job(generator, element, cut.tile, values | other, g.groups * parts, True, kept)

    if cut.few:
        shares = min(cut.padded // lanes_of(problem).count, PARTS)
        transform = job(WINOGRAD_SOURCE, cut.blocks * shares, shares=shares)
        return Jobs(True, transform, job(WINOGRAD_FEW, cut.shares), cut.beforehand)
    transform = job(WINOGRAD_WEIGHTS, cut.panels * tiles.phases)
    multiply = job(WINOGRAD, cut.blocks * cut.shares)
    return Jobs(False, transform, multiply, cut.beforehand)


def image_fields(
    tiles: ImageTiles, strides: Strides, item: int, channels: int
) -> tuple[dict[str, int], tuple[np.ndarray, ...]]:
    """A kernel's arguments about what is read in tiles, and their tables."""
    deep, high, wide = tiles.axes
    least = [min(axis.shifts) for axis in tiles.axes]
    shifts = np.array(
        [(z - least[0], r - least[1]) for z in deep.shifts for r in high.shifts], np.int64
    )
    columns = np.array([c - least[2] for c in wide.shifts], np.int64)
    xn, xc, xz, xh, xw = strides_of(strides, item)
    return {
        "xn": xn, "xc": xc, "xz": xz, "xh": xh, "xw": xw, "D": deep.source, "H": high.source,
        "W": wide.source, "pz": -least[0], "ph": -least[1], "pw": -least[2], "sz": deep.stride,
        "sh": high.stride, "sw": wide.stride, "C": channels, "K": len(shifts), "Q": len(columns),
        "shifts": shifts.ctypes.data, "columns": columns.ctypes.data, "xg": channels * xc,
    }, (shifts, columns)  # fmt: skip


def tile_fields(tiles: ImageTiles) -> dict[str, int]:
    """A kernel's arguments about the tiles of an image."""
    _, high, wide = tiles.axes
    return {
        "TZ": tiles.planes, "TY": tiles.rows, "TX": tiles.columns, "ah": high.apart,
        "aw": wide.apart, "tiles": tiles.count,
    }  # fmt: skip


def meeting_lists(meets: np.ndarray) -> np.ndarray:
    """For each point and each first index of `meets` (…, parts, points), how many parts are met
    there, and which."""
    firsts, parts, points = meets.shape
    lists = np.zeros((points, firsts, parts + 1), np.int64)
    for point, first in np.ndindex(points, firsts):
        (met,) = np.nonzero(meets[first, :, point])
        lists[point, first, : len(met) + 1] = len(met), *met
    return lists


def dense_strides(kernel: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of the kernel's axes where its taps are one run of memory."""
    return tuple(prod(kernel[i + 1 :]) for i in range(len(kernel)))


def lifted_kernel(strides: tuple[int, ...]) -> tuple[int, int, int]:
    """The strides of the kernel's axes, as three."""
    z, r, c = (0,) * (3 - len(strides)) + strides
    return z, r, c


def strides_of(strides: Strides, item: int) -> tuple[int, ...]:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)
