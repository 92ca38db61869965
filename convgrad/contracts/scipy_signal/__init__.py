"""scipy.signal's convolutions on convgrad's maps, with batch axes and gradients; no SciPy needed.

    y = convolve(in1, in2, mode, method)                  din1, din2 = convolve_backward(dy, …)
    y = correlate(in1, in2, mode, method)                 correlate_backward
    y = convolve2d(in1, in2, mode, boundary, fillvalue)   convolve2d_backward
    y = correlate2d(in1, in2, mode, boundary, fillvalue)  correlate2d_backward

Arguments, defaults, sizes, dtypes and results are SciPy's; `axes` names the axes that are
convolved, and the others are batch axes that broadcast. A backward takes dy before the arguments
of its forward. NumPy arrays, nested lists and numbers in, NumPy arrays out.
"""

from convgrad.contracts.scipy_signal.functions import (
    convolve,
    convolve2d,
    convolve2d_backward,
    convolve_backward,
    correlate,
    correlate2d,
    correlate2d_backward,
    correlate_backward,
)
from convgrad.contracts.scipy_signal.maps import Gradients
from convgrad.contracts.scipy_signal.signatures import CONTRACT

__all__ = [
    "CONTRACT",
    "Gradients",
    "convolve",
    "convolve2d",
    "convolve2d_backward",
    "convolve_backward",
    "correlate",
    "correlate2d",
    "correlate2d_backward",
    "correlate_backward",
]
