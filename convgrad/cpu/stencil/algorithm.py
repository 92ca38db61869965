"""Stencils: groups with few channels, row by row, mostly over a copy that stays in the first cache.

    y[n,m,p] = Σ_{c,τ} w[m,c,τ] · X[c, p + offset(τ)]

X is a copy of some rows of a group's channels with their padding laid around, columns and rows
split by phase of the stride, so that every tap is a constant offset. A depthwise tile is some rows
of one register: what is loaded of a row of X serves all taps of a column of the kernel and all rows
of the tile. With more channels in a group, a tile is some channels of the result by some registers
of cells. The input gradient goes over a copy of dy, all residues of the stride at once, and
interleaves them before they are stored. The weight gradient keeps each tap's sum as a register,
adds along the cells, and adds its lanes at the very end.

Depthwise maps of common kernels need no copy where a masked load costs what a load does: planes are
read where they lie, edges masked, a row once for all rows of results that it belongs to, which are
in the making in registers (`in_place`); so are planes of a small weight gradient (`in_place_sums`).

Other depthwise maps have channels abreast where they can, one in each lane (`abreast`): any width
and stride then fills all lanes, and a weight gradient has no lanes to add up. Planes are transposed
on their way in and out; where channels follow each other in memory, nothing is. So have groups with
a register's worth of channels whose rows would leave lanes empty, or greater strides than two:
there, numbers of x meet registers of weights.

Work: 2·N·O·P·(C/G)·K.  Scratch: at most 4 MiB a thread, and one packed copy of the weights.
Error: (n+1)·u·Σ|a||b|, in an order that depends on the geometry alone.
Source: Zhang, Franchetti & Low 2018 (no im2col); Zhang, Lo & Lu 2020 (depthwise tiles).
"""

from functools import lru_cache
from math import prod

from convgrad.algorithm import Algorithm, Bound, Problem, Strides, plain_sum_bound
from convgrad.cpu import halves
from convgrad.cpu.jit import compiler, threads
from convgrad.cpu.pieces import Summed
from convgrad.cpu.program import BETWEEN, BIAS, OUT, Program, Step, sides
from convgrad.cpu.real_sums import Maps, real_problem
from convgrad.cpu.stencil.abreast import (
    able,
    abreast,
    abreast_bytes,
    abreast_work,
    better_as_planes,
)
from convgrad.cpu.stencil.abreast_sums import abreast_sums
from convgrad.cpu.stencil.axes import channels, lines
from convgrad.cpu.stencil.in_place import in_place, plane_bytes, plane_work
from convgrad.cpu.stencil.in_place_sums import plane_sums, sums_bytes, sums_in_place
from convgrad.cpu.stencil.jobs import way_of, work
from convgrad.cpu.stencil.kernels.rows import GATHER
from convgrad.cpu.stencil.layout import thread_bytes
from convgrad.cpu.stencil.sums import weight_work

FEW = 32  # channels of a group, on one side, up to which the kernels are for
MOST, MOST_ABREAST = 64, 256  # on the other


def refuses(problem: Problem) -> str | None:
    """Many channels in a group; more than three axes; rows beyond a thread's scratch; no LLVM."""
    missing = compiler.unavailable()
    if missing is not None:
        return missing
    g = problem.geometry
    if g.rank > 3:
        return f"its kernels have three spatial axes, not {g.rank}"
    if g.macs == 0:
        return "there is nothing to multiply"
    real = real_problem(problem)
    most = MOST_ABREAST if able(real) and not better_as_planes(real) else MOST
    if max(g.group_in, g.group_out) > most or min(g.group_in, g.group_out) > FEW:
        return f"its kernels are for groups of few channels, not {g.group_in} and {g.group_out}"
    if thread_scratch(problem) > threads.SCRATCH:
        return f"one row of its input takes more than the {threads.SCRATCH:,} bytes of a thread"
    return None


@lru_cache(maxsize=1024)
def _bound(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound:
    if problem.direction == "weight_grad":
        if sums_in_place(problem, first, second):
            make_sums = plane_sums
        else:
            make_sums = abreast_sums if abreast(problem, first, second) else weight_work
        return Summed(problem, make_sums(problem, first, second), out)
    (source, x), (weights, w), no_bias = sides(problem, first, second)
    if abreast(problem, source, out):
        make = abreast_work
    else:
        make = plane_work if in_place(problem, source, out) else work
    one = make(problem, source, weights, out)
    steps: list[Step] = [(one.pack, {"w": w, "to": BETWEEN})] if one.weights else []
    steps.append((one.stencil, {"x": x, "w": BETWEEN, "y": OUT, "bias": BIAS}))
    return Program(steps, one.weights * problem.wide.itemsize, no_bias)


def thread_scratch(problem: Problem) -> int:
    """Bytes that each thread works in, whichever way the arrays' strides lead to."""
    real = real_problem(problem)
    return max(thread_bytes(real), plane_bytes(real), sums_bytes(real), abreast_bytes(real))


def scratch(problem: Problem) -> int:
    """Every thread's block; the packed weights, or the pieces of dw; widened copies of halves."""
    real = real_problem(problem)
    g, item = problem.geometry, real.dtype.itemsize
    weights = 2 * prod(g.w_shape) * item
    if problem.direction == "weight_grad":
        weights *= 17
    widened = halves.scratch(problem)
    return thread_scratch(problem) * threads.get_num_threads() + weights + widened


def seconds(problem: Problem) -> float:
    """Products at the rate that a tile's height allows, and every array's pass over memory."""
    g = problem.geometry
    sums, rows = channels(problem)
    rate = 120e9 * min(1.0, (rows + 8) / 12)
    pass_over = 0.25e-9 if problem.direction == "weight_grad" else 0.3e-9
    real = real_problem(problem)
    full = able(real) and not better_as_planes(real)
    if full and compiler.target().level == "avx512":
        tap = 0.5 if g.taps == 1 else 1.0  # each number is brought in for one product
        rate = 120e9 if (sums, rows) == (1, 1) else tap * 200e9 * rows / (-(-rows // 16) * 16)
    elif g.taps == 1 and sums * rows > 1 and problem.direction != "weight_grad":
        pass_over = 0.4e-9  # the copy serves one tap
    few = min(sums, rows) <= 4
    if problem.direction == "weight_grad" and max(sums, rows) > (16 if few else 8):
        # outer products have larger tiles; a copy of few channels serves many of dy
        rate, pass_over = (85e9, 0.3e-9) if few else (60e9, 1e-9)
    apart = 0.0
    parted = way_of(lines(problem)[2], 1) != GATHER and (
        problem.direction == "forward" or (problem.direction == "weight_grad" and rows <= 8)
    )
    if g.stride[-1] > 2 and not (full or parted):  # numbers are copied, or woven, one by one
        apart = (12e-9 if problem.direction == "input_grad" else 7e-9) * prod(g.x_shape)
    numbers = prod(g.x_shape) + prod(g.y_shape) + 4 * prod(g.w_shape)
    wide = {"float64": 2, "complex64": 4, "complex128": 8}.get(problem.dtype.name, 1)
    return 20e-6 + wide * (2 * g.macs / rate + pass_over * numbers + apart)


MAPS = Maps(_bound, lambda problem: True)
ALGORITHM = Algorithm(
    name="stencil",
    summary="generated kernels for groups of few channels: tiles of rows",
    refuses=refuses,
    forward=MAPS.run,
    input_grad=MAPS.run,
    weight_grad=MAPS.run,
    scratch=scratch,
    seconds=seconds,
    error=plain_sum_bound,
    bind=MAPS.bind,
)
