"""cnntrain and cnntest: batches, orders, errors, and digits learnt from about 90 % to about 5 %."""

import copy
from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pytest

from convgrad.contracts.deeplearntoolbox import (
    cnnapplygrads,
    cnnbp,
    cnnff,
    cnnsetup,
    cnntest,
    cnntrain,
)
from convgrad.errors import SettingError, ShapeError
from convgrad.nn.data.digits import read_digits

TINY = [{"type": "i"}, {"type": "c", "outputmaps": 2, "kernelsize": 2}]
OPTS = {"alpha": 0.5, "batchsize": 2, "numepochs": 2}


@pytest.fixture
def samples(rng):
    return rng.random((4, 3, 6)), np.eye(3)[:, [0, 1, 2, 0, 1, 2]]


@pytest.fixture
def net(samples):
    return cnnsetup(TINY, *samples, rng=0)


def test_training_is_the_passes_in_the_given_order(net, samples):
    x, y = samples
    other = copy.deepcopy(net)
    orders = [[3, 1, 0, 5, 2, 4], np.arange(6, dtype=np.uint8)[::-1]]
    trained = cnntrain(net, x, y, OPTS, permutations=orders)
    assert trained is net
    losses = []
    for order in orders:
        for start in (0, 2, 4):
            rows = order[start : start + 2]
            cnnbp(cnnff(other, x[:, :, rows]), y[:, rows])
            cnnapplygrads(other, OPTS)
            losses.append(other.L)
    np.testing.assert_array_equal(net.layers[1].k, other.layers[1].k)
    np.testing.assert_array_equal(net.ffW, other.ffW)
    smooth = losses[:1]
    for one in losses:
        smooth.append(0.99 * smooth[-1] + 0.01 * one)
    np.testing.assert_allclose(net.rL, smooth, rtol=1e-15)


def test_the_generator_draws_a_permutation_for_each_epoch(net, samples):
    twins = [copy.deepcopy(net) for _ in range(4)]
    generator = np.random.default_rng(5)
    drawn = [generator.permutation(6) for _ in range(2)]
    opts = SimpleNamespace(**OPTS)
    cnntrain(twins[0], *samples, opts, permutations=drawn)
    cnntrain(twins[1], *samples, opts, rng=5)
    cnntrain(twins[2], *samples, opts, rng=np.random.default_rng(5))
    cnntrain(twins[3], *samples, opts)
    weights = [twin.ffW.tolist() for twin in twins]
    assert weights[0] == weights[1] == weights[2] != weights[3]


def test_permutations_may_be_floats_as_matlab_gives_them(net, samples):
    orders = [np.arange(6)[::-1], np.roll(np.arange(6), 2)]
    first = cnntrain(copy.deepcopy(net), *samples, OPTS, permutations=orders)
    second = cnntrain(net, *samples, OPTS, permutations=[o.astype(float) for o in orders])
    np.testing.assert_array_equal(second.ffW, first.ffW)


def test_permutations_may_be_a_generator(net, samples):
    other = copy.deepcopy(net)
    orders = [[3, 1, 0, 5, 2, 4], [0, 1, 2, 5, 4, 3]]
    cnntrain(net, *samples, OPTS, permutations=(order for order in orders))
    cnntrain(other, *samples, OPTS, permutations=orders)
    np.testing.assert_array_equal(net.ffW, other.ffW)


def test_options_as_matlab_gives_them(net, samples):
    other = copy.deepcopy(net)
    opts = {"alpha": np.array(0.5), "batchsize": 2.0, "numepochs": np.array(2.0)}
    cnntrain(net, *samples, opts, rng=3)
    cnntrain(other, *samples, OPTS, rng=3)
    np.testing.assert_array_equal(net.rL, other.rL)
    np.testing.assert_array_equal(net.ffW, other.ffW)


def test_epochs_are_told(net, samples):
    told = []
    cnntrain(net, *samples, OPTS, rng=0, after_epoch=lambda n: told.append((n, len(net.rL))))
    assert told == [(1, 4), (2, 7)]


def test_the_error_rate_and_the_bad_samples(rng):
    """Outputs that are the samples themselves: a net without layers, with ffW the unit matrix."""
    x = np.array([[9, 1, 5, 5, 0], [1, 2, 5, 6, 1], [0, 3, 5, 6, 0]]).reshape(3, 1, 5)
    y = np.eye(3)[:, [0, 1, 0, 2, 1]]
    y[0, 4] = np.nan
    net = cnnsetup([{"type": "i"}], x, y, rng=0)
    net.ffW = np.eye(3)
    er, bad = cnntest(net, x, y)
    assert er == 2 / 5
    assert bad.tolist() == [1, 3]  # the first of equal outputs is the largest, NaN never
    assert not net.o.size


def test_many_samples_are_tested_in_blocks(rng):
    x, answers = rng.random((3, 1, 300)), rng.integers(0, 3, 300)
    x[2, 0, 100:200] = answers[100:200] = 2  # right, over the edge of a block
    y = np.eye(3)[:, answers]
    net = cnnsetup([{"type": "i"}], x, y, rng=0)
    net.ffW = np.eye(3)
    er, bad = cnntest(net, x, y)
    o = cnnff(net, x).o
    wrong = np.flatnonzero(o.argmax(0) != y.argmax(0))
    assert 0 < len(wrong) < 300
    np.testing.assert_array_equal(bad, wrong)
    assert er == len(wrong) / 300


@pytest.mark.parametrize(
    ("opts", "keywords", "words"),
    [
        ({"batchsize": 4}, {}, "batchsize 4 does not divide the 6 samples"),
        ({"batchsize": 12}, {}, "batchsize 12 is more than the 6 samples; take at most 6"),
        ({"batchsize": 0}, {}, "batchsize is 0; it must be a whole number"),
        ({"numepochs": 0}, {}, "numepochs is 0"),
        ({"alpha": "1"}, {}, "alpha is '1'"),
        ({"alpha": True}, {}, "alpha is True"),
        ({}, {"rng": "a"}, "rng is 'a'; pass a numpy.random.Generator or a seed"),
        ({}, {"rng": 1.5}, "rng is 1.5"),
        ({}, {"rng": -1}, "rng is -1"),
        ({}, {"permutations": 5}, "permutations is 5; give one for each epoch"),
        ({}, {"permutations": np.array(5)}, r"permutations is array\(5\)"),
        ({}, {"permutations": "ab"}, "permutations is 'ab'"),
        ({}, {"permutations": repeat(np.arange(6))}, "there are more than 2 permutations for 2"),
        ({}, {"permutations": [0, 1]}, r"permutations\[0\] is not an order"),
        ({}, {"permutations": [list(range(6))]}, "there are 1 permutations for 2 epochs"),
        (
            {},
            {"permutations": [np.arange(6), np.arange(1, 7)]},
            r"permutations\[1\] is not an order",
        ),
        ({}, {"permutations": [np.arange(6.0) / 2] * 2}, "subtract 1 from MATLAB's randperm"),
        ({}, {"permutations": [np.arange(6)] * 2, "rng": 1}, "permutations and rng are both given"),
    ],
)
def test_settings_that_are_refused(net, samples, opts, keywords, words):
    before = net.ffW
    with pytest.raises(SettingError, match=f"cnntrain: {words}|{words}"):
        cnntrain(net, *samples, {**OPTS, **opts}, **keywords)
    assert net.ffW is before


@pytest.mark.parametrize("missing", OPTS)
def test_every_option_is_needed(net, samples, missing):
    opts = {name: value for name, value in OPTS.items() if name != missing}
    with pytest.raises(SettingError, match=f"cnntrain: opts has no {missing}; give it"):
        cnntrain(net, *samples, opts)


def test_samples_that_do_not_fit(net, samples):
    x, y = samples
    with pytest.raises(ShapeError, match=r"cnntrain: y is \(3, 4\), but needs \(3, 6\)"):
        cnntrain(net, x, y[:, :4], OPTS)
    with pytest.raises(ShapeError, match=r"cnntest: y is \(2, 6\), but needs \(3, 6\)"):
        cnntest(net, x, y[:2])
    with pytest.raises(ShapeError, match=r"cnntest: ffW is \(3, 12\), but images of 5×3"):
        cnntest(net, np.zeros((5, 3, 6)), y)


def digits():
    """The shipped digits as the toolbox wants them: 3× enlarged, padded to 28×28, (28, 28, N)."""
    images, labels = read_digits()
    images = np.kron(images / 16, np.ones((3, 3)))
    return np.pad(images, ((0, 0), (2, 2), (2, 2))).transpose(1, 2, 0), np.eye(10)[labels].T


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_learnt(seed):
    x, y = digits()
    generator = np.random.default_rng(seed)
    order = generator.permutation(x.shape[2])
    train, others = order[:1000], order[1000:1300]
    layers = [
        {"type": "i"},
        {"type": "c", "outputmaps": 6, "kernelsize": 5}, {"type": "s", "scale": 2},
        {"type": "c", "outputmaps": 12, "kernelsize": 5}, {"type": "s", "scale": 2},
    ]  # fmt: skip
    net = cnnsetup(layers, x[:, :, train], y[:, train], rng=generator)
    assert cnntest(net, x[:, :, others], y[:, others])[0] > 0.8
    opts = {"alpha": 1, "batchsize": 10, "numepochs": 12}
    cnntrain(net, x[:, :, train], y[:, train], opts, rng=generator)
    er, bad = cnntest(net, x[:, :, others], y[:, others])
    assert er <= 0.08
    assert len(bad) == round(300 * er)
    assert net.rL.shape == (1201,)
    assert net.rL[-1] < 0.2 * net.rL[0]
