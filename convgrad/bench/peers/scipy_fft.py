"""SciPy's fftconvolve and oaconvolve, for layers whose groups have one channel each.

    y = correlation of x with w, dx = convolution of dy with w, dw = correlation of x with dy

SciPy convolves, so what is correlated is turned by 180° first, a view. All images and channels go
through one call with `axes`; the weight gradients of the samples are summed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from convgrad.bench.case import Case, Operands
from convgrad.bench.peers.library import Library
from convgrad.bench.timing import Work


def libraries(threads: int) -> list[Library]:
    """fftconvolve and oaconvolve, their transforms on so many threads."""
    from scipy import signal

    functions = {"fftconvolve": signal.fftconvolve, "oaconvolve": signal.oaconvolve}
    return [
        Library("SciPy", name, _refuses, partial(_work, function, threads), np.asarray)
        for name, function in functions.items()
    ]


def _refuses(case: Case) -> str | None:
    layer = case.layer
    single = layer.groups == layer.in_channels == layer.out_channels
    if not single or layer.transposed:
        return "SciPy's convolutions have one channel"
    if max(layer.stride) > 1 or max(layer.dilation) > 1:
        return "SciPy has no stride and no dilation"
    if case.dtype not in ("float32", "float64"):
        return f"SciPy's transforms have no {case.dtype}"
    return None


def _work(function: Callable[..., np.ndarray], threads: int, case: Case, ops: Operands) -> Work:
    from scipy import fft

    call = _call(function, case, ops)

    def work() -> np.ndarray:
        with fft.set_workers(threads):
            return call()

    return work


def _call(function: Callable[..., np.ndarray], case: Case, operands: Operands) -> Work:
    layer = case.layer
    axes = tuple(range(2, 2 + layer.rank))
    x, dy = operands.x, operands.dy
    w = operands.w[:, 0][None]  # (1, C, *K)
    same = all(k == 2 * pad + 1 for k, pad in zip(layer.kernel, layer.padding))
    around = [(0, 0), (0, 0), *((pad, pad) for pad in layer.padding)]
    inside = (..., *(slice(pad, pad + n) for pad, n in zip(layer.padding, layer.in_size)))

    def forward() -> np.ndarray:
        if same:
            return function(x, np.flip(w, axes), mode="same", axes=axes)
        return function(np.pad(x, around), np.flip(w, axes), mode="valid", axes=axes)

    def input_grad() -> np.ndarray:
        if same:
            return function(dy, w, mode="same", axes=axes)
        return function(dy, w, mode="full", axes=axes)[inside]

    def weight_grad() -> np.ndarray:
        dw = function(np.pad(x, around), np.flip(dy, axes), mode="valid", axes=axes)
        return dw.sum(0)[:, None]

    return {"forward": forward, "input_grad": input_grad, "weight_grad": weight_grad}[
        case.direction
    ]
