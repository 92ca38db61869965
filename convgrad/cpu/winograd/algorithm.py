"""Tiled Winograd: minimal filtering F(4×4, 3×3) in generated kernels, a block of tiles at a time.

    y  = Aᵀ [ Σ_c (G w Gᵀ) ⊙ (Bᵀ x B) ] A         tiles of 4×4 results
    dw = Gᵀ [ Σ_tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G

The last two axes have three taps each; taps of a third axis in front are summed like channels.
Where taps lie d apart, the cells of each residue of d are an image of their own, which is read and
written where it lies. The input gradient is the forward map over dy with the kernel turned around.
A block of tiles is transformed with a lane for each channel; the products of all its channels are
36 small matrix products, one for each point; the results are transformed back while they are in
the cache. Where there are fewer tiles than channels, all tiles are transformed beforehand,
otherwise all weights.

The points are 0, ±3/4, ±3/2 and infinity, which keeps the error below four times that of a plain
sum (the usual 0, ±1, ±2: eight times). Integers stay exact where w (or for dw, x or dy) is a
multiple of 243² = 59,049. NaN and infinity reach every result of the tiles that they lie in.

Work: 36 products for 16 results of 9 taps: a quarter.  Scratch: at most 4 MiB a thread, and one
transformed copy of the weights, or of all tiles where that is smaller.
Error: that of a plain sum times the growth of the transforms, in an order that depends on the
geometry alone: the same bits for any number of threads, and for a sample in any batch.
Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, Fast Algorithms
for Convolutional Neural Networks; Barabasz, Anderson, Soodhalter & Gregg 2020 (points).
"""

from functools import lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import (
    UNIT_ROUNDOFF,
    Algorithm,
    Bound,
    Epilogue,
    ErrorBound,
    Problem,
    Strides,
)
from convgrad.cpu import halves
from convgrad.cpu.jit import compiler, threads
from convgrad.cpu.pieces import Summed
from convgrad.cpu.program import BETWEEN, BIAS, OUT, Program, Step, sides
from convgrad.cpu.real_sums import bind_real, by_real_sums, real_problem
from convgrad.cpu.winograd.filtering import F43
from convgrad.cpu.winograd.jobs import blocks, jobs
from convgrad.cpu.winograd.shares import outer_job, shares
from convgrad.cpu.winograd.tiling import image_tiles
from convgrad.geometry import Geometry


def refuses(problem: Problem) -> str | None:
    """Whatever has not three taps on its last two axes."""
    g = problem.geometry
    missing = compiler.unavailable()
    if missing is not None:
        return missing
    if problem.precision == "strict":
        return 'it adds before it multiplies, which precision="strict" excludes'
    if g.rank not in (2, 3):
        return f"its tiles have two axes, and at most one more in front, not {g.rank}"
    if g.kernel[-2:] != (3, 3):
        return f"the kernel must have 3×3 taps on the last two axes, not {g.kernel}"
    if any(s != 1 for s in g.stride):
        return f"the stride must be 1, not {g.stride}"
    if g.macs == 0:
        return "there is nothing to multiply"
    if thread_scratch(problem) > threads.SCRATCH:
        return f"its tiles take more than the {threads.SCRATCH:,} bytes of a thread"
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """Tiles of x, lanes being output channels."""
    by_real_sums(_bound, problem, x, w, out, epilogue)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """Tiles of dy, lanes being input channels; the kernel is turned around."""
    by_real_sums(_bound, problem, w, dy, out, epilogue)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """Outer products of tiles of dy and x; pieces of a long sum are added in order."""
    by_real_sums(_bound, problem, x, dy, out, epilogue)


def bind(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound | None:
    """The jobs for arrays with these strides; None where numbers are converted or copied first."""
    return bind_real(_bound, problem, first, second, out)


@lru_cache(maxsize=1024)
def _bound(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound:
    if problem.direction == "weight_grad":
        return Summed(problem, outer_job(problem, first, second), out)
    (source, x), (weights, w), no_bias = sides(problem, first, second)
    two = jobs(problem, source, weights, out)
    beforehand, (x, w) = (x, (BETWEEN, w)) if two.few else (w, (x, BETWEEN))
    steps: list[Step] = [
        (two.transform, {"x" if two.few else "w": beforehand, "to": BETWEEN}),
        (two.multiply, {"x": x, "w": w, "y": OUT, "bias": BIAS}),
    ]
    between = two.numbers * problem.dtype.itemsize
    return Program(steps, between, no_bias)


def thread_scratch(problem: Problem) -> int:
    """Bytes that each thread works in."""
    problem = real_problem(problem)
    cut = shares(problem) if problem.direction == "weight_grad" else blocks(problem)
    return cut.scratch * problem.dtype.itemsize


def scratch(problem: Problem) -> int:
    """Every thread's block; what is transformed beforehand, or the pieces of dw."""
    real, g = real_problem(problem), problem.geometry
    item = real.dtype.itemsize
    if problem.direction == "weight_grad":
        shared = prod(g.w_shape) * item * (shares(real).pieces + 2)
    else:
        shared = blocks(real).beforehand * item
    return thread_scratch(problem) * threads.get_num_threads() + shared + halves.scratch(problem)


def seconds(problem: Problem) -> float:
    """Products of whole tiles and lanes, and the transforms of each operand.

    What is expected of plain sums counts taps that meet only padding, though they are left out;
    beside it, the products count for as much more as those taps are of all.
    """
    real, g = real_problem(problem), problem.geometry
    cut = shares(real) if problem.direction == "weight_grad" else blocks(real)
    item = real.dtype.itemsize
    wide = {"float64": 2, "complex64": 4, "complex128": 8}.get(problem.dtype.name, 1)
    lanes = 64 // item
    depth = g.taps // 9
    ins, outs = (-(-c // lanes) * lanes for c in (g.group_in, g.group_out))
    products = 36 * cut.tiles.count * ins * outs * depth * g.groups * 2 / 130e9
    products /= _share_of_taps_met(g)
    tiles = cut.tiles.count * (ins * depth + outs) * g.groups * 8e-9
    weights = prod(g.w_shape) * 1.5e-9
    return 40e-6 + wide * (products + tiles + weights)


def _share_of_taps_met(g: Geometry) -> float:
    """How many of all pairs of a result and a tap meet a cell, not padding; at least one."""
    share = 1.0
    for n, out, k, d, (lo, _) in zip(
        g.in_size, g.out_size, g.kernel, g.dilation, g.pads, strict=True
    ):
        met = sum(max(0, min(out, n + lo - d * i) - max(0, lo - d * i)) for i in range(k))
        share *= max(met, 1) / (out * k)
    return share


def error(problem: Problem) -> ErrorBound:
    """(n+1)·u of the sums over channels or tiles, times the growth of the transforms on two axes.

    Source: Barabasz, Anderson, Soodhalter & Gregg 2020, Error Analysis and Improving the Accuracy
    of Winograd Convolution for DNNs, theorem 1.
    """
    g = problem.geometry
    tiles = image_tiles(g, g.out_size, F43).count
    depth = prod(g.kernel[:-2])
    summed = {
        "forward": g.group_in * depth,
        "input_grad": g.group_out * depth,
        "weight_grad": tiles,
    }[problem.direction]
    contracted = "weight_grad" if problem.direction == "weight_grad" else "forward"
    growth = summed * F43.growth(contracted) ** 2
    u = UNIT_ROUNDOFF[problem.wide.name] * (4 if problem.dtype.kind == "c" else 1)
    rounding = UNIT_ROUNDOFF[problem.dtype.name] if problem.wide != problem.dtype else 0.0
    steps = summed + 1 + 4 * F43.tile
    return ErrorBound(growth * steps * u / max(g.terms(problem.direction), 1) + rounding, "largest")


ALGORITHM = Algorithm(
    "tiled_winograd", "minimal filtering of 3×3 kernels, in tiles", refuses,
    forward, input_grad, weight_grad, scratch, seconds, error, bind,
)  # fmt: skip
