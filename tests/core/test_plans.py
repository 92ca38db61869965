"""Plans: what they print, that they compute what the calls do, and measured bounds."""

from time import perf_counter

import numpy as np
import pytest

import convgrad as cg
from convgrad.algorithm import Problem
from convgrad.choose import TABLE

ALGORITHMS = [a.name for a in TABLE["cpu"]]


def test_a_plan_prints_what_was_chosen_and_why():
    text = str(cg.plan("weight_grad", (8, 32, 32, 32), (16, 32, 3, 3), stride=3, padding=1))
    assert text.splitlines()[:3] == [
        "weight_grad of a 2-D convolution, float32",
        "  shapes     x (8, 32, 32, 32)  w (16, 32, 3, 3)  y (8, 16, 11, 11)",
        "  settings   stride 3, padding 1 (zeros), dilation 1, groups 1, precision standard, "
        "layout channels_first",
    ]
    assert (
        "algorithm  implicit_gemm: generated kernels: panels of weights times panels of cells"
        in text
    )
    assert "because    expected to be the fastest of the generated kernels that accept" in text
    assert "declines   winograd: the stride must be 1, not (3, 3)" in text
    assert f"flops      {2 * 8 * 11 * 11 * 16 * 32 * 9:,}" in text
    assert "scratch" in text
    assert "error      |error| ≤" in text


def test_a_plan_answers_questions():
    plan = cg.plan("forward", (2, 4, 9), (6, 2, 1), groups=2, dtype="float64")
    assert plan.flops == 2 * 2 * 6 * 9 * 2 * 1
    assert plan.bytes == 8 * (2 * 4 * 9 + 6 * 2 * 1 + 2 * 6 * 9)
    assert plan.declined == {
        "tiled_winograd": "on the last two axes, kernel (1,) with stride (1,) has no taps that two "
        "results share",
        "winograd": "the kernel must have 3 taps (or 1) on each axis, not (1,)",
    }
    assert set(plan.accepted) == set(ALGORITHMS) - {"tiled_winograd", "winograd"}
    assert plan.algorithm == plan.accepted[0]
    assert plan.scratch > 0


@pytest.mark.parametrize("transposed", [False, True])
def test_a_plan_runs(transposed, rng):
    how = {"stride": 2, "padding": 1, "dtype": "float64", "transposed": transposed}
    x, w = rng.standard_normal((2, 4, 9, 8)), rng.standard_normal((4, 4, 3, 3))
    b = rng.standard_normal(4)
    conv = cg.conv_transpose if transposed else cg.conv
    backward = cg.conv_transpose_backward if transposed else cg.backward
    y = cg.plan("forward", x.shape, w.shape, **how)(x, w, b)
    np.testing.assert_array_equal(y, conv(x, w, b, stride=2, padding=1))
    dy = rng.standard_normal(y.shape)
    dx, dw, _ = backward(x, w, dy, stride=2, padding=1)
    np.testing.assert_array_equal(cg.plan("input_grad", x.shape, w.shape, **how)(w, dy), dx)
    plan = cg.plan("weight_grad", x.shape, w.shape, **how)
    np.testing.assert_array_equal(plan(x, dy), dw)
    out = np.ones_like(w)
    assert plan(x, dy, out=out, scale=2.0, accumulate=True) is out
    np.testing.assert_allclose(out, 1 + 2 * dw, rtol=1e-14)


def test_measuring_takes_the_fastest_and_remembers():
    shapes = ((1, 2, 30, 30), (3, 2, 3, 3))
    plan = cg.plan("forward", *shapes, measure=True)
    names = [name for name, _ in plan.measured]
    assert sorted(names) == sorted(ALGORITHMS)
    assert plan.algorithm == names[0]
    assert "measured to be the fastest" in str(plan)
    assert cg.plan("forward", *shapes, measure=True) == plan


def test_the_choice_depends_on_geometry_alone():
    """Large kernels go to spectra, everything else to kernels of plain sums."""
    large = ((1, 1, 1024, 1024), (1, 1, 257, 257))
    assert cg.plan("forward", *large).algorithm == "overlap_save"
    assert cg.plan("forward", *large, precision="strict").algorithm == "stencil"
    for direction in ("forward", "input_grad", "weight_grad"):
        depthwise = cg.plan(direction, (8, 64, 56, 56), (64, 1, 3, 3), groups=64)
        assert depthwise.algorithm == "stencil"
        assert cg.plan(direction, (8, 64, 56, 56), (128, 64, 1, 1)).algorithm == "implicit_gemm"
    assert cg.plan("forward", (1, 2, 5, 5, 5, 5), (2, 2, 3, 3, 3, 3)).algorithm != "implicit_gemm"


def test_winograd_takes_part_unless_plain_sums_are_asked_for():
    shapes = ((8, 64, 56, 56), (64, 64, 3, 3))
    for direction in ("forward", "input_grad", "weight_grad"):
        assert cg.plan(direction, *shapes, padding=1).algorithm == "tiled_winograd"
        strict = cg.plan(direction, *shapes, padding=1, precision="strict")
        assert strict.algorithm == "implicit_gemm"
        few = cg.plan(direction, (8, 3, 56, 56), (4, 3, 3, 3), padding=1)
        assert few.algorithm == "stencil"


def test_mixed_errors_must_be_worth_it():
    """Spectra spread errors and NaN: where they gain less than a quarter, sums are preferred."""

    def plan(taps, precision="standard"):
        how = {"dtype": "float64", "precision": precision}
        return cg.plan("forward", (1, 1, 300, 300), (1, 1, taps, taps), **how)

    near = [n for n in range(3, 40) if "overlap_save is expected to gain" in plan(n).reason]
    assert near
    for taps in near:
        assert plan(taps).algorithm != "overlap_save"
        assert plan(taps, "fast").algorithm == "overlap_save"
    assert plan(max(near) + 1).algorithm == "overlap_save"


def test_wide_dilation_costs_no_more_than_its_products():
    """Each column is made once, also where a window reaches across the whole image."""
    w, dy = np.ones((64, 64, 3, 3), np.float32), np.ones((1, 64, 32, 32), np.float32)
    how = {"padding": 24, "dilation": 24, "algorithm": "im2col"}
    wide = cg.plan("input_grad", (1, 64, 32, 32), w.shape, **how)
    start = perf_counter()
    wide(w, dy)
    assert perf_counter() - start < 1.0  # it took 30 s when blocks were cut over the input


def test_shapes_beyond_64_bits_are_counted_right():
    plan = cg.plan("forward", (1, 1, 2**28, 2**28), (1, 1, 3, 3))
    assert plan.flops == 2 * 9 * (2**28 - 2) ** 2
    assert plan.scratch > 0
    small = cg.plan("forward", (1, 2**40, 2**8, 2), (1, 2**40, 3, 1), max_scratch=1000)
    assert small.algorithm == "direct"
    assert 0 < small.scratch <= 1000


def test_a_plan_without_work_can_be_printed():
    assert "flops      0" in str(cg.plan("forward", (1, 0, 5, 5), (2, 0, 3, 3)))


def test_a_plan_for_each_sample(rng):
    x, dy = rng.standard_normal((3, 2, 9)), rng.standard_normal((3, 4, 7))
    plan = cg.plan("weight_grad", x.shape, (4, 2, 3), dtype="float64", per_sample=True)
    each = plan(x, dy)
    np.testing.assert_array_equal(each, cg.weight_grad(x, (4, 2, 3), dy, per_sample=True))
    assert plan.flops == 2 * 3 * 4 * 7 * 2 * 3


GEOMETRIES = {
    "3x3": ((2, 16, 28, 28), (16, 16, 3, 3), {"padding": 1}),
    "grouped": ((2, 8, 30, 31), (8, 2, 3, 3), {"groups": 4}),
    "3-D": ((1, 4, 10, 9, 8), (5, 4, 3, 3, 3), {"padding": 2}),
    "strided": ((2, 6, 33, 33), (7, 6, 5, 5), {"stride": 2, "padding": 2}),
    "large kernel": ((1, 1, 64, 64), (2, 1, 15, 15), {"padding": 7}),
}


def measured_error(plan, dtype, kind):
    """max |error| over the bound's own unit, against float64 operands of the same numbers."""
    rng = np.random.default_rng(1)
    names = {"forward": "xw", "input_grad": "wy", "weight_grad": "xy"}[plan.direction]
    draw = rng.standard_normal if kind == "normal" else (lambda s: rng.uniform(0, 1, s))
    operands = [draw(plan.frame.shape(n)).astype(dtype) for n in names]
    wide = [a.astype(np.float64) for a in operands]
    how = {"dtype": "float64", "algorithm": "direct"}
    g = plan.frame.geometry
    exact_plan = cg.plan(
        plan.direction, g.x_shape, g.w_shape, g.stride, g.pads, g.dilation, g.groups, **how
    )
    exact, sums = exact_plan(*wide), exact_plan(*map(np.abs, wide))
    bound = plan.map.choice.algorithm.error(plan.map.choice.problem)
    n = g.terms(plan.direction)
    largest = n * np.abs(wide[0]).max() * np.abs(wide[1]).max()
    unit = sums if bound.scale == "terms" else largest
    got = plan(*operands).astype(np.float64)
    return float((np.abs(got - exact) / unit).max()), bound.factor, got, exact


@pytest.mark.parametrize("kind", ["normal", "positive"])
@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_declared_error_bounds_hold(geometry, direction, dtype, kind):
    x_shape, w_shape, how = GEOMETRIES[geometry]
    tested = 0
    for algorithm in ALGORITHMS:
        for precision in ("standard", "fast"):
            try:
                plan = cg.plan(
                    direction, x_shape, w_shape, **how, dtype=dtype,
                    algorithm=algorithm, precision=precision,
                )  # fmt: skip
            except cg.AlgorithmError:
                continue
            error, bound, _, _ = measured_error(plan, dtype, kind)
            assert error <= bound, (algorithm, precision)
            tested += 1
    assert tested >= 8


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize("channels", [4, 64])
def test_precision_keeps_its_promise(direction, channels):
    """standard: at most four times a plain sum's error; fast: 1e-5 of max|y|."""
    shapes = ((2, channels, 28, 28), (channels, channels, 3, 3))
    errors = {}
    for algorithm, precision in (
        ("im2col", "strict"), ("implicit_gemm", "strict"), ("tiled_winograd", "standard"),
        ("winograd", "standard"), ("fft", "standard"), ("overlap_save", "standard"),
        ("tiled_winograd", "fast"), ("winograd", "fast"),
    ):  # fmt: skip
        plan = cg.plan(direction, *shapes, padding=1, algorithm=algorithm, precision=precision)
        _, _, got, exact = measured_error(plan, "float32", "normal")
        errors[algorithm, precision] = np.abs(got - exact).max() / np.abs(exact).max()
    plain = max(errors["im2col", "strict"], errors["implicit_gemm", "strict"], 2.0**-24)
    assert errors["tiled_winograd", "standard"] <= 4 * plain
    assert errors["winograd", "standard"] <= 4 * plain
    assert errors["fft", "standard"] <= 4 * plain
    assert errors["overlap_save", "standard"] <= 4 * plain
    assert errors["winograd", "fast"] <= 1e-5
    assert errors["tiled_winograd", "fast"] <= 1e-5


def test_every_algorithm_fills_in_the_whole_record():
    problem_dtype = np.dtype("float32")
    for algorithm in TABLE["cpu"]:
        plan = cg.plan("forward", (1, 2, 9, 9), (2, 2, 3, 3), algorithm=algorithm.name)
        problem = Problem("forward", plan.frame.geometry, problem_dtype)
        assert algorithm.seconds(problem) > 0
        assert algorithm.scratch(problem) > 0
        assert algorithm.error(problem).factor > 0
        assert algorithm.summary
