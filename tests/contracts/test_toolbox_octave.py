"""contracts.deeplearntoolbox beside the numbers that GNU Octave gave: octave/toolbox.m."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from convgrad.contracts.deeplearntoolbox import (
    cnnapplygrads,
    cnnbp,
    cnnff,
    cnnnumgradcheck,
    cnnsetup,
    cnntest,
    cnntrain,
    convn,
    expand,
)

STANDARD = "c2k3 s2 c3k2 s2"
NETS = {
    "standard": STANDARD,
    "not square": "c2k2 s2 c2k2",
    "pooling first": "s2 c2k2",
    "pooling twice": "s2 s2 c2k1 s1",
    "scale 1": "c2k2 s1",
    "one sample": "c2k3 s2 c2k2",
    "convolution twice": "c2k3 c3k2 s2",
    "no layer but the input": "",
}
FIELDS = ("fv", "o", "e", "L", "od", "fvd", "dffW", "dffb")
nets = pytest.mark.parametrize("name", NETS)


@cache
def recorded():
    """{key: array} as Octave wrote it; a last axis of size 1 is missing there."""
    path = Path(__file__).parent / "octave" / "toolbox.json"
    entries = json.loads(path.read_text("utf-8"))
    assert entries.pop("octave")
    return {
        key: np.array(e["data"], float).reshape(e["size"], order="F") for key, e in entries.items()
    }


def close(got, key):
    got, want = np.asarray(got, float), recorded()[key]
    padded = want.shape + (1,) * (got.ndim - want.ndim)
    want = want.reshape(padded if got.ndim > 1 else got.shape)
    bound = 1e-12 * np.abs(want).max(initial=0)
    np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=key)


def cells_of(run, field):
    """(l, [i, j], key) of every cell of net.layers[l].field that was recorded in a run."""
    for key in recorded():
        if key.startswith(f"{run}/layers/"):
            level, own, *place = key.removeprefix(f"{run}/layers/").split("/")
            if own == field:
                yield int(level), [int(i) for i in place], key


def compare_cells(net, run, *fields):
    for field in fields:
        for level, place, key in cells_of(run, field):
            cell = getattr(net.layers[level], field)
            for index in place:
                cell = cell[index]
            close(cell, key)


def layers_of(text):
    """'c2k3 s2': two output maps by 3×3 kernels, then pooling by 2."""
    layers = [{"type": "i"}]
    for word in text.split():
        if word[0] == "s":
            layers.append({"type": "s", "scale": int(word[1:])})
        else:
            maps, kernel = map(int, word[1:].split("k"))
            layers.append({"type": "c", "outputmaps": maps, "kernelsize": kernel})
    return layers


def samples_of(name):
    x, y = recorded()[f"{name}/x"], recorded()[f"{name}/y"]
    return x if x.ndim == 3 else x[:, :, None], y


def prepared(name):
    """The net with the parameters that Octave had, set one cell at a time."""
    net = cnnsetup(layers_of(NETS[name]), *samples_of(name), rng=0)
    for level, (i, j), key in cells_of(name, "k"):
        net.layers[level].k[i][j] = recorded()[key]
    for level, (j,), key in cells_of(name, "b"):
        net.layers[level].b[j] = recorded()[key].item()
    net.ffW, net.ffb = recorded()[f"{name}/ffW"], recorded()[f"{name}/ffb"]
    return net


@nets
def test_a_pass_forward_and_back(name):
    x, y = samples_of(name)
    net = cnnff(prepared(name), x)
    net = cnnbp(net, y)
    compare_cells(net, name, "a", "d", "dk", "db")
    for field in FIELDS:
        close(getattr(net, field), f"{name}/{field}")
    assert net.ffb.shape == net.dffb.shape == (3, 1)
    assert type(net.L) is float


@nets
def test_the_step_downhill(name):
    x, y = samples_of(name)
    net = cnnapplygrads(cnnbp(cnnff(prepared(name), x), y), {"alpha": 0.5})
    compare_cells(net, f"{name}/after", "k", "b")
    close(net.ffW, f"{name}/after/ffW")
    close(net.ffb, f"{name}/after/ffb")


@nets
def test_the_gradient_check_passes(name):
    x, y = samples_of(name)
    net = cnnbp(cnnff(prepared(name), x), y)
    assert 0 < cnnnumgradcheck(net, x, y) <= 1e-8


def test_training_with_given_orders():
    """rL starts at the first loss, and the parameters end where Octave's did."""
    x, y = samples_of("training")
    orders = recorded()["training/orders"].astype(int)
    opts = {"alpha": 1, "batchsize": 4, "numepochs": 2}
    net = cnntrain(prepared("standard"), x, y, opts, permutations=list(orders))
    compare_cells(net, "training", "k", "b")
    for field in ("ffW", "ffb"):
        close(getattr(net, field), f"training/{field}")
    assert net.rL.shape == (7,)
    close(net.rL[None], "training/rL")
    er, bad = cnntest(net, x, y)
    assert 0 < er < 1
    assert er == recorded()["training/er"]
    np.testing.assert_array_equal(bad, recorded()["training/bad"].ravel())


@pytest.mark.parametrize("shape", ["full", "same", "valid"])
@pytest.mark.parametrize("number", range(1, 14))
def test_convn(number, shape):
    """Whole numbers, so exactly; Octave leaves out last axes of size 1."""
    a, b, want = (recorded()[f"convn/{number}/{one}"] for one in ("a", "b", shape))
    got = convn(a, b, shape)
    want = want.reshape(want.shape + (1,) * (got.ndim - want.ndim))
    np.testing.assert_array_equal(got, want, strict=True)


def test_expand():
    m, e = recorded()["blocks/m"], recorded()["blocks/e"]
    np.testing.assert_array_equal(expand(m, (3, 3, 1)), e, strict=True)
