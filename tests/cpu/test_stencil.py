"""The stencils: every way through their kernels, exact; NaN, epilogues, threads, and their code."""

from dataclasses import replace

import numpy as np
import pytest
from core.cases import cases
from engine_cases import (
    FEW_CASES,
    KERNEL_CASES,
    check,
    dense,
    expected,
    operands,
    problem_of,
    run,
    shape_of,
)
from hypothesis import given, settings
from test_levels import TARGETS, innermost_loops, products, spills, undefined_symbols

import convgrad as cg
from convgrad.algorithm import DIRECTIONS, Epilogue
from convgrad.cpu.jit import compiler, threads
from convgrad.cpu.stencil import algorithm as stencil
from convgrad.cpu.stencil.kernels.abreast import ABREAST
from convgrad.cpu.stencil.kernels.abreast_weights import ABREAST_WEIGHTS
from convgrad.cpu.stencil.kernels.plane_sums import PLANE_SUMS
from convgrad.cpu.stencil.kernels.planes import PLANES
from convgrad.cpu.stencil.kernels.stencil import PACK_STENCIL, STENCIL
from convgrad.cpu.stencil.kernels.weights import STENCIL_WEIGHTS

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
GENERATORS = (
    ABREAST, ABREAST_WEIGHTS, PACK_STENCIL, PLANES, PLANE_SUMS, STENCIL, STENCIL_WEIGHTS,
)  # fmt: skip
CODES = [
    (level, element, generator, shape)
    for level in TARGETS
    for generator in GENERATORS
    for element in ("float", "double")
    for shape in generator.shapes(level)
    if getattr(shape, "narrow", 1) == 1 or element == "float"
][::3]  # each takes a fifth of a second; a third of them has every length, tile and level


@pytest.mark.parametrize("case", FEW_CASES, ids=str)
@DTYPES
def test_every_way_is_exact(case, dtype):
    assert check(case, dtype, engine=stencil) == 3


@settings(max_examples=150)
@given(cases())
def test_drawn_geometries_are_exact_in_scratch_full_of_nan(case):
    threads._own_scratch().array.fill(0xFF)
    for dtype in (np.float32, np.float64):
        check(case, dtype, engine=stencil)


@pytest.mark.parametrize("case", FEW_CASES, ids=str)
@DTYPES
def test_scale_bias_and_accumulation(case, dtype):
    x, w, b, dy = case.integers(dtype)
    want = expected(case, x, w, dy)
    for direction in DIRECTIONS:
        shape = shape_of(direction, case)
        out = (np.arange(np.prod(shape)).reshape(shape) % 5 - 2).astype(dtype)
        total = 2 * want[direction] + out
        epilogue = Epilogue(2.0, True, b if direction == "forward" else None)
        if direction == "forward":
            total = total + b.reshape(-1, *(1,) * case.rank)
        assert run(direction, case, *operands(direction, x, w, dy), out, epilogue, stencil)
        np.testing.assert_array_equal(out, total)


@pytest.mark.parametrize("case", FEW_CASES, ids=str)
@DTYPES
def test_arrays_whose_channels_lie_together(case, dtype):
    x, w, _, dy = case.integers(dtype)
    want = expected(case, x, w, dy)
    x, w, dy = (np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (x, w, dy))
    for direction in DIRECTIONS:
        shape = shape_of(direction, case)
        out = np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)
        assert run(direction, case, *operands(direction, x, w, dy), out, engine=stencil)
        np.testing.assert_array_equal(out, want[direction])


def reached(case, x, w, dy):
    """Where a marked number takes part in y, dx and dw."""
    return {d: a > 0 for d, a in expected(case, *map(np.abs, (x, w, dy))).items()}


@pytest.mark.parametrize("case", FEW_CASES, ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_what_is_not_finite_stays_in_the_sums_that_it_takes_part_in(case, value):
    """A number of x meets no tap but its own, in dw too: cells that are no results are masked."""
    x, w, _, dy = case.integers(np.float32)
    w[w == 0] = 1
    marked = {"x": np.zeros_like(x), "dy": np.zeros_like(dy)}
    for a in marked.values():
        a[(0,) * a.ndim] = a[(-1,) * a.ndim] = 1
    ones = {"x": np.ones_like(x), "dy": np.ones_like(dy)}
    for operand, mark in marked.items():
        taken = reached(case, **(ones | {operand: mark}), w=np.ones_like(w))
        spoilt = {"x": x.copy(), "dy": dy.copy()}
        spoilt[operand][mark > 0] = value
        for direction in DIRECTIONS:
            if operand != {"input_grad": "dy"}.get(direction, "x"):
                continue
            out = np.empty(shape_of(direction, case), np.float32)
            given = operands(direction, spoilt["x"], w, spoilt["dy"])
            assert run(direction, case, *given, out, engine=stencil)
            assert np.isfinite(out[~taken[direction]]).all(), direction


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64"])
@pytest.mark.parametrize("case", FEW_CASES[::3], ids=str)
def test_any_number_of_threads_and_any_batch_give_the_same_bits(case, dtype, rng):
    x, w, dy = (
        (rng.standard_normal(s) + (1j * rng.standard_normal(s) if dtype[0] == "c" else 0)).astype(
            dtype
        )
        for s in (case.x_shape, case.w_shape, case.y_shape)
    )
    before = threads._current.asked
    results = []
    try:
        for number in (1, 2, 3):
            cg.set_num_threads(number)
            outs = [np.empty(shape_of(d, case), dtype) for d in DIRECTIONS]
            for d, out in zip(DIRECTIONS, outs, strict=True):
                assert run(d, case, *operands(d, x, w, dy), out, engine=stencil)
            results.append([out.tobytes() for out in outs])
    finally:
        threads._current.asked = before
    assert results[0] == results[1] == results[2]
    alone = replace(case, batch=1)
    for d, whole in zip(DIRECTIONS[:2], outs, strict=False):
        one = np.empty((1, *whole.shape[1:]), dtype)
        assert run(d, alone, *operands(d, x[-1:], w, dy[-1:]), one, engine=stencil)
        np.testing.assert_array_equal(one, whole[-1:])


def test_it_declines_many_channels_in_a_sentence():
    problem = problem_of("forward", dense(1, 80, 80, (5, 5), (3, 3)), np.float32)
    assert stencil.refuses(problem) == ("its kernels are for groups of few channels, not 80 and 80")
    assert check(KERNEL_CASES[0], np.float32, engine=stencil) == 3


def name_of(code):
    level, element, generator, shape = code
    return f"{generator.name}-{shape}-{element}-{level}".replace(" ", "")


@pytest.mark.parametrize("code", CODES, ids=name_of)
def test_the_code_calls_nothing_and_tiles_of_results_stay_in_registers(code):
    level, element, generator, shape = code
    where = TARGETS[level]
    module = generator.write(where.lanes(element), shape)
    assert undefined_symbols(compiler.compile_text(module, where)) <= {"_GLOBAL_OFFSET_TABLE_"}
    tiles = {
        STENCIL: lambda: shape.height * shape.vectors,
        ABREAST: lambda: shape.height * shape.columns,
        ABREAST_WEIGHTS: lambda: shape.rows * shape.columns,
    }  # fmt: skip
    if generator not in tiles or level == "sse2":
        return  # a sum for each tap and its operands fill the registers; SSE2 has none to spare
    loops = innermost_loops(compiler.assembly(module, where))
    assert max(map(products, loops)) >= tiles[generator]()
    for loop in loops:
        if products(loop) > 2:
            assert [line for line in loop if spills(line)] == []
