"""A race: everybody's first result is checked, those who are right are timed, and checked again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from convgrad.bench import checking
from convgrad.bench.results import Beside
from convgrad.bench.timing import Clock, Runner, Work, in_turns, ratio


@dataclass(frozen=True)
class Entry:
    """Somebody in a race.

    prepare   lays the operands out and gives the work; errors are those of a library that cannot
    error     how far a result is from the right one, relative to its largest number
    refuses   why it takes no part, or None
    """

    library: str
    variant: str
    prepare: Callable[[], Work]
    error: Callable[[Any], float]
    refuses: str | None = None
    clock: Clock = time.perf_counter


def run(entries: Sequence[Entry], dtype: str, budget: float) -> list[Beside]:
    """What became of each entry. The ratios are its time by that of the first.

    If the first is left out, nobody is timed.
    """
    firsts = [_first(entry, dtype) for entry in entries]
    if firsts[0][1] is None:
        return [beside for beside, _ in firsts]
    runners = [runner for _, runner in firsts]
    in_turns([runner for runner in runners if runner is not None], budget)
    return [
        beside if runner is None else _judged(entry, beside, runner, runners[0], dtype)
        for entry, (beside, runner) in zip(entries, firsts)
    ]


def _first(entry: Entry, dtype: str) -> tuple[Beside, Runner | None]:
    """The first call, timed for itself and checked; no runner for who can't or mustn't go on."""
    beside = Beside(entry.library, entry.variant, left_out=entry.refuses)
    if entry.refuses is not None:
        return beside, None
    try:
        runner = Runner(entry.prepare(), entry.clock)
        began = entry.clock()
        result = runner.work()
        first = entry.clock() - began
    except RuntimeError as failure:  # what PyTorch and JAX raise for what they can't do
        why = str(failure).strip().splitlines() or [type(failure).__name__]
        return replace(beside, left_out=f"{entry.library} fails: {why[0]}"), None
    error = entry.error(result)
    wrong = checking.mistake(error, dtype, "before")
    return replace(beside, first=first, error=error, left_out=wrong), None if wrong else runner


def _judged(entry: Entry, beside: Beside, runner: Runner, own: Runner | None, dtype: str) -> Beside:
    """The times, if the last timed result is right as well."""
    error = entry.error(runner.result)
    wrong = checking.mistake(error, dtype, "after")
    if wrong is not None or own is None:
        return replace(beside, error=error, left_out=wrong)
    found = ratio(runner, own)
    return replace(
        beside, seconds=median(runner.seconds), error=max(error, beside.error or 0.0),
        ratio=found.median, low=found.low, high=found.high, pairs=found.count,
    )  # fmt: skip
