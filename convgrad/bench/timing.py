"""Times of several works taken in turns, and the median of their pairs with its interval.

One after the other, each work has its turn in each round, so that what slows the machine slows all
alike. A turn begins with calls that aren't timed: a library's threads go on spinning for some
milliseconds after its last call, and would take a processor away from the next one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

SETTLE = 12e-3  # seconds of calls before a turn is timed: PyTorch's threads spin for about ten
LONG = 0.2  # seconds of a call that is worth no second one to settle
BURST = 1e-3  # seconds of calls in a turn, at least
LEAST, MOST = 6, 40  # rounds; six is the least number whose median has a 95 % interval
CONFIDENCE = 0.95

Work = Callable[[], Any]
Clock = Callable[[], float]


@dataclass
class Runner:
    """A work with the clock that times it: seconds of each turn, and the last timed result.

    The clock tells the seconds that count; it stands still in what should not be counted.
    """

    work: Work
    clock: Clock = time.perf_counter
    seconds: list[float] = field(default_factory=list)
    result: Any = None

    def call(self) -> float:
        """The seconds of one call, its result kept."""
        began = self.clock()
        self.result = self.work()
        return self.clock() - began

    def turn(self, estimate: float) -> None:
        """Settle, then time a burst of calls; results are freed outside of the time."""
        until = time.perf_counter() + SETTLE
        if estimate < LONG:
            self.work()
            while time.perf_counter() < until:
                self.work()
        else:
            time.sleep(SETTLE)
        calls = max(1, round(BURST / max(estimate, 1e-7)))
        self.result = None
        began = self.clock()
        for _ in range(calls - 1):
            self.work()
        self.result = self.work()
        self.seconds.append((self.clock() - began) / calls)


def in_turns(runners: Sequence[Runner], budget: float) -> None:
    """Time each runner for about `budget` seconds, settling counted.

    The first takes part in all rounds; one that is too slow for its budget drops out early, or is
    called but once. Every other round runs backwards, so that nobody has always the same one
    before it.
    """
    estimates = [_estimate(runner) for runner in runners]
    counts = [_rounds(estimate, budget) for estimate in estimates]
    counts[0] = max(counts)
    for runner, estimate, count in zip(runners, estimates, counts):
        if count == 1:
            runner.seconds.append(estimate)
    for number in range(counts[0] if counts[0] > 1 else 0):
        order = range(len(runners))
        for i in order if number % 2 == 0 else reversed(order):
            if number < counts[i] > 1:
                runners[i].turn(estimates[i])


def _estimate(runner: Runner) -> float:
    """Seconds of a call, the smaller of two (of one that is long)."""
    first = runner.call()
    return first if first > LONG else min(first, runner.call())


def _rounds(estimate: float, budget: float) -> int:
    """How many turns the budget pays for: never few, unless one alone takes longer."""
    turn = max(2 * estimate, SETTLE + BURST) if estimate < LONG else estimate
    least = LEAST if turn <= budget else 3 if turn <= 5 * budget else 1
    return max(least, min(MOST, int(budget / turn)))


@dataclass(frozen=True)
class Estimate:
    """A median, and its 95 % interval where there are six numbers or more."""

    median: float
    low: float | None
    high: float | None
    count: int


def median_interval(values: Sequence[float]) -> Estimate:
    """The median, and two order statistics that it lies between with 95 % confidence.

    Of n values, the j-th smallest and the j-th largest enclose the true median with probability
    1 − 2·P(B < j), B ~ Binomial(n, ½), whatever the distribution; j is the largest that keeps
    this at 95 %.
    """
    ordered, n = sorted(values), len(values)
    j = 0
    outside = 0.0
    while 2 * (outside := outside + comb(n, j) / 2**n) <= 1 - CONFIDENCE:
        j += 1
    low, high = (ordered[j - 1], ordered[n - j]) if j else (None, None)
    return Estimate(statistics.median(ordered), low, high, n)


def ratio(theirs: Runner, ours: Runner) -> Estimate:
    """Their time by ours, from the rounds in which both were timed."""
    return median_interval([b / a for a, b in zip(ours.seconds, theirs.seconds)])
