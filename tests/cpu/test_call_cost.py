"""What a call costs beside its sums: a tiny layer, again and again, which no thread helps with."""

import timeit

import numpy as np
import pytest

import convgrad as cg
from convgrad.cpu.jit import compiler, threads

pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(compiler.unavailable() is not None, reason="no kernels here"),
]
PLAN, CALL, BACKWARD = 5e-6, 10e-6, 25e-6  # seconds on an ordinary machine
SLOW = 3  # how much slower another one may be


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def as_users_have_it(request, monkeypatch):
    """Some threads, which may not cost more; and np.empty as it is, for its poison takes time."""
    before = threads._current.asked
    cg.set_num_threads(request.param)
    monkeypatch.undo()
    yield
    threads._current.asked = before


def seconds(call):
    """The least of many: what the machine does beside it only adds."""
    call()
    return min(timeit.repeat(call, number=50, repeat=200)) / 50


def layer(dtype):
    rng = np.random.default_rng(7)
    x, dy = (rng.standard_normal((1, 4, 8, 8)).astype(dtype) for _ in range(2))
    return x, rng.standard_normal((4, 4, 3, 3)).astype(dtype), dy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", [False, True], ids=["new", "out"])
def test_a_plan_takes_microseconds(dtype, given):
    x, w, dy = layer(dtype)
    for direction, operands, result in (
        ("forward", (x, w), dy), ("input_grad", (w, dy), x), ("weight_grad", (x, dy), w),
    ):  # fmt: skip
        plan = cg.plan(direction, x.shape, w.shape, padding=1, dtype=dtype)
        assert plan.algorithm in ("implicit_gemm", "stencil")
        out = np.empty_like(result) if given else None
        took = seconds(lambda plan=plan, a=operands, out=out: plan(*a, out=out))
        assert took < SLOW * PLAN, f"{direction}: {1e6 * took:.2f} µs"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_public_call_takes_microseconds(dtype):
    x, w, dy = layer(dtype)
    out = np.empty_like(dy)
    for name, call in {
        "conv": lambda: cg.conv(x, w, padding=1),
        "conv with out": lambda: cg.conv(x, w, padding=1, out=out),
        "conv_transpose": lambda: cg.conv_transpose(dy, w, padding=1),
        "input_grad": lambda: cg.input_grad(x.shape, w, dy, padding=1),
        "weight_grad": lambda: cg.weight_grad(x, w.shape, dy, padding=1),
        "pads as lists": lambda: cg.conv(x, w, padding=[(1, 1), (1, 1)]),
        "backward": lambda: cg.backward(x, w, dy, padding=1),
    }.items():
        took, most = seconds(call), BACKWARD if name == "backward" else CALL
        assert took < SLOW * most, f"{name}: {1e6 * took:.2f} µs"


def test_kept_weights_cost_nothing_more():
    x, w, _ = layer("float32")
    plan = cg.plan("forward", x.shape, w.shape, padding=1).with_weights(w)
    took = seconds(lambda: plan(x))
    assert took < SLOW * PLAN, f"{1e6 * took:.2f} µs"
