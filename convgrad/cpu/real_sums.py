"""What every generated kernel shares: half types, complex numbers, and sums in pieces."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from convgrad.algorithm import Epilogue, MapFunction, Problem
from convgrad.cpu.halves import in_float32


def by_real_sums(
    kernel: MapFunction, problem: Problem, a: np.ndarray, b: np.ndarray, out: np.ndarray,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """The kernels are for float32 and float64: half types are widened, complex numbers taken apart.

    Re = Re·Re − Im·Im, Im = Re·Im + Im·Re: four real maps on views of the parts.
    """
    real = real_problem(problem)
    a, b = (_aligned(array) for array in (a, b))
    if problem.dtype.kind == "c":
        bias, scale = epilogue.bias, epilogue.scale
        (a_re, a_im), (b_re, b_im), (re, im) = (
            (np.real(array), np.imag(array)) for array in (a, b, out)
        )
        first = Epilogue(scale, epilogue.accumulate, None if bias is None else np.real(bias))
        kernel(real, a_re, b_re, re, first)
        kernel(real, a_im, b_im, re, Epilogue(-scale, True))
        kernel(real, a_re, b_im, im, replace(first, bias=None if bias is None else np.imag(bias)))
        kernel(real, a_im, b_re, im, Epilogue(scale, True))
    elif real.dtype != problem.dtype:
        in_float32(kernel, problem, a, b, out, epilogue)
    elif any(stride % out.itemsize for stride in out.strides):
        aligned = out.copy()
        kernel(problem, a, b, aligned, epilogue)
        out[...] = aligned
    else:
        kernel(problem, a, b, out, epilogue)


def _aligned(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where its strides are not whole numbers of elements."""
    return array.copy() if any(s % array.itemsize for s in array.strides) else array


@lru_cache(maxsize=1024)
def real_problem(problem: Problem) -> Problem:
    """The same problem in the dtype that the kernels compute in."""
    names = {"complex64": "float32", "complex128": "float64"}
    return replace(problem, dtype=np.dtype(names.get(problem.dtype.name, problem.wide.name)))


def in_order(pieces: np.ndarray) -> np.ndarray:
    """The pieces' sum, one after the other."""
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    return total
