"""What may be set in a net between two calls, what is refused there, and who owns the arrays."""

import copy
import re
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from toolbox_nets import CONV, INPUT, SMALL

from convgrad.contracts.deeplearntoolbox import (
    cnnapplygrads,
    cnnbp,
    cnnff,
    cnnnumgradcheck,
    cnnsetup,
)
from convgrad.errors import ConvError, DTypeError, SettingError, ShapeError


@pytest.fixture
def samples(rng):
    return rng.random((8, 6, 5)), rng.random((4, 5))


@pytest.fixture
def net(samples):
    return cnnsetup(SMALL, *samples, rng=1)


@pytest.mark.parametrize("way", ["cells", "arrays", "lists"])
def test_parameters_that_were_set_are_used(net, samples, rng, way):
    """Doubling the second map's kernel and moving its bias shows in that map alone."""
    before = cnnff(net, samples[0]).layers[1].a
    layer = net.layers[1]
    if way == "cells":
        layer.k[0][1] = 2 * layer.k[0][1]
        layer.b[1] = 0.25
    elif way == "arrays":
        layer.k = layer.k * np.array([1, 2]).reshape(1, 2, 1, 1)
        layer.b = np.array([[0], [0.25]])
    else:
        layer.k = [[layer.k[0][0].tolist(), (2 * layer.k[0][1]).tolist()]]
        layer.b = [0, 0.25]
    after = cnnff(net, samples[0]).layers[1].a
    np.testing.assert_array_equal(before[0], after[0])
    z = np.log(before[1] / (1 - before[1]))
    np.testing.assert_allclose(after[1], 1 / (1 + np.exp(-2 * z - 0.25)), rtol=1e-12)


def as_lists(holder, *names):
    """Each field a list of cells or numbers, as a script puts it together."""
    for name in names:
        setattr(holder, name, [cell.tolist() for cell in getattr(holder, name)])


def test_fields_may_be_set_to_lists(net, samples):
    x, y = samples
    expected = cnnbp(cnnff(copy.deepcopy(net), x), y)
    cnnff(net, x)
    as_lists(net, "o", "fv", "ffW", "ffb")
    for layer in net.layers:
        as_lists(layer, "a", "k", "b")
        layer.a = [np.array(cell) for cell in layer.a]
    cnnbp(net, y)
    for name in ("e", "od", "fvd", "dffW", "dffb"):
        np.testing.assert_array_equal(getattr(net, name), getattr(expected, name))
    for layer, other in zip(net.layers, expected.layers):
        for name in ("d", "dk", "db"):
            np.testing.assert_array_equal(getattr(layer, name), getattr(other, name))
        as_lists(layer, "dk", "db")
    as_lists(net, "dffW", "dffb")
    assert cnnnumgradcheck(net, x, y) < 1e-8
    cnnapplygrads(net, {"alpha": 0.5})
    cnnapplygrads(expected, {"alpha": 0.5})
    np.testing.assert_array_equal(net.ffW, expected.ffW)
    np.testing.assert_array_equal(net.ffb, expected.ffb)
    np.testing.assert_array_equal(net.layers[3].k, expected.layers[3].k)
    np.testing.assert_array_equal(net.layers[3].b, expected.layers[3].b)


PASSED = ["o", "fv", "layers[0].a", "layers[2].a"]
GRADIENTS = ["dffW", "dffb", "layers[1].dk", "layers[3].db"]
CALLS = {
    "cnnbp": lambda net, x, y: cnnbp(net, y),
    "cnnapplygrads": lambda net, x, y: cnnapplygrads(net, {"alpha": 1}),
    "cnnnumgradcheck": cnnnumgradcheck,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("field", PASSED + GRADIENTS)
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ([[1], [1, 2]], ShapeError, "is a list whose parts differ in shape"),
        (np.ones((7, 7)), ShapeError, r"is \(7, 7\), but needs \(.*; call cnnff"),
        (np.ones((7, 7)) * 1j, DTypeError, "is complex"),
        ([["a"]], DTypeError, "numbers are needed"),
    ],
    ids=["ragged", "shape", "complex", "text"],
)
def test_fields_that_are_refused(net, samples, call, field, value, error, words):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    owner, _, name = field.rpartition(".")
    setattr(net.layers[int(owner[7])] if owner else net, name, value)
    held = {name: value for name, value in vars(net).items() if name != "layers"}
    if call == "cnnbp" and field in GRADIENTS:
        assert isinstance(cnnbp(net, samples[1]).dffW, np.ndarray)  # it makes them anew
        return
    with pytest.raises(
        error, match=f"{call}: {re.escape(field)} .*{words}|{re.escape(field)} {words}"
    ):
        CALLS[call](net, *samples)
    assert all(getattr(net, name) is value for name, value in held.items())


def test_the_output_layer_may_be_set(net, samples, rng):
    net.ffW = np.zeros((4, 6))
    for ffb in (np.arange(4), np.arange(4)[:, None], [[0, 1, 2, 3]]):
        net.ffb = ffb
        o = cnnff(net, samples[0]).o
        np.testing.assert_array_equal(o, np.tile(1 / (1 + np.exp(-np.arange(4.0)))[:, None], 5))
    net = cnnapplygrads(cnnbp(net, samples[1]), {"alpha": 1})
    assert net.ffb.shape == (4, 1)
    np.testing.assert_array_equal(net.ffb, np.arange(4)[:, None] - net.dffb)


@pytest.mark.parametrize("shape", [(8, 6, 5), (8, 6, 1), (5, 8, 5), (5, 5, 1)])
def test_no_two_fields_share_memory(rng, shape):
    """Maps of height or width 1 too, of which the feature vector could be a view."""
    x, y = rng.random(shape), rng.random((4, shape[2]))
    for layers in (SMALL, [INPUT, {**CONV, "kernelsize": 5}], [INPUT]):
        if (shape[0] - 2) % 2 and layers is SMALL:
            continue
        net = cnnbp(cnnff(cnnsetup(layers, x, y), x), y)
        owners = [("net", net), *((f"layers[{i}]", layer) for i, layer in enumerate(net.layers))]
        arrays = [
            (f"{owner}.{name}", value) for owner, holder in owners
            for name, value in vars(holder).items() if isinstance(value, np.ndarray)
        ]  # fmt: skip
        shared = [
            (one, other) for (one, a), (other, b) in combinations(arrays, 2)
            if np.shares_memory(a, b)
        ]  # fmt: skip
        assert not shared


def test_calls_change_the_net_and_no_array_that_was_read(net, samples):
    x, y = samples
    assert cnnff(net, x) is net
    held = {name: getattr(net.layers[1], name) for name in ("k", "b", "a")} | {"W": net.ffW}
    kept = copy.deepcopy(held)
    x *= 2
    np.testing.assert_array_equal(net.layers[0].a[0], x / 2)
    assert cnnbp(net, y) is net
    assert cnnapplygrads(net, SimpleNamespace(alpha=0.5)) is net
    cnnff(net, x)
    for name, array in held.items():
        np.testing.assert_array_equal(array, kept[name])
    assert not (net.layers[1].k == held["k"]).any()
    assert not (net.ffW == held["W"]).any()


@pytest.mark.parametrize(
    ("level", "name", "value", "words"),
    [
        (1, "kernelsize", "x", r"layers\[1\]\.kernelsize is 'x'; it must be a whole number"),
        (1, "outputmaps", None, r"layers\[1\]\.outputmaps is None"),
        (2, "scale", 1.5, r"layers\[2\]\.scale is 1\.5"),
        (2, "type", "x", r"layers\[2\] has type 'x'"),
        (0, "type", "s", r"layers\[0\]\.scale is 0"),
    ],
)
def test_a_setting_that_was_broken_later(net, samples, level, name, value, words):
    setattr(net.layers[level], name, value)
    with pytest.raises(SettingError, match=f"cnnff: {words}"):
        cnnff(net, samples[0])


@pytest.mark.parametrize("layers", [5, [], [INPUT], None])
def test_layers_that_were_broken_later(net, samples, layers):
    net.layers = layers
    with pytest.raises(SettingError, match=r"cnnff: net\.layers is no list of Layers"):
        cnnff(net, samples[0])


def broken(**fields):
    """Set fields of the net, those of layer 1 by the names k and b."""

    def change(net):
        for name, value in fields.items():
            setattr(net.layers[1] if name in ("k", "b") else net, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (broken(k=np.zeros((2, 1, 3, 3))), r"layers\[1\]\.k is \(2, 1, 3, 3\), but needs \(1, 2,"),
        (
            broken(k=np.zeros((1, 2, 2, 2))),
            r"layers\[1\]\.k is \(1, 2, 2, 2\), but needs \(1, 2, 3, 3\)",
        ),
        (broken(b=np.zeros(3)), r"layers\[1\]\.b is \(3,\), but needs \(2,\)"),
        (broken(b=1.0), r"layers\[1\]\.b is \(\), but needs \(2,\)"),
        (broken(k=[[1], [1, 2]]), r"layers\[1\]\.k is a list whose parts differ in shape"),
        (broken(ffW=np.zeros((4, 5))), r"ffW is \(4, 5\), but images of 8×6 give a feature vector"),
        (broken(ffW=np.zeros(6)), r"ffW is \(6,\)"),
        (broken(ffb=np.zeros(3)), r"ffb is \(3,\), but needs \(4, 1\)"),
        (broken(ffb=np.zeros((4, 1), complex)), "ffb is complex"),
    ],
)
def test_parameters_that_are_refused(net, samples, change, words):
    change(net)
    with pytest.raises(ConvError, match=f"cnnff: {words}"):
        cnnff(net, samples[0])
    assert not net.o.size
