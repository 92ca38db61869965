"""Maps of float16 and bfloat16: in float32, some samples at a time, so that copies stay in cache.

Sums are those of the float32 kernels, and each number is rounded once, when it is stored.
"""

from dataclasses import replace
from math import prod

import numpy as np

from convgrad.algorithm import Epilogue, MapFunction, Problem
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.kernels.convert import NARROW, WIDEN
from convgrad.cpu.tiling import ELEMENTS

CHUNK = 1 << 15  # numbers that a part of a conversion has
STAGE = 4 << 20  # bytes of float32 that are made at a time


def in_float32(
    kernel: MapFunction, problem: Problem, a: np.ndarray, b: np.ndarray, out: np.ndarray,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """The map on float32 copies of its operands, made and used a few samples at a time.

    a, b: the operands in the order x, w, dy.
    """
    wide = replace(problem, dtype=np.dtype(np.float32))
    if problem.direction == "weight_grad":
        _weight_grad(kernel, wide, a, b, out, epilogue)
        return
    backwards = problem.direction == "input_grad"
    data, w = (b, widened(a)) if backwards else (a, widened(b))
    bias = None if epilogue.bias is None else epilogue.bias.astype(np.float32)
    for part in sample_slices(problem):
        some = _of_samples(wide, part)
        result = widened(out[part]) if epilogue.accumulate else _like(out[part])
        source = widened(data[part])
        operands = (w, source) if backwards else (source, w)
        kernel(some, *operands, result, replace(epilogue, bias=bias))
        narrowed(result, out[part])


def _weight_grad(
    kernel: MapFunction, wide: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    total = np.empty(out.shape, np.float32)
    for number, part in enumerate(sample_slices(wide)):
        some = _of_samples(wide, part)
        kernel(some, widened(x[part]), widened(dy[part]), total, Epilogue(1, number > 0))
    epilogue.store(out, total)


def sample_slices(problem: Problem) -> list[slice]:
    """The samples that are worked on together; the cut depends on the geometry alone."""
    g = problem.geometry
    one = 4 * (prod(g.x_shape[1:]) + prod(g.y_shape[1:]))
    count = max(1, STAGE // max(1, one))
    return [slice(n, min(n + count, g.batch)) for n in range(0, g.batch, count)]


def scratch(problem: Problem) -> int:
    """Bytes of the float32 copies: w or dw whole, x and y of the samples in work."""
    if problem.wide == problem.dtype:
        return 0
    g = problem.geometry
    some = max((s.stop - s.start for s in sample_slices(problem)), default=0)
    return 4 * (2 * prod(g.w_shape) + some * (prod(g.x_shape[1:]) + prod(g.y_shape[1:])))


def _of_samples(problem: Problem, part: slice) -> Problem:
    geometry = replace(problem.geometry, batch=part.stop - part.start)
    return replace(problem, geometry=geometry)


def _like(array: np.ndarray) -> np.ndarray:
    """A float32 array that lies in memory as this one does."""
    return np.empty_like(array, dtype=np.float32)


def widened(array: np.ndarray) -> np.ndarray:
    """The array in float32, in the same order of memory."""
    dense = _in_one_run(array)
    if dense is None:
        return array.astype(np.float32)
    wide = _like(array)
    _convert(WIDEN, array.dtype.name, dense, wide)
    return wide


def narrowed(wide: np.ndarray, out: np.ndarray) -> None:
    """Round float32 numbers into an array of a half type."""
    dense = _in_one_run(out)
    if dense is None or [s // 2 for s in wide.strides] != list(out.strides):
        out[...] = wide
    else:
        _convert(NARROW, out.dtype.name, wide, dense)


def _in_one_run(array: np.ndarray) -> np.ndarray | None:
    """The array, if its elements fill one run of memory in some order of its axes."""
    run = array.itemsize
    for stride, n in sorted(zip(array.strides, array.shape)):
        if n > 1 and stride != run:
            return None
        run *= n
    return array


def _convert(generator: Generator, half: str, source: np.ndarray, to: np.ndarray) -> None:
    count = source.size
    parts = -(-count // CHUNK)
    values = {"count": count, "chunk": CHUNK}
    Job(generator, ELEMENTS[half], None, values, parts, parts > 1).run(x=source, to=to)
