"""The passes: cnnff, cnnbp, cnnapplygrads. Each writes into the net it is given and returns it.

The maps of a layer are computed together: `stack` (N, maps, h, w), which convgrad's maps take, is
the same memory as the net's `a` or `d`, (maps, h, w, N).
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np

from convgrad.api import bias_grad, conv, input_grad, weight_grad
from convgrad.contracts.deeplearntoolbox.arrays import expand, sigmoid
from convgrad.contracts.deeplearntoolbox.network import (
    Layer,
    Net,
    Parameters,
    images,
    needed_net,
    option,
    parameters,
    targets,
)
from convgrad.errors import SettingError, ShapeError

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
    for layer, stack in zip(net.layers, forward(net.layers, values, stacked(samples))):
        layer.a = stack.transpose(1, 2, 3, 0)
    net.fv = feature_vector(net.layers[-1].a)
    net.o = output(values, net.fv)
    return net


def stacked(samples: np.ndarray) -> np.ndarray:
    """(H, W, N) → (N, 1, H, W), a copy: what the caller does to x later changes no net."""
    return np.array(samples.transpose(2, 0, 1)[:, None], order="C")


def forward(layers: list[Layer], values: Parameters, stack: np.ndarray) -> Iterator[np.ndarray]:
    """The stack (N, maps, h, w) of each layer in turn."""
    for layer, w, b in zip(layers, values.w, values.b):
        if w is not None:
            stack = sigmoid(conv(stack, w, b, **PLAIN))
        elif layer.type == "s":
            stack = mean_of_blocks(stack, layer.scale)
        yield stack


def mean_of_blocks(stack: np.ndarray, s: int) -> np.ndarray:
    """(N, maps, h, w) → (N, maps, h/s, w/s)."""
    mean = np.zeros((*stack.shape[:2], stack.shape[2] // s, stack.shape[3] // s))
    for row, column in np.ndindex(s, s):
        mean += stack[:, :, row::s, column::s]
    mean /= s * s
    return mean


def feature_vector(a: np.ndarray) -> np.ndarray:
    """(maps, h, w, N) → (maps·w·h, N): MATLAB reads a map column by column."""
    return a.swapaxes(1, 2).reshape(-1, a.shape[3])


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
    values = parameters_after_cnnff("cnnbp", net)
    y = targets("cnnbp", y, net.o.shape[1], net.o.shape[0])
    samples = y.shape[1]
    net.e = net.o - y
    net.L = loss(net.e)
    net.od = net.e * (net.o * (1 - net.o))
    net.fvd = values.ffW.T @ net.od
    if net.layers[-1].type == "c":
        net.fvd = net.fvd * (net.fv * (1 - net.fv))
    for level, delta in _deltas(net, values):
        layer, w = net.layers[level], values.w[level]
        layer.d = delta.transpose(1, 2, 3, 0)
        if w is not None:
            below = stack_of(net.layers[level - 1].a)
            layer.dk = weight_grad(below, w.shape, delta, **PLAIN).swapaxes(0, 1) / samples
            layer.db = bias_grad(delta) / samples
    net.dffW = net.od @ net.fv.T / samples
    net.dffb = net.od.mean(axis=1, keepdims=True)
    return net


def stack_of(a: np.ndarray) -> np.ndarray:
    """A net's (maps, h, w, N) as the stack (N, maps, h, w) it is a view of."""
    return a.transpose(3, 0, 1, 2)


def parameters_after_cnnff(call: str, net: Net) -> Parameters:
    """The parameters of a net that holds the maps of a forward pass."""
    if not needed_net(call, net).o.size:
        raise SettingError(f"{call}: the net has no outputs yet; call cnnff(net, x) first")
    values = parameters(call, net, net.layers[0].a.shape[1:3])
    if values.ffW.shape[0] != net.o.shape[0]:
        raise ShapeError(
            f"{call}: ffW gives {values.ffW.shape[0]} outputs, but o has {net.o.shape[0]}; "
            "call cnnff again"
        )
    return values


def _deltas(net: Net, values: Parameters) -> Iterator[tuple[int, np.ndarray]]:
    """(l, d of layer l as a stack), from the last layer down to the first above the input."""
    last = net.layers[-1].a
    turned = net.fvd.reshape(last.shape[0], last.shape[2], last.shape[1], last.shape[3])
    delta = np.ascontiguousarray(stack_of(turned.swapaxes(1, 2)))
    lowest = min(1, len(net.layers) - 1)
    for level in range(len(net.layers) - 1, lowest - 1, -1):
        yield level, delta
        if level > lowest:
            delta = _delta_below(net.layers[level], values.w[level], delta, net.layers[level - 1])


def _delta_below(layer: Layer, w: np.ndarray | None, delta: np.ndarray, below: Layer) -> np.ndarray:
    """d of the layer below: through this one, and through the sigmoid if that is a convolution."""
    a = stack_of(below.a)
    if w is None:
        spread = expand(delta, (1, 1, layer.scale, layer.scale)) / layer.scale**2
    else:
        spread = input_grad(a.shape, w, delta, **PLAIN)
    return a * (1 - a) * spread if below.type == "c" else spread


def cnnapplygrads(net: Net, opts: Any) -> Net:
    """p ← p − α·∂L/∂p for k and b of every convolution, ffW and ffb; α = opts' alpha.

    The net gets new arrays; those that were read from it before keep their numbers.
    Raises SettingError for an alpha that is no finite number, or before cnnbp has run.
    """
    alpha = learning_rate("cnnapplygrads", opts)
    values = parameters_after_cnnff("cnnapplygrads", net)
    check_gradients_are_there("cnnapplygrads", net, values)
    for layer, w, b in zip(net.layers, values.w, values.b):
        if w is not None and b is not None:
            layer.k = w.swapaxes(0, 1) - alpha * layer.dk
            layer.b = b - alpha * layer.db
    net.ffW = values.ffW - alpha * net.dffW
    net.ffb = values.ffb - alpha * net.dffb
    return net


def learning_rate(call: str, opts: Any) -> float:
    alpha = option(call, "opts", opts, "alpha")
    if not isinstance(alpha, int | float | np.integer | np.floating) or not isfinite(alpha):
        raise SettingError(f"{call}: alpha is {alpha!r}; it must be a finite number")
    return float(alpha)


def check_gradients_are_there(call: str, net: Net, values: Parameters) -> None:
    """Raise unless every parameter has the gradient that cnnbp leaves."""
    pairs = [("dffW", net.dffW, values.ffW.shape), ("dffb", net.dffb, values.ffb.shape)]
    for level, (layer, w) in enumerate(zip(net.layers, values.w)):
        if w is not None:
            pairs.append((f"layers[{level}].dk", layer.dk, w.swapaxes(0, 1).shape))
            pairs.append((f"layers[{level}].db", layer.db, w.shape[:1]))
    for name, gradient, shape in pairs:
        if not np.size(gradient):
            raise SettingError(f"{call}: {name} is empty; call cnnff and cnnbp first")
        if np.shape(gradient) != shape:
            raise ShapeError(
                f"{call}: {name} is {np.shape(gradient)}, but its parameter is {shape}; "
                "call cnnff and cnnbp again"
            )
