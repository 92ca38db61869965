"""overlap_save: products of spectra, tile by tile, by generated kernels.

A result block of B numbers along an axis needs B + K − 1 cells of the operand, a tile:

    y  = F⁻¹(Σ_c F(x tile)·F(w)*)       dx the same from dy, with w turned and pads K − 1 − lo
    dw = F⁻¹(Σ_{n,tiles} F(x tile)·F(dy block)*)

Of the T numbers that a transform of a tile gives, those that did not wrap around are kept: B of
y or dx, K of dw. Two tiles of a channel of a sample are one complex tile, z = a + i·b: a real
kernel keeps its parts apart, and Z·(F(c) + i·F(d))* has the sum of both tiles as its real part.
Spectra are complex128 for every dtype. One NaN or infinity spreads over a pair of tiles.

Work: O(log T) for each cell of a tile and (C/G)·O·T/2 products of them.
Scratch: a thread's buffer, the spectra of w and of some pairs of tiles.
Error: ~log₂(T)·2⁻⁵³ relative to the norms of a tile and of w; y and dx of a sample have the same
bits in any batch, and all have them for any number of threads.
Source: Stockham 1966, High-speed convolution and correlation (sectioning).
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import log2, prod, sqrt

import numpy as np

from convgrad.algorithm import UNIT_ROUNDOFF, Algorithm, Epilogue, ErrorBound, Problem
from convgrad.cpu.fft_jobs import (
    Layout,
    by_channels,
    by_pairs,
    each_by_pairs,
    filter_tiles,
    from_spectra,
    one_each,
    rooms,
    sum_channels,
    sum_pairs,
    to_spectra,
)
from convgrad.cpu.fft_tiling import CELL, Size, Tiling, one_tile, tiling
from convgrad.cpu.jit import compiler, threads
from convgrad.geometry import Geometry
from convgrad.reference.blocks import budget

BUDGET = 16 << 20  # bytes of the spectra of tiles that are worked on at a time
DOUBLE = 8


def refuses(problem: Problem) -> str | None:
    """Images and lines of real numbers at stride 1, with a kernel that a tile has room for."""
    g = problem.geometry
    missing = compiler.unavailable()
    if missing is not None:
        return missing
    if problem.precision == "strict":
        return 'a product of spectra is no plain sum, which precision="strict" asks for'
    if g.rank > 2:
        return f"its tiles have one or two spatial axes, not {g.rank}"
    if problem.dtype.kind == "c":
        return "its tiles are pairs of real numbers, not complex ones"
    if any(s > 1 for s in g.stride):
        return "it computes every result of stride 1, most of which would be thrown away"
    if g.macs == 0:
        return "there is nothing to multiply"
    try:
        _tiling(problem)
    except LookupError as error:
        return str(error)
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y = F⁻¹(Σ_c F(x tile)·F(w)*)."""
    _filter(problem, x, _spread(problem.geometry, w), out, epilogue)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx: the forward map of dy, with w turned and its channels exchanged."""
    g = problem.geometry
    turned = _spread(g, w)[(..., *[slice(None, None, -1)] * g.rank)]
    grouped = turned.reshape(g.groups, g.group_out, *turned.shape[1:]).swapaxes(1, 2)
    weights = np.ascontiguousarray(grouped).reshape(g.in_channels, g.group_out, *g.extent)
    _filter(problem, dy, weights, out, epilogue)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw = F⁻¹(Σ F(x tile)·F(dy block)*), at the taps of the kernel's extent."""
    g, x, dy = problem.geometry, _doubles(x), _doubles(dy)
    result = np.empty((g.out_channels, g.group_in, *g.extent))
    if _is_apart(g):
        _weight_grad_apart(problem, x, dy, result.swapaxes(0, 1))
    else:
        for group in range(g.groups):
            cs, os = _group(g, group)
            _weight_grad_group(problem, x[:, cs], dy[:, os], result[os])
    at = tuple(slice(None, None, d) for d in g.dilation)
    epilogue.store(out, result[:, :, *at].astype(problem.wide, copy=False))


def _weight_grad_apart(problem: Problem, x: np.ndarray, dy: np.ndarray, result: np.ndarray) -> None:
    """dw (1, G, *extent) of channels with one kernel each: all of them at once."""
    g, cut, points = problem.geometry, _tiling(problem), _tiling(problem).points * x.shape[1]
    one = one_each(cut.points, g.groups)
    near = each_by_pairs(cut.points, g.groups, _chunk(problem))
    total, tiles, blocks = rooms(one, near, near)
    for first, count in _chunks(problem):
        near, flat = each_by_pairs(cut.points, g.groups, count), by_pairs(points, 1, count)
        to_spectra(cut, x, _pads(problem), cut.tile, near, tiles, first)
        to_spectra(cut, dy, (0,) * g.rank, cut.block, near, blocks, first)
        sum_pairs(flat, flat, by_channels(points, 1, 1), (tiles, blocks, total), first > 0)
    from_spectra(one_tile(cut, g.extent), one, total, result, Epilogue())


def _weight_grad_group(problem: Problem, x: np.ndarray, dy: np.ndarray, result: np.ndarray) -> None:
    """dw (O/G, C/G, *extent) of one group."""
    g, cut, chunk = problem.geometry, _tiling(problem), _chunk(problem)
    inputs, outputs = g.group_in, g.group_out
    sums = by_channels(cut.points, inputs, outputs)
    near, far = (by_pairs(cut.points, c, chunk) for c in (inputs, outputs))
    total, tiles, blocks = rooms(sums, near, far)
    for first, count in _chunks(problem):
        near, far = (by_pairs(cut.points, c, count) for c in (inputs, outputs))
        to_spectra(cut, x, _pads(problem), cut.tile, near, tiles, first)
        to_spectra(cut, dy, (0,) * g.rank, cut.block, far, blocks, first)
        sum_pairs(near, far, sums, (tiles, blocks, total), accumulate=first > 0)
    from_spectra(one_tile(cut, g.extent), sums, total, result, Epilogue())


def _filter(
    problem: Problem, source: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """out = source (N, G·C, …) correlated with w (G·O, C, …), in doubles."""
    if out.dtype != np.float64 or any(stride % DOUBLE for stride in out.strides):
        wide = np.empty(out.shape)
        _filter(problem, source, w, wide, Epilogue())
        epilogue.store(out, wide.astype(problem.wide, copy=False), bias_axis=1)
        return
    g, cut, source = problem.geometry, _tiling(problem), _doubles(source)
    if _is_apart(g):
        one = one_each(cut.points, g.groups)
        (spectra,) = rooms(one)
        _kernel_spectra(cut, w.swapaxes(0, 1), one, spectra)
        filter_tiles(cut, source, _pads(problem), spectra, out, epilogue)
        return
    rows, sums = len(w) // g.groups, w.shape[1]
    for group in range(g.groups):
        os, cs = (slice(group * n, (group + 1) * n) for n in (rows, sums))
        part = epilogue if epilogue.bias is None else replace(epilogue, bias=epilogue.bias[os])
        _filter_group(problem, source[:, cs], w[os], out[:, os], part)


def _filter_group(
    problem: Problem, source: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """Of one group: spectra of w, then of some pairs of tiles at a time, and their products."""
    cut, chunk, (rows, sums) = _tiling(problem), _chunk(problem), w.shape[:2]
    weights = by_channels(cut.points, sums, rows)
    near, far = (by_pairs(cut.points, c, chunk) for c in (sums, rows))
    spectra, tiles, blocks = rooms(weights, near, far)
    _kernel_spectra(cut, w, weights, spectra)
    for first, count in _chunks(problem):
        near, far = (by_pairs(cut.points, c, count) for c in (sums, rows))
        to_spectra(cut, source, _pads(problem), cut.tile, near, tiles, first)
        sum_channels(near, weights, far, (tiles, spectra, blocks))
        from_spectra(cut, far, blocks, out, epilogue, first)


def _kernel_spectra(cut: Tiling, w: np.ndarray, layout: Layout, spectra: np.ndarray) -> None:
    """The spectrum of each kernel of w, as the only tile of a channel."""
    extent = w.shape[2:]
    to_spectra(one_tile(cut, extent), w, (0,) * len(extent), extent, layout, spectra)


def _group(g: Geometry, group: int) -> tuple[slice, slice]:
    """The input and the output channels of a group."""
    cs = slice(group * g.group_in, (group + 1) * g.group_in)
    return cs, slice(group * g.group_out, (group + 1) * g.group_out)


def _chunks(problem: Problem) -> Iterator[tuple[int, int]]:
    """Pairs of tiles of all samples, some at a time: the first, and how many."""
    pairs, chunk = problem.geometry.batch * _tiling(problem).pairs, _chunk(problem)
    return ((first, min(chunk, pairs - first)) for first in range(0, pairs, chunk))


def _spread(g: Geometry, w: np.ndarray) -> np.ndarray:
    """w in doubles, with d − 1 zeros between its taps."""
    spread = np.zeros((g.out_channels, g.group_in, *g.extent))
    spread[:, :, *(slice(None, None, d) for d in g.dilation)] = w
    return spread


def _pads(problem: Problem) -> Size:
    """Zeros in front of the operand that is cut into overlapping tiles."""
    g = problem.geometry
    if problem.direction == "input_grad":
        return tuple(e - 1 - lo for e, (lo, _) in zip(g.extent, g.pads, strict=True))
    return tuple(lo for lo, _ in g.pads)


def _doubles(array: np.ndarray) -> np.ndarray:
    """The array, or a copy, as doubles whose strides are whole numbers of them."""
    if array.dtype == np.float64 and not any(s % DOUBLE for s in array.strides):
        return array
    return np.array(array, np.float64, order="C")


@lru_cache(maxsize=4096)
def _tiling(problem: Problem) -> Tiling:
    """How the results are cut; of a weight gradient, the positions of dy."""
    g = problem.geometry
    if problem.direction == "weight_grad":
        return tiling(g.out_size, g.extent)
    results = g.in_size if problem.direction == "input_grad" else g.out_size
    return tiling(results, g.extent, g.groups if _is_apart(g) else 0)


def _is_apart(g: Geometry) -> bool:
    """One kernel for each channel: tiles of y and dx need not leave the scratch of a thread."""
    return g.group_in == g.group_out == 1


def _kernels_at_once(g: Geometry) -> int:
    """Kernels whose spectra are kept: those of one group, or of all where they are apart."""
    return g.groups if _is_apart(g) else g.group_in * g.group_out


def _spectra_bytes(problem: Problem) -> int:
    return CELL * _tiling(problem).points * _kernels_at_once(problem.geometry)


def _fixed_bytes(problem: Problem) -> int:
    """Threads' buffers, spectra of w or dw, w or dw with its dilation, and copies in doubles."""
    g = problem.geometry
    weights = 3 * DOUBLE * g.out_channels * g.group_in * prod(g.extent)
    copies = 0
    if problem.dtype != np.float64:
        copies = 2 * DOUBLE * (prod(g.x_shape) + prod(g.y_shape))
    buffers = _tiling(problem).scratch * threads.get_num_threads()
    return buffers + _spectra_bytes(problem) + weights + copies


def _pair_bytes(problem: Problem) -> int:
    """Spectra of a pair of tiles of every channel, and of its results (or of dy)."""
    g, points = problem.geometry, _tiling(problem).points
    if _is_apart(g):
        return 2 * CELL * points * g.groups if problem.direction == "weight_grad" else 0
    return CELL * points * (g.group_in + g.group_out)


def _chunk(problem: Problem) -> int:
    """Pairs of tiles whose spectra are kept at a time: about as many bytes as those of w take."""
    usual = max(BUDGET, _spectra_bytes(problem))
    spare = budget(problem, usual, _fixed_bytes(problem))
    pairs = problem.geometry.batch * _tiling(problem).pairs
    return max(1, min(pairs, spare // max(1, _pair_bytes(problem))))


def scratch(problem: Problem) -> int:
    """The least it needs where that is more than max_scratch."""
    return _fixed_bytes(problem) + _chunk(problem) * _pair_bytes(problem)


def seconds(problem: Problem) -> float:
    """Transforms of tiles and of kernels, products at each frequency, copies in doubles.

    Measured on two threads of a Zen 3, between calls that leave nothing of it in the caches.
    """
    g, cut = problem.geometry, _tiling(problem)
    pairs, kernels = g.batch * cut.pairs, g.out_channels * g.group_in
    if problem.direction != "weight_grad" and _is_apart(g):
        jobs, transforms = 2, g.in_channels * pairs + 0.5 * kernels
    elif _is_apart(g):
        jobs, transforms = 4, 2.1 * g.in_channels * pairs + 0.5 * kernels
    else:
        jobs = 4 * g.groups
        transforms = 0.7 * (g.in_channels + g.out_channels) * pairs + 0.85 * kernels
    products = 0.12 * kernels * cut.points * pairs
    copies = 0.0 if problem.dtype == np.float64 else prod(g.x_shape) + prod(g.y_shape)
    return 30e-6 * (1 + jobs) + 1e-9 * (transforms * cut.nanoseconds + products + copies)


def error(problem: Problem) -> ErrorBound:
    """8·log₂(T)·2⁻⁵³·‖a‖₂·‖b‖₂ over a tile's cells, and the result's own rounding.

    Source: Higham 2002, section 24.1, for each of the three transforms, with room to spare.
    """
    g, cut = problem.geometry, _tiling(problem)
    near, far = (
        2 * cut.points,
        2 * prod(cut.block) if problem.direction == "weight_grad" else g.taps,
    )
    summed = {
        "forward": g.group_in, "input_grad": g.group_out, "weight_grad": g.batch * cut.pairs,
    }[problem.direction]  # fmt: skip
    terms = max(g.terms(problem.direction), 1)
    factor = (8 * log2(cut.points) + summed) * 2.0**-53 * summed * sqrt(near * far) / terms
    return ErrorBound(factor + UNIT_ROUNDOFF[problem.dtype.name], "largest")


ALGORITHM = Algorithm(
    "overlap_save", "products of spectra, tile by tile, by generated kernels", refuses,
    forward, input_grad, weight_grad, scratch, seconds, error,
)  # fmt: skip
