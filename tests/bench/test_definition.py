"""The reference of the benchmarks: against loops on integers, and its two ways with each other."""

import numpy as np
import pytest
from core.cases import cases, oracle
from hypothesis import given, settings

from convgrad.bench import definition
from convgrad.bench.case import NEEDS, Operands, drawn
from convgrad.shapes import Layer


def as_layer(case, transposed=False):
    pads = tuple(max(pair) for pair in case.pads)
    return Layer(
        "drawn", "none", case.batch, case.in_channels, case.out_channels, case.in_size,
        case.kernel, case.stride, pads, case.dilation, case.groups,
    )  # fmt: skip


@settings(max_examples=60)
@given(cases(ranks=(1, 2, 3)))
def test_the_maps_are_those_of_the_definition(case):
    layer = as_layer(case)
    case = type(case)(**(vars(case) | {"pads": tuple((p, p) for p in layer.padding)}))
    x, w, b, dy = case.integers()
    want = oracle(case, x, w, np.zeros_like(b), dy)
    for direction, expected in zip(NEEDS, want, strict=False):
        got = definition.result(layer, direction, Operands(x, w, dy))
        np.testing.assert_array_equal(got, expected)


def test_a_transposed_layer_is_the_same_form_turned_round():
    turned = Layer("t", "n", 2, 4, 6, (5, 4), (3, 3), (2, 1), (1, 0), (1, 2), 2, True, (1, 0))
    form = Layer("c", "n", 2, 6, 4, turned.out_size, (3, 3), (2, 1), (1, 0), (1, 2), 2)
    assert form.y_shape == turned.x_shape
    rng = np.random.default_rng(0)
    x, w, dy = (
        rng.integers(-3, 4, shape).astype(float)
        for shape in (turned.x_shape, turned.w_shape, turned.y_shape)
    )
    other = Operands(dy, w, x)
    pairs = {"forward": "input_grad", "input_grad": "forward", "weight_grad": "weight_grad"}
    for direction, mirrored in pairs.items():
        got = definition.result(turned, direction, Operands(x, w, dy))
        np.testing.assert_array_equal(got, definition.result(form, mirrored, other))


@pytest.mark.parametrize("direction", NEEDS)
def test_spectra_agree_with_sums(direction, monkeypatch):
    layer = Layer("d", "n", 2, 3, 3, (14, 15), (11, 13), (1, 1), (5, 4), (1, 1), 3)
    operands = drawn(layer, "float64")
    by_spectra = definition.result(layer, direction, operands)
    monkeypatch.setattr(definition, "MANY_TAPS", 1000)
    by_sums = definition.result(layer, direction, operands)
    assert not np.array_equal(by_spectra, by_sums)  # else both went the same way
    np.testing.assert_allclose(by_spectra, by_sums, rtol=0, atol=1e-12 * np.abs(by_sums).max())
