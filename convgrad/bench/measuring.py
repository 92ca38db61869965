"""One case: check everybody's result, time in turns, check again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from convgrad.bench import checking, definition
from convgrad.bench.case import Case, Operands, drawn
from convgrad.bench.limits import Limits
from convgrad.bench.peers import ours
from convgrad.bench.peers.library import Library
from convgrad.bench.results import Beside, Row
from convgrad.bench.timing import Turns, Work, in_turns, ratio


@dataclass(frozen=True)
class Entrant:
    """A library in a case, with what is known of it so far."""

    library: Library
    beside: Beside
    work: Work | None = None


@dataclass(frozen=True)
class Bench:
    """What the cases of a run have in common.

    budget: seconds of timing for each library in each case.
    """

    own: Library
    settings: ours.Settings
    peers: Sequence[Library]
    limits: Limits | None
    budget: float

    def rows(self, cases: Sequence[Case]) -> Iterator[Row]:
        """Each case's row; operands are drawn once for the cases of a layer that follow on."""
        last: tuple[object, ...] = ()
        operands: Operands | None = None
        for case in cases:
            if operands is None or (case.layer, case.dtype) != last:
                operands, last = drawn(case.layer, case.dtype), (case.layer, case.dtype)
            yield self.row(case, operands)

    def row(self, case: Case, operands: Operands) -> Row:
        reference = definition.result(case.layer, case.direction, operands.exact)
        row = self._described(case)
        entrants = [
            self._first(library, case, operands, reference) for library in (self.own, *self.peers)
        ]
        me = entrants[0].beside
        if me.left_out is not None:
            return replace(row, error=me.error, wrong=me.left_out)
        racing = [entrant for entrant in entrants if entrant.work is not None]
        turns = in_turns([e.work for e in racing if e.work is not None], self.budget)
        checked = {
            (e.library.name, e.library.variant): _judged(e, turn, turns[0], case, reference)
            for e, turn in zip(racing, turns)
        }
        finished = [checked.get((e.library.name, e.library.variant), e.beside) for e in entrants]
        me, beside = finished[0], tuple(finished[1:])
        if me.left_out is not None:
            return replace(row, error=me.error, wrong=me.left_out)
        return replace(row, seconds=me.seconds, error=me.error, beside=beside)

    def _described(self, case: Case) -> Row:
        """The row without times."""
        layer, plan = case.layer, ours.Call(case, self.settings).plan
        limit, bound = self.limits.seconds(case) if self.limits else (None, None)
        return Row(
            layer.name, layer.network, layer.layer_class, case.direction, case.dtype,
            layer.x_shape, layer.w_shape, layer.y_shape, case.flops, case.bytes,
            plan.algorithm, plan.scratch, limit=limit, bound=bound,
        )  # fmt: skip

    def _first(
        self, library: Library, case: Case, operands: Operands, reference: np.ndarray
    ) -> Entrant:
        """The library's first call, checked; without a work if it can't or mustn't be timed."""
        beside = Beside(library.name, library.variant)
        sentence = library.refuses(case)
        if sentence is not None:
            return Entrant(library, replace(beside, left_out=sentence))
        try:
            work = library.work(case, operands)
            result = checking.first_result(library, work, reference, case.dtype)
        except RuntimeError as failure:  # what PyTorch and JAX raise for what they can't do
            sentence = f"{library.name} fails: {str(failure).splitlines()[0]}"
            return Entrant(library, replace(beside, left_out=sentence))
        error = checking.error(result, reference)
        wrong = checking.mistake(error, case.dtype, "before")
        beside = replace(beside, error=error, left_out=wrong)
        return Entrant(library, beside, None if wrong else work)


def _judged(
    entrant: Entrant, turns: Turns, own: Turns, case: Case, reference: np.ndarray
) -> Beside:
    """The entrant's times, if its last timed result is right as well."""
    last = checking.error(entrant.library.numpy(turns.result), reference)
    error = max(last, entrant.beside.error or 0.0)
    wrong = checking.mistake(last, case.dtype, "after")
    if wrong is not None:
        return replace(entrant.beside, error=last, left_out=wrong)
    found = ratio(turns, own)
    return replace(
        entrant.beside, seconds=median(turns.seconds), error=error,
        ratio=found.median, low=found.low, high=found.high, pairs=found.count,
    )  # fmt: skip
