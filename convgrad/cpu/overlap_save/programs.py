"""The programs of overlap_save: jobs that make a map chunk by chunk, and what they share."""

from collections.abc import Iterator
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.jit import threads
from convgrad.cpu.job import Job
from convgrad.cpu.overlap_save.jobs import (
    DOUBLE,
    Layout,
    View,
    by_channels,
    by_pairs,
    each_by_pairs,
    filter_tiles,
    from_spectra,
    one_each,
    sum_channels,
    sum_pairs,
    to_spectra,
)
from convgrad.cpu.overlap_save.tiling import CELL, Size, Tiling, one_tile, tiling
from convgrad.cpu.program import BETWEEN, BIAS, FIRST, OUT, SECOND, WORK, Program, Step
from convgrad.geometry import Geometry
from convgrad.reference.blocks import budget

BUDGET = 16 << 20  # bytes of the spectra of tiles that are worked on at a time


def filter_program(problem: Problem, source: View, w: View, out: View, pairs: int) -> Program:
    """out = source (N, G·C, …) correlated with w (G·O, C, …), times a tile's points.

    First: source.  Second: w, the spectra of whose groups lie between the jobs in turn.
    pairs: of tiles, whose spectra are kept at a time.
    """
    g, cut, no_bias = problem.geometry, cut_of(problem), np.zeros(out.shape[1])
    if is_apart(g):
        one = one_each(cut.points, g.groups)
        turned = View((w.shape[1], w.shape[0], *w.shape[2:]), _swapped(w.strides))
        spectra: Step = _kernel_spectra(cut, turned, one), {"x": SECOND, "spectra": BETWEEN}
        job = filter_tiles(cut, source, _pads(problem), out)
        given = {"x": FIRST, "y": OUT, "spectra": BETWEEN, "bias": BIAS}
        return Program([spectra, (job, given)], _bytes(one), no_bias)
    rows, sums = w.shape[0] // g.groups, w.shape[1]
    weights = by_channels(cut.points, sums, rows)
    steps: list[Step] = []
    for group in range(g.groups):
        part = SECOND.further(group * rows * w.strides[0] * DOUBLE)
        job = _kernel_spectra(cut, w.samples(rows), weights)
        steps.append((job, {"x": part, "spectra": BETWEEN}))
        steps += _filter_group(problem, source, out, (group, rows, sums), pairs)
    near, far = (by_pairs(cut.points, c, pairs) for c in (sums, rows))
    return Program(steps, _bytes(weights), no_bias, _bytes(near) + _bytes(far))


def _filter_group(
    problem: Problem, source: View, out: View, group: tuple[int, int, int], pairs: int
) -> Iterator[Step]:
    """Spectra of some pairs of tiles at a time, their products, and back.

    group: its number, its rows (channels of out) and sums (channels of source).
    """
    cut, (number, rows, sums) = cut_of(problem), group
    weights = by_channels(cut.points, sums, rows)
    x = FIRST.further(number * sums * source.strides[1] * DOUBLE)
    y = OUT.further(number * rows * out.strides[1] * DOUBLE)
    bias = BIAS.further(number * rows * DOUBLE)
    blocks = WORK.further(_bytes(by_pairs(cut.points, sums, pairs)))
    for first, count in _chunks(problem, pairs):
        near, far = (by_pairs(cut.points, c, count) for c in (sums, rows))
        tiles = to_spectra(cut, source, _pads(problem), cut.tile, near, first)
        yield tiles, {"x": x, "spectra": WORK}
        yield sum_channels(near, weights, far), {"u": WORK, "v": BETWEEN, "to": blocks}
        yield from_spectra(cut, far, out, first), {"y": y, "spectra": blocks, "bias": bias}


def weight_program(problem: Problem, x: View, dy: View, dw: View, pairs: int) -> Program:
    """dw (O, C/G, *extent), times a tile's points.  First: x.  Second: dy."""
    g, cut = problem.geometry, cut_of(problem)
    if is_apart(g):
        return _weight_program_apart(problem, x, dy, dw, pairs)
    inputs, outputs = g.group_in, g.group_out
    sums = by_channels(cut.points, inputs, outputs)
    near, far = (by_pairs(cut.points, c, pairs) for c in (inputs, outputs))
    total, tiles = WORK, WORK.further(_bytes(sums))
    blocks = tiles.further(tiles.offset + _bytes(near))
    steps: list[Step] = []
    for group in range(g.groups):
        read = FIRST.further(group * inputs * x.strides[1] * DOUBLE)
        other = SECOND.further(group * outputs * dy.strides[1] * DOUBLE)
        write = OUT.further(group * outputs * dw.strides[0] * DOUBLE)
        for first, count in _chunks(problem, pairs):
            some, others = (by_pairs(cut.points, c, count) for c in (inputs, outputs))
            steps += [
                (to_spectra(cut, x, _pads(problem), cut.tile, some, first),
                 {"x": read, "spectra": tiles}),
                (to_spectra(cut, dy, (0,) * g.rank, cut.block, others, first),
                 {"x": other, "spectra": blocks}),
                (sum_pairs(some, others, sums, first > 0),
                 {"u": tiles, "v": blocks, "to": total}),
            ]  # fmt: skip
        back = from_spectra(one_tile(cut, g.extent), sums, dw)
        steps.append((back, {"y": write, "spectra": total, "bias": BIAS}))
    work = _bytes(sums) + _bytes(near) + _bytes(far)
    return Program(steps, 0, np.zeros(inputs), work)


def _weight_program_apart(
    problem: Problem, x: View, dy: View, dw: View, pairs: int
) -> Program:  # fmt: skip
    """Of channels with one kernel each: all of them at once."""
    g, cut = problem.geometry, cut_of(problem)
    points = cut.points * g.groups
    one, each = one_each(cut.points, g.groups), each_by_pairs(cut.points, g.groups, pairs)
    total, tiles = WORK, WORK.further(_bytes(one))
    blocks = tiles.further(tiles.offset + _bytes(each))
    steps: list[Step] = []
    for first, count in _chunks(problem, pairs):
        near, flat = each_by_pairs(cut.points, g.groups, count), by_pairs(points, 1, count)
        steps += [
            (to_spectra(cut, x, _pads(problem), cut.tile, near, first),
             {"x": FIRST, "spectra": tiles}),
            (to_spectra(cut, dy, (0,) * g.rank, cut.block, near, first),
             {"x": SECOND, "spectra": blocks}),
            (sum_pairs(flat, flat, by_channels(points, 1, 1), first > 0),
             {"u": tiles, "v": blocks, "to": total}),
        ]  # fmt: skip
    turned = View((dw.shape[1], dw.shape[0], *dw.shape[2:]), _swapped(dw.strides))
    back = from_spectra(one_tile(cut, g.extent), one, turned)
    steps.append((back, {"y": OUT, "spectra": total, "bias": BIAS}))
    return Program(steps, 0, np.zeros(g.groups), _bytes(one) + 2 * _bytes(each))


def _kernel_spectra(cut: Tiling, w: View, layout: Layout) -> Job:
    """The spectrum of each kernel of w, as the only tile of a channel."""
    extent = w.shape[2:]
    return to_spectra(one_tile(cut, extent), w, (0,) * len(extent), extent, layout)


def _swapped(strides: Size) -> Size:
    first, second, *spatial = strides
    return (second, first, *spatial)


def _bytes(layout: Layout) -> int:
    return DOUBLE * layout.numbers


def _chunks(problem: Problem, pairs: int) -> Iterator[tuple[int, int]]:
    """Pairs of tiles of all samples, some at a time: the first, and how many."""
    every = problem.geometry.batch * cut_of(problem).pairs
    return ((first, min(pairs, every - first)) for first in range(0, every, pairs))


def _pads(problem: Problem) -> Size:
    """Zeros in front of the operand that is cut into overlapping tiles."""
    g = problem.geometry
    if problem.direction == "input_grad":
        return tuple(e - 1 - lo for e, (lo, _) in zip(g.extent, g.pads, strict=True))
    return tuple(lo for lo, _ in g.pads)


@lru_cache(maxsize=4096)
def cut_of(problem: Problem) -> Tiling:
    """How the results are cut; of a weight gradient, the positions of dy."""
    g = problem.geometry
    if problem.direction == "weight_grad":
        return tiling(g.out_size, g.extent)
    results = g.in_size if problem.direction == "input_grad" else g.out_size
    return tiling(results, g.extent, g.groups if is_apart(g) else 0)


def is_apart(g: Geometry) -> bool:
    """One kernel for each channel: tiles of y and dx need not leave the scratch of a thread."""
    return g.group_in == g.group_out == 1


def _kernels_at_once(g: Geometry) -> int:
    """Kernels whose spectra are kept: those of one group, or of all where they are apart."""
    return g.groups if is_apart(g) else g.group_in * g.group_out


def _spectra_bytes(problem: Problem) -> int:
    return CELL * cut_of(problem).points * _kernels_at_once(problem.geometry)


def fixed_bytes(problem: Problem) -> int:
    """Threads' buffers, spectra of w or dw, w or dw with its dilation, and copies in doubles."""
    g = problem.geometry
    weights = 3 * DOUBLE * g.out_channels * g.group_in * prod(g.extent)
    copies = 0
    if problem.dtype != np.float64:
        copies = 2 * DOUBLE * (prod(g.x_shape) + prod(g.y_shape))
    buffers = cut_of(problem).scratch * threads.get_num_threads()
    return buffers + _spectra_bytes(problem) + weights + copies


def pair_bytes(problem: Problem) -> int:
    """Spectra of a pair of tiles of every channel, and of its results (or of dy)."""
    g, points = problem.geometry, cut_of(problem).points
    if is_apart(g):
        return 2 * CELL * points * g.groups if problem.direction == "weight_grad" else 0
    return CELL * points * (g.group_in + g.group_out)


def chunk(problem: Problem) -> int:
    """Pairs of tiles whose spectra are kept at a time: about as many bytes as those of w take."""
    usual = max(BUDGET, _spectra_bytes(problem))
    spare = budget(problem, usual, fixed_bytes(problem))
    pairs = problem.geometry.batch * cut_of(problem).pairs
    return max(1, min(pairs, spare // max(1, pair_bytes(problem))))
