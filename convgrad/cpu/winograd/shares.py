"""How a weight gradient by Winograd is cut into parts: shares of channels, pieces of the tiles.

The cut depends on the geometry and the machine, never on the number of threads.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import lifted
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.tiling import ELEMENTS, PARTS, spread
from convgrad.cpu.winograd.jobs import Strides, strides_of, tile_fields
from convgrad.cpu.winograd.kernels.outer import WINOGRAD_OUTER
from convgrad.cpu.winograd.tiling import ImageTiles, WinogradTile, image_tiles, winograd_tiles

SUM_BYTES = 2560 << 10  # sums of a weight gradient's part
OPERAND_BYTES = 1024 << 10  # its transformed tiles of a block
PIECES = 4  # a piece is a quarter of the transformed weights


@dataclass(frozen=True)
class Shares:
    """How a weight gradient is cut, and a thread's memory, in numbers."""

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
    tiles = image_tiles(g, g.out_size, form)
    most = max(4, OPERAND_BYTES // (points * sum(padded()) * item))
    block, blocks = tiles.blocks(most)
    depth = g.kernel[0] if g.rank == 3 else 1
    parts = g.groups * depth * cshares * oshares
    pieces = max(1, min(blocks, PIECES, PARTS // parts))
    own_c, own_o = padded()
    cplane, oplane = spread(block * own_c, item), spread(block * own_o + tile.height, item)
    line = tiles.line(block, lanes)
    sums = points * own_c * (own_o + 2 * tile.height) + width
    scratch = sums + points * (cplane + oplane) + 2 * line * form.tile * lanes + 256
    return Shares(
        tile, tiles, block, blocks, cpanels, opanels, cshares, oshares, pieces, own_c, own_o,
        cplane, oplane, line, scratch,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def outer_job(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of a weight gradient, for arrays with these strides in bytes."""
    g, item, cut = problem.geometry, problem.dtype.itemsize, shares(problem)
    xn, xc, *xs = strides_of(x, item)
    yn, yo, *ys = strides_of(dy, item)
    source, size = lifted(g.in_size, 1), lifted(g.out_size, 1)
    pads = lifted(tuple(lo for lo, _ in g.pads), 0)
    depth = g.kernel[0] if g.rank == 3 else 1
    numbers = g.group_out * g.group_in * g.taps
    values = {
        "xn": xn, "xc": xc, "xz": xs[0], "xh": xs[1], "xw": xs[2], "D": source[0], "H": source[1],
        "W": source[2], "pz": pads[0], "ph": pads[1], "pw": pads[2], "C": g.group_in, "K": depth,
        "O": g.group_out, "OZ": size[0], "OH": size[1], "OW": size[2], **tile_fields(cut.tiles),
        "block": cut.block, "blocks": cut.blocks, "line": cut.line, "yn": yn, "yo": yo,
        "yz": ys[0], "yh": ys[1], "yw": ys[2],
        "cpanels": cut.cpanels, "opanels": cut.opanels, "cshares": cut.cshares,
        "oshares": cut.oshares, "pieces": cut.pieces, "cpadded": cut.cpadded,
        "opadded": cut.opadded, "cplane": cut.cplane, "oplane": cut.oplane, "xg": g.group_in * xc,
        "yg": g.group_out * yo, "dwg": numbers, "dws": g.groups * numbers,
    }  # fmt: skip
    parts = g.groups * depth * cut.pieces * cut.cshares * cut.oshares
    return Job(WINOGRAD_OUTER, ELEMENTS[problem.dtype.name], cut.tile, values, parts, True)
