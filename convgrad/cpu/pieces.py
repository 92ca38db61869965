"""A weight gradient that is made in pieces: how they come into its array."""

from collections.abc import Sequence
from math import prod

import numpy as np

from convgrad.algorithm import Bound, Problem, Strides
from convgrad.cpu.job import Job
from convgrad.cpu.kernels.pieces import ADD_PIECES, OUTER_AXES
from convgrad.cpu.program import BETWEEN, FIRST, LINE, OUT, SECOND, Given, Program, Step
from convgrad.cpu.tiling import ELEMENTS, SMALL

CHUNK = 8192  # numbers in one part


class Summed(Bound):
    """A job that makes the pieces, and one that adds them, in order, into dw.

    A single piece is made in its place where dw is contiguous, no half type, and takes no epilogue.
    before: steps that come first, and leave in `work` bytes behind the pieces what the job finds in
    `given`.
    """

    def __init__(
        self, problem: Problem, make: Job, out: Strides, before: Sequence[Step] = (),
        given: dict[str, Given] | None = None, work: int = 0,
    ) -> None:  # fmt: skip
        pieces = make.values["pieces"]
        add = _add(problem, pieces, out)
        dense = add.values["run"] == prod(problem.geometry.w_shape) and add.values["s4"] == 1
        operands = {"x": FIRST, "dy": SECOND}
        if make.values.get("turned"):  # the kernel takes the one in the place of the other
            operands = {"x": SECOND, "dy": FIRST}
        operands |= given or {}
        self.whole = None
        if dense and pieces == 1 and problem.wide == problem.dtype:
            self.whole = Program([*before, (make, operands | {"dw": OUT})], work=work)
        between = pieces * prod(problem.geometry.w_shape) * problem.wide.itemsize
        self.summed = Program(
            [*before, (make, operands | {"dw": BETWEEN}), (add, {"x": BETWEEN, "dw": OUT})],
            -(-between // LINE) * LINE, work=work,
        )  # fmt: skip

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        plain = scale == 1 and not accumulate
        program = self.whole if plain and self.whole is not None else self.summed
        program.run(first, second, out, bias, scale, accumulate)


def _add(problem: Problem, pieces: int, out: Strides) -> Job:
    """The job that adds `pieces` arrays of dw's shape and writes them to these strides."""
    shape, item = problem.geometry.w_shape, problem.dtype.itemsize
    axes = _merged(shape, tuple(s // item for s in out))
    (*lead, (run, step)) = [(1, 0)] * (OUTER_AXES + 1 - len(axes)) + axes
    chunk = run if prod(n for n, _ in lead) > 1 else CHUNK
    values = {f"n{i}": n for i, (n, _) in enumerate(lead)}
    values |= {f"s{i}": s for i, (_, s) in enumerate([*lead, (run, step)])}
    values |= {"pieces": pieces, "pitch": prod(shape), "run": run, "chunk": chunk}
    threaded = pieces * prod(shape) > SMALL
    return Job(ADD_PIECES, ELEMENTS[problem.dtype.name], None, values, -(-run // chunk), threaded)


def _merged(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """(size, stride) of the axes, those together that are one run of memory."""
    axes: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        if axes and axes[-1][1] == n * stride:
            axes[-1] = (axes[-1][0] * n, stride)
        elif n > 1 or not axes:
            axes.append((n, stride))
    return axes
