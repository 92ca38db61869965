"""Who is wrong is not timed; who turns wrong loses its times; who cannot says so."""

import numpy as np
import pytest

from convgrad.bench import checking, race, timing
from convgrad.bench.race import Entry

RIGHT = np.arange(4.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0.0)
    monkeypatch.setattr(timing, "BURST", 0.0)


def entry(work, name="somebody", **more):
    return Entry(name, "", lambda: work, lambda got: checking.error(got, RIGHT), **more)


def right():
    return RIGHT.copy()


def raced(*entries):
    return race.run(entries, "float64", 1e-3)


def test_right_results_are_timed():
    me, other = raced(entry(right), entry(right))
    assert me.seconds > 0
    assert other.ratio > 0
    assert other.error == 0
    assert other.first > 0
    assert other.pairs >= timing.LEAST


@pytest.mark.parametrize("bad", [RIGHT + 1e-9, RIGHT * np.nan, RIGHT[:2]])
def test_a_wrong_result_is_not_timed(bad):
    calls = []

    def wrong():
        calls.append(1)
        return bad

    me, other = raced(entry(right), entry(wrong))
    assert len(calls) == 1
    assert other.left_out.startswith("wrong before timing")
    assert (other.seconds, other.ratio) == (None, None)
    assert me.seconds > 0


def test_if_the_first_is_wrong_nobody_is_timed():
    calls = []

    def counted():
        calls.append(1)
        return right()

    me, other = raced(entry(lambda: RIGHT + 1), entry(counted))
    assert "wrong before" in me.left_out
    assert len(calls) == 1
    assert other.seconds is None


def test_who_turns_wrong_loses_its_times():
    calls = []

    def turning():
        calls.append(1)
        return RIGHT + (len(calls) > 3)

    _, other = raced(entry(right), entry(turning))
    assert len(calls) > 3
    assert other.left_out.startswith("wrong after timing: it errs by 3.3e-01")
    assert (other.seconds, other.ratio) == (None, None)
    calls.clear()
    assert "wrong after" in raced(entry(turning), entry(right))[0].left_out


def test_who_cannot_says_why():
    def failing():
        raise NotImplementedError("no such kernel\nand a long story")

    refusing = entry(right, refuses="too large")
    _, failed, refused = raced(entry(right), entry(failing, "Lib"), refusing)
    assert failed.left_out == "Lib fails: no such kernel"
    assert refused.left_out == "too large"


@pytest.mark.parametrize(
    ("result", "reference", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, -3.0], [1.0, -4.0], 0.25),
        ([0.5, 0.0], [0.0, 0.0], 0.5),
        ([[1.0]], [1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_errors_by_hand(result, reference, error):
    assert checking.error(np.array(result), np.array(reference)) == error
