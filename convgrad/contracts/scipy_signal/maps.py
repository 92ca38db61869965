"""The value and the gradients of a request, each as one call of convgrad's maps.

    y    = Σ_{i+j=q} in1[i]·in2[j]
    din1 = Σ_{i+j=q} conj(in2[j])·dy[q]
    din2 = Σ_{i+j=q} conj(in1[i])·dy[q]

An operand that was turned or conjugated for a correlation has its gradient turned or conjugated
back. A real operand beside a complex one takes the real part.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from convgrad.api import input_grad, plan, weight_grad
from convgrad.contracts.scipy_signal.request import Ready
from convgrad.contracts.scipy_signal.values import operand, promoted, whole_numbers
from convgrad.errors import DTypeError, ShapeError
from convgrad.settings import needed

NAMES = ("in1", "in2")


class Gradients(NamedTuple):
    """The gradients of in1 and in2, shaped as these; None where one was not needed."""

    din1: Any
    din2: Any


def value(one: Ready) -> tuple[np.ndarray, bool]:
    """y, and whether FFT gave it."""
    if one.empty:
        return _value_of_empty(one), False
    if one.dtype.kind in "biu":
        return _value_of_integers(one), False
    x, w = one.x_and_w(one.dtype)
    settings = {**one.settings(w), "padding_value": one.fill}
    planned = plan("forward", x.shape, w.shape, dtype=one.dtype, **settings)
    return one.layout.y_back(planned(x, w)), planned.algorithm == "fft"


def _value_of_integers(one: Ready) -> np.ndarray:
    """Integers are surrounded by their fill here, so that it is cut into digits with them."""
    x, w = one.x_and_w(one.dtype)
    settings = one.settings(w)
    if one.padding_mode == "constant":
        x = np.pad(x, ((0, 0), (0, 0), *one.layout.pads), constant_values=one.fill)
        settings |= {"padding": 0, "padding_mode": "zeros"}
    planned = plan("forward", x.shape, w.shape, dtype="float64", **settings)
    return one.layout.y_back(whole_numbers(planned, x, w, one.dtype))


def gradients(one: Ready, dy: Any, needs: Iterable[str]) -> Gradients:
    """din1 and din2 for dy, the gradient of y."""
    call, layout = one.request.call, one.layout
    wanted = needed(call, needs, NAMES)
    grad = operand(call, "dy", dy)
    shape = () if one.scalar else layout.y_shape
    if grad.shape != shape:
        raise ShapeError(
            f"{call}: dy is {grad.shape}, but the result in mode={one.request.mode!r} is {shape}; "
            "pass the gradient of that"
        )
    dtype = _gradient_dtype(one, grad)
    grad = grad.reshape(layout.y_shape).astype(dtype, copy=False)
    find = _gradients_of_empty if one.empty else _gradients_by_maps
    found = find(one, grad, dtype, wanted)
    return Gradients(*(None if g is None else _finished(one, i, g) for i, g in enumerate(found)))


def _gradient_dtype(one: Ready, grad: np.ndarray) -> np.dtype[Any]:
    """What the gradients are computed in: integers count as float64."""
    call = one.request.call
    if one.dtype.kind == "b":
        raise DTypeError(
            f"{call}: in1 and in2 are bool, whose convolution has no gradient; "
            "pass one of them as float64"
        )
    if grad.dtype.kind == "c" and one.dtype.kind != "c":
        raise DTypeError(
            f"{call}: dy is {grad.dtype}, but the result is real, {one.dtype}; pass dy.real"
        )
    dtype = promoted(call, result=one.dtype, dy=grad.dtype)
    return np.dtype(np.float64) if dtype.kind in "iu" else dtype


def _gradients_by_maps(
    one: Ready, grad: np.ndarray, dtype: np.dtype[Any], wanted: frozenset[str]
) -> list[np.ndarray | None]:
    layout = one.layout
    x, w = one.x_and_w(dtype)
    dy = layout.dy(grad)  # (N, G·O, *out)
    found: list[np.ndarray | None] = [None, None]
    x_at, w_at = int(layout.swapped), int(not layout.swapped)
    if NAMES[x_at] in wanted:
        found[x_at] = layout.x_back(input_grad(x.shape, w, dy, **one.settings(w)))
    if NAMES[w_at] in wanted:
        settings = {**one.settings(dy), "padding_value": one.fill}
        found[w_at] = layout.w_back(weight_grad(x, w.shape, dy, **settings))
    return found


def _finished(one: Ready, index: int, gradient: np.ndarray) -> Any:
    """A gradient turned and conjugated back, real if its operand is, and in that one's dtype."""
    own = (one.in1, one.in2)[index].dtype
    if one.request.correlates and index == 1:
        gradient = np.flip(gradient, one.layout.axes)
    if index == one.conjugated and gradient.dtype.kind == "c":
        gradient = np.conj(gradient)
    if own.kind != "c" and gradient.dtype.kind == "c":
        gradient = np.real(gradient)
    if own.kind not in "biu":
        gradient = gradient.astype(own, copy=False)
    return gradient[0] if one.scalar else gradient


def _value_of_empty(one: Ready) -> np.ndarray:
    """A sum of no products is 0, and an image without cells is nothing but its surroundings."""
    _check_empty(one)
    y = np.zeros(one.layout.y_shape, one.dtype)
    if one.padding_mode == "constant":
        y += one.fill * one.in2.sum(axis=one.layout.axes, dtype=one.dtype, keepdims=True)
    return y


def _gradients_of_empty(
    one: Ready, grad: np.ndarray, dtype: np.dtype[Any], wanted: frozenset[str]
) -> list[np.ndarray | None]:
    _check_empty(one)
    din1, din2 = np.zeros(one.in1.shape, dtype), np.zeros(one.in2.shape, dtype)
    if one.padding_mode == "constant":
        broadcast = tuple(a for a, n in enumerate(one.in2.shape) if n == 1)
        summed = tuple({*broadcast, *one.layout.axes})
        din2 += np.conj(one.fill) * grad.sum(axis=summed, keepdims=True)
    return [g if n in wanted else None for n, g in zip(NAMES, (din1, din2), strict=True)]


def _check_empty(one: Ready) -> None:
    """Refuse what SciPy refuses, or crashes on, where a convolved axis is empty.

    convolve and correlate know only mode "same" of an empty in1; convolve2d and correlate2d know
    all but an empty in1 that is to be repeated.
    """
    layout = one.layout
    void1, void2 = (0 in (a.shape[i] for i in layout.axes) for a in (one.in1, one.in2))
    if one.request.planar:
        repeated = void1 and one.padding_mode in ("circular", "symmetric")
        known = min(layout.y_shape) >= 0 and not (repeated and 0 not in layout.y_shape)
    else:
        known = not void2 and (not void1 or one.request.mode == "same")
    if not known:
        name, array = ("in1", one.in1) if void1 else ("in2", one.in2)
        raise ShapeError(
            f"{one.request.call}: {name} is {array.shape}, and mode={one.request.mode!r} needs "
            "at least one cell there"
        )
