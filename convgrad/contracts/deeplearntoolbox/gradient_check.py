"""cnnnumgradcheck: every gradient of a net against central differences."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from convgrad.contracts.deeplearntoolbox.arrays import real_number
from convgrad.contracts.deeplearntoolbox.fields import Gradients, after_cnnbp, after_cnnff
from convgrad.contracts.deeplearntoolbox.network import Net, Parameters, images, targets
from convgrad.contracts.deeplearntoolbox.passes import (
    feature_vector,
    forward,
    loss,
    output,
    stacked,
)
from convgrad.errors import GradientError, ShapeError


def cnnnumgradcheck(
    net: Net, x: Any, y: Any, *, epsilon: float = 1e-4, tolerance: float = 1e-8
) -> float:
    """max |∂L/∂p − (L(p + ε) − L(p − ε))/2ε| over every number p of ffb, ffW, b and k.

    To be called after cnnff and cnnbp of the same x (H, W, N) and y (onum, N); the net is left as
    it is. Two forward passes for each number: take a small net.
    Raises GradientError at the first difference above `tolerance`, naming the parameter, and
    SettingError unless epsilon > 0 and tolerance ≥ 0.
    """
    call = "cnnnumgradcheck"
    epsilon = real_number(call, "epsilon", epsilon, "finite and above 0", lambda e: 0 < e < inf)
    tolerance = real_number(call, "tolerance", tolerance, "0 or more", lambda t: t >= 0)
    passed = after_cnnff(call, net)
    grads = after_cnnbp(call, net, passed.values)
    samples = images(call, "x", x)
    if samples.shape != passed.a[0].shape[1:]:
        raise ShapeError(
            f"{call}: x is {samples.shape}, but cnnff had {passed.a[0].shape[1:]}; pass the same x"
        )
    wanted = targets(call, y, samples.shape[2], passed.o.shape[0])
    values = _copy(passed.values)
    largest = 0.0
    for name, parameter, gradient in _pairs(values, grads):
        for index in np.ndindex(parameter.shape):
            numeric = _slope(values, parameter, index, stacked(samples), wanted, epsilon)
            difference = abs(numeric - gradient[index])
            if not difference <= tolerance:
                place = "".join(f"[{i}]" for i in index)
                raise GradientError(
                    f"{call}: {name}{place} has the gradient {gradient[index]:.12g}, but "
                    f"differences give {numeric:.12g}; they differ by {difference:.3g}, more than "
                    f"{tolerance:g}: call cnnff and cnnbp with these x, y and parameters"
                )
            largest = max(largest, float(difference))
    return largest


def _copy(values: Parameters) -> Parameters:
    """Parameters that can be moved without moving the net's own."""
    w = [None if one is None else one.copy() for one in values.w]
    b = [None if one is None else one.copy() for one in values.b]
    return replace(values, w=w, b=b, ffW=values.ffW.copy(), ffb=values.ffb.copy())


def _pairs(values: Parameters, grads: Gradients) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, parameter, gradient) with the indices that the net's own fields have."""
    yield "ffb", values.ffb, grads.dffb
    yield "ffW", values.ffW, grads.dffW
    for level in range(len(values.w) - 1, 0, -1):
        w, b, dk, db = values.w[level], values.b[level], grads.dk[level], grads.db[level]
        if w is not None and b is not None and dk is not None and db is not None:
            yield f"layers[{level}].b", b, db
            yield f"layers[{level}].k", w.swapaxes(0, 1), dk


def _slope(
    values: Parameters,
    parameter: np.ndarray,
    index: tuple[int, ...],
    stack: np.ndarray,
    wanted: np.ndarray,
    epsilon: float,
) -> float:
    """(L(p + ε) − L(p − ε))/2ε for p = parameter[index], which belongs to `values`."""
    losses = []
    own = parameter[index]
    for moved in (own + epsilon, own - epsilon):
        parameter[index] = moved
        *_, last = forward(values, stack)
        o = output(values, feature_vector(last.transpose(1, 2, 3, 0)))
        losses.append(loss(o - wanted))
    parameter[index] = own
    return (losses[0] - losses[1]) / (2 * epsilon)
