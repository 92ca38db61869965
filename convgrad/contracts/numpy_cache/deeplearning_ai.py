"""deeplearning.ai: A_prev (m, n_H_prev, n_W_prev, n_C_prev), W (f, f, n_C_prev, n_C).

b is (1, 1, 1, n_C), hparameters {'stride', 'pad'}; the cache is (A_prev, W, b, hparameters).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convgrad.arrays import Array
from convgrad.contracts.numpy_cache.course import Course, layer_of, unpacked
from convgrad.contracts.numpy_cache.expressible import channels_first, channels_last, refusal
from convgrad.contracts.signature import Case, Results, Signature
from convgrad.errors import ArrayError

_COURSE = Course(
    "channels_last", False, (3, 0, 1, 2), 3,
    "A_prev", "(m, n_H_prev, n_W_prev, n_C_prev)", "W", "(f, f, n_C_prev, n_C)", "b", "Z", "dZ",
)  # fmt: skip

Cache = tuple[Array, Array, Array, Mapping[str, int]]


def conv_forward(
    A_prev: Array, W: Array, b: Array, hparameters: Mapping[str, int]
) -> tuple[np.ndarray, Cache]:
    """Z[i,p,o] = Σ_{k,c} A_prev[i, stride·p + k − pad, c] · W[k,c,o] + b[0,0,0,o].

    A_prev (m, n_H_prev, n_W_prev, n_C_prev), W (f, f, n_C_prev, n_C), b (1, 1, 1, n_C)
    → Z (m, n_H, n_W, n_C) and the cache (A_prev, W, b, hparameters), where
    n_H = ⌊(n_H_prev − f + 2·pad) / stride⌋ + 1. A kernel need not be square.
    """
    call = "conv_forward"
    layer = layer_of(call, "hparameters", hparameters)
    if b is None:
        raise ArrayError(f"{call}: b is None; pass zeros of (1, 1, 1, n_C) where there is no bias")
    return _COURSE.conv(call, A_prev, W, b, layer), (A_prev, W, b, hparameters)


def conv_backward(dZ: Array, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dA_prev[i,j,c] = Σ_{k,p,o: stride·p + k − pad = j} W[k,c,o] · dZ[i,p,o], and dW and db.

        dW[k,c,o] = Σ_{i,p} A_prev[i, stride·p + k − pad, c] · dZ[i,p,o]     db[o] = Σ_{i,p} dZ

    dZ as Z, cache (A_prev, W, b, hparameters) → (dA_prev, dW, db), shaped as A_prev, W and
    (1, 1, 1, n_C). The cache's b is not read. Raises ShapeError where dZ has not the shape of Z.
    """
    call = "conv_backward"
    A_prev, W, _, hparameters = unpacked(call, cache, "(A_prev, W, b, hparameters)")
    layer = layer_of(call, "hparameters", hparameters)
    dx, dw, db = _COURSE.backward(call, A_prev, W, dZ, layer)
    return dx, dw, db


def _refuses(case: Case) -> str | None:
    return refusal(case, square=True, dilation_and_groups=False)


def _inputs(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """(A_prev, W, b, hparameters) of the case."""
    return (
        channels_last(case.x),
        case.w.transpose(2, 3, 1, 0).copy(),
        case.b.reshape(1, 1, 1, -1),
        {"stride": case.stride[0], "pad": case.pads[0][0]},
    )


def _call_forward(function: Callable[..., Any], case: Case) -> Results:
    Z, _ = function(*_inputs(case))
    return {"y": channels_first(Z)}


def _call_backward(function: Callable[..., Any], case: Case) -> Results:
    _, cache = conv_forward(*_inputs(case))
    dA_prev, dW, db = function(channels_last(case.dy), cache)
    return {
        "dx": channels_first(dA_prev),
        "dw": np.asarray(dW).transpose(3, 2, 0, 1),
        "db": np.asarray(db).reshape(-1),
    }


SIGNATURES = (
    Signature(conv_forward, ("y",), _refuses, _call_forward),
    Signature(conv_backward, ("dx", "dw", "db"), _refuses, _call_backward),
)
