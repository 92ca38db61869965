"""A call of SciPy's family, checked and laid out: Request, what came; Ready, what the maps take.

A correlation is the convolution with in2 turned by 180° and conjugated; from here on everything is
a convolution, of which one operand may stand conjugated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convgrad.contracts.scipy_signal.layout import MODES, Layout, convolved_axes, layout_of
from convgrad.contracts.scipy_signal.values import fill_of, operand, promoted
from convgrad.errors import SettingError, ShapeError
from convgrad.settings import one_of

METHODS: dict[str, dict[str, str]] = {
    "auto": {},
    "direct": {"precision": "strict"},
    "fft": {"algorithm": "fft"},
}
BOUNDARIES = {
    "fill": "constant", "pad": "constant",
    "wrap": "circular", "circular": "circular",
    "symm": "symmetric", "symmetric": "symmetric",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A function's name and settings, as its caller gave them."""

    call: str
    mode: Any
    method: Any
    axes: Any
    correlates: bool = False
    planar: bool = False  # convolve2d and correlate2d
    boundary: Any = "fill"
    fillvalue: Any = 0


@dataclass(frozen=True)
class Ready:
    """A request with its operands: in2 turned for a correlation, the conjugated one conjugated.

    scalar: the operands had no axes, and have got one of size 1.
    padding_mode and fill: what surrounds in1, in convgrad's words; "zeros" where nothing does.
    """

    request: Request
    in1: np.ndarray
    in2: np.ndarray
    scalar: bool
    layout: Layout
    dtype: np.dtype[Any]  # of the result
    padding_mode: str
    fill: Any
    conjugated: int | None  # 0: in1, 1: in2

    @property
    def empty(self) -> bool:
        return 0 in self.in1.shape + self.in2.shape

    def x_and_w(self, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
        """x (N, G, *n) and w (G·O, 1, *k) in one dtype."""
        in1, in2 = (a.astype(dtype, copy=False) for a in (self.in1, self.in2))
        x, w = (in2, in1) if self.layout.swapped else (in1, in2)
        return self.layout.x(x), self.layout.w(w)

    def settings(self, sliding: np.ndarray) -> dict[str, Any]:
        """What the maps are told beside the operands; `sliding` is the one that moves over x.

        Where it holds an infinity, padding zeros that are multiplied with it would become NaN, so
        that of the plain sums only `direct` will do, which leaves padding out.
        """
        method = METHODS[self.request.method]
        if self.request.method == "direct" and not np.isfinite(sliding).all():
            method = {"algorithm": "direct"}
        return {
            "padding": self.layout.pads,
            "padding_mode": self.padding_mode,
            "groups": self.layout.channels,
            "flip": True,
            **method,
        }


def ready(request: Request, in1: Any, in2: Any) -> Ready:
    """The request with everything checked but dy; raises a ConvError in SciPy's words."""
    call = request.call
    one_of(call, "mode", request.mode, MODES)
    one_of(call, "method", request.method, METHODS)
    one_of(call, "boundary", request.boundary, BOUNDARIES)
    a, b = operand(call, "in1", in1), operand(call, "in2", in2)
    _check_ranks(request, a, b)
    axes = _axes(request, a.ndim)
    dtype = promoted(call, in1=a.dtype, in2=b.dtype)
    padding_mode, fill = _surroundings(request, dtype)
    scalar = a.ndim == 0
    if scalar:
        a, b, axes = a[None], b[None], (0,)
    late = request.planar and request.correlates
    shapes = (a.shape, b.shape)
    layout = layout_of(call, shapes, request.mode, axes, padding_mode != "zeros", late)
    conjugated = _conjugated(request, layout)
    if request.correlates:
        b = np.flip(b, axes)
    a, b = (
        np.conj(v) if i == conjugated and v.dtype.kind == "c" else v for i, v in enumerate((a, b))
    )
    return Ready(request, a, b, scalar, layout, dtype, padding_mode, fill, conjugated)


def _check_ranks(request: Request, a: np.ndarray, b: np.ndarray) -> None:
    call = request.call
    if a.ndim != b.ndim:
        raise ShapeError(
            f"{call}: in1 is {a.shape} and in2 {b.shape}; they need the same number of axes: "
            "give the one that has fewer leading axes of size 1, as in2[None]"
        )
    if request.planar and request.axes is None and a.ndim != 2:
        raise ShapeError(
            f"{call}: in1 is {a.shape} and in2 {b.shape}, but both need 2 axes; "
            "axes=(-2, -1) takes images stacked along other axes"
        )


def _axes(request: Request, rank: int) -> tuple[int, ...]:
    axes = convolved_axes(request.call, request.axes, rank)
    if request.planar and len(axes) != 2:
        raise SettingError(
            f"{request.call}: axes={request.axes!r} must name the two axes of an image"
        )
    return axes


def _surroundings(request: Request, dtype: np.dtype[Any]) -> tuple[str, Any]:
    """convgrad's padding_mode and padding_value; "valid" never looks beyond in1."""
    mode = BOUNDARIES[request.boundary] if request.planar else "zeros"
    fill = fill_of(request.call, request.fillvalue, dtype) if mode == "constant" else 0
    if request.mode == "valid" or (mode == "constant" and fill == 0):
        return "zeros", 0
    return mode, fill


def _conjugated(request: Request, layout: Layout) -> int | None:
    """Which operand a correlation conjugates: in2.

    SciPy's correlate2d, where "valid" makes it exchange the two, conjugates in1 instead.
    """
    if not request.correlates:
        return None
    exchanged = request.planar and request.mode == "valid" and layout.swapped
    return 0 if exchanged else 1
