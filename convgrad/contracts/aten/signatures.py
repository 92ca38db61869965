"""The aten convention as data: how any function of these signatures is called."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convgrad.contracts.aten.kernels import (
    convolution,
    convolution_backward,
    convolution_double_backward,
)
from convgrad.contracts.aten.torch_grad import (
    conv1d_input,
    conv1d_weight,
    conv2d_input,
    conv2d_weight,
    conv3d_input,
    conv3d_weight,
)
from convgrad.contracts.signature import Case, Contract, Results, Signature

Function = Callable[..., Any]


def refuses(case: Case) -> str | None:
    """What aten's convolutions cannot express."""
    if case.rank > 3:
        return f"aten convolves over at most 3 spatial axes, not {case.rank}"
    if case.padding is None:
        return f"aten pads both sides of an axis alike, not by {case.pads}"
    if 0 in case.x.shape[1:]:
        return "aten gives an input without channels an output without channels"
    return None


def refuses_double(case: Case) -> str | None:
    if case.ddx is None or case.ddw is None or case.ddb is None:
        return "a double backward needs the gradients of dx, dw and db"
    return refuses(case)


def refuses_other_than(rank: int) -> Callable[[Case], str | None]:
    """What the functions of torch.nn.grad for `rank` spatial axes cannot express."""

    def refuses_case(case: Case) -> str | None:
        if case.transposed:
            return "torch.nn.grad has no gradients of transposed convolutions"
        if case.rank != rank:
            return f"the function is for {rank} spatial axes, not {case.rank}"
        return refuses(case)

    return refuses_case


def settings(case: Case) -> tuple[Any, ...]:
    """stride, padding, dilation, transposed, output_padding and groups of an aten call."""
    each = (case.stride, case.padding or (0,), case.dilation)
    extra = case.output_padding or (0,) * case.rank
    return (*map(list, each), case.transposed, list(extra), case.groups)


def call_forward(function: Function, case: Case) -> Results:
    return {"y": np.asarray(function(case.x, case.w, case.b, *settings(case)))}


def call_backward(function: Function, case: Case) -> Results:
    found = function(case.dy, case.x, case.w, [case.b.size], *settings(case), [True, True, True])
    return dict(zip(("dx", "dw", "db"), map(np.asarray, found), strict=True))


def call_double_backward(function: Function, case: Case) -> Results:
    found = function(
        case.ddx, case.ddw, case.ddb, case.dy, case.w, case.x, *settings(case), [True, True, True]
    )
    return dict(zip(("ddy", "dx", "dw"), map(np.asarray, found), strict=True))


def call_input(function: Function, case: Case) -> Results:
    dx = function(
        case.x.shape, case.w, case.dy, case.stride, case.padding, case.dilation, case.groups
    )
    return {"dx": np.asarray(dx)}


def call_weight(function: Function, case: Case) -> Results:
    dw = function(
        case.x, case.w.shape, case.dy, case.stride, case.padding, case.dilation, case.groups
    )
    return {"dw": np.asarray(dw)}


CONTRACT = Contract(
    name="aten",
    summary="PyTorch's convolution kernels and torch.nn.grad: channels first, symmetric padding",
    source="PyTorch 2.13, torch.ops.aten and torch.nn.grad",
    signatures=(
        Signature(convolution, ("y",), refuses, call_forward),
        Signature(convolution_backward, ("dx", "dw", "db"), refuses, call_backward),
        Signature(
            convolution_double_backward, ("ddy", "dx", "dw"), refuses_double, call_double_backward
        ),
        Signature(conv1d_input, ("dx",), refuses_other_than(1), call_input),
        Signature(conv1d_weight, ("dw",), refuses_other_than(1), call_weight),
        Signature(conv2d_input, ("dx",), refuses_other_than(2), call_input),
        Signature(conv2d_weight, ("dw",), refuses_other_than(2), call_weight),
        Signature(conv3d_input, ("dx",), refuses_other_than(3), call_input),
        Signature(conv3d_weight, ("dw",), refuses_other_than(3), call_weight),
    ),
)  # fmt: skip
