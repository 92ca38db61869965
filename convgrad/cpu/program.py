"""A program: the jobs of one map in order, laid out in memory once, then run by one call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from convgrad.algorithm import Bound, Kept, Problem, Strides
from convgrad.cpu.jit.compiler import ADDRESS
from convgrad.cpu.jit.pool_code import GIVEN, ROOM, STEP
from convgrad.cpu.jit.threads import perform
from convgrad.cpu.job import Job, kernels


class Given(NamedTuple):
    """What a call gives: an operand, the result, memory between jobs; `offset` bytes further."""

    name: str
    offset: int = 0

    def further(self, offset: int) -> "Given":
        return self._replace(offset=offset)


FIRST, SECOND, OUT, BIAS = Given("FIRST"), Given("SECOND"), Given("OUT"), Given("BIAS")
BETWEEN = Given("BETWEEN")
WORK = Given("WORK")  # behind BETWEEN, and never kept from call to call
OPERANDS = (FIRST, SECOND)
LINE = 64  # bytes of a cache line
Step = tuple[Job, dict[str, Given]]  # a job, and the fields that a call gives it
# Fields that are filled in wherever a kernel has them and its job has no value for them.
ALWAYS = {"accumulate": Given("ACCUMULATE"), "scale": Given("SCALE")}


def sides(
    problem: Problem, first: Strides, second: Strides
) -> tuple[tuple[Strides, Given], tuple[Strides, Given], np.ndarray]:
    """What a forward map or an input gradient reads: its source (x or dy) and w, each with its
    strides; and zeros for a bias that is not given."""
    g = problem.geometry
    if problem.direction == "input_grad":
        return (second, SECOND), (first, FIRST), np.zeros(g.in_channels, problem.wide)
    return (first, FIRST), (second, SECOND), np.zeros(g.out_channels, problem.wide)


class Program(Bound):
    """Jobs in order, each with the fields that a call gives it.

    between: bytes in which jobs leave something for later ones (packed weights, pieces of a sum).
    work: bytes behind them, for what depends on more than the weights.
    no_bias: what stands in for a bias that is not given.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        between: int = 0,
        no_bias: np.ndarray | None = None,
        work: int = 0,
    ) -> None:
        self.steps = tuple(steps)
        self.jobs = tuple(job for job, _ in steps)
        self.threaded = any(job.threaded for job in self.jobs)
        self.between = between
        self.work = work
        self.bytes = between + work
        self.no_bias = np.zeros(1) if no_bias is None else no_bias
        self.tables: list[np.ndarray] = []  # kept for their memory
        functions = kernels([job.key for job in self.jobs])
        words = [
            word
            for function, (job, given) in zip(functions, steps, strict=True)
            for word in self._step(function, job, given)
        ]
        self.address = self._keep([*words, *[0] * len(STEP)])

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """Run all jobs. The bias is contiguous and of the kernels' dtype."""
        if bias is None:
            bias = self.no_bias
        perform(
            self.address, self.threaded, self.bytes,
            id(first) + ADDRESS, id(second) + ADDRESS, id(out) + ADDRESS, id(bias) + ADDRESS,
            accumulate, scale,
        )  # fmt: skip

    def with_weights(self, place: int, w: np.ndarray) -> Kept | None:
        """The program without the jobs that read w alone, their results in memory of its own.

        Those jobs read operand number `place` and write BETWEEN. None where there are none, or
        where others write there too. Behind jobs of another kind they get memory of their own:
        what they left before is needed again.
        """
        parts = _apart(self.steps, OPERANDS[place])
        if parts is None:
            return None
        filling, rest, rooms = parts
        pitch = -(-self.between // LINE) * LINE
        kept = np.empty(rooms * pitch + LINE, np.uint8)
        start = -(-kept.ctypes.data // LINE) * LINE
        first = [_kept(step, start + room * pitch, kept) for step, room in filling]
        Program(first).run(w, w, w)
        later = [_kept(step, start + room * pitch, kept) for step, room in rest]
        return Kept(Program(later, 0, self.no_bias, self.work), kept.nbytes)

    def _step(self, function: int, job: Job, given: dict[str, Given]) -> tuple[int, ...]:
        """One job, whose kernel is at this address, in the order of STEP."""
        fields = job.generator.fields
        template = [job.values.get(field, 0) for field in fields]
        template += [0] * (-len(template) % 8)
        if len(template) > ROOM:
            raise ValueError(f"{job.generator.name} has more than {ROOM} fields")
        always = {n: w for n, w in ALWAYS.items() if n in fields and n not in job.values}
        filled = always | given
        fills = [
            word
            for name, what in filled.items()
            for word in (fields.index(name), *self._place(what))
        ]
        return (
            function, job.parts, job.threaded,
            self._keep(template), len(template), self._keep(fills), len(filled),
        )  # fmt: skip

    def _place(self, what: Given) -> tuple[int, int]:
        """Its number in GIVEN, and the bytes to add."""
        if what.name == WORK.name:
            return GIVEN[BETWEEN.name], self.between + what.offset
        return GIVEN[what.name], what.offset

    def _keep(self, words: Sequence[int]) -> int:
        """The words in memory that lives as long as the program; its address."""
        table = np.array(words, np.int64)
        self.tables.append(table)
        return table.ctypes.data


Numbered = list[tuple[Step, int]]  # steps, each with the number of the memory that it uses


def _apart(steps: Sequence[Step], w: Given) -> tuple[Numbered, Numbered, int] | None:
    """The steps that read w alone and fill BETWEEN; all others; and how many memories they fill."""
    filling: Numbered = []
    rest: Numbered = []
    room, after = 0, False
    for job, given in steps:
        names = {what.name for what in given.values()}
        fills = names in [{BETWEEN.name, operand.name} for operand in OPERANDS]
        if fills and w.name not in names:
            return None
        room += fills and after
        after = not fills
        (filling if fills else rest).append(((job, given), room))
    return (filling, rest, room + 1) if filling else None


def _kept(step: Step, start: int, memory: np.ndarray) -> Step:
    """The step with BETWEEN at an address that stays."""
    job, given = step
    fixed = {n: start + what.offset for n, what in given.items() if what.name == BETWEEN.name}
    still = {n: what for n, what in given.items() if n not in fixed}
    tables = (*job.tables, memory)
    return replace(job, values=job.values | fixed, tables=tables), still
