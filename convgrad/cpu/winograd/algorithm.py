"""Tiled Winograd: minimal filtering F(m, r) in generated kernels, a block of tiles at a time.

    y  = Aᵀ [ Σ_c (G w Gᵀ) ⊙ (Bᵀ x B) ] A         tiles of m×m results
    dw = Gᵀ [ Σ_tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G

On the last two axes the filtering is F(4, 3), F(3, 3), F(2, 3) or F(4, 2), whichever needs the
fewest products, or, for a single tap, the identity.
Longer kernels are cut into parts of three or two taps, and a stride s parts them into residues:
what each part reads is an image of its own, summed like another channel. So are the taps of a
third axis in front. The input gradient is the forward map over dy with the kernel turned around;
its residues of the stride are rows of the products. Where taps lie d apart, the cells of each
residue of d are an image of their own, which is read and written where it lies.
A block of tiles is transformed with a lane for each channel; the products of all its channels are
small matrix products, one for each point; the results are transformed back while they are in the
cache. Points at which a part has nothing (it has fewer taps than others) are left out. Where there
are fewer tiles than channels, all tiles are transformed beforehand, otherwise all weights.

The points are chosen to keep the error below four times that of a plain sum: 0, ±3/4, ±3/2 and
infinity for F(4, 3) (the usual 0, ±1, ±2: eight times). precision="fast" allows F(5, 3), F(5, 2) at
the points of F(4, 3), and longer sums: in float32 they err by less than 1e-5 of max|y|. Without
F(5, 3), integers stay exact where w (or for dw, x or dy) is a multiple of the divisors: 243² =
59,049 for two axes of F(4, 3) or F(5, 2), 9 for F(4, 2) and F(3, 3), 1 for F(2, 3). NaN and
infinity reach every result of the tiles that they lie in.

Work, beside that of plain sums: 3×3 a quarter; with stride 2 1/1.78; 5×5 1/3.3, with stride 2
1/3.3; 4×4 with stride 2 1/2.56; three taps of one axis a half.  Scratch: at most 4 MiB a thread,
and one transformed copy of the weights, or of all tiles where that is smaller.
Error: that of a plain sum times the growth of the transforms, in an order that depends on the
geometry alone: the same bits for any number of threads, and for a sample in any batch.
Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, Fast Algorithms
for Convolutional Neural Networks; Barabasz, Anderson, Soodhalter & Gregg 2020 (points); Yepez & Ko
2020, Stride 2 1-D, 2-D, and 3-D Winograd for Convolutional Neural Networks.
"""

from functools import lru_cache
from math import prod

from convgrad.algorithm import (
    UNIT_ROUNDOFF,
    Algorithm,
    Bound,
    ErrorBound,
    Problem,
    Strides,
)
from convgrad.cpu import halves
from convgrad.cpu.jit import compiler, threads
from convgrad.cpu.pieces import Summed
from convgrad.cpu.program import BETWEEN, BIAS, FIRST, OUT, SECOND, WORK, Program, Step, sides
from convgrad.cpu.real_sums import Maps, real_problem
from convgrad.cpu.winograd.axes import products as products_of
from convgrad.cpu.winograd.filtering import growth
from convgrad.cpu.winograd.jobs import blocks, jobs
from convgrad.cpu.winograd.shares import outer_jobs, shares
from convgrad.cpu.winograd.tiling import image_tiles, suitable
from convgrad.geometry import Geometry

MOST_TAP_PARTS = 64


def refuses(problem: Problem) -> str | None:
    """Kernels of which no two results of an axis share taps; too many parts; a full scratch."""
    g = problem.geometry
    missing = compiler.unavailable()
    if missing is not None:
        return missing
    if problem.precision == "strict":
        return 'it adds before it multiplies, which precision="strict" excludes'
    if g.rank > 3:
        return f"its tiles have two axes, and at most one more in front, not {g.rank}"
    if any(s > 1 and d > 1 for s, d in zip(g.stride, g.dilation, strict=True)):
        return f"stride and dilation must not meet on an axis: {g.stride} and {g.dilation}"
    if not suitable(problem):
        return (
            f"on the last two axes, kernel {g.kernel} with stride {g.stride} has "
            "no taps that two results share"
        )
    if g.macs == 0:
        return "there is nothing to multiply"
    parts = image_tiles(real_problem(problem)).parts
    if parts > MOST_TAP_PARTS:
        return f"the kernel {g.kernel} falls into {parts} parts, more than {MOST_TAP_PARTS}"
    if thread_scratch(problem) > threads.SCRATCH:
        return f"its tiles take more than the {threads.SCRATCH:,} bytes of a thread"
    return None


@lru_cache(maxsize=1024)
def _bound(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound:
    if problem.direction == "weight_grad":
        made = outer_jobs(problem, first, second)
        before: list[Step] = []
        given = {}
        if made.before:
            given = {"v": WORK, "u": WORK.further(made.second)}
            of_x, of_dy = made.before
            before = [
                (of_x, {"x": FIRST, "to": given["v"]}),
                (of_dy, {"x": SECOND, "to": given["u"]}),
            ]
        work = shares(problem).beforehand * problem.wide.itemsize
        return Summed(problem, made.outer, out, before, given, work)
    (source, x), (weights, w), no_bias = sides(problem, first, second)
    two = jobs(problem, source, weights, out)
    beforehand, (x, w) = (x, (BETWEEN, w)) if two.few else (w, (x, BETWEEN))
    steps: list[Step] = [
        (two.transform, {"x" if two.few else "w": beforehand, "to": BETWEEN}),
        (two.multiply, {"x": x, "w": w, "y": OUT, "bias": BIAS}),
    ]
    between = two.numbers * problem.wide.itemsize
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
        cut = shares(real)
        shared = (prod(g.w_shape) * (cut.pieces + 2) + cut.beforehand) * item
    else:
        shared = blocks(real).beforehand * item
    return thread_scratch(problem) * threads.get_num_threads() + shared + halves.scratch(problem)


def seconds(problem: Problem) -> float:
    """Products of whole tiles and lanes, and what is written of each transformed operand.

    What is expected of plain sums counts taps that meet only padding, though they are left out;
    beside it, the products count for as much more as those taps are of all. Fitted to two threads
    of an AVX-512 machine, on layers of real networks, beside `implicit_gemm` there.
    """
    real, g = real_problem(problem), problem.geometry
    tiles = image_tiles(real)
    wide = {"float64": 2, "complex64": 4, "complex128": 8}.get(problem.dtype.name, 1)
    lanes = 64 // real.dtype.itemsize
    dw = problem.direction == "weight_grad"
    sums, rows = g.group_in, g.group_out
    if problem.direction == "input_grad":
        sums, rows = rows, sums
    # a panel of the result's channels is two registers wide
    sums, rows = (-(-c // n) * n for c, n in ((sums, lanes), (rows, lanes if dw else 2 * lanes)))
    count = tiles.count * g.groups
    products = 2 * products_of(tiles.axes) * count * sums * rows / (130e9 if dw else 170e9)
    products /= _share_of_taps_met(g)
    woven = 1.5 * tiles.phases if tiles.phases > 1 else 1
    images = count * tiles.forms.points * (tiles.parts * sums + woven * rows)
    weights = g.groups * tiles.forms.points * tiles.parts * tiles.phases * g.group_in * g.group_out
    return 60e-6 + wide * (products + images * 2.5e-10 + weights * (2.7e-10 if dw else 0.7e-10))


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
    tiles = image_tiles(real_problem(problem))
    rows, columns = (axis.form for axis in tiles.axes[1:])
    summed = {
        "forward": g.group_in * tiles.parts,
        "input_grad": g.group_out * tiles.parts,
        "weight_grad": tiles.count,
    }[problem.direction]
    contracted = "weight_grad" if problem.direction == "weight_grad" else "forward"
    grown = summed * growth(rows, contracted) * growth(columns, contracted)
    u = UNIT_ROUNDOFF[problem.wide.name] * (4 if problem.dtype.kind == "c" else 1)
    rounding = UNIT_ROUNDOFF[problem.dtype.name] if problem.wide != problem.dtype else 0.0
    steps = summed + 1 + 2 * (rows.tile + columns.tile)
    return ErrorBound(grown * steps * u / max(g.terms(problem.direction), 1) + rounding, "largest")


MAPS = Maps(_bound, lambda problem: True)
ALGORITHM = Algorithm(
    "tiled_winograd", "minimal filtering, in tiles", refuses,
    MAPS.run, MAPS.run, MAPS.run, scratch, seconds, error, MAPS.bind,
)  # fmt: skip
