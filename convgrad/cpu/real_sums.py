"""What the engine's algorithms share: how a map is run on arrays of any dtype and alignment.

The kernels compute in float32 and float64, in whole strides. Half types are widened where they
do not read them (`halves`), complex numbers taken apart, odd strides copied, here and nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from convgrad.algorithm import Bound, Epilogue, Problem, Strides
from convgrad.cpu.halves import in_float32

PLAIN = (np.float32, np.float64)
BoundOf = Callable[[Problem, Strides, Strides, Strides], Bound]


@dataclass(frozen=True)
class Maps:
    """The maps of an algorithm that binds its jobs to the strides of arrays: all are run alike.

    half_types: whether the kernels read and write half types themselves, in a problem of such a
    type; otherwise they are converted first.
    """

    bound_of: BoundOf
    half_types: Callable[[Problem], bool]

    def run(
        self, problem: Problem, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        epilogue: Epilogue,
    ) -> None:  # fmt: skip
        """Run a map on its operands, in the order x, w, dy.

        Complex: Re = Re·Re − Im·Im, Im = Re·Im + Im·Re, four real maps on views of the parts.
        """
        run, real = partial(_run, self.bound_of), real_problem(problem)
        first, second = (_aligned(array) for array in (first, second))
        if problem.dtype.kind == "c":
            bias, scale = epilogue.bias, epilogue.scale
            (a_re, a_im), (b_re, b_im), (re, im) = (
                (np.real(array), np.imag(array)) for array in (first, second, out)
            )
            plain = Epilogue(scale, epilogue.accumulate, None if bias is None else np.real(bias))
            run(real, a_re, b_re, re, plain)
            run(real, a_im, b_im, re, Epilogue(-scale, True))
            run(real, a_re, b_im, im, replace(plain, bias=None if bias is None else np.imag(bias)))
            run(real, a_im, b_re, im, Epilogue(scale, True))
        elif real.dtype != problem.dtype and not self._in_halves(problem, out):
            in_float32(run, problem, first, second, out, epilogue)
        elif any(stride % out.itemsize for stride in out.strides):
            aligned = out.copy()
            run(problem, first, second, aligned, epilogue)
            out[...] = aligned
        else:
            run(problem, first, second, out, epilogue)

    def _in_halves(self, problem: Problem, out: np.ndarray) -> bool:
        """Not where the result is one of several terms, which are added in float32."""
        return out.dtype == problem.dtype and self.half_types(problem)

    def bind(self, problem: Problem, first: Strides, second: Strides, out: Strides) -> Bound | None:
        """The jobs for arrays with these strides; None where numbers may be converted or copied."""
        item = problem.dtype.itemsize
        if problem.dtype not in PLAIN or any(s % item for s in (*first, *second, *out)):
            return None
        return self.bound_of(problem, first, second, out)


def _run(
    bound_of: BoundOf, problem: Problem, first: np.ndarray, second: np.ndarray, out: np.ndarray,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    bias = epilogue.bias
    bias = None if bias is None else np.ascontiguousarray(bias, problem.wide)
    bound = bound_of(problem, first.strides, second.strides, out.strides)
    bound.run(first, second, out, bias, epilogue.scale, epilogue.accumulate)


def _aligned(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where its strides are not whole numbers of elements."""
    return array.copy() if any(s % array.itemsize for s in array.strides) else array


@lru_cache(maxsize=1024)
def real_problem(problem: Problem) -> Problem:
    """The same problem in the dtype that the kernels compute in."""
    names = {"complex64": "float32", "complex128": "float64"}
    return replace(problem, dtype=np.dtype(names.get(problem.dtype.name, problem.wide.name)))
