"""Padding modes against NumPy's, their adjoints as matrices, and constant padding's affine part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convgrad as cg
from convgrad.padding import MODES, pad, pad_adjoint

NUMPY_NAMES = {
    "zeros": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=3
    ),
    st.sampled_from(sorted(NUMPY_NAMES)),
)
def test_every_mode_pads_as_numpy_does(axes, mode):
    x = np.arange(1.0, 1 + np.prod([n for n, _, _ in axes])).reshape([n for n, _, _ in axes])
    pads = tuple((lo, hi) for _, lo, hi in axes)
    np.testing.assert_array_equal(pad(x, pads, mode), np.pad(x, pads, NUMPY_NAMES[mode]))


@settings(max_examples=200)
@given(st.integers(1, 5), st.integers(0, 9), st.integers(0, 9), st.sampled_from(MODES))
def test_the_adjoint_is_the_transposed_matrix(size, lo, hi, mode):
    matrix = np.stack([pad(row, ((lo, hi),), mode) for row in np.eye(size)])
    dpadded = np.random.default_rng(size).integers(-9, 9, size + lo + hi).astype(float)
    np.testing.assert_array_equal(pad_adjoint(dpadded, ((lo, hi),), mode), matrix @ dpadded)


def test_constant_padding_fills_with_its_value():
    x, w = np.ones((1, 1, 3)), np.array([[[1.0, 1.0, 1.0]]])
    how = {"padding": 1, "padding_mode": "constant", "padding_value": 10.0}
    np.testing.assert_array_equal(cg.conv(x, w, **how).ravel(), [12, 3, 12])
    dy = np.ones((1, 1, 3))
    np.testing.assert_array_equal(cg.weight_grad(x, w.shape, dy, **how).ravel(), [12, 3, 12])
    dx = cg.input_grad(x.shape, w, dy, padding=1, padding_mode="constant")
    np.testing.assert_array_equal(dx.ravel(), [2, 3, 2])


def test_tangents_and_second_gradients_are_padded_with_zero():
    """The derivative of a constant is zero, so only x itself is surrounded by padding_value."""
    x, w = np.ones((1, 1, 3)), np.ones((1, 1, 3))
    how = {"padding": 1, "padding_mode": "constant", "padding_value": 10.0}
    ty = cg.jvp(x, w, np.ones_like(x), None, **how)
    np.testing.assert_array_equal(ty.ravel(), [2, 3, 2])
    ty = cg.jvp(x, w, None, np.ones_like(w), **how)
    np.testing.assert_array_equal(ty.ravel(), [12, 3, 12])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "algorithm", ["direct", "im2col", "fft", "overlap_save", "winograd", "auto"]
)
def test_every_algorithm_serves_every_mode(mode, algorithm):
    rng = np.random.default_rng(0)
    x, w = rng.integers(-3, 4, (2, 2, 4, 5)), rng.integers(-3, 4, (3, 2, 3, 3))
    x, w = x.astype(float), w.astype(float)
    pads = ((2, 1), (0, 6))
    how = {"padding": pads, "padding_mode": mode, "algorithm": algorithm}
    laid = np.pad(x, ((0, 0), (0, 0), *pads), NUMPY_NAMES.get(mode, "constant"))
    plain = {"algorithm": "direct"}
    y = cg.conv(laid, w, **plain)
    np.testing.assert_array_equal(np.round(cg.conv(x, w, **how), 6), y)
    np.testing.assert_array_equal(
        np.round(cg.weight_grad(x, w.shape, y, **how), 6),
        cg.weight_grad(laid, w.shape, y, **plain),
    )
    fill = {"constant_values": -1} if mode in ("zeros", "constant") else {}
    index = np.pad(
        np.arange(x.size).reshape(x.shape),
        ((0, 0), (0, 0), *pads),
        NUMPY_NAMES.get(mode, "constant"),
        **fill,
    )
    dlaid = cg.input_grad(laid.shape, w, y, **plain)
    dx = np.zeros(x.size + 1)
    np.add.at(dx, index, dlaid)
    np.testing.assert_array_equal(
        np.round(cg.input_grad(x.shape, w, y, **how), 6).ravel(), dx[: x.size]
    )
