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

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2, prod, sqrt

import numpy as np

from convgrad.algorithm import (
    UNIT_ROUNDOFF,
    Algorithm,
    Bound,
    Epilogue,
    ErrorBound,
    Kept,
    Problem,
    Strides,
)
from convgrad.cpu.jit import compiler
from convgrad.cpu.overlap_save.jobs import DOUBLE, View
from convgrad.cpu.overlap_save.programs import (
    chunk,
    cut_of,
    filter_program,
    fixed_bytes,
    is_apart,
    pair_bytes,
    weight_program,
)
from convgrad.cpu.program import Program


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
        cut_of(problem)
    except LookupError as error:
        return str(error)
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y = F⁻¹(Σ_c F(x tile)·F(w)*)."""
    _run(problem, x, w, out, epilogue)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx: the forward map of dy, with w turned and its channels exchanged."""
    _run(problem, w, dy, out, epilogue)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw = F⁻¹(Σ F(x tile)·F(dy block)*), at the taps of the kernel's extent."""
    _run(problem, x, dy, out, epilogue)


def bind(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound | None:
    """Its program for arrays with these strides; what is not in doubles is copied at each run."""
    if problem.dtype.kind == "c":
        return None
    return _bound(problem, first, second, out, chunk(problem))


def _run(
    problem: Problem, first: np.ndarray, second: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    bound = _bound(problem, first.strides, second.strides, out.strides, chunk(problem))
    bound.run(first, second, out, epilogue.bias, epilogue.scale, epilogue.accumulate)


@lru_cache(maxsize=256)
def _bound(problem: Problem, first: Strides, second: Strides, out: Strides, pairs: int) -> Bound:
    """pairs: of tiles, whose spectra are kept at a time."""
    g = problem.geometry
    if problem.direction == "weight_grad":
        place = g.dilation == (1,) * g.rank and _is_plain(problem, out)
        x, dy = _view(problem, g.x_shape, first), _view(problem, g.y_shape, second)
        shape = (g.out_channels, g.group_in, *g.extent)
        dw = View.of(shape, out if place else _dense(shape))
        return WeightSums(problem, weight_program(problem, x, dy, dw, pairs), place)
    backwards = problem.direction == "input_grad"
    read, write = (g.y_shape, g.x_shape) if backwards else (g.x_shape, g.y_shape)
    source = _view(problem, read, second if backwards else first)
    as_it_is = not backwards and g.dilation == (1,) * g.rank
    rows, sums = (g.in_channels, g.group_out) if backwards else (g.out_channels, g.group_in)
    shape = (rows, sums, *g.extent)
    w = _view(problem, shape, second) if as_it_is else View.of(shape, _dense(shape))
    program = filter_program(problem, source, w, _view(problem, write, out), pairs)
    return Filter(problem, program, _is_plain(problem, out))


@dataclass(frozen=True)
class Filter(Bound):
    """y or dx: source correlated with w. in_place: results need no array of doubles of their own.

    kept: whether the program holds the spectra of w.
    """

    problem: Problem
    program: Bound
    in_place: bool
    kept: bool = False

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        backwards = self.problem.direction == "input_grad"
        source, w = (second, first) if backwards else (first, second)
        x = _doubles(source)
        w = x if self.kept else _weights(self.problem, w)
        points = cut_of(self.problem).points
        if self.in_place:
            bias = None if bias is None else np.ascontiguousarray(bias, np.float64)
            self.program.run(x, w, out, bias, scale / points, accumulate)
            return
        wide = np.empty(out.shape)
        self.program.run(x, w, wide, None, 1 / points)
        _store(self.problem, out, wide, Epilogue(scale, accumulate, bias))

    def with_weights(self, place: int, w: np.ndarray) -> Kept | None:
        kept = self.program.with_weights(1, _weights(self.problem, w))
        return kept and Kept(replace(self, program=kept.bound, kept=True), kept.bytes)


@dataclass(frozen=True)
class WeightSums(Bound):
    """dw. in_place: it is written where it lies, and needs no array of doubles of its own."""

    problem: Problem
    program: Program
    in_place: bool

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        x, dy, points = _doubles(first), _doubles(second), cut_of(self.problem).points
        if self.in_place:
            self.program.run(x, dy, out, None, scale / points, accumulate)
            return
        g = self.problem.geometry
        every = np.empty((g.out_channels, g.group_in, *g.extent))
        self.program.run(x, dy, every, None, 1 / points)
        taps = every[:, :, *(slice(None, None, d) for d in g.dilation)]
        _store(self.problem, out, taps, Epilogue(scale, accumulate))


def _store(problem: Problem, out: np.ndarray, result: np.ndarray, epilogue: Epilogue) -> None:
    with np.errstate(all="ignore"):
        epilogue.store(out, result.astype(problem.wide, copy=False), bias_axis=1)


def _weights(problem: Problem, w: np.ndarray) -> np.ndarray:
    """w in doubles, with d − 1 zeros between its taps: (O, C/G, *extent).

    For the input gradient turned around, its channels exchanged: (C, O/G, *extent).
    """
    g = problem.geometry
    if g.dilation == (1,) * g.rank:
        spread = _doubles(w)
    else:
        spread = np.zeros((g.out_channels, g.group_in, *g.extent))
        spread[:, :, *(slice(None, None, d) for d in g.dilation)] = w
    if problem.direction == "forward":
        return spread
    turned = spread[(..., *[slice(None, None, -1)] * g.rank)]
    grouped = turned.reshape(g.groups, g.group_out, *turned.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(grouped).reshape(g.in_channels, g.group_out, *g.extent)


def _doubles(array: np.ndarray) -> np.ndarray:
    """The array, or a copy, as doubles whose strides are whole numbers of them."""
    if array.dtype == np.float64 and not any(s % DOUBLE for s in array.strides):
        return array
    with np.errstate(all="ignore"):
        return np.array(array, np.float64, order="C")


def _is_plain(problem: Problem, strides: Strides) -> bool:
    """Whether an array with these strides is used where it lies."""
    return problem.dtype == np.float64 and not any(s % DOUBLE for s in strides)


def _view(problem: Problem, shape: tuple[int, ...], strides: Strides) -> View:
    """An array with these strides, or the copy of it."""
    return View.of(shape, strides if _is_plain(problem, strides) else _dense(shape))


def _dense(shape: tuple[int, ...]) -> Strides:
    return tuple(DOUBLE * prod(shape[axis + 1 :]) for axis in range(len(shape)))


def thread_scratch(problem: Problem) -> int:
    """Bytes that each thread works in."""
    return cut_of(problem).scratch


def scratch(problem: Problem) -> int:
    """The least it needs where that is more than max_scratch."""
    return fixed_bytes(problem) + chunk(problem) * pair_bytes(problem)


def seconds(problem: Problem) -> float:
    """Transforms of tiles and of kernels, products at each frequency, copies in doubles.

    Measured on two threads of a Zen 3, between calls that leave nothing of it in the caches.
    """
    g, cut = problem.geometry, cut_of(problem)
    pairs, kernels = g.batch * cut.pairs, g.out_channels * g.group_in
    if problem.direction != "weight_grad" and is_apart(g):
        jobs, transforms = 2, 0.85 * g.in_channels * pairs + 0.5 * kernels
    elif is_apart(g):
        jobs, transforms = 4, 1.5 * g.in_channels * pairs + 0.5 * kernels
    else:
        jobs = 4 * g.groups
        transforms = 0.55 * (g.in_channels + g.out_channels) * pairs + 0.85 * kernels
    products = 0.12 * kernels * cut.points * pairs
    copies = 0.0 if problem.dtype == np.float64 else prod(g.x_shape) + prod(g.y_shape)
    return 30e-6 * (1 + jobs) + 1e-9 * (transforms * cut.nanoseconds + products + copies)


def error(problem: Problem) -> ErrorBound:
    """8·log₂(T)·2⁻⁵³·‖a‖₂·‖b‖₂ over a tile's cells, and the result's own rounding.

    Source: Higham 2002, section 24.1, for each of the three transforms, with room to spare.
    """
    g, cut = problem.geometry, cut_of(problem)
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
    forward, input_grad, weight_grad, scratch, seconds, error, bind,
)  # fmt: skip
