"""CONTRACT: how convn is called for the three maps of a convolution."""

import numpy as np

from convgrad.contracts.deeplearntoolbox.arrays import convn
from convgrad.contracts.signature import Case, Contract, Results, Signature


def _refuses(case: Case) -> str | None:
    if case.transposed:
        return "convn has no transposed convolution of its own; take shape 'full'"
    if any(s > 1 for s in case.stride) or any(d > 1 for d in case.dilation):
        return "convn has no stride and no dilation"
    if any(lo or hi for lo, hi in case.pads):
        return "the toolbox convolves without padding, shape 'valid'"
    if case.groups > 1:
        return "the toolbox sums over all input maps: it has no groups"
    if not case.x.size:
        return "convn needs arrays with at least one cell, so no empty batch"
    return None


def _call(function, case: Case) -> Results:
    """As cnnff and cnnbp use convn: maps (*in, N), kernels (*K, 1) and deltas (*out, N).

    convgrad correlates, so the toolbox's kernel is rot180 of w: convn turns it back.
    """
    maps, deltas = np.moveaxis(case.x, 0, -1), np.moveaxis(case.dy, 0, -1)  # (C, *in, N)
    turned = case.w[..., None]  # (O, C, *K, 1), rot180 of the toolbox's kernels
    pairs = list(np.ndindex(case.w.shape[:2]))
    y = np.zeros(deltas.shape, deltas.dtype) + case.b.reshape(-1, *(1,) * (case.rank + 1))
    dx, dw = np.zeros_like(maps), np.zeros_like(case.w)
    for o, c in pairs:
        y[o] += function(maps[c], np.flip(turned[o, c]), "valid")
        dx[c] += function(deltas[o], turned[o, c].conj(), "full")
        dk = function(np.flip(maps[c]).conj(), deltas[o], "valid")  # (*K, 1)
        dw[o, c] = np.flip(dk[..., 0])
    return {"y": np.moveaxis(y, -1, 0), "dx": np.moveaxis(dx, -1, 0), "dw": dw}


CONTRACT = Contract(
    name="deeplearntoolbox",
    summary="the MATLAB CNN: true convolution of (H, W, N) maps, sigmoid, mean pooling",
    source="R. B. Palm, DeepLearnToolbox (MATLAB), its folders CNN and util",
    signatures=(Signature(convn, ("y", "dx", "dw"), _refuses, _call),),
)
