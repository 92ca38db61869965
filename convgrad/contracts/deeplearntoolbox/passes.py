"""The passes: cnnff, cnnbp, cnnapplygrads. Each writes into the net it is given and returns it.

The maps of a layer are computed together: `stack` (N, maps, h, w), which convgrad's maps take, is
the same memory as the net's `a` or `d`, (maps, h, w, N).
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np

from convgrad.api import bias_grad, conv, input_grad, weight_grad
from convgrad.contracts.deeplearntoolbox.arrays import expand, real_number, sigmoid
from convgrad.contracts.deeplearntoolbox.fields import Passed, after_cnnbp, after_cnnff
from convgrad.contracts.deeplearntoolbox.network import (
    Net,
    Parameters,
    images,
    option,
    parameters,
    targets,
)

PLAIN = {"flip": True, "precision": "strict"}  # true convolution, in plain sums


def cnnff(net: Net, x: Any) -> Net:
    """Forward: a of every layer, fv and o.

    convolution     a_j = σ(Σ_i convn(a_i, k_ij, "valid") + b_j)
    pooling         a_j = the mean of each s×s block
    output          fv = the last maps, each column by column, one below the other
                    o = σ(ffW·fv + ffb)

    x (H, W, N) → net, changed: a (maps, h, w, N), fv (fvnum, N), o (onum, N).
    Raises ShapeError if the images, or parameters that were set, do not fit.
    """
    samples = images("cnnff", "x", x)
    values = parameters("cnnff", net, samples.shape[:2])
    for layer, stack in zip(net.layers, forward(values, stacked(samples))):
        layer.a = stack.transpose(1, 2, 3, 0)
    net.fv = feature_vector(net.layers[-1].a)
    net.o = output(values, net.fv)
    return net


def stacked(samples: np.ndarray) -> np.ndarray:
    """(H, W, N) → (N, 1, H, W), a copy: what the caller does to x later changes no net."""
    return np.array(samples.transpose(2, 0, 1)[:, None], order="C")


def forward(values: Parameters, stack: np.ndarray) -> Iterator[np.ndarray]:
    """The stack (N, maps, h, w) of each layer in turn."""
    for w, b, scale in zip(values.w, values.b, values.scale):
        if w is not None:
            stack = sigmoid(conv(stack, w, b, **PLAIN))
        elif scale:
            stack = mean_of_blocks(stack, scale)
        yield stack


def mean_of_blocks(stack: np.ndarray, s: int) -> np.ndarray:
    """(N, maps, h, w) → (N, maps, h/s, w/s)."""
    mean = np.zeros((*stack.shape[:2], stack.shape[2] // s, stack.shape[3] // s))
    for row, column in np.ndindex(s, s):
        mean += stack[:, :, row::s, column::s]
    mean /= s * s
    return mean


def feature_vector(a: np.ndarray) -> np.ndarray:
    """(maps, h, w, N) → (maps·w·h, N), a copy: MATLAB reads a map column by column."""
    return np.array(a.swapaxes(1, 2), order="C").reshape(-1, a.shape[3])


def output(values: Parameters, fv: np.ndarray) -> np.ndarray:
    return sigmoid(values.ffW @ fv + values.ffb)


def loss(e: np.ndarray) -> float:
    """L = ½ Σ e² / N."""
    return float(0.5 * np.sum(e**2) / e.shape[1])


def cnnbp(net: Net, y: Any) -> Net:
    """Backward, after cnnff of the same samples: e, L, the deltas, and the gradients of L.

    output          e = o − y, L = ½Σe²/N, od = e·o(1−o), dffW = od·fvᵀ/N, dffb = mean(od)
    feature vector  fvd = ffWᵀ·od, times fv(1−fv) only where the last layer is a convolution
    deltas          d_i = Σ_j convn(d_j, rot180(k_ij), "full") under a convolution,
                    expand(d)/s² under a pooling; times a(1−a) if the layer is a convolution
    convolution     dk_ij = convn(flipall(a_i), d_j, "valid")/N, db_j = Σd_j/N

    The deltas od, fvd, d belong to single samples and are not divided by N; the gradients are.
    The input layer gets no d, unless it is the only layer. y (onum, N) → net, changed.
    Raises SettingError before cnnff has run, ShapeError if y does not fit o.
    """
    passed = after_cnnff("cnnbp", net)
    values, fv, o = passed.values, passed.fv, passed.o
    outputs, samples = o.shape
    net.e = o - targets("cnnbp", y, samples, outputs)
    net.L = loss(net.e)
    net.od = net.e * (o * (1 - o))
    net.fvd = values.ffW.T @ net.od
    if values.w[-1] is not None:
        net.fvd = net.fvd * (fv * (1 - fv))
    for level, delta in _deltas(passed, net.fvd):
        layer, w = net.layers[level], values.w[level]
        layer.d = delta.transpose(1, 2, 3, 0)
        if w is not None:
            below = stack_of(passed.a[level - 1])
            layer.dk = weight_grad(below, w.shape, delta, **PLAIN).swapaxes(0, 1) / samples
            layer.db = bias_grad(delta) / samples
    net.dffW = net.od @ fv.T / samples
    net.dffb = net.od.mean(axis=1, keepdims=True)
    return net


def stack_of(a: np.ndarray) -> np.ndarray:
    """A net's (maps, h, w, N) as a stack (N, maps, h, w), the same memory."""
    return a.transpose(3, 0, 1, 2)


def _deltas(passed: Passed, fvd: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(l, d of layer l as a stack), from the last layer down to the first above the input."""
    maps, h, w, samples = passed.a[-1].shape
    columns = fvd.reshape(maps, w, h, samples)
    delta = np.array(stack_of(columns.swapaxes(1, 2)), order="C")
    lowest = min(1, len(passed.a) - 1)
    for level in range(len(passed.a) - 1, lowest - 1, -1):
        yield level, delta
        if level > lowest:
            delta = _delta_below(passed, level, delta)


def _delta_below(passed: Passed, level: int, delta: np.ndarray) -> np.ndarray:
    """d of the layer below: through this one, and through the sigmoid if that is a convolution."""
    a, w, s = stack_of(passed.a[level - 1]), passed.values.w[level], passed.values.scale[level]
    if w is not None:
        spread = input_grad(a.shape, w, delta, **PLAIN)
    else:
        spread = expand(delta, (1, 1, s, s)) / s**2
    return a * (1 - a) * spread if passed.values.w[level - 1] is not None else spread


def cnnapplygrads(net: Net, opts: Any) -> Net:
    """p ← p − α·∂L/∂p for k and b of every convolution, ffW and ffb; α = opts' alpha.

    The net gets new arrays; those that were read from it before keep their numbers.
    Raises SettingError for an alpha that is no finite number, or before cnnbp has run.
    """
    alpha = learning_rate("cnnapplygrads", opts)
    values = after_cnnff("cnnapplygrads", net).values
    grads = after_cnnbp("cnnapplygrads", net, values)
    for layer, w, b, dk, db in zip(net.layers, values.w, values.b, grads.dk, grads.db):
        if w is not None and b is not None and dk is not None and db is not None:
            layer.k = w.swapaxes(0, 1) - alpha * dk
            layer.b = b - alpha * db
    net.ffW = values.ffW - alpha * grads.dffW
    net.ffb = values.ffb - alpha * grads.dffb
    return net


def learning_rate(call: str, opts: Any) -> float:
    alpha = option(call, "opts", opts, "alpha")
    return real_number(call, "alpha", alpha, "a finite number", isfinite)
