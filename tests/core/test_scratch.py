"""max_scratch bounds what an algorithm really takes, and the plan's figure is no understatement."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import convgrad as cg
from convgrad.choose import TABLE

ALGORITHMS = [a.name for a in TABLE["cpu"]]
SHAPES = {
    "dense": ((4, 8, 40, 40), (12, 8, 3, 3), {"padding": 1}),
    "grouped": ((3, 8, 50, 33), (8, 2, 3, 3), {"padding": 1, "groups": 4}),
    "long": ((2, 3, 4000), (5, 3, 3), {"padding": 1}),
    "deep": ((2, 2, 12, 14, 13), (3, 2, 3, 1, 3), {"padding": 1}),
    "strided": ((4, 6, 61, 60), (10, 6, 5, 5), {"stride": 2, "padding": 2}),
    "reflect": ((4, 6, 40, 40), (10, 6, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
}
OVERHEAD = 40_000  # Python's own objects, slices and small arrays


def run(plan, dtype, seed=0):
    """The plan's result and the most bytes that were taken beside it."""
    rng = np.random.default_rng(seed)
    names = {"forward": "xw", "input_grad": "wy", "weight_grad": "xy"}[plan.direction]
    operands = [rng.standard_normal(plan.frame.shape(n)).astype(dtype) for n in names]
    plan(*operands)  # fill the caches of tap windows
    tracemalloc.start()
    result = plan(*operands)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak - result.nbytes


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.complex64], ids=str)
@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_scratch_stays_below_what_the_plan_says(algorithm, shape, direction, dtype):
    x_shape, w_shape, how = SHAPES[shape]
    name = np.dtype(dtype).name
    how = {**how, "algorithm": algorithm, "dtype": name}
    try:
        free = cg.plan(direction, x_shape, w_shape, **how)
    except cg.AlgorithmError:
        assert algorithm in ("winograd", "tiled_winograd", "overlap_save")
        return
    result, taken = run(free, dtype)
    assert taken <= free.scratch + OVERHEAD
    try:
        half = cg.plan(direction, x_shape, w_shape, **how, max_scratch=free.scratch // 2)
    except cg.AlgorithmError:
        return  # it needs more than half at least
    assert half.scratch <= free.scratch // 2
    bounded, taken = run(half, dtype)
    assert taken <= half.scratch + OVERHEAD
    tolerance = 1e-2 if name == "bfloat16" else 1e-4
    np.testing.assert_allclose(
        bounded.astype(complex), result.astype(complex), rtol=tolerance, atol=tolerance * 50
    )


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
def test_im2col_works_in_a_thousandth_of_its_matrix(direction):
    """Beside three copies of dw, or of one sample's dx, that the sums and the epilogue need."""
    x_shape, w_shape = (2, 16, 128, 128), (16, 16, 3, 3)
    matrix = 2 * 16 * 9 * 128 * 128 * 4
    sums = 3 * 4 * (16 * 16 * 9 + (16 * 128 * 128 if direction == "input_grad" else 0))
    limit = matrix // 1000 + sums
    plan = cg.plan(direction, x_shape, w_shape, padding=1, algorithm="im2col", max_scratch=limit)
    _, taken = run(plan, np.float32)
    assert taken <= limit + OVERHEAD


def test_the_sum_of_two_terms_is_counted_too():
    x, w = np.ones((8, 16, 64, 64), np.float16), np.ones((16, 16, 3, 3), np.float16)
    with pytest.raises(cg.AlgorithmError, match="max_scratch"):
        cg.jvp(x, w, x, w, padding=1, max_scratch=300_000)


def test_long_kernels_leave_no_memory_behind():
    x, w = np.ones((1, 1, 5_000)), np.ones((1, 1, 1_250))
    cg.conv(x[..., :9], w[..., :3], algorithm="im2col")
    tracemalloc.start()
    cg.conv(x, w, algorithm="im2col")
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 1_000_000  # it was 12 MB when the windows were kept


def test_a_limit_that_nobody_meets_is_refused_with_each_reason():
    with pytest.raises(cg.AlgorithmError, match=r"direct: it needs .* max_scratch is 10"):
        cg.plan("forward", (1, 3, 9, 9), (4, 3, 3, 3), max_scratch=10)
