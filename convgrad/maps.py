"""The three maps on canonical operands: padding modes laid around the algorithms, then run.

Operands are channels-first, batched and native. `zeros` padding is the algorithm's own business;
every other mode is an index map, so x is padded before the map and dx folded back after it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from convgrad.algorithm import Bound, Epilogue, KernelFailed, Problem, Strides
from convgrad.choose import Choice, choose, settle
from convgrad.errors import AlgorithmError
from convgrad.geometry import Geometry
from convgrad.padding import pad, pad_adjoint

DEFAULT = Epilogue()


@dataclass(frozen=True)
class Map:
    """One map ready to run: its geometry, how the padding is filled, and the chosen algorithm.

    `staging` counts the bytes of padded copies made outside the algorithm. `asked`: the name that
    the caller gave.
    """

    direction: str
    geometry: Geometry
    padding_mode: str
    per_sample: bool
    staging: int
    choice: Choice
    asked: str = "auto"

    @property
    def scratch(self) -> int:
        return self.staging + self.choice.algorithm.scratch(self.choice.problem)

    def bind(self, first: Strides, second: Strides, out: Strides) -> Bound | None:
        """The algorithm made ready for arrays with these strides, if nothing is laid around it."""
        problem = self.choice.problem
        alone = problem.geometry.pads == self.geometry.pads and not self.per_sample
        return self.choice.algorithm.bound(problem, first, second, out) if alone else None


@lru_cache(maxsize=4096)
def prepare(
    direction: str,
    geometry: Geometry,
    dtype: np.dtype[Any],
    padding_mode: str = "zeros",
    per_sample: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    copies: int = 0,
) -> Map:
    """Choose the algorithm for one map. `copies`: bytes that the caller's conjugates take.

    Raises AlgorithmError if none accepts, or if the copies alone exceed max_scratch.
    """
    laid = padding_mode != "zeros" and any(lo or hi for lo, hi in geometry.pads)
    inner = geometry.with_pads_laid() if laid else geometry
    inner = inner.one_sample() if per_sample else inner
    problem = Problem(direction, inner, dtype, precision)
    staging = copies + (_padded_bytes(problem) if laid else 0)
    if max_scratch is not None:
        if staging > max_scratch:
            raise AlgorithmError(
                f"{direction}: copies that come before any algorithm "
                f"(padding_mode={padding_mode!r}, conjugates) take {staging:,} bytes, "
                f"but max_scratch is {max_scratch:,}"
            )
        problem = replace(problem, max_scratch=max_scratch - staging)
    choice = settle(problem, algorithm, prepare.cache_clear)
    return Map(direction, geometry, padding_mode, per_sample, staging, choice, algorithm)


def _padded_bytes(problem: Problem) -> int:
    """Padded x beside the axis in work; dx is folded through one copy more."""
    arrays = 3 if problem.direction == "input_grad" else 2
    return arrays * prod(problem.geometry.x_shape) * problem.wide.itemsize


def run(
    map_: Map,
    first: np.ndarray,
    second: np.ndarray,
    out: np.ndarray,
    epilogue: Epilogue = DEFAULT,
    padding_value: complex = 0,
) -> None:
    """Run a map on its two operands, in the order x, w, dy, into `out`.

    NaN and infinity give no warnings; how far they spread is the algorithm's matter.
    """
    with np.errstate(all="ignore"):
        if not map_.per_sample:
            _run(map_, first, second, out, epilogue, padding_value)
            return
        for n in range(map_.geometry.batch):
            _run(map_, first[n : n + 1], second[n : n + 1], out[n], epilogue, padding_value)


def _run(
    map_: Map,
    first: np.ndarray,
    second: np.ndarray,
    out: np.ndarray,
    epilogue: Epilogue,
    padding_value: complex,
) -> None:
    problem = map_.choice.problem
    pads = map_.geometry.pads
    if problem.geometry.macs == 0:
        epilogue.store(out, np.zeros(out.shape, problem.wide), bias_axis=1)
    elif problem.geometry.pads == pads:
        _compute(map_, problem, first, second, out, epilogue)
    elif map_.direction == "input_grad":
        padded = np.empty(problem.geometry.x_shape, problem.wide)
        exact = replace(problem, dtype=problem.wide)
        _compute(map_, exact, first, second, padded, DEFAULT)
        epilogue.store(out, pad_adjoint(padded, pads, map_.padding_mode), bias_axis=1)
    else:
        padded = pad(first, pads, map_.padding_mode, padding_value)
        _compute(map_, problem, padded, second, out, epilogue)


def _compute(
    map_: Map, problem: Problem, a: np.ndarray, b: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """Run the chosen algorithm; the next best one where a kernel for these strides fails."""
    try:
        map_.choice.algorithm.run(problem, a, b, out, epilogue)
    except KernelFailed:
        choose.cache_clear()
        prepare.cache_clear()
        settle(problem, map_.asked, prepare.cache_clear).algorithm.run(problem, a, b, out, epilogue)


def bias_grad(dy: np.ndarray, out: np.ndarray, epilogue: Epilogue, per_sample: bool) -> None:
    """db[o] = Σ_{n,p} dy[n,o,p], or one for each sample n; dy (N, O, *out) → (O) or (N, O).

    Summed in double precision, so that the order of millions of numbers does not matter.
    """
    axes = tuple(range(2, dy.ndim)) if per_sample else (0, *range(2, dy.ndim))
    with np.errstate(all="ignore"):
        epilogue.store(out, dy.sum(axis=axes, dtype=_double(dy.dtype)))


def sum_over(dy: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The whole bias gradient of a dy that lies in any layout: its sums over these axes."""
    with np.errstate(all="ignore"):
        return np.add.reduce(dy, axes, _double(dy.dtype)).astype(dy.dtype, copy=False)


def _double(dtype: np.dtype[Any]) -> type[np.complex128] | type[np.float64]:
    return np.complex128 if dtype.kind == "c" else np.float64
