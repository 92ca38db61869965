"""A user's function: found, called by its contract, checked, timed."""

import textwrap

import numpy as np
import pytest

from convgrad.bench import own, timing
from convgrad.bench.limits import Limits
from convgrad.contracts import numpy_cache
from convgrad.errors import DataError, SettingError
from convgrad.shapes import Layer, networks

TINY = Layer("tiny", "n", 2, 3, 4, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1))
GROUPED = Layer("grouped", "n", 2, 4, 4, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1), 2)
FORWARD = own.signature("numpy_cache.conv_forward_naive", "")
BACKWARD = own.signature("numpy_cache.conv_backward_naive", "")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0.0)
    monkeypatch.setattr(timing, "BURST", 0.0)


def contest(function, signature=FORWARD, limits=None):
    return own.Contest("mine.py:f", function, signature, [], limits, 1e-3)


def right(x, w, b, conv_param):
    return numpy_cache.conv_forward_naive(x, w, b, conv_param)


def test_a_right_function_is_timed():
    row = contest(right).row(TINY, "float64")
    assert (row.wrong, row.alarm) == (None, None)
    assert row.seconds > 0
    assert row.first > 0
    assert row.direction == "y"
    assert [b.library for b in row.beside] == ["convgrad"]
    assert row.beside[0].ratio > 0


def test_several_results_are_all_checked():
    row = contest(numpy_cache.conv_backward_naive, BACKWARD).row(TINY, "float64")
    assert row.wrong is None
    assert row.direction == "dx+dw+db"
    assert row.flops == 4 * TINY.macs

    def wrong_bias(dout, cache):
        dx, dw, db = numpy_cache.conv_backward_naive(dout, cache)
        return dx, dw, db + 1

    assert "before" in contest(wrong_bias, BACKWARD).row(TINY, "float64").wrong


def test_a_function_that_keeps_results_is_caught():
    kept = {}

    def keeping(x, w, b, conv_param):
        if id(x) not in kept:
            kept[id(x)] = right(x, w, b, conv_param)
        return kept[id(x)]

    row = contest(keeping).row(TINY, "float64")
    assert row.wrong.startswith("wrong after timing")
    assert row.wrong.endswith("are results kept?")
    assert row.seconds is None


def test_a_function_that_turns_wrong_is_caught():
    calls = []

    def turning(x, w, b, conv_param):
        calls.append(1)
        out, cache = right(x, w, b, conv_param)
        return out + (len(calls) > 3), cache

    assert "after timing" in contest(turning).row(TINY, "float64").wrong


def test_what_is_faster_than_the_machine_rings_an_alarm():
    slow = dict.fromkeys(("float32", "float64"), 1.0)
    row = contest(right, limits=Limits(1, slow, slow, {1 << 16: 1.0})).row(TINY, "float64")
    assert "faster than this machine's limit" in row.alarm
    fast = dict.fromkeys(("float32", "float64"), 1e18)
    row = contest(right, limits=Limits(1, fast, fast, {1 << 16: 1e18})).row(TINY, "float64")
    assert row.alarm is None


def test_only_the_function_is_timed():
    meter = own.Meter(lambda x: x + 1)
    before = meter.clock()
    assert meter(1) == 2
    assert meter.clock() > before
    inside = meter.clock()
    sum(range(1000))
    assert meter.clock() == inside
    with pytest.raises(ZeroDivisionError):
        own.Meter(lambda: 1 / 0)()


def test_slow_functions_are_spared_large_layers(monkeypatch):
    monkeypatch.setattr(own, "SLOWEST", 0.0)
    large = Layer("large", "n", 2, 3, 4, (60, 60), (3, 3), (1, 1), (1, 1), (1, 1))
    row, sentence = contest(right).rows([large, TINY], "float64")
    assert row.layer == "tiny"
    assert sentence.startswith("large: left out, a call would take about")


def test_layers_that_the_contract_can_express():
    assert own.expressible(FORWARD, [TINY, GROUPED], "float64") == [TINY]
    with pytest.raises(SettingError, match="no argument for groups"):
        own.expressible(FORWARD, [GROUPED], "float64")
    spread = own.spread(own.expressible(FORWARD, networks(), "float64"), 6, 2e7)
    assert len(spread) == 6
    assert [layer.macs for layer in spread] == sorted(layer.macs for layer in spread)
    assert own.spread([TINY], 6, 2e7) == [TINY]


def test_signatures_are_named():
    assert own.signature("numpy_cache", "conv_forward_naive") is FORWARD
    assert own.signature("deeplearntoolbox", "anything").name == "convn"
    for contract, message in ((None, "pass --contract"), ("aten", "aten.convolution"), ("x", "y")):
        with pytest.raises(SettingError, match=message):
            own.signature(contract, "mine")


def test_functions_are_loaded(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
        value = 3
        def one(x):
            return x + 1
    """)
    )
    assert own.load(f"{file}:one")(np.float64(1)) == 2
    for target, message in (
        (f"{file}", "write it as file.py:function"),
        (f"{file}:", "write it as file.py:function"),
        (f"{tmp_path / 'none.py'}:one", "there is no file"),
        (f"{file}:two", "no function 'two'; what can be called there: one"),
        (f"{file}:value", "no function 'value'"),
    ):
        with pytest.raises(DataError, match=message):
            own.load(target)
