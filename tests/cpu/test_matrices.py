"""Maps that are products of matrices: whole inputs covered, small images; any order of memory."""

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


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "accumulate"), [(1.0, False), (3.0, False), (1.0, True)])
def test_one_small_image_has_the_bits_that_it_has_in_a_batch(bias, scale, accumulate):
    many, one = dense(3, 640, 130, (7, 9), (1, 1)), dense(1, 640, 130, (7, 9), (1, 1))
    rng = np.random.default_rng(4)
    x, dy = (
        rng.standard_normal(shape).astype(np.float32) for shape in (many.x_shape, many.y_shape)
    )
    w = rng.standard_normal(many.w_shape).astype(np.float32)
    for direction, channels in (("forward", 130), ("input_grad", 640)):
        added = rng.standard_normal(channels).astype(np.float32) if bias else None
        epilogue = Epilogue(scale, accumulate, added)
        outs = [np.ones(shape_of(direction, case), np.float32) for case in (many, one)]
        run(direction, many, *operands(direction, x, w, dy), outs[0], epilogue)
        run(direction, one, *operands(direction, x[:1], w, dy[:1]), outs[1], epilogue)
        np.testing.assert_array_equal(outs[1][0], outs[0][0])


@pytest.mark.parametrize("turn", [False, True])
def test_one_small_image_is_exact(turn):
    for inputs, outputs, size in ((260, 300, (7, 7)), (1024, 70, (196,)), (70, 1024, (2, 3, 5))):
        case = dense(1, inputs, outputs, size, (1,) * len(size))
        x, w, _, dy = case.integers(np.float32)
        want = expected(case, x, w, dy)
        x, w, dy = (last(a) if turn else a for a in (x, w, dy))
        for direction in DIRECTIONS[:2]:
            out = np.full(shape_of(direction, case), np.nan, np.float32)
            assert run(direction, case, *operands(direction, x, w, dy), out)
            np.testing.assert_array_equal(out, want[direction])


def test_a_sample_has_the_same_bits_in_any_batch():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((9, 30, 3, 3)), rng.standard_normal((50, 30, 3, 3))
    bias, dy = rng.standard_normal(50), rng.standard_normal((9, 50, 1, 1))
    y, dx = cg.conv(x, w, bias), cg.input_grad(x.shape, w, dy)
    for n in range(9):
        one = slice(n, n + 1)
        np.testing.assert_array_equal(cg.conv(x[one], w, bias)[0], y[n])
        np.testing.assert_array_equal(cg.input_grad((1, *x.shape[1:]), w, dy[one])[0], dx[n])
