"""DL-Demos: one sample (H, W, C), or a batch (N, H, W, C); weights (c_out, f, f, c_in/groups).

The cache is a dict, and stride and padding are handed to the backward again.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convgrad.arrays import Array
from convgrad.contracts.numpy_cache.course import Course, Layer, setting
from convgrad.contracts.numpy_cache.expressible import channels_first, channels_last, refusal
from convgrad.contracts.signature import Case, Results, Signature
from convgrad.errors import SettingError

_W_AXES = "(c_out, f, f, c_in/groups)"
_X_AXES = "(H, W, C), or (N, H, W, C) for a batch"
_FORWARD = Course(
    "channels_last", True, (0, 1, 2, 3), 0,
    "input", _X_AXES, "weight", _W_AXES, "bias", "output", "",
)  # fmt: skip
_BACKWARD = Course(
    "channels_last", True, (0, 1, 2, 3), 0, "A_prev", _X_AXES, "W", _W_AXES, "b", "Z", "dZ"
)


def conv2d(
    input: Array,  # noqa: A002
    weight: Array,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: Array | None = None,
) -> np.ndarray:
    """output[p,o] = Σ_{k,c} input[stride·p + dilation·k − padding, c] · weight[o,k,c] + bias[o].

    input (H, W, C) or (N, H, W, C), weight (c_out, f, f, C/groups), bias (c_out,) or None
    → output (H', W', c_out) or (N, H', W', c_out), H' = ⌊(H + 2·padding − dilation·(f−1) − 1) /
    stride⌋ + 1. A kernel need not be square.
    """
    layer = _layer("conv2d", stride, padding, dilation, groups)
    return _FORWARD.conv("conv2d", input, weight, bias, layer)


def conv2d_forward(
    input: Array,  # noqa: A002
    weight: Array,
    bias: Array | None,
    stride: int,
    padding: int,
    *,
    dilation: int = 1,
    groups: int = 1,
) -> dict[str, Any]:
    """conv2d that keeps what the backward needs: {'Z', 'W', 'b', 'A_prev'}.

    'Z' is the output; 'W', 'b' and 'A_prev' are the arrays that came, not copies. dilation and
    groups are additions to the original; the cache has them too, where they are not 1.
    """
    layer = _layer("conv2d_forward", stride, padding, dilation, groups)
    output = _FORWARD.conv("conv2d_forward", input, weight, bias, layer)
    additions = {"dilation": layer.dilation, "groups": layer.groups}
    return {"Z": output, "W": weight, "b": bias, "A_prev": input} | {
        name: number for name, number in additions.items() if number != 1
    }


def conv2d_backward(
    dZ: Array,
    cache: Mapping[str, Any],
    stride: int,
    padding: int,
    *,
    dilation: int | None = None,
    groups: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dW[o,k,c] = Σ_p A_prev[s·p + d·k − pad, c] · dZ[p,o], db[o] = Σ_p dZ[p,o], and dA_prev.

        dA_prev[i,c] = Σ_{p,k,o: s·p + d·k − pad = i} W[o,k,c] · dZ[p,o]

    dZ as cache['Z'], cache with 'W' and 'A_prev' → (dW, db, dA_prev), shaped as W, (c_out,) and
    A_prev; of a batch, dW and db are sums over the samples. The numbers of 'Z' and 'b' are not
    read. stride and padding are those of the forward; dilation and groups, additions to the
    original, are the cache's, and need not be passed.
    Raises ShapeError where dZ has not the shape of Z, SettingError where the cache has another
    dilation or groups.
    """
    call = "conv2d_backward"
    if not isinstance(cache, Mapping):
        raise SettingError(
            f"{call}: cache is a {type(cache).__name__}; pass the dict of conv2d_forward"
        )
    for key in ("W", "A_prev"):
        if key not in cache:
            raise SettingError(f"{call}: cache has no {key!r}; pass the dict of conv2d_forward")
    layer = _layer(
        call, stride, padding,
        _cached(call, cache, "dilation", dilation), _cached(call, cache, "groups", groups),
    )  # fmt: skip
    dx, dw, db = _BACKWARD.backward(call, cache["A_prev"], cache["W"], dZ, layer)
    return dw, db, dx


def _cached(call: str, cache: Mapping[str, Any], name: str, passed: object) -> int:
    """The cache's dilation or groups, or what was passed to a cache that says nothing of it.

    conv2d_forward keeps no 1, so that a cache with its Z and without the name says 1.
    """
    kept = cache.get(name, 1 if "Z" in cache else None)
    kept = None if kept is None else setting(call, f"cache[{name!r}]", kept, 1)
    number = kept if passed is None else setting(call, name, passed, 1)
    if kept is not None and number != kept:
        raise SettingError(
            f"{call}: {name} is {number}, but the forward's was {kept}, by its cache; "
            f"leave {name} out"
        )
    return 1 if number is None else number


def _layer(call: str, stride: object, padding: object, dilation: object, groups: object) -> Layer:
    return Layer(
        setting(call, "stride", stride, 1),
        setting(call, "padding", padding, 0),
        setting(call, "dilation", dilation, 1),
        setting(call, "groups", groups, 1),
    )


def _refuses_conv2d(case: Case) -> str | None:
    return refusal(case, square=True, dilation_and_groups=True)


def _refuses_cached(case: Case) -> str | None:
    return refusal(case, square=True, dilation_and_groups=False)


# The original takes one sample, so the cases' samples go one by one.


def _call_conv2d(function: Callable[..., Any], case: Case) -> Results:
    w, settings = channels_last(case.w), (*_stride_padding(case), case.dilation[0], case.groups)
    samples = [function(x, w, *settings, case.b) for x in channels_last(case.x)]
    return {"y": channels_first(np.stack(samples))}


def _call_conv2d_forward(function: Callable[..., Any], case: Case) -> Results:
    w = channels_last(case.w)
    caches = [function(x, w, case.b, *_stride_padding(case)) for x in channels_last(case.x)]
    return {"y": channels_first(np.stack([cache["Z"] for cache in caches]))}


def _call_conv2d_backward(function: Callable[..., Any], case: Case) -> Results:
    w, settings, samples = channels_last(case.w), _stride_padding(case), []
    for x, dz in zip(channels_last(case.x), channels_last(case.dy), strict=True):
        cache = conv2d_forward(x, w, case.b, *settings)
        samples.append(function(dz, cache, *settings))
    dw, db, dx = (np.stack(gradients) for gradients in zip(*samples, strict=True))
    return {"dx": channels_first(dx), "dw": channels_first(dw.sum(0)), "db": db.sum(0)}


def _stride_padding(case: Case) -> tuple[int, int]:
    return case.stride[0], case.pads[0][0]


SIGNATURES = (
    Signature(conv2d, ("y",), _refuses_conv2d, _call_conv2d),
    Signature(conv2d_forward, ("y",), _refuses_cached, _call_conv2d_forward),
    Signature(conv2d_backward, ("dx", "dw", "db"), _refuses_cached, _call_conv2d_backward),
)
