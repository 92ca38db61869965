"""The record that each algorithm file fills in, and what an algorithm is asked and told.

An algorithm is three functions, one for each map, of canonical operands: channels-first, batched
NumPy views of the caller's memory, in native byte order, never conjugated:

    forward(problem, x, w, out, epilogue)         out (N, O, *out_size)
    input_grad(problem, w, dy, out, epilogue)     out (N, C, *in_size)
    weight_grad(problem, x, dy, out, epilogue)    out (O, C/G, *kernel)

It accumulates in `problem.wide` and hands each finished part of the result to `epilogue.store`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import local
from typing import Any, NamedTuple, Protocol

import numpy as np

from convgrad.geometry import Geometry

DIRECTIONS = ("forward", "input_grad", "weight_grad")
PRECISIONS = ("strict", "standard", "fast")
UNIT_ROUNDOFF = {
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float32": 2.0**-24,
    "float64": 2.0**-53,
    "complex64": 2.0**-24,
    "complex128": 2.0**-53,
}


@lru_cache(maxsize=64)
def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that sums of `dtype` are kept in: float32 for float16 and bfloat16."""
    return np.dtype(np.float32) if dtype.name in ("float16", "bfloat16") else dtype


@dataclass(frozen=True)
class Problem:
    """One map of one geometry, and the conditions an algorithm has to meet."""

    direction: str
    geometry: Geometry
    dtype: np.dtype[Any]
    precision: str = "standard"
    max_scratch: int | None = None

    @cached_property
    def wide(self) -> np.dtype[Any]:
        """The accumulator's dtype."""
        return wide_dtype(self.dtype)

    @property
    def flops(self) -> int:
        """Real additions and multiplications of the plain sums."""
        return (8 if self.dtype.kind == "c" else 2) * self.geometry.macs


@dataclass(frozen=True)
class Epilogue:
    """What is done with a map's result r on its way out: out = scale·r + bias (+ out)."""

    scale: float = 1.0
    accumulate: bool = False
    bias: np.ndarray | None = None

    def store(self, out: np.ndarray, result: np.ndarray, bias_axis: int | None = None) -> None:
        """Write `result` (in the wide dtype) into `out` with one rounding at the end.

        The bias runs along `bias_axis` of result; without one, result has no channels.
        """
        if self.scale != 1:
            result = result * float(self.scale)
        if self.bias is not None and bias_axis is not None:
            lined_up = (-1,) + (1,) * (result.ndim - 1 - bias_axis)
            result = result + self.bias.astype(result.dtype).reshape(lined_up)
        if self.accumulate:
            result = result + out.astype(result.dtype, copy=False)
        out[...] = result


@dataclass(frozen=True)
class ErrorBound:
    """|computed − exact| ≤ factor · scale, for every number of the result.

    scale "terms": Σ|a||b| of that number. scale "largest": n·max|a|·max|b| with n the number of
    terms, for algorithms that mix the terms of many numbers (FFT, Winograd).
    """

    factor: float
    scale: str

    def __str__(self) -> str:
        unit = {"terms": "Σ|a||b|", "largest": "n·max|a|·max|b|"}[self.scale]
        return f"|error| ≤ {self.factor:.2g} · {unit}"


def plain_sum_bound(problem: Problem) -> ErrorBound:
    """The bound of a sum of n products in any order: (n+1)·u, and one rounding to the dtype.

    Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    terms = problem.geometry.terms(problem.direction)
    u = UNIT_ROUNDOFF[problem.wide.name]
    per_product = 4 if problem.dtype.kind == "c" else 1
    rounding = UNIT_ROUNDOFF[problem.dtype.name] if problem.wide != problem.dtype else 0.0
    return ErrorBound((terms + 1) * per_product * u + rounding, "terms")


MapFunction = Callable[[Problem, np.ndarray, np.ndarray, np.ndarray, Epilogue], None]
Strides = tuple[int, ...]  # in bytes


class Bound(Protocol):
    """One map of one problem made ready for arrays that lie in memory in one way.

    What it reads of an array is the address of its first element: shapes, strides and dtypes are
    those it was made for. bias: contiguous, of the result's dtype.
    """

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray, /,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> object: ...  # fmt: skip

    def with_weights(self, place: int, w: np.ndarray) -> "Kept | None":
        """The same with what it makes of the weights alone made now, and kept.

        place: which operand they are, 0 or 1; a run is still given an array there, but need not
        read it. None where nothing would be kept.
        """
        return None


class Kept(NamedTuple):
    """What `Bound.with_weights` gives, and the bytes that it keeps."""

    bound: Bound
    bytes: int


@dataclass(frozen=True)
class Algorithm:
    """One way to compute the three maps.

    refuses(problem): why it cannot take the problem, as a sentence, or None.
    scratch(problem): the bytes it takes beside operands and result; the least it can do with
        where that exceeds problem.max_scratch.
    seconds(problem): what it should take on an ordinary processor; only ratios matter.
    error(problem): the bound that a test holds it to.
    bind(problem, first, second, out): all that can be done before the numbers are there, for
        operands and a result with these strides; None where it is run through the maps alone.
    """

    name: str
    summary: str
    refuses: Callable[[Problem], str | None]
    forward: MapFunction
    input_grad: MapFunction
    weight_grad: MapFunction
    scratch: Callable[[Problem], int]
    seconds: Callable[[Problem], float]
    error: Callable[[Problem], ErrorBound]
    bind: Callable[[Problem, Strides, Strides, Strides], Bound | None] | None = None

    def run(
        self, problem: Problem, a: np.ndarray, b: np.ndarray, out: np.ndarray, epilogue: Epilogue
    ) -> None:
        maps = {
            "forward": self.forward,
            "input_grad": self.input_grad,
            "weight_grad": self.weight_grad,
        }
        before = now.task
        now.task = Task(self, problem, (a.strides, b.strides, out.strides))
        try:
            maps[problem.direction](problem, a, b, out, epilogue)
        finally:
            now.task = before

    def bound(self, problem: Problem, a: Strides, b: Strides, out: Strides) -> Bound | None:
        """`bind`, where the algorithm has it; raises KernelFailed where a kernel is not usable."""
        if self.bind is None or problem.geometry.macs == 0:
            return None
        before, now.task = now.task, Task(self, problem, (a, b, out))
        try:
            return self.bind(problem, a, b, out)
        finally:
            now.task = before


class KernelFailed(Exception):
    """A generated kernel that computes wrongly on this machine; its algorithm declines now."""


class Task(NamedTuple):
    """What an algorithm is asked to compute, for arrays with these strides."""

    algorithm: Algorithm
    problem: Problem
    strides: tuple[Strides, Strides, Strides]


class _Now(local):
    """What this thread computes: a kernel that is compiled meanwhile is tested with its like."""

    task: Task | None = None


now = _Now()
