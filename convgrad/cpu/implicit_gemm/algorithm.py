"""Implicit GEMM: the sums of im2col's matrix product, without its matrix.

    y[n,o,p] = Σ_{c,τ} w[o,c,τ] · x[n, c, s·p + d·τ − pad]

A register tile has rows (output channels, their weights read one by one from packed panels) and
registers (consecutive cells p). The cells that a tile reads are packed, a panel at a time, as
[c][τ][cell]: pieces of image rows, with zeros for the padding; the panel stays in the cache while
all output channels go by. The input gradient is the same over dy, packed once for all residues of
the stride, each with the taps that meet it; residues of the columns are woven together as they are
stored. The weight gradient is a sum of outer products over cells, one operand in panels and the
other read where it lies. A kernel that covers its input makes products of matrices (`matrices`).

Work: 2·N·O·P·(C/G)·K.  Scratch: at most 4 MiB a thread, and one packed copy of the weights.
Error: (n+1)·u·Σ|a||b|, in an order that depends on the geometry alone: the same bits for any number
of threads, and for a sample in any batch.
Source: Goto & van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication.
"""

import warnings
from functools import cache, lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Algorithm, Bound, Problem, Strides, plain_sum_bound
from convgrad.cpu import halves
from convgrad.cpu.correlation import forward_axes
from convgrad.cpu.implicit_gemm import cut, few, matrices, products, weights
from convgrad.cpu.implicit_gemm.taps import bands_of, taps_of
from convgrad.cpu.jit import compiler, threads
from convgrad.cpu.pieces import Summed
from convgrad.cpu.program import (
    BETWEEN,
    BIAS,
    FIRST,
    OUT,
    SECOND,
    Given,
    Program,
    Step,
    sides,
)
from convgrad.cpu.real_sums import Maps, real_problem


def refuses(problem: Problem) -> str | None:
    """More than three spatial axes; rows beyond a thread's scratch; a machine without LLVM."""
    missing = compiler.unavailable()
    if missing is not None:
        _warn(f"{missing}, so the slower reference algorithms run instead of generated kernels")
        return missing
    if problem.geometry.rank > 3:
        return f"its kernels have three spatial axes, not {problem.geometry.rank}"
    if problem.geometry.macs == 0:
        return "there is nothing to multiply"
    if thread_scratch(problem) > threads.SCRATCH:
        return f"one panel of its cells takes more than the {threads.SCRATCH:,} bytes of a thread"
    return None


@cache
def _warn(message: str) -> None:
    """Say it once."""
    warnings.warn(f"convgrad: {message}", RuntimeWarning, stacklevel=2)


def _rounds_once(problem: Problem) -> bool:
    """Whether each result is stored once, so that it may be of a half type."""
    if matrices.suits(problem):
        return False
    if problem.direction == "weight_grad":
        return True
    g, bands = problem.geometry, bands_of(problem)
    sums = g.group_out if problem.direction == "input_grad" else g.group_in
    return cut.cut_of(problem, bands, taps_of(bands)).block >= sums


@lru_cache(maxsize=1024)
def _bound(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound:
    product = matrices.matrices(problem, first, second, out)
    if product is None:
        return _slid(problem, first, second, out)
    w, left = (SECOND, FIRST) if problem.direction == "forward" else (FIRST, SECOND)
    right_strides, left_strides, result = product.strides
    one = products.product(product.problem, right_strides, left_strides, result)
    no_bias = np.zeros(product.problem.geometry.out_channels, problem.wide)
    program = Program(*_steps(one, w, left), no_bias)
    plain = None if matrices.covers(problem) else _slid(problem, first, second, out)
    return matrices.Biased(program, problem.geometry.rank, plain)


def _slid(problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound:
    """The map as a kernel that slides."""
    if problem.direction == "weight_grad":
        return Summed(problem, weights.weight_job(problem, first, second), out)
    source, w, no_bias = sides(problem, first, second)
    one = products.product(problem, source[0], w[0], out)

    def usual() -> Program:
        return Program(*_steps(one, source[1], w[1]), no_bias)

    if not one.cut.few:
        return usual()
    return few.FewCells(*few.steps(one, problem.geometry.groups, source[1], w[1]), no_bias, usual)


def _steps(one: products.Product, source: Given, w: Given) -> tuple[list[Step], int]:
    """The jobs of the product, and the bytes of packed weights between them."""
    multiply = {"x": source, "w": BETWEEN, "y": OUT, "bias": BIAS}
    pack = [(one.pack, {"w": w, "to": BETWEEN})] if one.weights else []
    return [*pack, (one.multiply, multiply)], one.weights * compiler.target().lanes(
        one.pack.element
    ).bytes


@lru_cache(maxsize=4096)
def thread_scratch(problem: Problem) -> int:
    """Bytes that each thread works in."""
    real = real_problem(problem)
    own = cut.scratch(matrices.flat(real)) if matrices.suits(real) else 0
    if real.direction == "weight_grad":
        return max(own, weights.split(real, forward_axes(real.geometry)).scratch)
    return max(own, cut.scratch(real))


def scratch(problem: Problem) -> int:
    """Every thread's block; the packed weights, or fewer packed cells; the pieces of dw; float32
    copies of halves."""
    real = real_problem(problem)
    numbers = prod(problem.geometry.w_shape)
    if problem.direction == "weight_grad":
        numbers *= weights.split(real, forward_axes(real.geometry)).pieces + 1
    if matrices.suits(real):
        numbers = max(numbers, prod(matrices.flat(real).geometry.w_shape))
    own = thread_scratch(problem) * threads.get_num_threads()
    return own + numbers * real.dtype.itemsize + halves.scratch(problem)


def seconds(problem: Problem) -> float:
    """Products, passes over memory, and what each group and sample costs before its first product.

    Fitted to two threads of an AVX2 machine, on layers of real networks.
    """
    g = problem.geometry
    inputs, sums = g.group_in, problem.direction == "weight_grad" and g.group_out >= 8
    if sums and inputs <= 4:  # rows of a tile are pairs of a channel and a tap
        inputs *= g.taps
    few = min(inputs, g.group_out)
    rate = 150e9 * min(1.0, (few + 4) / 16)
    numbers = 0.35e-9 * (prod(g.x_shape) + prod(g.y_shape)) + 0.8e-9 * prod(g.w_shape)
    apart = 5e-6 * g.batch * g.groups if g.groups > 1 and not sums else 0.0
    wide = {"float64": 2, "complex64": 4, "complex128": 8}.get(problem.dtype.name, 1)
    # a tile of one row waits for its sums
    alone = 0.0 if sums else 1.3e-9 * g.macs / (g.group_in * g.group_out)
    return 30e-6 + apart + wide * (2 * g.macs / rate + numbers + alone)


MAPS = Maps(_bound, _rounds_once)
ALGORITHM = Algorithm(
    name="implicit_gemm",
    summary="generated kernels: panels of weights times panels of cells",
    refuses=refuses,
    forward=MAPS.run,
    input_grad=MAPS.run,
    weight_grad=MAPS.run,
    scratch=scratch,
    seconds=seconds,
    error=plain_sum_bound,
    bind=MAPS.bind,
)
