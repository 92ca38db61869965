"""Identities that need no oracle: adjoints, linearity, second order, bits, `out` and `scale`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convgrad as cg
from convgrad.choose import TABLE
from convgrad.padding import MODES

from .cases import batch_of, cases

ALGORITHMS = [a.name for a in TABLE["cpu"]]


def inner(a, b):
    return float((a * b).sum())


@settings(max_examples=300)
@given(cases(ranks=(1, 2, 3, 4)), st.sampled_from(MODES), st.booleans())
def test_the_three_maps_are_adjoint(case, mode, flip):
    """⟨forward(x,w), dy⟩ = ⟨input_grad(w,dy), x⟩ = ⟨weight_grad(x,dy), w⟩, exactly."""
    x, w, _, dy = case.integers()
    how = {**case.settings, "padding_mode": mode, "flip": flip, "algorithm": "direct"}
    y = cg.conv(x, w, **how)
    dx = cg.input_grad(x.shape, w, dy, **how)
    dw = cg.weight_grad(x, w.shape, dy, **how)
    assert inner(y, dy) == inner(dx, x) == inner(dw, w)


@settings(max_examples=150)
@given(cases(), st.integers(0, 2))
def test_the_transposed_maps_are_adjoint(case, extra):
    """The same for conv_transpose, whose x is the convolution's dy."""
    _, w, _, x = case.integers()
    extra = tuple(min(extra, max(s, d) - 1) for s, d in zip(case.stride, case.dilation))
    how = {**case.settings, "output_padding": extra}
    try:
        y = cg.conv_transpose(x, w, **how)
    except cg.ShapeError:
        assert any(
            (n - 1) * s - lo - hi + d * (k - 1) + 1 + e < 1
            for n, s, (lo, hi), d, k, e in zip(
                case.out_size, case.stride, case.pads, case.dilation, case.kernel, extra
            )
        )
        return
    dy = np.random.default_rng(case.seed).integers(-3, 4, y.shape).astype(float)
    dx, dw, db = cg.conv_transpose_backward(x, w, dy, **how)
    assert inner(y, dy) == inner(dx, x) == inner(dw, w)
    np.testing.assert_array_equal(db, dy.sum(axis=(0, *range(2, dy.ndim))))


@settings(max_examples=120)
@given(cases(), st.sampled_from(("zeros", "circular", "constant")))
def test_double_backward_is_the_gradient_of_backward(case, mode):
    """f(x,w,dy) = ⟨ddx,dx⟩ + ⟨ddw,dw⟩ + ⟨ddb,db⟩ is trilinear: its differences are exact."""
    x, w, b, dy = case.integers()
    rng = np.random.default_rng(case.seed + 1)
    ddx, ddw, ddb = (rng.integers(-2, 3, a.shape).astype(float) for a in (x, w, b))
    how = {**case.settings, "padding_mode": mode, "padding_value": 2 if mode == "constant" else 0}
    grads = cg.double_backward(x, w, dy, ddx, ddw, ddb, **how)

    def f(x, w, dy):
        dx, dw, db = cg.backward(x, w, dy, **how)
        return inner(ddx, dx) + inner(ddw, dw) + inner(ddb, db)

    operands = {"dy": dy, "x": x, "w": w}
    for name, grad in zip(operands, grads, strict=True):
        step = rng.integers(-2, 3, grad.shape).astype(float)
        moved = {**operands, name: operands[name] + step}
        assert f(**moved) - f(**operands) == inner(grad, step), name


@settings(max_examples=60)
@given(cases(), st.sampled_from(MODES))
def test_jvp_is_the_derivative_along_the_tangents(case, mode):
    x, w, b, _ = case.integers()
    rng = np.random.default_rng(case.seed + 1)
    tx, tw, tb = (rng.integers(-2, 3, a.shape).astype(float) for a in (x, w, b))
    how = {**case.settings, "padding_mode": mode, "padding_value": 3 if mode == "constant" else 0}
    ty = cg.jvp(x, w, tx, tw, tb, **how)
    moved = cg.conv(x + tx, w + tw, b + tb, **how)
    second = cg.conv(tx, tw, **{**how, "padding_value": 0})
    np.testing.assert_array_equal(moved - cg.conv(x, w, b, **how), ty + second)


@pytest.mark.parametrize("missing", ["ddx", "ddw", "ddb", "all"])
def test_a_missing_second_gradient_stands_for_zero(missing, rng):
    x, w, dy = rng.integers(-3, 4, (2, 2, 5)), rng.integers(-3, 4, (3, 2, 3)), np.ones((2, 3, 3))
    x, w = x.astype(float), w.astype(float)
    full = {"ddx": x + 1, "ddw": w - 1, "ddb": np.arange(3.0)}
    gone = full if missing == "all" else (missing,)
    zeroed = {k: v * 0 if k in gone else v for k, v in full.items()}
    nones = {k: None if k in gone else v for k, v in full.items()}
    for got, want in zip(
        cg.double_backward(x, w, dy, **nones), cg.double_backward(x, w, dy, **zeroed), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@settings(max_examples=100)
@given(cases(ranks=(1, 2)), st.booleans(), st.sampled_from(ALGORITHMS))
def test_scale_accumulate_and_out(case, last, algorithm):
    x, w, _, dy = case.integers()
    how = {**case.settings, "algorithm": algorithm}
    try:
        dx = cg.input_grad(x.shape, w, dy, **how)
    except cg.AlgorithmError:
        return
    dw, db = cg.weight_grad(x, w.shape, dy, **how), cg.bias_grad(dy)
    calls = [
        (dx, lambda **k: cg.input_grad(x.shape, w, dy, **how, **k)),
        (dw, lambda **k: cg.weight_grad(x, w.shape, dy, **how, **k)),
        (db, lambda **k: cg.bias_grad(dy, **k)),
    ]
    for grad, call in calls:
        out = np.full(grad.shape, 5.0)
        assert call(out=out, scale=-0.5, accumulate=True) is out
        rounded = np.round(out, 6) if algorithm in ("fft", "overlap_save") else out
        np.testing.assert_array_equal(rounded, 5 - 0.5 * np.round(grad))
        buffer = np.full((*grad.shape, 2), np.nan)
        strided = buffer[..., 0]
        call(out=strided, scale=2.0)
        np.testing.assert_array_equal(np.round(strided), 2 * np.round(grad))
        assert np.isnan(buffer[..., 1]).all()


@settings(max_examples=100)
@given(cases(), st.sampled_from(("zeros", "reflect")))
def test_per_sample_gradients_add_up(case, mode):
    x, w, _, dy = case.integers()
    how = {**case.settings, "padding_mode": mode}
    each = cg.weight_grad(x, w.shape, dy, **how, per_sample=True)
    assert each.shape == (case.batch, *w.shape)
    np.testing.assert_array_equal(each.sum(axis=0), cg.weight_grad(x, w.shape, dy, **how))
    for n in range(case.batch):
        alone = cg.weight_grad(x[n], w.shape, dy[n], **how)
        np.testing.assert_array_equal(each[n], alone)
    biases = cg.bias_grad(dy, per_sample=True)
    np.testing.assert_array_equal(biases.sum(axis=0), cg.bias_grad(dy))


@settings(max_examples=100)
@given(cases(), st.sampled_from(MODES), st.booleans())
def test_layouts_batches_and_flip_are_views_of_one_thing(case, mode, flip):
    x, w, b, dy = case.integers()
    how = {**case.settings, "padding_mode": mode}
    y, grads = cg.conv(x, w, b, **how), cg.backward(x, w, dy, **how)
    last = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, w, dy)]
    turned = tuple(range(1, 1 + case.rank))
    last[1] = np.flip(last[1], turned) if flip else last[1]
    other = {**how, "layout": "channels_last", "flip": flip}
    got = cg.conv(last[0], last[1], b, **other)
    np.testing.assert_array_equal(np.moveaxis(got, -1, 1), y)
    dx, dw, db = cg.backward(*last, **other)
    dw = np.flip(dw, turned) if flip else dw
    for g, e in zip((np.moveaxis(dx, -1, 1), np.moveaxis(dw, -1, 1), db), grads, strict=True):
        np.testing.assert_array_equal(g, e)
    each = cg.weight_grad(last[0], last[1].shape, last[2], **other, per_sample=True)
    assert each.shape == (case.batch, *last[1].shape)
    np.testing.assert_array_equal(each.sum(axis=0), np.flip(dw, turned) if flip else dw)
    for n in range(case.batch):
        np.testing.assert_array_equal(cg.conv(x[n], w, b, **how), y[n])
        np.testing.assert_array_equal(cg.input_grad(x[n].shape, w, dy[n], **how), grads.dx[n])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
@settings(max_examples=60)
@given(case=cases(ranks=(1, 2)))
def test_direct_gives_a_sample_the_same_bits_in_any_batch(dtype, case):
    case = batch_of(case, 3)
    x, w, b, dy = case.normals(dtype)
    how = {**case.settings, "algorithm": "direct"}
    y, dx = cg.conv(x, w, b, **how), cg.input_grad(x.shape, w, dy, **how)
    for n in range(3):
        np.testing.assert_array_equal(cg.conv(x[n : n + 1], w, b, **how)[0], y[n])
        alone = cg.input_grad((1, *x.shape[1:]), w, dy[n : n + 1], **how)
        np.testing.assert_array_equal(alone[0], dx[n])


@settings(max_examples=60)
@given(cases(), st.integers(0, 2))
def test_strided_and_swapped_operands_are_used_as_they_lie(case, way):
    x, w, b, dy = case.integers(np.float32)
    expected = (cg.conv(x, w, b, **case.settings), *cg.backward(x, w, dy, **case.settings))

    def disguised(a):
        if way == 0:
            return np.asfortranarray(a)
        if way == 1:
            return a.astype(">f4")
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]

    x, w, b, dy = map(disguised, (x, w, b, dy))
    got = (cg.conv(x, w, b, **case.settings), *cg.backward(x, w, dy, **case.settings))
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == np.float32
        assert g.dtype.isnative
        np.testing.assert_array_equal(g, e)
