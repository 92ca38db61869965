"""The net's structure, cnnsetup and the samples, the order of calls, and what is refused."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from toolbox_nets import CONV, INPUT, POOL, SMALL

from convgrad.contracts.deeplearntoolbox import (
    Layer,
    Net,
    cnnapplygrads,
    cnnbp,
    cnnff,
    cnnnumgradcheck,
    cnnsetup,
    cnntest,
    cnntrain,
)
from convgrad.errors import DTypeError, GradientError, SettingError, ShapeError


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


def test_one_sample_may_be_x_of_two_axes_and_y_of_one(net, samples):
    x, y = samples[0][:, :, 0], samples[1][:, 0]
    for one, other in zip(vars(cnnsetup(SMALL, x, y, rng=1)).values(), vars(net).values()):
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
    expected = cnnbp(cnnff(copy.deepcopy(net), x[:, :, None]), y[:, None])
    net = cnnbp(cnnff(net, x), y)
    assert net.e.shape == (4, 1)
    np.testing.assert_array_equal(net.dffW, expected.dffW)
    assert cnnnumgradcheck(net, x, y) < 1e-8
    assert cnntest(net, x, y)[0] == float(net.o.argmax() != y.argmax())
    cnntrain(net, x, y, {"alpha": 1, "batchsize": 1, "numepochs": 1})


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


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"epsilon": 0}, "epsilon is 0; it must be finite and above 0"),
        ({"epsilon": -1e-4}, r"epsilon is -0\.0001"),
        ({"epsilon": "a"}, "epsilon is 'a'"),
        ({"epsilon": np.inf}, "epsilon is inf"),
        ({"epsilon": True}, "epsilon is True"),
        ({"tolerance": "a"}, "tolerance is 'a'; it must be 0 or more"),
        ({"tolerance": -1e-8}, "tolerance is -1e-08"),
        ({"tolerance": np.nan}, "tolerance is nan"),
        ({"tolerance": None}, "tolerance is None"),
    ],
)
def test_settings_that_the_gradient_check_refuses(net, samples, keywords, words):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    with pytest.raises(SettingError, match=f"cnnnumgradcheck: {words}"):
        cnnnumgradcheck(net, *samples, **keywords)


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
        ({"layers": 5}, SettingError, "layers is 5; give a list of layers"),
        ({"layers": INPUT}, SettingError, "layers is {'type': 'i'}; give a list of layers"),
        ([{"type": ["i"]}], SettingError, r"layers\[0\] has type \['i'\]; types are 'i'"),
        ([INPUT, {**POOL, "scale": np.nan}], SettingError, "scale is nan"),
        ([INPUT, {**POOL, "scale": np.array([2])}], SettingError, r"scale is array\(\[2\]\)"),
        ([INPUT, {**POOL, "scale": np.array(True)}], SettingError, r"scale is array\(True\)"),
    ],
)  # fmt: skip
def test_layers_that_are_refused(layers, error, words, samples):
    with pytest.raises(error, match=f"cnnsetup: .*{words}"):
        cnnsetup(layers, *samples)


@pytest.mark.parametrize("number", [float, np.float32, np.array, lambda n: np.array(float(n))])
def test_numbers_as_matlab_gives_them(samples, number):
    """2.0, and arrays without axes: what a MATLAB file holds is read back so."""
    layers = [{k: v if k == "type" else number(v) for k, v in one.items()} for one in SMALL]
    net, expected = (cnnsetup(one, *samples, rng=0) for one in (layers, SMALL))
    for got, want in zip(net.layers, expected.layers):
        sizes = (got.outputmaps, got.kernelsize, got.scale)
        assert sizes == (want.outputmaps, want.kernelsize, want.scale)
        assert {type(one) for one in sizes} == {int}
        np.testing.assert_array_equal(got.k, want.k)
    net.layers[1].kernelsize, net.layers[2].scale = number(3), number(2)
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    assert cnnnumgradcheck(net, *samples) < 1e-8


@pytest.mark.parametrize("seed", ["a", 1.5, -1, True])
def test_what_is_no_generator(samples, seed):
    with pytest.raises(SettingError, match=f"cnnsetup: rng is {seed!r}; pass a numpy.random.Gen"):
        cnnsetup(SMALL, *samples, rng=seed)


def test_an_image_smaller_than_the_kernel_is_refused(net):
    with pytest.raises(ShapeError, match=r"cnnff: layers\[1\] has kernels of 3×3, but its input"):
        cnnff(net, np.zeros((2, 8, 1)))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((8, 6, 5, 1)), np.zeros((4, 5)), r"x is \(8, 6, 5, 1\); it needs \(H, W, N\)"),
        (np.zeros((8, 6, 0)), np.zeros((4, 0)), r"x is \(8, 6, 0\)"),
        (
            np.zeros((8, 6, 5)),
            np.zeros((5, 4)),
            r"y is \(5, 4\), but needs \(onum, 5\).*; pass y\.T$",
        ),
        (np.zeros((8, 6, 5)), np.zeros((4, 6)), r"y is \(4, 6\), but needs .* sample of x$"),
        (np.zeros((8, 6, 5)), np.zeros((5, 0)), r"y is \(5, 0\), but needs .* sample of x$"),
        (np.zeros((8, 6)), np.zeros((1, 4)), r"y is \(1, 4\), but needs .*; pass y\.T$"),
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
    with pytest.raises(
        ShapeError, match=r"layers\[1\]\.dk is \(1, 2, 3, 2\), but needs \(1, 2, 3, 3\)"
    ):
        cnnapplygrads(net, {"alpha": 1})
    net.ffW, net.ffb = net.ffW[:3], net.ffb[:3]
    with pytest.raises(ShapeError, match=r"cnnbp: o is \(4, 5\), but needs \(3, 5\); call cnnff"):
        cnnbp(net, y)


@pytest.mark.parametrize(
    "alpha", ["1", None, np.nan, np.inf, 1j, True, np.True_, [1], pytest.param(10**400, id="huge")]
)
def test_a_learning_rate_is_a_number(net, samples, alpha):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    with pytest.raises(
        SettingError, match=r"cnnapplygrads: alpha is .*; it must be a finite number"
    ):
        cnnapplygrads(net, {"alpha": alpha})
    with pytest.raises(SettingError, match="opts has no alpha"):
        cnnapplygrads(net, {"Alpha": 1})


@pytest.mark.parametrize("alpha", [np.array(2), np.array(2.0), np.float32(2), np.int8(2)])
def test_a_learning_rate_may_be_a_numpy_number(net, samples, alpha):
    net = cnnbp(cnnff(net, samples[0]), samples[1])
    expected = net.ffW - 2 * net.dffW
    np.testing.assert_array_equal(cnnapplygrads(net, {"alpha": alpha}).ffW, expected)
