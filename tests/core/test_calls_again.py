"""A call like one before takes a shorter way: to the same numbers, the same checks and messages."""

import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convgrad as cg
from convgrad import ready
from convgrad.errors import ConvError
from core.cases import cases


def layer(dtype="float32", **sizes):
    rng = np.random.default_rng(3)
    shape = {"x": (2, 4, 9, 8), "w": (6, 4, 3, 3), "b": (6,), "dy": (2, 6, 9, 8)} | sizes
    return [rng.integers(-3, 4, shape[name]).astype(dtype) for name in ("x", "w", "b", "dy")]


def message(call):
    with pytest.raises(ConvError) as caught:
        call()
    return type(caught.value), str(caught.value)


def fresh(call):
    """The call as if none had been made before."""
    known, ready.calls.known = ready.calls.known, {}
    ready.calls.find = ready.calls.known.get
    try:
        return call()
    finally:
        ready.calls.known = known
        ready.calls.find = known.get


@settings(max_examples=60)
@given(cases(), st.sampled_from(["float32", "float64", "float16", "complex64", ">f4"]), st.data())
def test_the_second_call_gives_what_the_first_gave(case, dtype, data):
    """Other numbers in the same layout; `direct` says what they should be."""
    flip, last, batched = (data.draw(st.booleans()) for _ in range(3))
    x, w, b, dy = (a.astype(dtype) for a in case.integers(np.float64))
    kwargs = case.settings | {"flip": flip}
    if last:
        x, w, dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, w, dy))
        kwargs["layout"] = "channels_last"
    if not batched and case.batch:
        x, dy = x[0], dy[0]
    calls = {
        "conv": (lambda x, w, b, dy, **k: cg.conv(x, w, b, **k)),
        "input_grad": (lambda x, w, b, dy, **k: cg.input_grad(x.shape, w, dy, **k)),
        "weight_grad": (lambda x, w, b, dy, **k: cg.weight_grad(x, w.shape, dy, **k)),
        "backward": (lambda x, w, b, dy, **k: cg.backward(x, w, dy, **k)),
    }
    for name, call in calls.items():
        for sign in (1, -1, 1):
            arrays = [(a * sign).astype(dtype) for a in (x, w, b, dy)]
            got = call(*arrays, **kwargs)
            want = call(*arrays, **kwargs, algorithm="direct")
            got, want = ((r,) if name != "backward" else r for r in (got, want))
            for one, other in zip(got, want, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)


@settings(max_examples=30)
@given(cases())
def test_a_plan_again(case):
    x, w, b, dy = case.integers(np.float32)
    for direction, operands in (
        ("forward", (x, w)), ("forward", (x, w, b)), ("input_grad", (w, dy)),
        ("weight_grad", (x, dy)),
    ):  # fmt: skip
        plan = cg.plan(direction, x.shape, w.shape, **case.settings)
        want = cg.plan(direction, x.shape, w.shape, **case.settings, algorithm="direct")(*operands)
        for _ in range(2):
            np.testing.assert_array_equal(plan(*operands), want)
            out = np.ones_like(want)
            assert plan(*operands, out=out) is out
            np.testing.assert_array_equal(out, want)
            plan(*operands, out=out, scale=2.0, accumulate=True)
            bias = operands[2] if len(operands) == 3 else None
            double = 3 * want if bias is None else 3 * want - b.reshape(-1, *[1] * case.rank)
            np.testing.assert_array_equal(out, double)


def test_a_transposed_plan_again():
    x, w, _, dy = layer()
    plan = cg.plan("forward", dy.shape, w.shape, padding=1, transposed=True)
    for _ in range(3):
        np.testing.assert_array_equal(plan(dy, w), cg.input_grad(x.shape, w, dy, padding=1))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"stride": 1}, {"stride": True}),
        ({"stride": 1}, {"stride": 1.0}),
        ({"stride": (1, 1)}, {"stride": (1.0, 1)}),
        ({"stride": [1, 1]}, {"stride": [True, 1]}),
        ({"padding": [(1, 1), (0, 1)]}, {"padding": [(1, 1), (0, 1.0)]}),
        ({"groups": 1}, {"groups": Fraction(1)}),
        ({"flip": True}, {"flip": 1}),
        ({"flip": False}, {"flip": 0}),
        ({"padding_value": 0}, {"padding_value": False}),
        ({"max_scratch": 10**6}, {"max_scratch": 1e6}),
    ],
    ids=str,
)
def test_equal_settings_of_another_type_are_refused_as_ever(right, wrong):
    x, w, *_ = layer()
    first = message(lambda: fresh(lambda: cg.conv(x, w, **wrong)))
    for _ in range(2):
        cg.conv(x, w, **right)
        assert message(lambda: cg.conv(x, w, **wrong)) == first


def test_a_shape_of_floats_is_refused_as_ever():
    x, w, _, dy = layer()
    cg.input_grad(x.shape, w, dy, padding=1)
    floats = tuple(map(float, x.shape))
    refused = message(lambda: cg.input_grad(floats, w, dy, padding=1))
    assert refused == message(lambda: fresh(lambda: cg.input_grad(floats, w, dy, padding=1)))


def test_a_list_that_has_changed_is_another_setting():
    x, w, *_ = layer()
    stride = [1, 1]
    assert cg.conv(x, w, stride=stride).shape[2:] == (7, 6)
    stride[0] = 2
    assert cg.conv(x, w, stride=stride).shape[2:] == (4, 6)


def test_out_is_looked_at_in_every_call():
    x, w, b, dy = layer()
    memory = np.zeros(2 * dy.size, np.float32)
    apart, inside = memory[dy.size :].reshape(dy.shape), memory[: dy.size].reshape(dy.shape)
    plan = cg.plan("forward", x.shape, w.shape, padding=1)
    source = inside.reshape(-1)[: x.size].reshape(x.shape)
    for call in (
        lambda out, x=x: cg.conv(x, w, b, padding=1, out=out),
        lambda out, x=x: plan(x, w, b, out=out),
        lambda out, x=x: cg.conv_transpose(x, w.swapaxes(0, 1), b, padding=1, out=out),
    ):
        for _ in range(2):
            call(apart)
            call(apart, source)
        assert "out overlaps x in memory" in message(lambda c=call: c(inside, source))[1]
        locked = apart.view()
        locked.flags.writeable = False
        assert "out is read-only" in message(lambda c=call, locked=locked: c(locked))[1]
    assert "out overlaps b" in message(lambda: cg.conv(x, w, dy[0, :, 0, 0], padding=1, out=dy))[1]


def test_arguments_beside_the_key_are_checked_in_every_call():
    x, w, _, dy = layer()
    out, dw = np.zeros_like(x), np.zeros_like(w)
    plan = cg.plan("weight_grad", x.shape, w.shape, padding=1)
    for _ in range(2):
        cg.input_grad(x.shape, w, dy, padding=1, out=out)
        cg.weight_grad(x, w.shape, dy, padding=1, out=dw)
        plan(x, dy, out=dw)
    for call in (
        lambda **k: cg.input_grad(x.shape, w, dy, padding=1, **k),
        lambda **k: cg.weight_grad(x, w.shape, dy, padding=1, **k),
        lambda **k: plan(x, dy, **k),
    ):
        call()
        assert "accumulate must be True or False" in message(lambda c=call: c(accumulate=1))[1]
        assert "needs the `out`" in message(lambda c=call: c(accumulate=True))[1]
        assert "scale must be a real number" in message(lambda c=call: c(scale="2"))[1]
    with pytest.raises(ConvError, match="the plan is for float32"):
        plan(x.astype("float64"), dy.astype("float64"))


def test_what_is_no_plain_array_takes_the_long_way():
    x, w, *_ = layer()
    want = cg.conv(x, w)
    assert "masked array" in message(lambda: cg.conv(np.ma.masked_array(x), w))[1]
    assert "is None" in message(lambda: cg.conv(None, w))[1]

    class Own(np.ndarray):
        pass

    np.testing.assert_array_equal(cg.conv(x.view(Own), w), want)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(ready, "MOST", 5)
    w = np.ones((1, 1, 1, 1), np.float32)
    for n in range(1, 12):
        assert (cg.conv(np.ones((1, 1, n, n), np.float32), w) == 1).all()
        assert len(ready.calls.known) <= 5


def test_many_threads_share_what_is_remembered():
    plan = cg.plan("forward", (1, 4, 8, 8), (4, 4, 3, 3), padding=1)
    wrong, gate = [], threading.Barrier(6)

    def go(seed):
        rng = np.random.default_rng(seed)
        x = rng.integers(-3, 4, (1, 4, 8, 8)).astype(np.float32)
        w = rng.integers(-3, 4, (4, 4, 3, 3)).astype(np.float32)
        want = cg.conv(x, w, padding=1, algorithm="direct")
        dw = cg.weight_grad(x, w.shape, want, padding=1, algorithm="direct")
        gate.wait()
        for _ in range(300):
            if not (plan(x, w) == want).all():
                wrong.append(seed)
            if not (cg.weight_grad(x, w.shape, want, padding=1) == dw).all():
                wrong.append(seed)

    callers = [threading.Thread(target=go, args=(i,)) for i in range(6)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert wrong == []
