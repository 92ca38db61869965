"""float16 and bfloat16, read and written by the kernels themselves where sums are stored once."""

import ml_dtypes
import numpy as np
import pytest
from engine_cases import noting

import convgrad as cg

HALVES = (np.float16, ml_dtypes.bfloat16)


@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("kernel", [1, 3])
def test_no_array_is_converted_where_sums_are_short(half, kernel):
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 4, (3, 40, 30, 29)).astype(half)
    w = rng.integers(-3, 4, (24, 40, kernel, kernel)).astype(half)
    settings = {"padding": kernel // 2, "algorithm": "implicit_gemm"}
    with noting() as seen:
        y = cg.conv(x, w, **settings)
        dx = cg.input_grad(x.shape, w, y, **settings)
        dw = cg.weight_grad(x, w.shape, np.sign(y), **settings)
    assert {"widen", "narrow"}.isdisjoint(name for name, *_ in seen.kernels)
    for got, want in (
        (y, cg.conv(x.astype("f4"), w.astype("f4"), **settings)),
        (dx, cg.input_grad(x.shape, w.astype("f4"), y.astype("f4"), **settings)),
        (dw, cg.weight_grad(x.astype("f4"), w.shape, np.sign(y).astype("f4"), **settings)),
    ):
        assert got.dtype == half
        np.testing.assert_array_equal(got, want.astype(half))


@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.__name__)
def test_every_number_of_16_bits_is_widened_and_rounded_as_numpy_does(half):
    """Through a 1×1 kernel of one: subnormal numbers, infinities and NaN among them."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(half).reshape(1, 4, -1)
    one = np.eye(4, dtype=half)[:, :, None]
    finite = np.where(np.isfinite(numbers.astype(np.float32)), numbers, half(1))
    got = cg.conv(finite, one, algorithm="implicit_gemm")
    np.testing.assert_array_equal(got, finite)
    halves = np.float32(0.5) * one
    got = cg.conv(finite, halves.astype(half), algorithm="implicit_gemm")
    np.testing.assert_array_equal(got, (finite.astype(np.float32) / 2).astype(half))


@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("groups", [1, 20])
def test_a_sum_of_two_maps_is_rounded_once(half, groups):
    """Its terms are added in a float32 array, though the operands are of a half type."""
    rng = np.random.default_rng(2)
    x, dx = rng.integers(-40, 41, (2, 2, 20, 9, 30)).astype(half)
    w, dw = rng.integers(-40, 41, (2, 20, 20 // groups, 3, 3)).astype(half)
    got = cg.jvp(x, w, dx, dw, padding=1, groups=groups)
    x, w, dx, dw = (a.astype(np.float64) for a in (x, w, dx, dw))
    want = cg.jvp(x, w, dx, dw, padding=1, groups=groups, algorithm="direct")
    np.testing.assert_array_equal(got, want.astype(np.float32).astype(half))
