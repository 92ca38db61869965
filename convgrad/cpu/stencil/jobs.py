"""Forward map and input gradient of few channels over a padded copy: the job, and its tables."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.correlation import Tap
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.axes import (
    Line,
    channels,
    elements,
    lines,
    strips_of,
)
from convgrad.cpu.stencil.kernels.rows import GATHER, PAIRS, QUADS, RUNS
from convgrad.cpu.stencil.kernels.stencil import PACK_STENCIL, STENCIL
from convgrad.cpu.stencil.layout import (
    Area,
    copy_offset,
    copy_size,
    layout,
    parts_of,
    staged,
    together,
)
from convgrad.cpu.stencil.shapes import RESIDUE, Slots, Stencil, Strips
from convgrad.cpu.tiling import ELEMENTS

SMALL = 30_000  # multiply-adds below which a second thread costs more than it does


@dataclass(frozen=True, eq=False)
class Work:
    """The job that packs the weights into `weights` numbers, and the job itself."""

    pack: Job
    stencil: Job
    weights: int


@lru_cache(maxsize=1024)
def work(problem: Problem, source: Strides, w: Strides, out: Strides) -> Work:
    """The jobs of y or dx for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    deep, high, wide = lines(problem)
    sums, rows = channels(problem)
    share, tile, area = layout(problem)
    assert tile is not None
    here, there = elements(source, item), elements(out, item)
    first, second, *axes = (s // item for s in w)
    if problem.direction == "input_grad":
        first, second = second, first
    stage_row = area.registers * area.lanes
    stage_h, stage_z = high.every * stage_row, high.every * area.stage_rows * stage_row
    part = deep.every * high.every * area.stage
    picks, taps, residues = _tables(
        problem, area, tile, (second, *axes), (stage_z, stage_row, part)
    )
    slots = _slots(area, deep.every * stage_z, stage_h, tile.vectors)
    places = _places(area, there)
    panels = -(-rows // tile.height)
    number = g.groups * panels * len(picks) * tile.height
    kind = way_of(wide, here[4])
    plain = kind != GATHER and wide.every <= 2 and there[4] == 1
    way = (kind, wide.every, True) if plain else (GATHER, 0, False)
    shape = Stencil(tile, *way, share)
    cut = parts_of(problem, area)
    element = ELEMENTS[problem.dtype.name]
    threaded = g.macs > SMALL
    pack = pack_job(problem, w, picks, tile.height)
    yn, yo, yz, yh, yw = there
    values = source_words(problem, here) | area_words(problem, area) | {
        "taps": taps.ctypes.data, "residues": residues.ctypes.data, "slots": slots.ctypes.data,
        "places": places.ctypes.data,
        "TZ": deep.size, "TR": high.size, "runs": cut.runs, "shares": cut.shares,
        "G": g.groups, "C": sums, "O": rows, "panels": panels, "L": len(picks),
        "nresidues": len(residues) // RESIDUE,
        "ez": deep.every, "eh": high.every, "ew": wide.every,
        "stageh": stage_h, "stagez": stage_z, "part": part, "GB": together(problem),
        "most": staged(problem), "copy": copy_size(problem, area),
        "stage": wide.every * staged(problem) * part if wide.every > 1 else 0,
        "yn": yn, "yo": yo, "yz": yz, "yh": yh, "yw": yw,
        "OZ": deep.total, "OH": high.total, "OW": wide.total,
        "writes": int(shape.writes and deep.every * high.every == 1 and len(places) > 0),
    }  # fmt: skip
    parts = cut.samples * cut.runs * cut.shares
    tables = (taps, residues, slots, places)
    return Work(pack, Job(STENCIL, element, shape, values, parts, threaded, tables), number)


def pack_job(
    problem: Problem, w: Strides, picks: np.ndarray, height: int, abreast: bool = False
) -> Job:
    """The job that packs panels of `height` rows of weights, in the order of `picks`.

    abreast: rows are the channels of a depthwise kernel.
    """
    g = problem.geometry
    _, rows = channels(problem)
    groups = g.groups
    first, second, *_ = (s // problem.dtype.itemsize for s in w)
    group = g.group_out * first
    row = second if problem.direction == "input_grad" and not abreast else first
    if abreast:
        groups, rows = 1, groups
    each = max(1, 2048 // max(1, len(picks) * rows))
    values = {
        "picks": picks.ctypes.data, "G": groups, "each": each, "L": len(picks), "O": rows,
        "panels": -(-rows // height), "so": row, "wg": group,
    }  # fmt: skip
    element, parts = ELEMENTS[problem.dtype.name], -(-groups // each)
    return Job(PACK_STENCIL, element, height, values, parts, g.macs > SMALL, (picks,))


def _tables(
    problem: Problem, area: Area, tile: Strips | Slots, strides: tuple[int, ...],
    stage: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Where each weight lies in w, where the taps read in the copy, and the residues.

    A residue: its offset in the stage, its first weight, its first tap, and its number of strips of
    each length (or of taps).
    """
    g = problem.geometry
    deep, high, wide = lines(problem)
    sums, _ = channels(problem)
    channel, *axes = strides
    every = list(product(deep.residues, high.residues, wide.residues))
    strips = strips_of(problem)

    def place(tap: tuple[Tap, Tap, Tap]) -> int:
        return sum(t.k * s for t, s in zip(tap[3 - g.rank :], axes, strict=True))

    picks: list[int] = []
    taps: list[int] = []
    residues: list[int] = []
    for index, residue in enumerate(every):
        rest, rw = divmod(index, wide.every)
        rz, rh = divmod(rest, high.every)
        offset = rw * staged(problem) * stage[2] + rz * stage[0] + rh * stage[1]
        words = [offset, len(picks), len(taps)]
        if isinstance(tile, Strips):
            for length in tile.strips:
                own = [s for i, s in strips if i == index and len(s) == length]
                picks += [place(tap) for strip in own for tap in strip]
                taps += [copy_offset(problem, area, strip[0]) for strip in own]
                words.append(len(own))
        else:
            own_taps = list(product(*residue))
            for c in range(sums):
                picks += [c * channel + place(tap) for tap in own_taps]
                taps += [copy_offset(problem, area, tap, c) for tap in own_taps]
            words.append(sums * len(own_taps))
        residues += words + [0] * (RESIDUE - len(words))
    return tuple(np.array(t, np.int64) for t in (picks, taps, residues))  # type: ignore[return-value]


def _slots(area: Area, plane: int, row: int, vectors: int) -> np.ndarray:
    """Where each register of a block lies in the copy and in the stage; the last one repeated."""
    _, copy_rows, columns = area.copy
    found = []
    for n, z, r, q in product(
        range(area.samples), range(area.planes), range(area.rows), range(area.registers)
    ):
        here = ((n * area.copy[0] + z) * copy_rows + r) * columns + q * area.lanes
        found.append((here, (n * area.planes + z) * plane + r * row + q * area.lanes))
    found += [found[-1]] * vectors
    return np.array(found, np.int64)


def _places(area: Area, out: tuple[int, ...]) -> np.ndarray:
    """Where each register of a block lies in the copy and in the result; none where rows are short.

    The last register of a row ends with the row, and overlaps the one before.
    """
    _, copy_rows, columns = area.copy
    yn, _, yz, yh, _ = out
    last = area.columns - area.lanes
    if last < 0:
        return np.empty((0, 2), np.int64)
    found = []
    for n, z, r, q in product(
        range(area.samples), range(area.planes), range(area.rows), range(area.registers)
    ):
        column = min(q * area.lanes, last)
        here = ((n * area.copy[0] + z) * copy_rows + r) * columns + column
        found.append((here, n * yn + z * yz + r * yh + column))
    return np.array(found, np.int64)


def way_of(wide: Line, step: int) -> int:
    """How its rows are read, where its columns lie `step` numbers apart."""
    parted = step == 1 and wide.phases == wide.stride and wide.stride in (RUNS, PAIRS, QUADS)
    return wide.stride if parted else GATHER


def source_words(problem: Problem, strides: tuple[int, ...]) -> dict[str, int]:
    values: dict[str, int] = dict(zip(("xn", "xc", "xz", "xh", "xw"), strides, strict=True))
    for line, size, axis in zip(lines(problem), "DHW", "zhw", strict=True):
        values |= {
            size: line.source, f"p{axis}": line.pad, f"s{axis}": line.stride,
            f"f{axis}": line.phases,
        }  # fmt: skip
    return values


def area_words(problem: Problem, area: Area) -> dict[str, int]:
    deep, high, wide = lines(problem)
    batch = problem.geometry.batch
    return {
        "cells": area.cells, "Dq": area.copy[0], "Hq": area.copy[1], "Wq": area.copy[2],
        "N": batch, "NB": area.samples, "BZ": area.planes, "BR": area.rows,
        "reachz": deep.reach, "reachh": high.reach, "nv": area.registers,
        "nn": -(-batch // area.samples), "nz": -(-deep.size // area.planes),
        "nr": -(-high.size // area.rows), "nc": -(-wide.size // area.columns), "BC": area.columns,
    }  # fmt: skip
