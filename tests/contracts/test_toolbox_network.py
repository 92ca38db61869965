"""The net's structure, what may be set in it, and what is refused."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from convgrad.contracts.deeplearntoolbox import (
    Layer,
    Net,
    cnnapplygrads,
    cnnbp,
    cnnff,
    cnnnumgradcheck,
    cnnsetup,
)
from convgrad.errors import ConvError, DTypeError, GradientError, SettingError, ShapeError

INPUT = {"type": "i"}
CONV = {"type": "c", "outputmaps": 2, "kernelsize": 3}
POOL = {"type": "s", "scale": 2}
SMALL = [INPUT, CONV, POOL, {"type": "c", "outputmaps": 3, "kernelsize": 2}]


@pytest.fixture
def samples(rng):
    return rng.random((8, 6, 5)), rng.random((4, 5))


@pytest.fixture
def net(samples):
    return cnnsetup(SMALL, *samples, rng=1)


def test_the_structure(net, samples):
    x, y = samples
    net = cnnbp(cnnff(net, x), y)
    assert [layer.type for layer in net.layers] == ["i", "c", "s", "c"]
    assert [layer.a.shape for layer in net.layers] == [
        (1, 8, 6, 5), (2, 6, 4, 5), (2, 3, 2, 5), (3, 2, 1, 5),
    ]  # fmt: skip
    assert [layer.d.shape for layer in net.layers[1:]] == [a.a.shape for a in net.layers[1:]]
    assert net.layers[1].k.shape == net.layers[1].dk.shape == (1, 2, 3, 3)
    assert net.layers[3].k.shape == net.layers[3].dk.shape == (2, 3, 2, 2)
    assert net.layers[3].b.shape == net.layers[3].db.shape == (3,)
    assert net.layers[2].b.tolist() == [0, 0]
    assert net.ffW.shape == net.dffW.shape == (4, 6)
    assert net.ffb.shape == net.dffb.shape == (4, 1)
    assert net.fv.shape == net.fvd.shape == (6, 5)
    assert net.o.shape == net.e.shape == net.od.shape == (4, 5)
    np.testing.assert_array_equal(net.layers[0].a[0], x)


def test_initial_parameters_are_uniform(rng):
    """±√(6/(fan_in + fan_out)) for kernels and ffW: within the bounds, and filling them."""
    layers = [INPUT, {**CONV, "outputmaps": 20}, {**CONV, "outputmaps": 30}]
    net = cnnsetup(layers, np.zeros((9, 9, 1)), np.zeros((50, 1)), rng=rng)
    for values, fan_sum in (
        (net.layers[1].k, 9 + 20 * 9),
        (net.layers[2].k, 20 * 9 + 30 * 9),
        (net.ffW, 50 + 30 * 25),
    ):
        scaled = values / np.sqrt(6 / fan_sum)
        assert 0.95 < scaled.max() < 1
        assert -1 < scaled.min() < -0.95
        assert abs(scaled.mean()) < 0.15
        assert abs(scaled.std() - 3**-0.5) < 0.05
    assert not any(layer.b.any() for layer in net.layers)
    assert not net.ffb.any()


def test_the_generator_decides(samples):
    def kernels(rng=None):
        return cnnsetup(SMALL, *samples, rng=rng).layers[3].k

    assert (kernels(3) == kernels(np.random.default_rng(3))).all()
    assert not (kernels(3) == kernels(4)).all()
    assert not (kernels() == kernels()).all()


def test_layers_come_in_several_kinds(samples):
    as_object = SimpleNamespace(layers=[SimpleNamespace(**one) for one in SMALL])
    as_layers = Net([Layer(**one) for one in SMALL])
    expected = cnnsetup(SMALL, *samples, rng=0).layers[1].k
    for given in (tuple(SMALL), {"layers": SMALL}, as_object, as_layers):
        net = cnnsetup(given, *samples, rng=0)
        np.testing.assert_array_equal(net.layers[1].k, expected)
    assert not as_layers.layers[1].k.size


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


def test_the_output_layer_may_be_set(net, samples, rng):
    net.ffW = np.zeros((4, 6))
    for ffb in (np.arange(4), np.arange(4)[:, None], [[0, 1, 2, 3]]):
        net.ffb = ffb
        o = cnnff(net, samples[0]).o
        np.testing.assert_array_equal(o, np.tile(1 / (1 + np.exp(-np.arange(4.0)))[:, None], 5))
    net = cnnapplygrads(cnnbp(net, samples[1]), {"alpha": 1})
    assert net.ffb.shape == (4, 1)
    np.testing.assert_array_equal(net.ffb, np.arange(4)[:, None] - net.dffb)


def test_other_numbers_become_float64(net, rng):
    x = rng.integers(0, 255, (8, 6, 5)).astype(np.uint8)
    net = cnnff(net, x)
    o = net.o
    assert net.layers[0].a.dtype == o.dtype == np.float64
    np.testing.assert_array_equal(o, cnnff(net, x.astype(np.float32)).o)
    np.testing.assert_array_equal(o, cnnff(net, np.asfortranarray(x[::-1])[::-1]).o)


def test_one_sample_may_lack_its_axis(net, samples):
    o = cnnff(net, samples[0]).o[:, :1]
    np.testing.assert_allclose(cnnff(net, samples[0][:, :, 0]).o, o, rtol=1e-14)


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


def test_the_gradient_check_finds_each_parameter(net, samples):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    owners = {"ffb": net.dffb, "ffW": net.dffW, "layers[1].k": net.layers[1].dk,
              "layers[3].k": net.layers[3].dk, "layers[1].b": net.layers[1].db}  # fmt: skip
    assert cnnnumgradcheck(net, *samples) < 1e-8
    for name, gradient in owners.items():
        last = (-1,) * gradient.ndim
        place = "".join(f"\\[{n - 1}\\]" for n in gradient.shape)
        for wrong in (gradient[last] + 2e-8, np.nan):
            own, gradient[last] = gradient[last], wrong
            words = name.replace("[", "\\[").replace("]", "\\]") + place
            with pytest.raises(
                GradientError, match=f"{words} has the gradient .* differences give"
            ):
                cnnnumgradcheck(net, *samples)
            gradient[last] = own


def test_the_gradient_check_leaves_the_net(net, samples):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    net.layers[1].k.flags.writeable = net.ffW.flags.writeable = False
    before = copy.deepcopy(net)
    cnnnumgradcheck(net, *samples)
    for one, other in zip([net, *net.layers], [before, *before.layers]):
        for name, value in vars(other).items():
            if name != "layers":
                np.testing.assert_array_equal(getattr(one, name), value)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([], SettingError, r"types are \[\]; the first, and only that, must be 'i'"),
        ([CONV], SettingError, "the first, and only that, must be 'i'"),
        ([INPUT, INPUT], SettingError, "the first, and only that, must be 'i'"),
        ([INPUT, {"type": "x"}], SettingError, r"layers\[1\] has type 'x'; types are 'i'"),
        ([INPUT, {}], SettingError, r"layers\[1\] has no type"),
        ([INPUT, {"type": "c", "outputmaps": 2}], SettingError, "has no kernelsize; give it"),
        ([INPUT, {**CONV, "outputmaps": 0}], SettingError, r"outputmaps is 0; it must be a whole"),
        ([INPUT, {**CONV, "kernelsize": (3, 3)}], SettingError, r"kernelsize is \(3, 3\)"),
        ([INPUT, {**POOL, "scale": 1.5}], SettingError, r"scale is 1\.5"),
        ([INPUT, {**POOL, "scale": True}], SettingError, "scale is True"),
        ([INPUT, {**CONV, "kernelsize": 7}], ShapeError,
         r"layers\[1\] has kernels of 7×7, but its input maps are 8×6; take"),
        ([INPUT, CONV, {**POOL, "scale": 3}], ShapeError,
         r"layers\[2\] has scale 3, which does not divide its input maps of 6×4"),
        (7, SettingError, "net has no layers"),
    ],
)  # fmt: skip
def test_layers_that_are_refused(layers, error, words, samples):
    with pytest.raises(error, match=f"cnnsetup: .*{words}"):
        cnnsetup(layers, *samples)


def test_an_image_smaller_than_the_kernel_is_refused(net):
    with pytest.raises(ShapeError, match=r"cnnff: layers\[1\] has kernels of 3×3, but its input"):
        cnnff(net, np.zeros((2, 8, 1)))


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


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((8, 6, 5, 1)), np.zeros((4, 5)), r"x is \(8, 6, 5, 1\); it needs \(H, W, N\)"),
        (np.zeros((8, 6, 0)), np.zeros((4, 0)), r"x is \(8, 6, 0\)"),
        (np.zeros((8, 6, 5)), np.zeros((5, 4)), r"y is \(5, 4\), but needs \(onum, 5\)"),
        (np.zeros((8, 6, 5)), np.zeros(5), r"y is \(5,\)"),
        (np.zeros((8, 6, 5)), np.zeros((0, 5)), r"y is \(0, 5\)"),
        (np.zeros((8, 6, 5), complex), np.zeros((4, 5)), "x is complex"),
    ],
)
def test_samples_that_are_refused(x, y, words):
    with pytest.raises((ShapeError, DTypeError), match=f"cnnsetup: {words}"):
        cnnsetup(SMALL, x, y)


def test_the_order_of_calls(net, samples):
    x, y = samples
    with pytest.raises(SettingError, match=r"cnnbp: the net has no outputs yet; call cnnff"):
        cnnbp(net, y)
    with pytest.raises(SettingError, match="cnnff: net is a list; pass the Net that cnnsetup"):
        cnnff(SMALL, x)
    cnnff(net, x)
    for call in (lambda: cnnapplygrads(net, {"alpha": 1}), lambda: cnnnumgradcheck(net, x, y)):
        with pytest.raises(SettingError, match="dffW is empty; call cnnff and cnnbp first"):
            call()
    with pytest.raises(ShapeError, match=r"cnnbp: y is \(4, 4\), but needs \(4, 5\)"):
        cnnbp(net, y[:, :4])
    cnnbp(net, y)
    with pytest.raises(ShapeError, match=r"x is \(8, 6, 4\), but cnnff had \(8, 6, 5\)"):
        cnnnumgradcheck(net, x[:, :, 1:], y[:, 1:])
    net.layers[1].dk = net.layers[1].dk[..., :2]
    with pytest.raises(ShapeError, match=r"layers\[1\]\.dk is \(1, 2, 3, 2\), but its parameter"):
        cnnapplygrads(net, {"alpha": 1})
    net.ffW, net.ffb = net.ffW[:3], net.ffb[:3]
    with pytest.raises(ShapeError, match="ffW gives 3 outputs, but o has 4; call cnnff again"):
        cnnbp(net, y)


@pytest.mark.parametrize("alpha", ["1", None, np.nan, np.inf, 1j])
def test_a_learning_rate_is_a_number(net, samples, alpha):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    with pytest.raises(
        SettingError, match=r"cnnapplygrads: alpha is .*; it must be a finite number"
    ):
        cnnapplygrads(net, {"alpha": alpha})
    with pytest.raises(SettingError, match="opts has no alpha"):
        cnnapplygrads(net, {"Alpha": 1})
