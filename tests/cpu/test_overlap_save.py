"""Products of spectra by tiles: exact after rounding at every level, and the same bits always."""

import numpy as np
import pytest
from core.cases import cases
from engine_cases import child, dense, expected, levels
from hypothesis import HealthCheck, given, settings

import convgrad as cg
from convgrad.algorithm import DIRECTIONS, Problem
from convgrad.cpu.overlap_save import algorithm as overlap_save
from convgrad.cpu.overlap_save import tables as fft_tables
from convgrad.cpu.overlap_save import tiling as fft_tiling
from convgrad.geometry import conv_geometry

# Several tiles along each axis, an odd number of them, groups, lines, kernels beyond one register.
CASES = {
    "image": dense(2, 1, 1, (150, 190), (11, 7), pad=4),
    "whole": dense(1, 1, 1, (30, 20), (30, 20), pad=3),
    "dense": dense(2, 3, 5, (60, 40), (9, 13), pad=6),
    "depthwise": dense(3, 4, 4, (50, 70), (7, 9), pad=2, groups=4),
    "dilated": dense(1, 4, 6, (40, 50), (3, 5), pad=5, dilation=3, groups=2),
    "line": dense(2, 1, 1, (5000,), (61,), pad=30),
    "dense line": dense(2, 3, 2, (900,), (35,), pad=9),
}
DTYPES = (np.float32, np.float64)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cg.get_num_threads()
    yield
    cg.set_num_threads(before)


def maps(case, x, w, dy):
    how = {**case.settings, "algorithm": "overlap_save"}
    return {
        "forward": cg.conv(x, w, **how),
        "input_grad": cg.input_grad(x.shape, w, dy, **how),
        "weight_grad": cg.weight_grad(x, w.shape, dy, **how),
    }


def check(case, dtype):
    x, w, _, dy = case.integers(dtype)
    want = expected(case, x, w, dy)
    for direction, got in maps(case, x, w, dy).items():
        assert np.abs(got - want[direction]).max() < 1e-3, direction
        np.testing.assert_array_equal(np.round(got), want[direction], err_msg=direction)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_integers_come_out_exactly(name, dtype):
    check(CASES[name], dtype)


@pytest.mark.parametrize("level", levels())
def test_every_level_is_exact(level):
    script = """
import test_overlap_save as own
for case in own.CASES.values():
    own.check(case, own.np.float64)
"""
    done = child("-c", script, CONVGRAD_ISA=level)
    assert done.returncode == 0, done.stderr[-3000:]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(cases(ranks=(1, 2)))
def test_it_takes_any_strides_of_memory(case):
    """Reversed, every second and transposed arrays, read and written where they lie."""
    if any(s > 1 for s in case.stride) or case.batch == 0:
        return
    x, w, _, dy = case.integers()
    want = expected(case, x, w, dy)
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))
    wide[..., ::2] = x
    odd_x = wide[..., ::2]
    odd_dy = np.ascontiguousarray(dy[..., ::-1])[..., ::-1]
    how = {**case.settings, "algorithm": "overlap_save"}
    y = cg.conv(odd_x, w, **how)
    np.testing.assert_array_equal(np.round(y), want["forward"])
    buffer = np.full((*x.shape, 3), 7.0)
    cg.input_grad(x.shape, w, odd_dy, **how, out=buffer[..., 1], scale=2.0, accumulate=True)
    np.testing.assert_array_equal(np.round(buffer[..., 1]), 7 + 2 * want["input_grad"])
    assert (buffer[..., [0, 2]] == 7).all()
    dw = cg.weight_grad(odd_x, w.shape, odd_dy, **how)
    np.testing.assert_array_equal(np.round(dw), want["weight_grad"])


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_for_any_number_of_threads(name):
    x, w, _, dy = CASES[name].normals()
    results = []
    for count in (1, 2, 5):
        cg.set_num_threads(count)
        results.append({d: y.tobytes() for d, y in maps(CASES[name], x, w, dy).items()})
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", ["image", "dense", "depthwise", "line", "dense line"])
def test_a_sample_has_the_same_bits_in_any_batch(name):
    case = CASES[name]
    x, w, _, dy = case.normals()
    how = {**case.settings, "algorithm": "overlap_save"}
    y, dx = cg.conv(x, w, **how), cg.input_grad(x.shape, w, dy, **how)
    many, many_dy = np.concatenate([x] * 3), np.concatenate([dy] * 3)
    assert cg.conv(x[1:2], w, **how).tobytes() == y[1:2].tobytes()
    assert cg.conv(many, w, **how).tobytes() == np.concatenate([y] * 3).tobytes()
    got = cg.input_grad(many.shape, w, many_dy, **how)
    assert got.tobytes() == np.concatenate([dx] * 3).tobytes()


def test_a_nan_stays_in_its_pair_of_tiles():
    case = CASES["image"]
    x, w, _, _ = case.normals()
    x[1, 0, 10, 10] = np.nan
    y = cg.conv(x, w, **case.settings, algorithm="overlap_save")
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1, 0, 10, 10])


@pytest.mark.parametrize("length", [n for n in fft_tiling.SIDES if n <= 480])
def test_the_passes_make_the_transform_that_the_tables_say(length):
    """The table's factors, applied as the kernel's docstring says, are NumPy's transform."""
    words = fft_tables.passes(length)
    numbers = words.view(np.float64)
    x = np.random.default_rng(0).standard_normal(length) + 0j
    for radix, m, place in words[1 : 1 + 3 * words[0]].reshape(-1, 3):
        runs = x.reshape(-1, radix, m // radix)
        roots = np.exp(-2j * np.pi * np.outer(np.arange(radix), np.arange(radix)) / radix)
        runs = np.einsum("pq,bqj->bpj", roots, runs)
        factors = numbers[place : place + m // radix * (radix - 1) * 2].reshape(-1, radix - 1, 2)
        runs[:, 1:] *= (factors[..., 0] + 1j * factors[..., 1]).T
        x = runs.reshape(-1)
    want = np.fft.fft(np.random.default_rng(0).standard_normal(length))
    np.testing.assert_allclose(x, want[fft_tables.frequencies(length)], atol=1e-12)


def test_every_tiling_fits_into_the_scratch_of_a_thread():
    for out, extent in (((512, 512), (129, 129)), ((2048, 30), (3, 3)), ((10**6,), (4001,))):
        cut = fft_tiling.tiling(out, extent)
        assert cut.scratch <= fft_tiling.SCRATCH
        kept = [b + e - 1 for b, e in zip(cut.block[-len(extent) :], extent, strict=True)]
        side = cut.tile if len(extent) == 2 else (cut.points,)
        assert all(k <= t for k, t in zip(kept, side, strict=True))
        assert all(
            n * b >= o for n, b, o in zip(cut.counts[-len(out) :], cut.block[-len(out) :], out)
        )


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"stride": 2}, "most of which would be thrown away"),
        ({"dtype": "complex64"}, "pairs of real numbers"),
        ({"precision": "strict"}, "no plain sum"),
    ],
)
def test_what_it_declines(how, sentence):
    plan = cg.plan("forward", (1, 1, 40, 40), (1, 1, 9, 9), **how)
    assert sentence in plan.declined["overlap_save"]


def test_a_kernel_beyond_every_tile_is_declined():
    geometry = conv_geometry("test", (1, 1, 3000, 3000), (1, 1, 2999, 2999), 1, 0, 1, 1)
    for direction in DIRECTIONS:
        problem = Problem(direction, geometry, np.dtype("float64"))
        assert "no tile of 4,194,304 bytes" in str(overlap_save.refuses(problem))
