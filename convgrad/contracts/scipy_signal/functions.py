"""The public functions of `convgrad.contracts.scipy_signal`, each forward beside its gradients."""

import warnings
from collections.abc import Iterable
from typing import Any, SupportsIndex

from convgrad.contracts.scipy_signal.maps import NAMES, Gradients, gradients, value
from convgrad.contracts.scipy_signal.request import Request, ready

Axes = SupportsIndex | Iterable[SupportsIndex] | None


def convolve(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", *, axes: Axes = None
) -> Any:
    """y[q] = Σ_i in1[i]·in2[q−i], on every axis, or on `axes` with the others as batch axes.

    in1 and in2 have the same number of axes. mode: "full", n1 + n2 − 1 numbers on an axis; "same",
    the n1 in its middle; "valid", those of |n1 − n2| + 1 whole overlaps. Batch axes broadcast.
    method: "direct", plain sums; "fft", products of spectra; "auto", convgrad's choice, where FFT
    must be three times as fast. Same results as scipy.signal.convolve, integers to the last bit.
    Raises ShapeError, SettingError, DTypeError, ArrayError; all are ValueError. Warns as SciPy does
    where FFT has spread a NaN.
    Source: scipy.signal, version 1.17.
    """
    return _value(Request("convolve", mode, method, axes), in1, in2)


def correlate(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", *, axes: Axes = None
) -> Any:
    """y[q] = Σ_i in1[i]·conj(in2[i − q + n2 − 1]); otherwise as `convolve`.

    It is convolve(in1, in2 turned by 180° and conjugated).
    Source: scipy.signal, version 1.17.
    """
    return _value(Request("correlate", mode, method, axes, correlates=True), in1, in2)


def convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    method: str = "direct",
    axes: Axes = None,
) -> Any:
    """y[q] = Σ_j in1~[q−j]·in2[j] on two axes, where in1~ is in1 with what surrounds it.

    boundary: "fill" (or "pad") with fillvalue; "wrap" (or "circular"); "symm" (or "symmetric"),
    for kernels of any size. "valid" never looks beyond in1. axes: the two axes of an image, where
    in1 and in2 have batch axes beside them. method: as for `convolve`.
    Source: scipy.signal, version 1.17; `method` and `axes` are added.
    """
    return _value(_planar("convolve2d", False, mode, method, axes, boundary, fillvalue), in1, in2)


def correlate2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    method: str = "direct",
    axes: Axes = None,
) -> Any:
    """y[q] = Σ_j in1~[q+j]·conj(in2[j]) on two axes; otherwise as `convolve2d`.

    As in SciPy, "same" of an even in2 lies one cell off that of `correlate`, and where "valid" has
    an in2 that is larger than in1, the result is the conjugate of `correlate`'s.
    Source: scipy.signal, version 1.17; `method` and `axes` are added.
    """
    return _value(_planar("correlate2d", True, mode, method, axes, boundary, fillvalue), in1, in2)


def convolve_backward(
    dy: Any,
    in1: Any,
    in2: Any,
    mode: str = "full",
    method: str = "auto",
    *,
    axes: Axes = None,
    needs: Iterable[str] = NAMES,
) -> Gradients:
    """din1[i] = Σ_j conj(in2[j])·dy[i+j], din2[j] = Σ_i conj(in1[i])·dy[i+j].

    dy: the gradient of a real loss with respect to convolve(in1, in2, mode), of its shape
    → (din1, din2), shaped as in1 and in2; sums over the axes that were broadcast. What `needs`
    leaves out is None. Complex gradients are ∂/∂Re + i·∂/∂Im, as PyTorch's: −din1 points downhill.
    A gradient has its operand's dtype; integers count as float64, or as the floats beside them.
    """
    return gradients(ready(Request("convolve_backward", mode, method, axes), in1, in2), dy, needs)


def correlate_backward(
    dy: Any,
    in1: Any,
    in2: Any,
    mode: str = "full",
    method: str = "auto",
    *,
    axes: Axes = None,
    needs: Iterable[str] = NAMES,
) -> Gradients:
    """din1[i] = Σ_q in2[i − q + n2 − 1]·dy[q], din2[j] = Σ_q in1[q + j − n2 + 1]·conj(dy[q]).

    The gradients of `correlate`; otherwise as `convolve_backward`.
    """
    request = Request("correlate_backward", mode, method, axes, correlates=True)
    return gradients(ready(request, in1, in2), dy, needs)


def convolve2d_backward(
    dy: Any,
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    method: str = "direct",
    axes: Axes = None,
    needs: Iterable[str] = NAMES,
) -> Gradients:
    """The gradients of `convolve2d`; otherwise as `convolve_backward`.

    What reaches a cell beyond in1 goes to the cell it repeats, or nowhere where it is fillvalue;
    din2 has the products with fillvalue in it.
    """
    request = _planar("convolve2d_backward", False, mode, method, axes, boundary, fillvalue)
    return gradients(ready(request, in1, in2), dy, needs)


def correlate2d_backward(
    dy: Any,
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    method: str = "direct",
    axes: Axes = None,
    needs: Iterable[str] = NAMES,
) -> Gradients:
    """The gradients of `correlate2d`; otherwise as `convolve2d_backward`."""
    request = _planar("correlate2d_backward", True, mode, method, axes, boundary, fillvalue)
    return gradients(ready(request, in1, in2), dy, needs)


def _planar(
    call: str,
    correlates: bool,
    mode: str,
    method: str,
    axes: Axes,
    boundary: str,
    fillvalue: complex,
) -> Request:
    return Request(call, mode, method, axes, correlates, True, boundary, fillvalue)


def _value(request: Request, in1: Any, in2: Any) -> Any:
    one = ready(request, in1, in2)
    y, by_fft = value(one)
    if by_fft and not abs(y.flat[0]) < float("inf"):
        warnings.warn(
            f"{request.call}: FFT spreads a NaN or an infinity over the whole result; "
            'method="direct" keeps it where it belongs',
            RuntimeWarning,
            stacklevel=3,
        )
    return y[0] if one.scalar else y
