"""Products of few cells and many weights, whose cells are packed beforehand instead of weights."""

from itertools import product

import numpy as np
import pytest
from engine_cases import check, dense, expected, noting, operands, run, shape_of

import convgrad as cg
from convgrad.algorithm import Epilogue

MAPS = ("forward", "input_grad")
CASES = {
    "1×1": dense(2, 100, 300, (5, 7), (1, 1)),
    "3×3": dense(3, 90, 260, (4, 5), (3, 3), pad=1),
    "stride 2": dense(2, 220, 240, (9, 8), (3, 3), stride=2, pad=1),
    "stride 2, no taps in a phase": dense(2, 300, 310, (9, 8), (1, 1), stride=2),
    "4×4, stride 2": dense(5, 150, 160, (4, 4), (4, 4), stride=2, pad=1),
    "stride 4, taps side by side": dense(1, 120, 140, (11, 17), (5, 9), stride=4, pad=2),
    "groups": dense(2, 260, 280, (5, 5), (2, 2), groups=2),
    "1-D": dense(1, 130, 270, (12,), (5,), pad=2, dilation=2),
    "3-D": dense(1, 80, 200, (3, 4, 3), (2, 3, 3), pad=1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_exact(name, dtype):
    with noting() as seen:
        assert check(CASES[name], dtype, MAPS) == 2
    assert {"pack_cells"} <= {kernel for kernel, *_ in seen.kernels}


@pytest.mark.parametrize("orders", list(product((False, True), repeat=3)))
@pytest.mark.parametrize("name", ["1×1", "4×4, stride 2"])
def test_any_order_of_memory(name, orders):
    case = CASES[name]
    x, w, _, dy = case.integers(np.float32)
    want = expected(case, x, w, dy)
    x, w, dy = (_last(a) if order else a for a, order in zip((x, w, dy), orders, strict=True))
    for direction in MAPS:
        out = np.full(shape_of(direction, case), np.nan, np.float32)
        out = _last(out) if orders[2] else out
        assert run(direction, case, *operands(direction, x, w, dy), out)
        np.testing.assert_array_equal(out, want[direction])


def _last(array):
    """The same numbers with channels innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


@pytest.mark.parametrize("accumulate", [False, True])
def test_bias_scale_and_accumulation(accumulate):
    case = CASES["4×4, stride 2"]
    x, w, _, dy = case.integers(np.float32)
    want = expected(case, x, w, dy)
    for direction, channels in (("forward", 160), ("input_grad", 150)):
        bias = np.arange(1, channels + 1, dtype=np.float32)
        out = np.full(shape_of(direction, case), 3, np.float32)
        run(direction, case, *operands(direction, x, w, dy), out, Epilogue(2.0, accumulate, bias))
        column = bias.reshape(1, -1, 1, 1)
        np.testing.assert_array_equal(out, 2 * want[direction] + column + 3 * accumulate)


@pytest.mark.parametrize("size", [(7, 7), (5, 6)])
def test_a_sample_has_the_same_bits_in_a_batch_with_many_cells(size):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 96, *size), np.float32)
    w = rng.standard_normal((256, 96, 3, 3), np.float32)
    dy = rng.standard_normal((40, 256, *size), np.float32)
    settings = {"padding": 1, "algorithm": "implicit_gemm"}
    cg.conv(x, w, **settings), cg.input_grad(x.shape, w, dy, **settings)  # kernels are tested now
    with noting() as seen:
        y = cg.conv(x, w, **settings)
        dx = cg.input_grad(x.shape, w, dy, **settings)
    many = {kernel for kernel, *_ in seen.kernels}
    with noting() as seen:
        few = cg.conv(x[:2], w, **settings)
        few_dx = cg.input_grad((2, *x.shape[1:]), w, dy[:2], **settings)
    assert ("pack_cells" in many, "pack_cells" in {name for name, *_ in seen.kernels}) == (
        False, True
    )  # fmt: skip
    np.testing.assert_array_equal(few, y[:2])
    np.testing.assert_array_equal(few_dx, dx[:2])


def test_weights_that_stay_are_packed_once_and_give_the_same_bits():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 96, 7, 7), np.float32)
    w = rng.standard_normal((256, 96, 3, 3), np.float32)
    plan = cg.plan("forward", x.shape, w.shape, padding=1, algorithm="implicit_gemm")
    kept = plan.with_weights(w)
    np.testing.assert_array_equal(kept(x), plan(x, w))
    assert kept.bytes > w.nbytes
