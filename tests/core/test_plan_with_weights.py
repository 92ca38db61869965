"""A plan that keeps its weights: the bits of the plain plan, whatever happens to the array."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convgrad as cg
from convgrad.algorithm import DIRECTIONS
from convgrad.choose import TABLE
from core.cases import cases

ALGORITHMS = [a.name for a in TABLE["cpu"]]
# Shapes of x and w, and settings, that make each algorithm keep something.
KEEPING = {
    "implicit_gemm": ((2, 24, 9, 8), (40, 24, 3, 3), {"padding": 1, "stride": 2}),
    "tiled_winograd": ((4, 32, 30, 30), (32, 32, 3, 3), {"padding": 1}),
    "stencil": ((2, 6, 20, 21), (8, 6, 5, 3), {"padding": 2}),
    "overlap_save": ((2, 6, 40, 50), (4, 3, 9, 7), {"padding": 3, "groups": 2}),
}


def problem(name, direction, dtype="float32", **how):
    """A plan, its operands, and which of them are not the weights."""
    x_shape, w_shape, settings_ = KEEPING[name]
    how = {**settings_, "algorithm": name, **how}
    plan = cg.plan(direction, x_shape, w_shape, **how, dtype=dtype)
    rng = np.random.default_rng(5)
    role = "x" if direction == "forward" else "dy"
    operand, w = (rng.standard_normal(plan.frame.shape(n)).astype(dtype) for n in (role, "w"))
    return plan, operand, w


def plain(plan, operand, w, *b, **how):
    pair = (operand, w) if plan.direction == "forward" else (w, operand)
    return plan(*pair, *b, **how)


@pytest.mark.parametrize("direction", DIRECTIONS[:2])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64"])
@settings(max_examples=25)
@given(case=cases(), data=st.data())
def test_it_gives_the_bits_of_the_plain_plan(direction, dtype, case, data):
    flip, last, odd = (data.draw(st.booleans()) for _ in range(3))
    x, w, b, dy = (a.astype(dtype) for a in case.normals())
    how = case.settings | {"flip": flip, "dtype": dtype}
    if last:
        x, w, dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, w, dy))
        how["layout"] = "channels_last"
    plan = cg.plan(direction, x.shape, w.shape, **how)
    operand = x if direction == "forward" else dy
    if odd:  # another layout in memory
        operand = np.ascontiguousarray(operand[..., ::-1])[..., ::-1]
    bias = [b] if direction == "forward" else []
    kept = plan.with_weights(np.asfortranarray(w) if odd else w)
    for sign in (1, -1, 1):
        own = (operand * sign).astype(dtype)
        want = plain(plan, own, w, *bias)
        assert kept(own, *bias).tobytes() == want.tobytes()
        out, other = np.ones_like(want), np.ones_like(want)
        assert kept(own, *bias, out=out, scale=2.0, accumulate=True) is out
        plain(plan, own, w, *bias, out=other, scale=2.0, accumulate=True)
        assert out.tobytes() == other.tobytes()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_can_keep_its_weights(algorithm, rng):
    x, w = rng.standard_normal((1, 3, 12, 13)), rng.standard_normal((4, 3, 3, 3))
    plan = cg.plan("forward", x.shape, w.shape, dtype="float64", algorithm=algorithm)
    kept = plan.with_weights(w)
    np.testing.assert_allclose(kept(x), plan(x, w), rtol=1e-12)
    np.testing.assert_allclose(kept(x), plan(x, w), rtol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS[:2])
@pytest.mark.parametrize("name", KEEPING)
def test_what_is_made_of_the_weights_is_made_once(name, direction):
    """Its jobs are not there any more: each run has fewer, and never reads w."""
    plan, operand, w = problem(name, direction)
    kept = plan.with_weights(w)
    assert kept.bytes > 2 * w.nbytes - 64
    want = plain(plan, operand, w)
    kept(operand)  # from the second call on, nothing is checked and made anew
    kept.w.flags.writeable = True
    kept.w[...] = np.nan
    assert kept(operand).tobytes() == want.tobytes()


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_written_into_the_array_later_does_not_matter(name):
    plan, operand, w = problem(name, "forward")
    want = plain(plan, operand, w)
    kept = plan.with_weights(w)
    w[...] = 7
    for _ in range(3):
        assert kept(operand).tobytes() == want.tobytes()
    assert not kept.w.flags.writeable


def test_it_prints_what_it_keeps():
    plan, _, w = problem("implicit_gemm", "forward")
    kept = plan.with_weights(w)
    text = str(kept)
    assert text.startswith(str(plan))
    made = kept.bytes - w.nbytes
    assert f"weights    {kept.bytes:,} bytes kept: w, and {made:,} made of it once" in text
    direct = cg.plan("forward", (1, 1, 9), (1, 1, 3), algorithm="direct")
    assert "nothing is made of it beforehand" in str(direct.with_weights(np.ones((1, 1, 3), "f4")))


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("count", [1, 2])
def test_many_threads_call_one(name, count):
    before = cg.get_num_threads()
    cg.set_num_threads(count)
    try:
        plan, operand, w = problem(name, "forward")
        kept = plan.with_weights(w)
        operands = [operand * n for n in range(1, 5)]
        wants = [plain(plan, a, w).tobytes() for a in operands]
        wrong = []

        def work(number):
            for _ in range(30):
                if kept(operands[number]).tobytes() != wants[number]:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
    finally:
        cg.set_num_threads(before)


def test_the_layouts_that_are_kept_are_few():
    plan, operand, w = problem("stencil", "forward")
    kept = plan.with_weights(w)
    one = kept.bytes - w.nbytes
    for gap in range(1, 12):
        wide = np.zeros((*operand.shape[:-1], operand.shape[-1] + gap), operand.dtype)
        own = wide[..., : operand.shape[-1]]
        own[...] = operand
        for _ in range(2):
            assert kept(own).tobytes() == plain(plan, operand, w).tobytes()
    assert kept.bytes - w.nbytes <= 5 * one


def test_what_it_refuses():
    plan, operand, w = problem("implicit_gemm", "forward")
    with pytest.raises(cg.SettingError, match="with_weights is for forward and input_grad"):
        cg.plan("weight_grad", operand.shape, w.shape).with_weights(w)
    with pytest.raises(cg.ShapeError, match="w is"):
        plan.with_weights(w[1:])
    with pytest.raises(cg.DTypeError, match="the plan is for float32, but w is float64"):
        plan.with_weights(w.astype("float64"))
    kept = plan.with_weights(w)
    for _ in range(2):
        with pytest.raises(cg.ShapeError, match="x is"):
            kept(operand[1:])
        with pytest.raises(cg.DTypeError, match="the plan is for float32, but x is float64"):
            kept(operand.astype("float64"))
        with pytest.raises(cg.ArrayError, match="out overlaps x"):
            kept(
                operand, out=operand.reshape(-1)[: kept(operand).size].reshape(kept(operand).shape)
            )
        with pytest.raises(cg.SettingError, match="accumulate=True needs"):
            kept(operand, accumulate=True)
        kept(operand, out=np.empty_like(kept(operand)))


def test_arrays_of_other_libraries():
    torch = pytest.importorskip("torch")
    plan, operand, w = problem("implicit_gemm", "forward")
    kept = plan.with_weights(torch.from_numpy(w))
    want = plain(plan, operand, w)
    for _ in range(2):
        y = kept(torch.from_numpy(operand))
        assert isinstance(y, torch.Tensor)
        assert y.numpy().tobytes() == want.tobytes()
    out = torch.empty(want.shape)
    assert kept(torch.from_numpy(operand), out=out) is out
    assert out.numpy().tobytes() == want.tobytes()


def test_a_transposed_plan_keeps_its_weights():
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 24, 6, 7)), rng.standard_normal((24, 16, 3, 3))
    plan = cg.plan("forward", x.shape, w.shape, stride=2, dtype="float64", transposed=True)
    kept = plan.with_weights(w)
    for _ in range(3):
        assert kept(x).tobytes() == cg.conv_transpose(x, w, stride=2).tobytes()
