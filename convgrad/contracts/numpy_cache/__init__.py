"""Convolutions as the NumPy courses write them: forward keeps a cache, backward reads it.

    DL-Demos          conv2d, conv2d_forward, conv2d_backward      (H, W, C) or (N, H, W, C)
    CS231n            conv_forward_naive, conv_backward_naive      (N, C, H, W)
    deeplearning.ai   conv_forward, conv_backward                  (m, n_H, n_W, n_C)

    z[p,o] = Σ_{k,c} a[s·p + d·k − pad, c] · w[o,k,c] + b[o]

and every product gives dw += a·dz, da += w·dz, every sum db += dz. The names, the orders and the
caches are the courses'; the sums are convgrad's maps (precision "strict", so that integers are
exact), not loops.

dtypes: the arrays of one call are promoted as NumPy promotes them, and integers and booleans count
as float64. float32 stays float32. Arrays of other libraries and nested lists are read; results are
NumPy's.
Raises ShapeError, DTypeError, ArrayError, SettingError, in the course's words.
"""

from convgrad.contracts.numpy_cache import cs231n, deeplearning_ai, dl_demos
from convgrad.contracts.numpy_cache.cs231n import conv_backward_naive, conv_forward_naive
from convgrad.contracts.numpy_cache.deeplearning_ai import conv_backward, conv_forward
from convgrad.contracts.numpy_cache.dl_demos import conv2d, conv2d_backward, conv2d_forward
from convgrad.contracts.signature import Contract

__all__ = [
    "CONTRACT",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "conv_backward",
    "conv_backward_naive",
    "conv_forward",
    "conv_forward_naive",
]

CONTRACT = Contract(
    name="numpy_cache",
    summary="NumPy courses: a forward that keeps a cache, a backward that reads it",
    source="DL-Demos (BasicCNN); CS231n (assignment 2); deeplearning.ai (course 4, week 1)",
    signatures=(*dl_demos.SIGNATURES, *cs231n.SIGNATURES, *deeplearning_ai.SIGNATURES),
)
