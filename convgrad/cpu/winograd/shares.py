"""How a weight gradient by Winograd is cut into parts: shares of channels, pieces of the tiles.

Where tiles are few, all of them are transformed beforehand, otherwise each part transforms its own.
The cut depends on the geometry and the machine, never on the number of threads.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.tiling import ELEMENTS, PARTS, spread
from convgrad.cpu.winograd.axes import meeting, tap_places
from convgrad.cpu.winograd.jobs import (
    Strides,
    dense_strides,
    image_fields,
    lanes_of,
    lifted_kernel,
    meeting_lists,
    strides_of,
    tile_fields,
)
from convgrad.cpu.winograd.kernels.outer import WINOGRAD_OUTER
from convgrad.cpu.winograd.kernels.transforms import NONE, WINOGRAD_GRADIENT, WINOGRAD_PANELS
from convgrad.cpu.winograd.tiling import ImageTiles, WinogradTile, image_tiles, register_tile

SUM_BYTES = 2560 << 10  # sums of a weight gradient's part
OPERAND_BYTES = 1024 << 10  # its transformed tiles of a block
MANY_SHARES = 8  # where each would transform its own tiles, that is worth doing beforehand
FEW_TILES = 128  # in a block, where all are transformed beforehand
PIECES = 4  # a piece is a quarter of the transformed weights


@dataclass(frozen=True)
class Shares:
    """How a weight gradient is cut, and a thread's memory, in numbers.

    few: whether all tiles are transformed beforehand, into `beforehand` numbers, those of x first.
    """

    few: bool
    tile: WinogradTile
    tiles: ImageTiles
    block: int
    blocks: int
    cpanels: int
    opanels: int
    cshares: int
    oshares: int
    pieces: int
    cpadded: int
    cpanel: int
    otile: int
    cplane: int
    oplane: int
    line: int
    beforehand: int
    scratch: int


@lru_cache(maxsize=1024)
def shares(problem: Problem) -> Shares:
    """Shares of channels whose sums fit; pieces of the tiles where that makes too few parts."""
    g, item, lanes = problem.geometry, problem.wide.itemsize, lanes_of(problem).count
    tiles = image_tiles(problem)
    tile, columns = register_tile(tiles), tiles.column_parts
    width, points, planes = tile.vectors * lanes, tile.points, tiles.parts // columns
    cpanels, opanels = -(-g.group_in // width), -(-g.group_out // lanes)
    cshares = oshares = 1

    def padded() -> tuple[int, int]:
        return -(-cpanels // cshares) * width, -(-opanels // oshares) * lanes

    while columns * prod(padded()) * points * item > SUM_BYTES and padded() != (width, lanes):
        if padded()[0] > padded()[1]:
            cshares += 1
        else:
            oshares += 1
    own_c, own_o = padded()
    parts = g.groups * planes * cshares * oshares
    all_c, all_o = cpanels * width, opanels * lanes
    all_tiles = tiles.count * (tiles.parts * all_c + all_o)
    few = planes * cshares * oshares >= MANY_SHARES
    few = few and all_tiles <= tiles.parts * g.group_in * g.group_out
    sums = points * columns * own_c * own_o + width
    if few:
        block, blocks = tiles.blocks(FEW_TILES)
        kept, planes, own_o = tiles.count, tiles.parts, all_o
    else:
        own = points * (columns * own_c + own_o) * item
        block, blocks = tiles.blocks(max(4, OPERAND_BYTES // own))
        kept, planes = block, columns
    cpanel, otile = spread(kept * width, item), spread(own_o, item)
    cpadded = (all_c if few else own_c) // width * cpanel
    cplane, oplane = spread(planes * cpadded, item), spread(kept * otile, item)
    operands = points * (cplane + oplane)
    pieces = max(1, min(blocks, PIECES, PARTS // parts))
    line = tiles.line(block, lanes)
    scratch = sums + (0 if few else operands) + 2 * line * tile.rows.tile * lanes + 256
    return Shares(
        few, tile, tiles, block, blocks, cpanels, opanels, cshares, oshares, pieces, cpadded,
        cpanel, otile, cplane, oplane, line, g.groups * operands if few else 0, scratch,
    )  # fmt: skip


@dataclass(frozen=True)
class OuterJobs:
    """The job that makes dw; those that transform x and dy beforehand, and where dy's begin."""

    outer: Job
    before: tuple[Job, ...]
    second: int


@lru_cache(maxsize=1024)
def outer_jobs(problem: Problem, x: Strides, dy: Strides) -> OuterJobs:
    """The jobs of a weight gradient, for arrays with these strides in bytes."""
    g, item, cut = problem.geometry, problem.dtype.itemsize, shares(problem)
    element, points = ELEMENTS[problem.dtype.name], cut.tile.points
    yn, yo, *ys = strides_of(dy, item)
    numbers = g.group_out * g.group_in * g.taps
    taps = tap_places(cut.tiles.axes, lifted_kernel(dense_strides(g.kernel)), NONE)
    met = meeting(cut.tiles.axes)
    lists = meeting_lists(met.reshape(-1, cut.tiles.column_parts, met.shape[2]))
    reads, tables = image_fields(cut.tiles, x, item, g.group_in)
    size = dict(zip(("OZ", "OH", "OW"), (axis.result for axis in cut.tiles.axes), strict=True))
    blocks = {"block": cut.block, "blocks": cut.blocks, "line": cut.line}
    grid = tile_fields(cut.tiles) | blocks
    values = reads | grid | size | {
        "taps": taps.ctypes.data, "lists": lists.ctypes.data, "O": g.group_out,
        "yn": yn, "yo": yo, "yz": ys[0], "yh": ys[1], "yw": ys[2],
        "cpanels": cut.cpanels, "opanels": cut.opanels, "cshares": cut.cshares,
        "oshares": cut.oshares, "pieces": cut.pieces, "cpadded": cut.cpadded,
        "cpanel": cut.cpanel, "otile": cut.otile, "cplane": cut.cplane, "oplane": cut.oplane,
        "yg": g.group_out * yo, "each": g.taps, "dwg": numbers, "dws": g.groups * numbers,
        "few": int(cut.few), "vg": points * cut.cplane, "ug": points * cut.oplane,
    }  # fmt: skip
    parts = g.groups * values["K"] * cut.pieces * cut.cshares * cut.oshares
    outer = Job(WINOGRAD_OUTER, element, cut.tile, values, parts, True, (taps, lists, *tables))
    if not cut.few:
        return OuterJobs(outer, (), 0)
    zeros = np.zeros(2, np.int64)
    plain = {
        "xn": yn, "xc": yo, "xz": ys[0], "xh": ys[1], "xw": ys[2], "D": size["OZ"],
        "H": size["OH"], "W": size["OW"], "pz": 0, "ph": 0, "pw": 0, "sz": 1, "sh": 1, "sw": 1,
        "C": g.group_out, "K": 1, "Q": 1, "shifts": zeros.ctypes.data,
        "columns": zeros.ctypes.data, "xg": g.group_out * yo,
    }  # fmt: skip

    def before(generator: Generator, image: dict[str, int], width: int, **own: int) -> Job:
        shares = min(-(-image["C"] // width), PARTS)
        count = g.groups * cut.blocks * shares
        fields = grid | image | own | {"shares": shares, "vg": points * own["vplane"]}
        return Job(generator, element, cut.tile, fields, count, True, (zeros, *tables))

    lanes = lanes_of(problem).count
    width = cut.tile.vectors * lanes
    return OuterJobs(
        outer,
        (before(WINOGRAD_PANELS, reads, width, padded=cut.cpadded, vtile=width, vpanel=cut.cpanel,
                vplane=cut.cplane),
         before(WINOGRAD_GRADIENT, plain, lanes, vtile=cut.otile, vplane=cut.oplane)),
        g.groups * points * cut.cplane * problem.wide.itemsize,
    )  # fmt: skip
