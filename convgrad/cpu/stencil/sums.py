"""Weight gradient of few channels over a padded copy: the job, and its tables."""

from functools import lru_cache
from itertools import product

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.axes import (
    elements,
    lines,
)
from convgrad.cpu.stencil.jobs import SMALL, area_words, source_words, way_of
from convgrad.cpu.stencil.kernels.rows import GATHER
from convgrad.cpu.stencil.kernels.weights import STENCIL_WEIGHTS
from convgrad.cpu.stencil.layout import (
    Area,
    Tile,
    copy_offset,
    copy_size,
    layout,
    parts_of,
    together,
    weight_tiles,
)
from convgrad.cpu.stencil.shapes import Sums
from convgrad.cpu.tiling import ELEMENTS


@lru_cache(maxsize=1024)
def weight_work(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of dw for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    wide = lines(problem)[2]
    here, there = elements(x, item), elements(dy, item)
    share, _, area = layout(problem)
    shape, tiles = weight_tiles(problem)
    kind = way_of(wide, here[4])
    way = (kind, True) if kind != GATHER and there[4] == 1 else (GATHER, False)
    shape = Sums(shape.strips, shape.rows, shape.height, *way, share)
    taps, picks = weight_tables(problem, area, shape, tiles)
    count = len(picks) // shape.height
    slots, numbers, last = _weight_slots(problem, area, shape.rows)
    cut = parts_of(problem, area)
    yn, yo, yz, yh, yw = there
    size = g.group_out * g.group_in * g.taps
    values = source_words(problem, here) | area_words(problem, area) | {
        "taps": taps.ctypes.data, "slots": slots.ctypes.data, "picks": picks.ctypes.data,
        "G": g.groups, "runs": cut.runs, "pieces": cut.shares, "C": g.group_in, "O": g.group_out,
        "panels": -(-g.group_out // shape.height), "L": count, "CK": g.group_in * g.taps,
        "part": area.stage, "GB": together(problem), "copy": copy_size(problem, area),
        "gradient": area.stage * g.group_out * together(problem), "dws": g.groups * size,
        "yn": yn, "yo": yo, "yz": yz, "yh": yh, "yw": yw, "slots_full": 0, "slots_last": last,
    }  # fmt: skip
    values |= dict(zip(("OZ", "OH", "OW"), (a.size for a in lines(problem)), strict=True))
    values |= {f"tiles{i}": len(own) for i, own in enumerate(tiles)}
    values |= {f"full{i}": n for i, n in enumerate(numbers[0])}
    values |= {f"last{i}": n for i, n in enumerate(numbers[1])}
    return Job(
        STENCIL_WEIGHTS, ELEMENTS[problem.dtype.name], shape, values, cut.runs * cut.shares,
        g.macs > SMALL, (taps, slots, picks),
    )  # fmt: skip


def weight_tables(
    problem: Problem, area: Area, shape: Sums, tiles: list[list[Tile]]
) -> tuple[np.ndarray, np.ndarray]:
    """Where each column of each tile reads in the copy; where each sum goes in dw."""
    g = problem.geometry
    kernel = (*(1,) * (3 - g.rank), *g.kernel)
    taps, picks = [], []
    for (length, columns), own in zip(shape.strips, tiles, strict=True):
        for tile in own:
            taps += [copy_offset(problem, area, strip[0], c) for c, strip in tile]
            for m, t, u in product(range(shape.height), range(length), range(columns)):
                c, strip = tile[u]
                z, h, w = (tap.k for tap in strip[t])
                place = (z * kernel[1] + h) * kernel[2] + w
                picks.append((m * g.group_in + c) * g.taps + place)
    return np.array(taps, np.int64), np.array(picks, np.int64)


def _weight_slots(
    problem: Problem, area: Area, rows: int
) -> tuple[np.ndarray, tuple[list[int], list[int]], int]:
    """The slots of a whole block and of the last one, the numbers of each kind, and where the last
    block's begin."""
    deep, high, _ = lines(problem)
    last = (
        _rest(problem.geometry.batch, area.samples), _rest(deep.size, area.planes),
        _rest(high.size, area.rows),
    )  # fmt: skip
    whole = (area.samples, area.planes, area.rows)
    tables, numbers = [], []
    for block in (whole, last):
        kinds = _kinds(problem, area, rows, block)
        numbers.append([len(kind) for kind in kinds])
        tables.append([slot for kind in kinds for slot in kind])
    table = np.array(tables[0] + tables[1], np.int64).reshape(-1, 2)
    return table, (numbers[0], numbers[1]), 2 * len(tables[0])


def _rest(total: int, each: int) -> int:
    return total - (-(-total // each) - 1) * each


def _kinds(
    problem: Problem, area: Area, rows: int, block: tuple[int, int, int]
) -> list[list[tuple[int, int]]]:
    """Pairs of rows and single rows; whole registers, and those at a row's end."""
    wide = lines(problem)[2]
    whole, rest = divmod(wide.size, area.lanes)
    samples, planes, high = block
    together = high // rows * rows if rows > 1 else 0
    kinds: list[list[tuple[int, int]]] = [[], [], [], []]
    _, copy_rows, columns = area.copy
    for n, z in product(range(samples), range(planes)):
        for r in (*range(0, together, rows), *range(together, high)):
            here = ((n * area.copy[0] + z) * copy_rows + r) * columns
            there = ((n * area.planes + z) * area.stage_rows + r) * area.registers * area.lanes
            single = 2 * (r >= together)
            for q in range(whole + (rest > 0)):
                kinds[single + (q == whole)].append((here + q * area.lanes, there + q * area.lanes))
    return kinds
