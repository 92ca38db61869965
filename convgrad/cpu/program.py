"""A program: the jobs of one map in order, laid out in memory once, then run by one call."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.jit.compiler import ADDRESS
from convgrad.cpu.jit.pool_code import GIVEN, ROOM, STEP
from convgrad.cpu.jit.threads import perform
from convgrad.cpu.job import Job, kernel


class Given(NamedTuple):
    """What a call gives: an operand, the result, memory between jobs; `offset` bytes further."""

    name: str
    offset: int = 0

    def further(self, offset: int) -> "Given":
        return self._replace(offset=offset)


FIRST, SECOND, OUT, BIAS = Given("FIRST"), Given("SECOND"), Given("OUT"), Given("BIAS")
BETWEEN = Given("BETWEEN")
Step = tuple[Job, dict[str, Given]]  # a job, and the fields that a call gives it
# Fields that are filled in wherever a kernel has them.
ALWAYS = {"accumulate": Given("ACCUMULATE"), "scale": Given("SCALE")}


def sides(
    problem: Problem, first: Strides, second: Strides
) -> tuple[tuple[Strides, Given], tuple[Strides, Given], np.ndarray]:
    """What a forward map or an input gradient reads: its source (x or dy) and w, each with its
    strides; and zeros for a bias that is not given."""
    g = problem.geometry
    if problem.direction == "input_grad":
        return (second, SECOND), (first, FIRST), np.zeros(g.in_channels, problem.dtype)
    return (first, FIRST), (second, SECOND), np.zeros(g.out_channels, problem.dtype)


class Program:
    """Jobs in order, each with the fields that a call gives it.

    between: bytes in which jobs leave something for later ones (packed weights, pieces of a sum).
    no_bias: what stands in for a bias that is not given.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        between: int = 0,
        no_bias: np.ndarray | None = None,
    ) -> None:
        self.jobs = tuple(job for job, _ in steps)
        self.threaded = any(job.threaded for job in self.jobs)
        self.between = between
        self.no_bias = np.zeros(1) if no_bias is None else no_bias
        self.tables: list[np.ndarray] = []  # kept for their memory
        words = [word for job, given in steps for word in self._step(job, given)]
        self.address = self._keep([*words, *[0] * len(STEP)])

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """Run all jobs. The bias is contiguous and of the kernels' dtype."""
        if bias is None:
            bias = self.no_bias
        perform(
            self.address, self.threaded, self.between,
            id(first) + ADDRESS, id(second) + ADDRESS, id(out) + ADDRESS, id(bias) + ADDRESS,
            accumulate, scale,
        )  # fmt: skip

    def _step(self, job: Job, given: dict[str, Given]) -> tuple[int, ...]:
        """One job in the order of STEP."""
        fields = job.generator.fields
        template = [job.values.get(field, 0) for field in fields]
        template += [0] * (-len(template) % 8)
        if len(template) > ROOM:
            raise ValueError(f"{job.generator.name} has more than {ROOM} fields")
        filled = {name: what for name, what in ALWAYS.items() if name in fields} | given
        fills = [
            word
            for name, what in filled.items()
            for word in (fields.index(name), GIVEN[what.name], what.offset)
        ]
        return (
            kernel(job.generator, job.element, job.shape), job.parts, job.threaded,
            self._keep(template), len(template), self._keep(fills), len(filled),
        )  # fmt: skip

    def _keep(self, words: Sequence[int]) -> int:
        """The words in memory that lives as long as the program; its address."""
        table = np.array(words, np.int64)
        self.tables.append(table)
        return table.ctypes.data
