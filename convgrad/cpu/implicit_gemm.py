"""Implicit GEMM: the sums of im2col's matrix product, without its matrix.

    y[n,o,p] = Σ_{c,τ} w[o,c,τ] · X[c, p + offset(τ)]

X is a copy of a block of the input with its padding laid around it and its columns split by phase
of the stride. In it every tap τ is a constant offset, so a register tile (rows: output channels,
vectors: consecutive cells) reads its operand with plain loads at p + offset(τ); cells between the
rows of the result are computed too, and not stored. The input gradient is the same kernel over dy,
once for each residue of the stride; the weight gradient is an outer product over cells, of panels
of x and dy that are transposed while they are copied.

Work: 2·N·O·P·(C/G)·K.  Scratch: at most 4 MiB a thread, and one packed copy of the weights.
Error: (n+1)·u·Σ|a||b|, in an order that depends on the geometry alone: the same bits for any number
of threads, and for a sample in any batch.
Source: Goto & van de Geijn 2008 (packing and tiles); Zhang, Franchetti & Low 2018 (no im2col).
"""

import warnings
from functools import cache, lru_cache
from math import prod

import numpy as np

from convgrad.algorithm import Algorithm, Epilogue, Problem, plain_sum_bound
from convgrad.cpu.correlation import forward_axes, input_grad_axes
from convgrad.cpu.jit import compiler, threads
from convgrad.cpu.kernels.inner import INNER
from convgrad.cpu.jobs import block_of, cell_bytes, correlations, weight_job
from convgrad.cpu.products import products
from convgrad.cpu.real_sums import by_real_sums, in_order, real_problem
from convgrad.cpu.shares import weight_split
from convgrad.cpu.tiling import CHUNK, REGISTER
from convgrad.reference import im2col


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
    if False and thread_scratch(problem) > threads.SCRATCH:
        return f"one row of its input takes more than the {threads.SCRATCH:,} bytes of a thread"
    return None


@cache
def _warn(message: str) -> None:
    """Say it once."""
    warnings.warn(f"convgrad: {message}", RuntimeWarning, stacklevel=2)


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """One correlation over x, rows of a tile being output channels."""
    by_real_sums(_correlate, problem, x, w, out, epilogue)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """A correlation over dy for each residue of the stride, rows being input channels."""
    by_real_sums(_correlate, problem, dy, w, out, epilogue)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """Outer products over cells, summed in tiles; splits of a long sum are added in order."""
    by_real_sums(_accumulate, problem, x, dy, out, epilogue)


def _correlate(
    problem: Problem, source: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    bias = epilogue.bias
    rows = out.shape[1]
    bias = (
        np.zeros(rows, problem.dtype) if bias is None else np.ascontiguousarray(bias, problem.dtype)
    )
    g = problem.geometry
    if rows // g.groups >= 8:
        for one in products(problem, source.strides, w.strides, out.strides):
            packed = np.empty(one.weights, problem.dtype)
            for pack, place in one.packs:
                pack.run(w=w, to=packed.ctypes.data + place * packed.itemsize)
            one.multiply.run(
                epilogue.scale, x=source, w=packed, y=out.ctypes.data + one.offset, bias=bias,
                accumulate=int(epilogue.accumulate),
            )  # fmt: skip
        return
    for one in correlations(problem, source.strides, w.strides, out.strides):
        packed = np.empty(one.weights, problem.dtype)
        if one.weights:
            one.pack.run(w=w, to=packed)
        one.correlate.run(
            epilogue.scale, x=source, w=packed, y=out.ctypes.data + one.offset, bias=bias,
            accumulate=int(epilogue.accumulate),
        )  # fmt: skip


def _accumulate(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw by the generated kernels; numbers that come out infinite or NaN by im2col.

    The kernels sum over cells that are no results too, as x·0: exact for finite x, but an infinity
    would spoil taps that it never meets.
    """
    job = weight_job(problem, x.strides, dy.strides)
    pieces = job.values["pieces"]
    direct = pieces == 1 and epilogue == Epilogue() and out.flags.c_contiguous
    result = out[None] if direct else np.empty((pieces, *out.shape), problem.dtype)
    job.run(x=x, dy=dy, dw=result)
    total = in_order(result)
    if job.generator is INNER and not (np.isfinite(total.max()) and np.isfinite(total.min())):
        spoilt, again = ~np.isfinite(total), np.empty(out.shape, problem.dtype)
        with np.errstate(all="ignore"):
            im2col.weight_grad(problem, x, dy, again, Epilogue())
        total[spoilt] = again[spoilt]
    if not direct:
        epilogue.store(out, total)


@lru_cache(maxsize=4096)
def thread_scratch(problem: Problem) -> int:
    """Bytes that each thread works in."""
    problem = real_problem(problem)
    if problem.direction == "weight_grad":
        return weight_split(problem).scratch
    g, item = problem.geometry, problem.dtype.itemsize
    every = input_grad_axes(g) if problem.direction == "input_grad" else [forward_axes(g)]
    most = max(block_of(problem, axes).pitch(item) * cell_bytes(problem, axes) for axes in every)
    if g.taps == 1:
        most = max(most, CHUNK * cell_bytes(problem, every[0]))
    return most + 16 * 6 * REGISTER


def scratch(problem: Problem) -> int:
    """Every thread's block; the packed weights, or the pieces of dw; widened copies of halves."""
    g, item = problem.geometry, real_problem(problem).dtype.itemsize
    weights = prod(g.w_shape) * item
    if problem.direction == "weight_grad":
        weights *= weight_split(real_problem(problem)).pieces + 2
    widened = 0
    if problem.wide != problem.dtype:
        widened = 2 * item * (prod(g.x_shape) + prod(g.y_shape) + prod(g.w_shape))
    return thread_scratch(problem) * threads.get_num_threads() + weights + widened


def seconds(problem: Problem) -> float:
    """Products at the rate that the tile's height allows, and every copy's passes over memory."""
    g = problem.geometry
    rows = g.group_out if problem.direction != "input_grad" else g.group_in
    rate = 120e9 * min(1.0, (rows + 8) / 16)
    numbers = prod(g.x_shape) + prod(g.y_shape) + 4 * prod(g.w_shape)
    wide = {"float64": 2, "complex64": 4, "complex128": 8}.get(problem.dtype.name, 1)
    return 20e-6 + wide * (2 * g.macs / rate + 1e-9 * numbers)


ALGORITHM = Algorithm(
    name="implicit_gemm",
    summary="generated kernels: a padded block of input, read at each tap's offset",
    refuses=refuses,
    forward=forward,
    input_grad=input_grad,
    weight_grad=weight_grad,
    scratch=scratch,
    seconds=seconds,
    error=plain_sum_bound,
)
