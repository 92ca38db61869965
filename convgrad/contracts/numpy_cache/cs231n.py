"""CS231n: x (N, C, H, W), w (F, C, HH, WW), b (F,), conv_param {'stride', 'pad'}.

The cache is the tuple (x, w, b, conv_param).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convgrad.arrays import Array
from convgrad.contracts.numpy_cache.course import Course, layer_of, unpacked
from convgrad.contracts.numpy_cache.expressible import refusal
from convgrad.contracts.signature import Case, Results, Signature
from convgrad.errors import ArrayError

_COURSE = Course(
    "channels_first", False, (0, 1, 2, 3), 0,
    "x", "(N, C, H, W)", "w", "(F, C, HH, WW)", "b", "out", "dout",
)  # fmt: skip

Cache = tuple[Array, Array, Array, Mapping[str, int]]


def conv_forward_naive(
    x: Array, w: Array, b: Array, conv_param: Mapping[str, int]
) -> tuple[np.ndarray, Cache]:
    """out[n,f,p] = Σ_{c,k} x[n,c, stride·p + k − pad] · w[f,c,k] + b[f].

    x (N, C, H, W), w (F, C, HH, WW), b (F,) → out (N, F, H', W') and the cache
    (x, w, b, conv_param), where H' = ⌊(H + 2·pad − HH) / stride⌋ + 1.
    """
    call = "conv_forward_naive"
    layer = layer_of(call, "conv_param", conv_param)
    if b is None:
        raise ArrayError(f"{call}: b is None; pass zeros of (F,) where there is no bias")
    return _COURSE.conv(call, x, w, b, layer), (x, w, b, conv_param)


def conv_backward_naive(dout: Array, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx[n,c,i] = Σ_{f,k,p: stride·p + k − pad = i} w[f,c,k] · dout[n,f,p], and dw and db.

        dw[f,c,k] = Σ_{n,p} x[n,c, stride·p + k − pad] · dout[n,f,p]        db[f] = Σ_{n,p} dout

    dout as out, cache (x, w, b, conv_param) → (dx, dw, db), shaped as x, w and (F,). The cache's
    b is not read. Raises ShapeError where dout has not the shape of out.
    """
    call = "conv_backward_naive"
    x, w, _, conv_param = unpacked(call, cache, "(x, w, b, conv_param)")
    layer = layer_of(call, "conv_param", conv_param)
    dx, dw, db = _COURSE.backward(call, x, w, dout, layer)
    return dx, dw, db


def _refuses(case: Case) -> str | None:
    return refusal(case, square=False, dilation_and_groups=False)


def _conv_param(case: Case) -> dict[str, int]:
    return {"stride": case.stride[0], "pad": case.pads[0][0]}


def _call_forward(function: Callable[..., Any], case: Case) -> Results:
    out, _ = function(case.x, case.w, case.b, _conv_param(case))
    return {"y": out}


def _call_backward(function: Callable[..., Any], case: Case) -> Results:
    _, cache = conv_forward_naive(case.x, case.w, case.b, _conv_param(case))
    dx, dw, db = function(case.dy, cache)
    return {"dx": dx, "dw": dw, "db": db}


SIGNATURES = (
    Signature(conv_forward_naive, ("y",), _refuses, _call_forward),
    Signature(conv_backward_naive, ("dx", "dw", "db"), _refuses, _call_backward),
)
