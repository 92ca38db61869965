"""cnnff and cnnbp beside PyTorch's autograd, for drawn networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convgrad.contracts.deeplearntoolbox import cnnbp, cnnff, cnnsetup

torch = pytest.importorskip("torch")


@st.composite
def networks(draw):
    """Layers, and the size of the images that they take, drawn from the last layer to the first."""
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    layers = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            scale = draw(st.integers(1, 3 if max(height, width) < 5 else 1))
            layers.insert(0, {"type": "s", "scale": scale})
            height, width = height * scale, width * scale
        else:
            kernel, maps = draw(st.integers(1, 4)), draw(st.integers(1, 3))
            layers.insert(0, {"type": "c", "outputmaps": maps, "kernelsize": kernel})
            height, width = height + kernel - 1, width + kernel - 1
    samples, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return [{"type": "i"}, *layers], (height, width, samples), outputs


def recorded_by_torch(net, x, y):
    """L, o, and the leaves and pre-activations whose gradients autograd is asked for."""

    def leaf(array):
        return torch.tensor(np.array(array), requires_grad=True)

    ffW, ffb = leaf(net.ffW), leaf(net.ffb)
    a = leaf(x).permute(2, 0, 1)[:, None]
    leaves, before = {"dffW": ffW, "dffb": ffb}, {}
    for level, layer in enumerate(net.layers[1:], start=1):
        if layer.type == "c":
            k, b = leaf(layer.k), leaf(layer.b)
            leaves[level, "dk"], leaves[level, "db"] = k, b
            z = torch.nn.functional.conv2d(a, k.transpose(0, 1).flip(2, 3), b)
            a = torch.sigmoid(z)
        else:
            z = a = torch.nn.functional.avg_pool2d(a, layer.scale)
        before[level] = z
    fv = a.permute(1, 3, 2, 0).reshape(-1, x.shape[2])
    o = torch.sigmoid(ffW @ fv + ffb)
    return ((o - torch.tensor(y)) ** 2).sum() / 2 / x.shape[2], o, leaves, before


def close(got, want):
    want = want.detach().numpy()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * (1 + np.abs(want).max()))


@settings(max_examples=150)
@given(networks(), st.integers(0, 2**32 - 1))
def test_every_gradient_is_autograds(drawn, seed):
    layers, shape, outputs = drawn
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(shape), rng.random((outputs, shape[2]))
    net = cnnsetup(layers, x, y, rng=rng)
    for layer in net.layers:
        if layer.type == "c":
            layer.k, layer.b = layer.k * 3, rng.standard_normal(layer.b.shape)
    net.ffb = rng.standard_normal(net.ffb.shape)
    net = cnnbp(cnnff(net, x), y)
    loss, o, leaves, before = recorded_by_torch(net, x, y)
    close(net.o, o)
    assert abs(net.L - loss.item()) <= 1e-13 * net.L
    grads = torch.autograd.grad(loss, [*leaves.values(), *before.values()])
    for key, grad in zip([*leaves, *before], grads, strict=True):
        if isinstance(key, str):
            close(getattr(net, key), grad)
        elif isinstance(key, tuple):
            close(getattr(net.layers[key[0]], key[1]), grad)
        else:
            close(net.layers[key].d, grad.permute(1, 2, 3, 0) * shape[2])
