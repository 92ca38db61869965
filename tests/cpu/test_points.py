"""Kernels that cover the whole input: products of matrices, in every order of memory."""

from itertools import product

import numpy as np
import pytest
from engine_cases import check, dense, expected, noting, operands, run, shape_of

import convgrad as cg
from convgrad.algorithm import DIRECTIONS, Epilogue

SIZES = ((1,), (5,), (3, 4), (7, 7), (1, 6), (2, 2, 3))


def last(array):
    """The same numbers with channels innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_matrices_are_exact(size, dtype):
    for batch, inputs, outputs in product((1, 3, 20), (2, 40), (1, 4, 33)):
        assert check(dense(batch, inputs, outputs, size, size), dtype) == 3
    assert check(dense(3, 8, 4, size, size, groups=2), dtype) == 3


@pytest.mark.parametrize("orders", list(product((False, True), repeat=3)))
def test_any_order_of_memory(orders):
    case = dense(4, 6, 9, (3, 2), (3, 2))
    x, w, _, dy = case.integers(np.float32)
    want = expected(case, x, w, dy)
    x, w = (last(a) if order else a for a, order in zip((x, w), orders))
    for direction in DIRECTIONS:
        out = np.full(shape_of(direction, case), np.nan, np.float32)
        out = last(out) if orders[2] else out
        assert run(direction, case, *operands(direction, x, w, dy), out)
        np.testing.assert_array_equal(out, want[direction])


@pytest.mark.parametrize("accumulate", [False, True])
def test_bias_scale_and_accumulation(accumulate):
    case = dense(5, 6, 7, (4, 3), (4, 3))
    x, w, bias, dy = case.integers(np.float32)
    want = expected(case, x, w, dy)
    for direction, channels in (("forward", 7), ("input_grad", 6)):
        bias = np.arange(1, channels + 1, dtype=np.float32)
        out = np.full(shape_of(direction, case), 3, np.float32)
        run(direction, case, *operands(direction, x, w, dy), out, Epilogue(2.0, accumulate, bias))
        column = bias.reshape(1, -1, 1, 1)
        np.testing.assert_array_equal(out, 2 * want[direction] + column + 3 * accumulate)


def test_all_three_maps_are_the_same_kernel():
    with noting() as seen:
        assert check(dense(2, 64, 96, (3, 3), (3, 3)), np.float32) == 3
    assert {name for name, *_ in seen.kernels} == {"multiply", "pack_weights"}


def test_a_sample_has_the_same_bits_in_any_batch():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((9, 30, 3, 3)), rng.standard_normal((50, 30, 3, 3))
    bias, dy = rng.standard_normal(50), rng.standard_normal((9, 50, 1, 1))
    y, dx = cg.conv(x, w, bias), cg.input_grad(x.shape, w, dy)
    for n in range(9):
        one = slice(n, n + 1)
        np.testing.assert_array_equal(cg.conv(x[one], w, bias)[0], y[n])
        np.testing.assert_array_equal(cg.input_grad((1, *x.shape[1:]), w, dy[one])[0], dx[n])
