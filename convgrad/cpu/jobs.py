"""A problem as jobs: a kernel, its arguments, and how many parts it has."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes, input_grad_axes, line_axes
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.kernels.correlate import CORRELATE, POINTWISE
from convgrad.cpu.kernels.inner import INNER
from convgrad.cpu.kernels.multiply import MULTIPLY
from convgrad.cpu.kernels.outer import OUTER
from convgrad.cpu.kernels.packing import BY_ROW, BY_SUM, BY_TAP, PACK_WEIGHTS, SCATTERED
from convgrad.cpu.products import is_line
from convgrad.cpu.shares import Split, weight_split
from convgrad.cpu.tiling import (
    BLOCK,
    CHUNK,
    ELEMENTS,
    HEIGHTS,
    PARTS,
    SMALL,
    Block,
    Panels,
    Tile,
    block,
    counts,
    panels,
    tap_offsets,
    vectors_for,
)

Strides = tuple[int, ...]
DEPTH = 512  # products in a row of a tile before its sums are put down
PANELS = 192 << 10  # bytes of packed cells that a thread keeps beside a panel of weights


@dataclass(frozen=True)
class Correlation:
    """The jobs of one residue: pack the weights into `weights` numbers, then correlate.

    offset: bytes from the start of the result's array to the residue's first cell.
    """

    pack: Job
    correlate: Job
    weights: int
    offset: int
    cb: int = 0
    skips: bool = False


@dataclass(frozen=True)
class Roles:
    """What a correlation's rows and sums run over, and the strides (in elements) of its arrays.

    source, out: sample, channel and three axes. weights: row, summed channel, the kernel's axes.
    """

    rows: int
    sums: int
    source: tuple[int, ...]
    out: tuple[int, ...]
    weights: tuple[int, ...]
    weight_group: int


def roles(problem: Problem, source: Strides, w: Strides, out: Strides) -> Roles:
    """Forward: rows are output channels. Input gradient: rows are input channels."""
    g, item = problem.geometry, problem.dtype.itemsize
    first, second, *axes = (s // item for s in w)
    group = g.group_out * first
    here, there = _strides(source, item), _strides(out, item)
    if problem.direction == "input_grad":
        return Roles(g.group_in, g.group_out, here, there, (second, first, *axes), group)
    return Roles(g.group_out, g.group_in, here, there, (first, second, *axes), group)


@lru_cache(maxsize=1024)
def correlations(
    problem: Problem, source: Strides, w: Strides, out: Strides
) -> tuple[Correlation, ...]:
    """The correlations that make up y or dx, for arrays with these strides in bytes."""
    g = problem.geometry
    role = roles(problem, source, w, out)
    every = input_grad_axes(g) if problem.direction == "input_grad" else [forward_axes(g)]
    return tuple(_correlation(problem, axes, role, _blocked(problem, axes, role)) for axes in every)


def _correlation(
    problem: Problem, axes: Axes, role: Roles, correlate_job: Job, block: int | None = None,
    by_tap: bool = False,
) -> Correlation:
    """block: summed channels in a block, which has taps outside; None: one block, taps inside."""
    g, item = problem.geometry, problem.dtype.itemsize
    tile, cut = _tile(role.rows)
    places = [
        sum(k * s for k, s in zip(tap[3 - g.rank :], role.weights[2:], strict=True))
        for tap in _taps(axes)
    ]
    table = np.array(places, np.int64)
    size = role.rows * role.sums * len(places)
    pack = _job(
        PACK_WEIGHTS, tile, problem, g.groups * cut.count, (table,), tog=size, rows=role.rows,
        taps=table.ctypes.data, R=role.sums, K=len(places), so=role.weights[0], sr=role.weights[1],
        tall=cut.tall, low=cut.low, wg=role.weight_group, cb=block or role.sums, order=int(by_tap),
    )  # fmt: skip
    pack = _vectorised(pack, places, not by_tap or len(places) == 1)
    offset = sum(axis.first * s for axis, s in zip(axes, role.out[2:], strict=True)) * item
    return Correlation(pack, correlate_job, g.groups * size, offset)


def _vectorised(pack: Job, places: list[int], taps_inside: bool) -> Job:
    """The same packing, along an axis of the weights that is contiguous where there is one."""
    values = pack.values
    if values["sr"] == len(places) and places == list(range(len(places))) and taps_inside:
        merged = {"R": values["R"] * len(places), "K": 1, "sr": 1, "cb": values["cb"] * len(places)}
        return replace(pack, values=values | merged | {"form": BY_SUM})
    if values["so"] == 1:
        return replace(pack, values=values | {"form": BY_ROW})
    if values["sr"] == 1:
        return replace(pack, values=values | {"form": BY_SUM})
    step = min(values["so"], values["sr"])  # of the whole kernel, where its axes are contiguous
    if places and max(places) < step <= 4 * len(places) and min(places) >= 0:
        where = np.full(-(-step // 16) * 16, -1, np.int64)
        where[places] = range(len(places))
        given = {"form": BY_TAP, "span": max(places) + 1, "where": where.ctypes.data}
        return replace(pack, values=values | given, tables=(*pack.tables, where))
    return replace(pack, values=values | {"form": SCATTERED})


def _blocked(problem: Problem, axes: Axes, role: Roles) -> Job:
    """The kernel that copies a padded block and reads it at each tap's offset."""
    g, item = problem.geometry, problem.dtype.itemsize
    tile, cut = _tile(role.rows)
    area = block_of(problem, axes)
    table = np.array(tap_offsets(axes, area, area.pitch(item)), np.int64)
    numbers = counts(axes, area, g.batch)
    blocks = g.groups * prod(numbers.values())
    shares = min(cut.count, -(-PARTS // max(1, blocks)))
    yn, yo, *spatial = role.out
    yz, yh, yw = (s * axis.every for s, axis in zip(spatial, axes, strict=True))
    return _job(
        CORRELATE, tile, problem, blocks * shares, (table,),
        **_source(axes, role.source), **_area(axes, area, g.batch, item), **numbers,
        taps=table.ctypes.data, C=role.sums, K=len(table), yn=yn, yo=yo, yz=yz, yh=yh, yw=yw,
        tall=cut.tall, low=cut.low, shares=shares, xg=role.sums * role.source[1],
        wg=role.rows * role.sums * len(table), yg=role.rows * yo, bg=role.rows,
    )  # fmt: skip


def _is_pointwise(problem: Problem, source: Strides, out: Strides) -> bool:
    """A 1×1 map of images that lie in one run each, and are large enough to fill tiles."""
    g, item = problem.geometry, problem.dtype.itemsize
    same = g.taps == 1 and g.positions == prod(g.in_size) and not any(map(any, g.pads))
    flat = _is_run(g.in_size, source, item) and _is_run(g.in_size, out, item)
    return same and flat


@lru_cache(maxsize=1024)
def weight_job(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of a weight gradient, for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    axes, xs, ys = forward_axes(g), _strides(x, item), _strides(dy, item)
    if is_line(problem, x, dy):
        axes = line_axes(g.positions)
        xs, ys = (*xs[:2], 0, 0, xs[-1]), (*ys[:2], 0, 0, ys[-1])
    split = weight_split(problem, axes)
    if split.kernel == "outer":
        return _outer(problem, axes, split, xs, ys)
    offsets = np.array(tap_offsets(axes, split.area, split.area.pitch(item)), np.int64)
    size = g.group_out * g.group_in * g.taps
    return _job(
        INNER, split.tile, problem, g.groups * split.pieces * split.cshares * split.oshares,
        (offsets,), **_source(axes, xs), **_area(axes, split.area, g.batch, item),
        **counts(axes, split.area, g.batch),
        taps=offsets.ctypes.data, C=g.group_in, O=g.group_out, K=g.taps,
        yn=ys[0], yo=ys[1], yz=ys[2], yh=ys[3], yw=ys[4],
        cshares=split.cshares, oshares=split.oshares, pieces=split.pieces,
        xg=g.group_in * xs[1], yg=g.group_out * ys[1], dwg=size, dws=g.groups * size,
    )  # fmt: skip


def _outer(problem: Problem, axes: Axes, split: Split, xs: Strides, ys: Strides) -> Job:
    g, area = problem.geometry, split.area
    table = _shifts(axes)
    deep, high, wide = axes
    size = g.group_out * g.group_in * g.taps
    return _job(
        OUTER, split.tile, problem, g.groups * split.pieces * split.cshares * split.oshares,
        (table,), taps=table.ctypes.data, C=g.group_in, O=g.group_out, K=g.taps,
        xn=xs[0], xc=xs[1], xz=xs[2], xh=xs[3], xw=xs[4],
        D=deep.source, H=high.source, W=wide.source, sz=deep.stride, sh=high.stride, sw=wide.stride,
        OZ=deep.size, OH=high.size, OW=wide.size,
        yn=ys[0], yo=ys[1], yz=ys[2], yh=ys[3], yw=ys[4],
        N=g.batch, NB=area.samples, BZ=area.planes, BR=area.rows, BC=area.columns,
        **area.counts(axes, g.batch), tall=split.cut.tall, low=split.cut.low, opanels=split.opanels,
        cshares=split.cshares, oshares=split.oshares, pieces=split.pieces,
        xg=g.group_in * xs[1], yg=g.group_out * ys[1], dwg=size, dws=g.groups * size,
    )  # fmt: skip


def _shifts(axes: Axes) -> np.ndarray:
    """For each tap where result 0 meets the source, on three axes."""
    deep, high, wide = axes
    return np.array(
        [
            (z.offset(deep), r.offset(high), c.offset(wide))
            for z in deep.taps for r in high.taps for c in wide.taps
        ],
        np.int64,
    ).reshape(-1, 3)  # fmt: skip


def _tile(rows: int) -> tuple[Tile, Panels]:
    level = compiler.target().level
    vectors = vectors_for(rows, level)
    cut = panels(rows, HEIGHTS[level][vectors])
    return Tile(cut.height, vectors), cut


def block_of(problem: Problem, axes: Axes) -> Block:
    return block(axes, problem.geometry.batch, cell_bytes(problem, axes))


def cell_bytes(problem: Problem, axes: Axes) -> int:
    g = problem.geometry
    channels = g.group_out if problem.direction == "input_grad" else g.group_in
    return channels * prod(a.phases for a in axes) * problem.dtype.itemsize


def _taps(axes: Axes) -> list[tuple[int, int, int]]:
    deep, high, wide = axes
    return [(z.k, r.k, c.k) for z in deep.taps for r in high.taps for c in wide.taps]


def _source(axes: Axes, strides: tuple[int, ...]) -> dict[str, int]:
    values: dict[str, int] = dict(zip(("xn", "xc", "xz", "xh", "xw"), strides, strict=True))
    for axis, size, (pad, stride, phase) in zip(
        axes, "DHW", (("pz", "sz", "fz"), ("ph", "sh", "fh"), ("pw", "sw", "fw")), strict=True
    ):
        values |= {size: axis.source, pad: axis.pad, stride: axis.stride, phase: axis.phases}
    return values


def _area(axes: Axes, area: Block, batch: int, item: int) -> dict[str, int]:
    deep, high, wide = axes
    return {
        "cells": area.pitch(item), "N": batch,
        "NB": area.samples, "BZ": area.size[0], "BR": area.size[1],
        "Dq": area.planes, "Hq": area.rows, "Wq": area.columns,
        "OZ": deep.size, "OH": high.size, "OW": wide.size,
    }  # fmt: skip


def _strides(strides: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)


def _is_run(size: tuple[int, ...], strides: tuple[int, ...], item: int) -> bool:
    """Whether the spatial axes are one run of consecutive elements."""
    run = item
    for n, stride in zip(reversed(size), reversed(strides)):
        if n > 1 and stride != run:
            return False
        run *= n
    return True


def _job(
    generator: Generator, tile: Tile, problem: Problem, parts: int, tables: tuple[np.ndarray, ...],
    **values: int,
) -> Job:  # fmt: skip
    threaded = problem.geometry.macs > SMALL
    return Job(generator, ELEMENTS[problem.dtype.name], tile, values, parts, threaded, tables)
