"""tiled_winograd: exact where it says so, as precise as it says, the same bits in any company."""

import numpy as np
import pytest
from core.cases import cases
from engine_cases import WINOGRAD_CASES, dense, expected, operands, problem_of, run, shape_of
from hypothesis import given, settings

import convgrad as cg
from convgrad.algorithm import DIRECTIONS
from convgrad.cpu.winograd import algorithm as winograd
from convgrad.cpu.winograd.tiling import image_tiles

# Many tiles with several blocks; few tiles of many channels, in several chunks; depth; dilation;
# strides; several parts of the taps; one axis. Settings are those of the layer.
LAYERS = {
    "many tiles": ((5, 20, 30, 26), (40, 20, 3, 3), {"padding": 1}),
    "few tiles": ((5, 40, 7, 6), (150, 40, 3, 3), {"padding": 1}),
    "3-D": ((5, 16, 5, 9, 8), (17, 16, 3, 3, 3), {"padding": 1}),
    "dilated": ((5, 20, 31, 26), (40, 20, 3, 3), {"padding": 3, "dilation": 3}),
    "strided": ((5, 20, 30, 26), (40, 20, 3, 3), {"padding": 1, "stride": 2}),
    "strided, few tiles": ((2, 300, 8, 9), (270, 300, 4, 4), {"padding": 1, "stride": 2}),
    "several parts": ((5, 20, 23, 19), (20, 20, 5, 5), {"padding": 2}),
    "one axis": ((5, 20, 95), (40, 20, 3), {"padding": 1}),
    "fast": ((5, 40, 30, 29), (40, 40, 3, 3), {"padding": 1, "precision": "fast"}),
}


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cg.get_num_threads()
    yield
    cg.set_num_threads(before)


def check_exact(case):
    """Integers, one operand a multiple of the tile's divisor, in float64: tolerance zero."""
    x, w, _, dy = case.integers()
    for direction in DIRECTIONS:
        first, second = operands(direction, x, w, dy)
        exact = divisor(direction, case)
        factors = {"forward": (1, exact), "input_grad": (exact, 1), "weight_grad": (1, exact)}
        out = np.full(shape_of(direction, case), np.nan)
        a, b = (m * f for m, f in zip((first, second), factors[direction], strict=True))
        assert run(direction, case, a, b, out, engine=winograd)
        want = expected(case, x, w, dy)[direction] * exact
        np.testing.assert_array_equal(out, want, err_msg=f"{direction} of {case}")


def divisor(direction, case):
    _, rows, columns = image_tiles(problem_of(direction, case, np.float64)).axes
    return rows.form.divisor * columns.form.divisor


@pytest.mark.parametrize("case", WINOGRAD_CASES, ids=str)
def test_multiples_of_the_divisor_are_exact(case):
    check_exact(case)


@settings(max_examples=200)
@given(cases(three_taps=True))
def test_drawn_multiples_are_exact(case):
    check_if_taken(case)


@settings(max_examples=300)
@given(cases())
def test_drawn_multiples_of_any_kernel_are_exact(case):
    check_if_taken(case)


def check_if_taken(case):
    if case.batch and winograd.refuses(problem_of("forward", case, np.float64)) is None:
        check_exact(case)


def numbers(rng, layer, dtype):
    x_shape, w_shape, _ = LAYERS[layer]
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
    g = cg.plan("forward", x_shape, w_shape, **LAYERS[layer][2]).frame.geometry
    return x, w, rng.standard_normal(g.y_shape).astype(dtype)


def maps(layer, x, w, dy):
    """y and dx, and dw."""
    how = LAYERS[layer][2] | {"algorithm": "tiled_winograd"}
    y, dx = cg.conv(x, w, **how), cg.input_grad(x.shape, w, dy, **how)
    return (y, dx), cg.weight_grad(x, w.shape, dy, **how)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64"])
def test_any_number_of_threads_gives_the_same_bits(rng, layer, dtype):
    given = numbers(rng, layer, dtype)
    cg.set_num_threads(1)
    (y, dx), dw = maps(layer, *given)
    for count in (2, 3, 5):
        cg.set_num_threads(count)
        for _ in range(3):
            (y2, dx2), dw2 = maps(layer, *given)
            assert [a.tobytes() for a in (y2, dx2, dw2)] == [a.tobytes() for a in (y, dx, dw)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sample_has_the_same_bits_in_any_batch(rng, layer, dtype):
    x, w, dy = numbers(rng, layer, dtype)
    (y, dx), _ = maps(layer, x, w, dy)
    cuts = [slice(i, i + 1) for i in range(len(x))]
    cuts += [slice(1, None), slice(None, None, -1), slice(None, None, 2)]
    for cut in cuts:
        (some_y, some_dx), _ = maps(layer, x[cut], w, dy[cut])
        assert some_y.tobytes() == y[cut].tobytes()
        assert some_dx.tobytes() == dx[cut].tobytes()
    nine = (np.concatenate([a] * 9) if a is not w else w for a in (x, w, dy))
    (many_y, many_dx), _ = maps(layer, *nine)
    assert many_y.tobytes() == np.concatenate([y] * 9).tobytes()
    assert many_dx.tobytes() == np.concatenate([dx] * 9).tobytes()


@pytest.mark.parametrize(("channels", "most"), [(16, 3), (64, 2), (256, 1.2)])
def test_it_errs_no_more_than_four_times_what_a_sum_in_order_does(rng, channels, most):
    """The middle error of y, beside that of float32 sums of one term after another."""
    x = rng.standard_normal((1, channels, 14, 14)).astype(np.float32)
    w = rng.standard_normal((16, channels, 3, 3)).astype(np.float32)
    exact = cg.conv(x.astype(np.float64), w.astype(np.float64), algorithm="direct")
    in_order = np.zeros(exact.shape, np.float32)
    for c, i, j in np.ndindex(channels, 3, 3):
        in_order += w[None, :, c, i, j, None, None] * x[:, None, c, i : i + 12, j : j + 12]
    got = cg.conv(x, w, algorithm="tiled_winograd")
    assert np.std(got - exact) <= most * np.std(in_order - exact)


@pytest.mark.parametrize("channels", [4, 64, 256])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (4, 4)])
def test_fast_errs_by_less_than_a_hundred_thousandth(rng, channels, kernel):
    """Of the largest number of the result, in float32, each map."""
    case = dense(1, channels, 16, (15, 14), kernel, pad=1)
    arrays = x, w, dy = [
        rng.standard_normal(shape).astype(np.float32)
        for shape in (case.x_shape, case.w_shape, case.y_shape)
    ]
    want = expected(case, *(a.astype(np.float64) for a in arrays))
    for direction in DIRECTIONS:
        out = np.empty(shape_of(direction, case), np.float32)
        a, b = operands(direction, x, w, dy)
        assert run(direction, case, a, b, out, engine=winograd, precision="fast")
        assert abs(out - want[direction]).max() <= 1e-5 * abs(want[direction]).max()


def test_a_nan_stays_in_its_tile():
    case = dense(2, 3, 5, (20, 20), (3, 3), pad=1)
    x, w, _, _ = case.normals(np.float32)
    clean, spoilt = (np.empty(case.y_shape, np.float32) for _ in range(2))
    run("forward", case, x, w, clean, engine=winograd)
    x[0, 1, 9, 9] = np.nan
    run("forward", case, x, w, spoilt, engine=winograd)
    assert np.isnan(spoilt[0, :, 8:11, 8:11]).all()
    touched = np.zeros(case.y_shape, bool)
    touched[0, :, 8:12, 8:12] = True
    np.testing.assert_array_equal(spoilt[~touched], clean[~touched])
