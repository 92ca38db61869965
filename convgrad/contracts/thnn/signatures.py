"""The layer's three functions as Signatures: how any function of the convention is called.

The original's functions return nothing, so the results are read from the buffers, which hold NaN
before (the accumulators 0); columns are one sample's, and ones holds ones.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from convgrad.contracts.blas import DTYPES
from convgrad.contracts.signature import Case, Results, Signature
from convgrad.contracts.thnn.functions import (
    acc_grad_parameters,
    update_grad_input,
    update_output,
)

Window = tuple[int, int, int, int, int, int]


def _refuses(case: Case) -> str | None:
    obstacles = {
        "there is no function for transposed convolution": case.transposed,
        f"images have two spatial axes, not {case.rank}": case.rank != 2,
        f"the numbers are {', '.join(DTYPES)}": case.x.dtype.name not in DTYPES,
        "there is no argument for dilation": max(case.dilation) > 1,
        "there is no argument for groups": case.groups > 1,
        "padding is the same on both sides of an axis": case.padding is None,
        "padding is not negative": min(lo for lo, _ in case.pads) < 0,
        "input is not empty": case.x.size == 0,
    }
    return next((sentence for sentence, stands in obstacles.items() if stands), None)


def _window(case: Case) -> Window:
    """kW, kH, dW, dH, padW, padH."""
    (kH, kW), (dH, dW), ((padH, _), (padW, _)) = case.kernel, case.stride, case.pads
    return kW, kH, dW, dH, padW, padH


def _columns(case: Case) -> np.ndarray:
    """A buffer for one sample's columns."""
    rows, pixels = np.prod(case.w.shape[1:]), np.prod(case.dy.shape[2:])
    return np.full((rows, pixels), np.nan, case.x.dtype)


def _ones(case: Case) -> np.ndarray:
    return np.ones(case.dy.shape[2:], case.x.dtype)


def _call_update_output(function: Callable[..., Any], case: Case) -> Results:
    output = np.full(case.dy.shape, np.nan, case.x.dtype)
    function(case.x, output, case.w, case.b, _columns(case), _ones(case), *_window(case))
    return {"y": output}


def _call_update_grad_input(function: Callable[..., Any], case: Case) -> Results:
    grad_input = np.full(case.x.shape, np.nan, case.x.dtype)
    function(case.x, case.dy, grad_input, case.w, _columns(case), _ones(case), *_window(case))
    return {"dx": grad_input}


def _call_acc_grad_parameters(function: Callable[..., Any], case: Case) -> Results:
    dw, db = np.zeros(case.w.shape, case.x.dtype), np.zeros(case.b.shape, case.x.dtype)
    function(case.x, case.dy, dw, db, _columns(case), _ones(case), *_window(case), 1.0)
    return {"dw": dw, "db": db}


SIGNATURES = (
    Signature(update_output, ("y",), _refuses, _call_update_output),
    Signature(update_grad_input, ("dx",), _refuses, _call_update_grad_input),
    Signature(acc_grad_parameters, ("dw", "db"), _refuses, _call_acc_grad_parameters),
)
