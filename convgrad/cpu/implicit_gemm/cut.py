"""How a product is cut into panels, blocks and parts, by the geometry and the machine alone."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes
from convgrad.cpu.implicit_gemm.kernels.few import packed_cells
from convgrad.cpu.implicit_gemm.kernels.multiply import LINE, ZEROS, panel_words
from convgrad.cpu.implicit_gemm.kernels.packing import (
    HOME,
)
from convgrad.cpu.implicit_gemm.kernels.panels import PIECE
from convgrad.cpu.implicit_gemm.kernels.runs import RECORD, TABLE
from convgrad.cpu.implicit_gemm.taps import Bands, Taps, bands_of, taps_of
from convgrad.cpu.jit import compiler
from convgrad.cpu.tiling import ELEMENTS, HEIGHTS, Panels, Tile, panels, vectors_for

DEPTH = 512  # products in a row of a tile before its sums are put down
PANELS = 192 << 10  # bytes of packed cells that a thread keeps beside a panel of weights
MOST_PANELS = 64
TURNS = 16  # blocks of cells in a part: while one is multiplied, the next is asked for
MANY = 1 << 14  # weights from which it matters whether they are copied beforehand
FEW = 1.0  # packed cells by weights from which all cells are packed beforehand, not all weights
BESIDE = 128 << 10  # bytes of weights that are then packed at once
BALANCE = 16  # a product is cut into at least this many blocks of cells where it can be


@dataclass(frozen=True)
class Cut:
    """How a product is cut: its tile, the panels of rows, and the blocks of panels of cells.

    samples: whose cells lie in one unit; block: summed channels in a block; turns: blocks of
    `panels` panels that a part goes through. count: panels of cells in a unit. few: whether they
    are all packed beforehand; beside: panels of weights that are then packed at once.
    """

    tile: Tile
    rows: Panels
    width: int
    samples: int
    unit: int
    block: int
    panels: int
    turns: int
    blocks: int
    skips: bool
    count: int
    few: bool
    beside: int


@lru_cache(maxsize=4096)
def _positions(axes: Axes) -> int:
    return prod(axis.size for axis in axes)


def cut_of(problem: Problem, bands: Bands, taps: Taps) -> Cut:
    """The tile's panels and the blocks of cells, from the geometry and the machine alone."""
    g, item = problem.geometry, problem.wide.itemsize
    rows, sums = g.group_out, g.group_in
    if problem.direction == "input_grad":
        rows, sums = sums, rows
    where = compiler.target()
    vectors = vectors_for(rows, where.level)
    cut = panels(rows, HEIGHTS[where.level][vectors])
    lanes = where.lanes(ELEMENTS[problem.dtype.name])
    width = vectors * lanes.count
    places = max(1, len(taps.places))
    positions = _positions(bands[0][0])
    together = positions < 16 * width  # whatever the batch: a sample has the same bits in any
    samples, units = (g.batch, 1) if together else (1, g.batch)
    unit = samples * positions
    block = -(-sums // max(1, round(sums * _depth(taps) / DEPTH)))
    count = -(-unit // width)
    most = PANELS // (block * places * width * item)
    most = max(1, min(MOST_PANELS, most, -(-count * units * g.groups // BALANCE)))
    blocks = -(-count // most)
    turns = max(1, min(TURNS, blocks * units * g.groups // (2 * BALANCE)))
    skips = not together and any(
        len(axis.taps) > 1 and 8 * max(abs(tap.offset(axis)) for tap in axis.taps) > axis.source
        for phases in bands
        for axes in phases
        for axis in axes
    )
    each = -(-count // blocks)
    packed = packed_cells(count, panel_words(lanes, width), sums, block, places, width)
    numbers = rows * sums * len(taps.slots)
    few = units == 1 and not skips and g.groups * numbers >= MANY and packed <= FEW * numbers
    beside = max(1, BESIDE // max(1, cut.height * block * len(taps.slots) * item))
    return Cut(
        Tile(cut.height, vectors), cut, width, samples, unit, block, each, turns,
        -(-count // (each * turns)), skips, count, few, beside,
    )  # fmt: skip


def _depth(taps: Taps) -> float:
    """Products in a phase's sum for each channel, between its own taps and all that are packed."""
    counts = [n for n in np.diff(taps.starts).tolist() if n]
    return (len(taps.places) + sum(counts) / max(1, len(counts))) / 2


def scratch(problem: Problem) -> int:
    """Bytes that a thread works in: see `multiply`; packing weights takes a table of the taps."""
    bands = bands_of(problem)
    taps = taps_of(bands)
    cut, item = cut_of(problem, bands, taps), problem.wide.itemsize
    count, places, phases = len(taps.slots), len(taps.places), len(bands[0])
    words = TABLE + RECORD * cut.width + 3 * LINE
    if cut.skips:
        words += places + PIECE * count + len(bands) * phases
    numbers = ZEROS + (phases + 1) * cut.width * (cut.tile.height + 16) + 2 * cut.width
    if cut.few:
        packed = cut.beside * cut.tile.height * cut.block * count
        return 8 * (HOME * count + LINE) + (numbers + packed) * item
    packed = cut.panels * max(1, places) * cut.block * cut.width
    return max(8 * HOME * count, 8 * cut.panels * words + (numbers + packed) * item)
