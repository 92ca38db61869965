"""Medians and their intervals by hand, and the turns of several works."""

import pytest

from convgrad.bench import timing
from convgrad.bench.timing import Runner, in_turns, median_interval, ratio


@pytest.fixture(autouse=True)
def unsettled(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0.0)


class Clock:
    """A clock that a work moves on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def fake(seconds, log=None, name=None):
    clock = Clock()

    def work():
        if log is not None:
            log.append(name)
        clock.now += seconds
        return name

    return Runner(work, clock)


# P(B < j), B ~ Binomial(n, ½), by hand: n = 5: 1/32 at j = 1, twice that is above 5 %;
# n = 6: 1/64; n = 8: 1/256, then 9/256; n = 9: 1/512, 10/512; n = 12: 1, 13 and 79 of 4096.
@pytest.mark.parametrize(
    ("count", "place"), [(1, None), (5, None), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (40, 13)]
)
def test_intervals_are_order_statistics(count, place):
    values = [float((7 * i) % count) if count % 7 else float(i) for i in range(count)]
    assert sorted(values) == [float(i) for i in range(count)]
    found = median_interval(values)
    assert found.median == (count - 1) / 2
    assert found.count == count
    expected = (None, None) if place is None else (place, count - 1 - place)
    assert (found.low, found.high) == expected


def test_a_ratio_is_the_median_of_pairs():
    ours, theirs = Runner(lambda: None), Runner(lambda: None)
    ours.seconds, theirs.seconds = [1.0, 2.0, 4.0, 1.0], [3.0, 4.0, 4.0]
    assert ratio(theirs, ours).median == 2.0  # of 3, 2 and 1; the fourth has no partner
    assert ratio(theirs, ours).count == 3


def test_turns_alternate_and_means_are_right():
    log = []
    runners = [fake(0.01, log, "a"), fake(0.01, log, "b"), fake(0.01, log, "c")]
    in_turns(runners, budget=0.12)
    assert [len(r.seconds) for r in runners] == [6, 6, 6]
    assert all(second == pytest.approx(0.01) for r in runners for second in r.seconds)
    timed = log[6:]  # after two estimates each
    assert timed[:12] == ["a", "a", "b", "b", "c", "c", "c", "c", "b", "b", "a", "a"]
    assert [r.result for r in runners] == ["a", "b", "c"]


def test_short_works_are_timed_in_bursts():
    log = []
    runner = fake(1e-5, log, "short")
    in_turns([runner], budget=0.01)
    assert len(log) > 100 * len(runner.seconds)
    assert runner.seconds[0] == pytest.approx(1e-5)


def test_a_slow_peer_drops_out_and_the_first_goes_on():
    runners = [fake(0.001), fake(0.5), fake(3.0)]
    in_turns(runners, budget=0.1)
    assert [len(r.seconds) for r in runners] == [40, 3, 1]


def test_what_the_clock_does_not_count_is_not_counted():
    clock, calls = Clock(), []

    def work():
        calls.append(1)  # takes no time on this clock
        clock.now += 0.002

    runner = Runner(work, clock)
    in_turns([runner], budget=0.01)
    assert runner.seconds[0] == pytest.approx(0.002)
