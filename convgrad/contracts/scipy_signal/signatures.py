"""SciPy's calling convention as data: how a Case is said in it, and what it cannot say.

SciPy has no samples, channels, groups or bias: its caller loops over images and kernels, sums the
channels and adds the bias. So does `call`, and the function it is given need not know `axes`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convgrad.contracts.scipy_signal import functions
from convgrad.contracts.signature import Case, Contract, Results, Signature


@dataclass(frozen=True)
class Sense:
    """Convolution or correlation, of any number of axes or of two."""

    correlates: bool
    planar: bool

    def refuses(self, case: Case) -> str | None:
        if case.transposed:
            return "SciPy has no transposed convolution"
        if any(s != 1 for s in case.stride) or any(d != 1 for d in case.dilation):
            return "SciPy has no stride and no dilation"
        if self.planar and case.rank != 2:
            return f"a function for two axes cannot take {case.rank}"
        if self.mode(case) is None:
            return f"the padding {case.pads} is that of no mode: valid, same or full"
        return None

    def mode(self, case: Case) -> str | None:
        """The mode whose padding the case has; correlate2d's "same" lies the other way round."""
        late = self.correlates and self.planar
        pads = {
            "valid": ((0, 0),) * case.rank,
            "full": tuple((k - 1, k - 1) for k in case.kernel),
            "same": tuple((k // 2, (k - 1) // 2)[:: -1 if late else 1] for k in case.kernel),
        }
        return next((mode for mode, need in pads.items() if case.pads == need), None)

    def settings(self, case: Case) -> dict[str, Any]:
        """Keywords: plain sums, which convolve2d and correlate2d always take."""
        plain = {} if self.planar else {"method": "direct"}
        return {"mode": self.mode(case), **plain}

    def turned(self, w: np.ndarray) -> np.ndarray:
        """w as in2, and back: a convolution turns it by 180°, a correlation conjugates it."""
        return w.conj() if self.correlates else np.flip(w, tuple(range(2, w.ndim)))

    def value(self, function: Callable[..., Any], case: Case) -> Results:
        in2 = self.turned(case.w)
        y = np.zeros(case.dy.shape, case.x.dtype) + case.b.reshape(-1, *(1,) * case.rank)
        for image, kernel, result in _pairs(case):
            y[result] += function(case.x[image], in2[kernel], **self.settings(case))
        return {"y": y}

    def backward(self, function: Callable[..., Any], case: Case) -> Results:
        in2 = self.turned(case.w)
        dx, din2 = np.zeros_like(case.x), np.zeros_like(in2)
        for image, kernel, result in _pairs(case):
            grads = function(case.dy[result], case.x[image], in2[kernel], **self.settings(case))
            dx[image] += grads[0]
            din2[kernel] += grads[1]
        return {"dx": dx, "dw": self.turned(din2)}


def _pairs(case: Case) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Indices (n, c) of an image, (o, c in its group) of a kernel and (n, o) of their result."""
    per_out, per_in = case.w.shape[0] // case.groups, case.w.shape[1]
    for n, o, c in np.ndindex(case.x.shape[0], case.w.shape[0], per_in):
        yield (n, o // per_out * per_in + c), (o, c), (n, o)


CONVOLVE, CORRELATE = Sense(False, False), Sense(True, False)
CONVOLVE2D, CORRELATE2D = Sense(False, True), Sense(True, True)

CONTRACT = Contract(
    name="scipy_signal",
    summary="scipy.signal's convolutions and correlations, with batch axes and gradients",
    source="scipy.signal, version 1.17",
    signatures=(
        Signature(functions.convolve, ("y",), CONVOLVE.refuses, CONVOLVE.value),
        Signature(functions.convolve_backward, ("dx", "dw"), CONVOLVE.refuses, CONVOLVE.backward),
        Signature(functions.correlate, ("y",), CORRELATE.refuses, CORRELATE.value),
        Signature(
            functions.correlate_backward, ("dx", "dw"), CORRELATE.refuses, CORRELATE.backward
        ),
        Signature(functions.convolve2d, ("y",), CONVOLVE2D.refuses, CONVOLVE2D.value),
        Signature(
            functions.convolve2d_backward, ("dx", "dw"), CONVOLVE2D.refuses, CONVOLVE2D.backward
        ),
        Signature(functions.correlate2d, ("y",), CORRELATE2D.refuses, CORRELATE2D.value),
        Signature(
            functions.correlate2d_backward, ("dx", "dw"), CORRELATE2D.refuses, CORRELATE2D.backward
        ),
    ),
)
