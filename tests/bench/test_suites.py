"""Which cases a run has: filters, batches, samples of the classes."""

from collections import Counter
from math import prod

import pytest

from convgrad.bench import suites
from convgrad.bench.case import Case, fitted
from convgrad.errors import SettingError
from convgrad.shapes import CLASSES, networks


def test_layers_are_chosen_by_class_or_name():
    layers = networks()
    assert {layer.layer_class for layer in suites.chosen(layers, "3x3", 1)} == {"3×3"}
    assert {layer.network for layer in suites.chosen(layers, "lenet5/", 1)} == {"lenet5"}
    both = suites.chosen(layers, "depthwise, lenet5/", 1)
    assert {layer.layer_class for layer in both} > {"depthwise", "other"}
    assert suites.chosen(layers, None, 50) == list(layers[::50])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: suites.chosen(networks(), "depthwise,nonesuch", 1), "'nonesuch'"),
        (lambda: suites.chosen(networks(), None, 0), "--every is 0"),
        (lambda: suites.layers_of("pictures"), "choose from networks, imaging"),
        (lambda: suites.directions("forward,backward"), "--directions is 'forward,backward'"),
        (lambda: suites.dtypes("int8"), "--dtypes is 'int8'"),
    ],
)
def test_what_does_not_exist_is_refused(call, message):
    with pytest.raises(SettingError, match=message):
        call()


def test_batches_fit():
    large = next(layer for layer in networks() if layer.name.startswith("vgg16/01"))
    small = fitted(large, 1e9, 1e12)
    assert small.batch == 1
    assert fitted(large, 1e12, prod(large.x_shape) / 2).batch == large.batch // 2
    assert fitted(large, 1e13, 1e13) == large
    for case in suites.cases(networks(), ("forward",), ("float32", "float64")):
        assert case.layer.batch == 1 or case.layer.macs <= suites.MOST_MACS
        assert case.layer.batch == 1 or 4 * prod(case.layer.x_shape) <= suites.MOST_BYTES


def test_a_sample_has_every_class_at_once():
    order = suites.in_classes(networks())
    assert Counter(layer for turn in order for layer in turn) == Counter(networks())
    assert {layer.layer_class for layer in order[0]} == set(CLASSES)
    cases = suites.sample(networks(), ("forward",), ("float32", "float64"))
    first, second = cases[: len(CLASSES)], cases[len(CLASSES) : 2 * len(CLASSES)]
    assert {(case.layer.layer_class, case.dtype) for case in first} == {
        (name, "float32") for name in CLASSES
    }
    assert {case.dtype for case in second} == {"float64"}
    assert len(cases) == 2 * len(networks())


def test_imaging():
    layers = suites.layers_of("imaging")
    assert all(layer.y_shape == layer.x_shape for layer in layers)
    assert {layer.in_size[0] for layer in layers} == {512, 1024, 2048}
    assert {layer.kernel[0] for layer in layers} == {15, 31, 63, 129}
    assert suites.dtypes_of("imaging") == ("float64",)


def test_work_and_bytes_of_a_case():
    layer = next(layer for layer in networks() if layer.name.startswith("resnet50/01"))
    case = Case(fitted(layer, 1, 1), "weight_grad", "float64")
    assert case.flops == 2 * 64 * 64 * 56 * 56
    assert case.bytes == 8 * (2 * 64 * 56 * 56 + 64 * 64)
    assert case.result_shape == (64, 64, 1, 1)
