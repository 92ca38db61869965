"""NaN and infinity go where the sums carry them, and what a job leaves behind reaches no other."""

import numpy as np
import pytest
from core.cases import cases
from engine_cases import KERNEL_CASES, check, dense, expected, noting, operands, run, shape_of
from hypothesis import given, settings

import convgrad as cg
from convgrad.algorithm import DIRECTIONS
from convgrad.cpu.jit import threads

ALL = [
    "add_pieces", "multiply", "multiply_few", "outer", "pack_cells", "pack_weights", "weave",
    "weave_few",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """The scratch that one job dirties is then the one that the next job uses."""
    before = threads._current.asked
    cg.set_num_threads(1)
    yield
    threads._current.asked = before


def dirty(case, dtype, value):
    """All maps of operands that are nothing but `value`."""
    x, w, _, dy = (np.full_like(a, value) for a in case.integers(dtype))
    for direction in DIRECTIONS:
        run(direction, case, *operands(direction, x, w, dy), np.empty(shape_of(direction, case)))


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_what_a_job_left_in_scratch_reaches_no_result(dtype, value):
    big = dense(1, 40, 40, (40, 40), (3, 3), pad=1)  # fills more scratch than any case
    with noting() as seen:
        for case in KERNEL_CASES:
            for before in (case, big):
                dirty(before, dtype, value)
                assert check(case, dtype) == 3
    assert sorted(seen.names) == ALL


@settings(max_examples=60)
@given(cases())
def test_scratch_full_of_nan_reaches_no_result(case):
    threads._own_scratch().array.fill(0xFF)
    check(case, np.float32)
    check(case, np.float64)


def results(case, dtype, x, w, dy):
    outs = [np.empty(shape_of(direction, case), dtype) for direction in DIRECTIONS]
    for direction, out in zip(DIRECTIONS, outs, strict=True):
        assert run(direction, case, *operands(direction, x, w, dy), out)
    return outs


def reached(case, x, w, dy):
    """Where a number that is not finite takes part in y, dx and dw: a map of zeros and ones."""
    x, w, dy = (np.abs(a).astype(np.float64) for a in (x, w, dy))
    return [expected(case, x, w, dy)[direction] > 0 for direction in DIRECTIONS]


@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_nan_in_x_or_dy_is_in_the_sums_that_it_takes_part_in_and_in_no_other(case, dtype):
    x, w, _, dy = case.normals(dtype)
    y, dx, _ = results(case, dtype, x, w, dy)
    rng = np.random.default_rng(case.seed)
    for _ in range(3):
        i = tuple(int(rng.integers(n)) for n in x.shape)
        p = tuple(int(rng.integers(n)) for n in dy.shape)
        marked_x, marked_dy = np.zeros_like(x), np.zeros_like(dy)
        marked_x[i], marked_dy[p] = 1, 1
        in_y, _, _ = reached(case, marked_x, np.ones_like(w), marked_dy)
        _, in_dx, _ = reached(case, marked_x, np.ones_like(w), marked_dy)
        spoilt_x, spoilt_dy = x.copy(), dy.copy()
        spoilt_x[i], spoilt_dy[p] = np.nan, np.nan
        got_y, got_dx, _ = results(case, dtype, spoilt_x, w, spoilt_dy)
        # the same bits where the NaN takes no part: other samples are untouched
        np.testing.assert_array_equal(got_y, np.where(in_y, np.nan, y))
        np.testing.assert_array_equal(got_dx, np.where(in_dx, np.nan, dx))


@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
@pytest.mark.parametrize("operand", ["x", "dy"])
def test_a_nan_stays_with_its_channel_in_the_weight_gradient(case, operand):
    x, w, _, dy = case.normals(np.float32)
    clean = results(case, np.float32, x, w, dy)[2]
    a = {"x": x, "dy": dy}[operand]
    middle = tuple(n // 2 for n in a.shape)
    marked = np.zeros_like(a)
    marked[middle] = 1
    ones = {"x": np.ones_like(x), "dy": np.ones_like(dy)} | {operand: marked}
    must = reached(case, ones["x"], w, ones["dy"])[2]
    may = must.any(axis=tuple(range(2, must.ndim)), keepdims=True) | np.zeros_like(must)
    a[middle] = np.nan
    got = results(case, np.float32, x, w, dy)[2]
    assert np.isnan(got[must]).all()
    np.testing.assert_array_equal(got[~may], clean[~may])


@pytest.mark.parametrize("outputs", [4, 32], ids=["inner", "outer"])
def test_a_nan_in_x_spoils_only_the_taps_that_meet_it(outputs):
    case = dense(1, 8, outputs, (6, 6), (3, 3), stride=2)
    x, w, _, dy = case.normals(np.float32)
    x[..., -1] = np.nan  # a column that no tap meets: (6 − 3) is odd
    assert np.isfinite(results(case, np.float32, x, w, dy)[2]).all()
