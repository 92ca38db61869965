"""A public call made canonical: its geometry, and its operands as the maps want them.

Settled here once, for every public function: settings, layout, unbatched input, flip, dtypes,
conjugation, `out`, and every message about operands that do not fit.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from convgrad import maps, memory
from convgrad.algorithm import Epilogue, wide_dtype
from convgrad.arrays import Array, Kind, check_out, common_dtype, common_kind, native, to_numpy
from convgrad.errors import ArrayError, ConvError, DTypeError, SettingError, ShapeError
from convgrad.geometry import (
    Geometry,
    Size,
    axis_text,
    conv_geometry,
    pads_text,
    times,
    transposed_geometry,
)
from convgrad.rules import CONV, CONV_TRANSPOSE, Rule, Term
from convgrad.settings import Settings, channels_last, integer, ints, padding_of, shape_of

OPTIONAL = ("b", "ddx", "ddw", "ddb", "tx", "tw", "tb")


@dataclass(frozen=True)
class Frame:
    """One call's geometry and settings, and the way between the caller's arrays and the maps'.

    Operands are known by the last letter of their name: x, dx, ddx, tx have the shape of x.
    """

    call: str
    geometry: Geometry
    settings: Settings
    batched: bool

    @property
    def rules(self) -> dict[str, dict[str, Rule]]:
        return CONV_TRANSPOSE if self.geometry.transposed else CONV

    def canonical_shape(self, name: str) -> Size:
        g = self.geometry
        role = name[-1]
        if role == "b":
            return (g.in_channels if g.transposed else g.out_channels,)
        if role == "w":
            return g.w_shape
        return g.x_shape if (role == "x") != g.transposed else g.y_shape

    def shape(self, name: str) -> Size:
        """The shape that the caller's array of this name has."""
        shape = self.canonical_shape(name)
        if name[-1] in "xy" and not self.batched:
            shape = shape[1:]
        if self.geometry.layout == "channels_last" and name[-1] != "b":
            channel = len(shape) - self.geometry.rank - 1
            shape = (*shape[:channel], *shape[channel + 1 :], shape[channel])
        return shape

    def view(self, name: str, array: np.ndarray) -> np.ndarray:
        """The caller's array as the maps see it: channels first, batched, unflipped; a view."""
        if self.geometry.layout == "channels_last" and name[-1] != "b":
            array = np.moveaxis(array, -1, array.ndim - 1 - self.geometry.rank)
        if name[-1] == "w" and self.settings.flip:
            array = np.flip(array, axis=tuple(range(-self.geometry.rank, 0)))
        return array if self.batched or name[-1] not in "xy" else array[None]

    def check(self, operands: dict[str, np.ndarray]) -> None:
        """Raise ShapeError unless every operand has the shape this geometry needs."""
        for name, array in operands.items():
            if array.shape != self.shape(name):
                raise ShapeError(f"{self.call}: {self._mismatch(name, array.shape)}")

    def _mismatch(self, name: str, shape: Size) -> str:
        need = self.shape(name)
        if name[-1] == "b":
            return f"{name} is {shape}, but needs one number for each output channel, {need}"
        if name[-1] in "xw":
            return f"{name} is {shape}, but {name[-1]} is {need}; they must agree"
        g = self.geometry
        return (
            f"{name} is {shape}, but x {self.shape('x')} with a {times(g.kernel)} kernel, "
            f"stride {axis_text(g.stride)}, padding {pads_text(g.pads)} and dilation "
            f"{axis_text(g.dilation)} has output {need}; {self._remedy(shape)}"
        )

    def _remedy(self, shape: Size) -> str:
        """What the caller may have meant: another padding or stride that gives this dy."""
        g = self.geometry
        lead = len(shape) - g.rank - (self.geometry.layout == "channels_last")
        size = shape[lead : lead + g.rank]
        if not g.transposed and len(shape) == len(self.shape("y")):
            for padding in range(min(max(g.extent), 64)):
                if size == _out_size(g, g.stride, padding):
                    return f"pass padding={padding}, or the dy of this forward"
            for stride in range(1, 5):
                if size == _out_size(g, (stride,) * g.rank, None):
                    return f"pass stride={stride}, or the dy of this forward"
        return "pass the dy of this forward"

    def evaluate(
        self,
        group: str,
        result: str,
        operands: dict[str, np.ndarray],
        bias: np.ndarray | None = None,
        out: np.ndarray | None = None,
        scale: float = 1.0,
        accumulate: bool = False,
        per_sample: bool = False,
    ) -> np.ndarray:
        """Sum the terms of a rule whose operands are there, into `out` or a new array."""
        swapped = sum(a.nbytes for a in operands.values() if not a.dtype.isnative)
        operands = {name: native(a) for name, a in operands.items()}
        dtype = next(iter(operands.values())).dtype
        wide = wide_dtype(dtype)
        terms = [
            t
            for t in self.rules[group][result]
            if t.first.rstrip("*") in operands and t.second.rstrip("*") in operands
        ]
        summed_apart = len(terms) > 1 and wide != dtype
        copies = swapped + (prod(self.shape(result)) * wide.itemsize if summed_apart else 0)
        steps = [
            self.prepare(t.map, dtype, per_sample, copies + self.conjugate_bytes(t, dtype))
            for t in terms
        ]
        fill = self._fill(dtype)
        if out is None:
            lead = (self.geometry.batch,) if per_sample else ()
            out = memory.empty(lead + self.shape(result), dtype)
        view = self._result_view(result, out, per_sample)
        if not terms:
            Epilogue(scale, accumulate, bias).store(view, np.zeros(view.shape, wide), bias_axis=1)
            return out
        total = np.empty(view.shape, wide) if summed_apart else view
        for i, (term, step) in enumerate(zip(terms, steps, strict=True)):
            epilogue = Epilogue(scale, accumulate or i > 0, None if i else bias)
            first, second = (self._operand(n, operands) for n in (term.first, term.second))
            value = fill if term.first.rstrip("*") == "x" else 0
            value = np.conj(value) if term.first.endswith("*") else value
            maps.run(step, first, second, total, epilogue, value)
        if total is not view:
            with np.errstate(all="ignore"):
                view[...] = total
        return out

    def _result_view(self, result: str, out: np.ndarray, per_sample: bool) -> np.ndarray:
        """`out` as the maps see it; with per_sample its leading axis counts the samples."""
        if not per_sample:
            return self.view(result, out)
        view = out
        if self.geometry.layout == "channels_last":
            view = np.moveaxis(view, -1, 2)
        return np.flip(view, axis=tuple(range(3, view.ndim))) if self.settings.flip else view

    def prepare(
        self, direction: str, dtype: np.dtype[Any], per_sample: bool = False, copies: int = 0
    ) -> maps.Map:
        """The map of this frame in one direction, its algorithm chosen."""
        s = self.settings
        try:
            return maps.prepare(
                direction, self.geometry, dtype, s.padding_mode, per_sample,
                s.algorithm, s.precision, s.max_scratch, copies,
            )  # fmt: skip
        except ConvError as error:
            raise type(error)(f"{self.call}: {error}") from None

    def conjugate_bytes(self, term: Term, dtype: np.dtype[Any]) -> int:
        """Bytes of the operands that the term conjugates."""
        if dtype.kind != "c":
            return 0
        marked = [name[:-1] for name in (term.first, term.second) if name.endswith("*")]
        return sum(prod(self.shape(name)) for name in marked) * dtype.itemsize

    def _fill(self, dtype: np.dtype[Any]) -> complex:
        """The padding's value in the operands' own field."""
        value = self.settings.padding_value
        if dtype.kind == "c":
            return value
        if value.imag:
            raise SettingError(
                f"{self.call}: padding_value={value} is complex, but the operands are {dtype}"
            )
        return value.real

    def _operand(self, name: str, operands: dict[str, np.ndarray]) -> np.ndarray:
        plain = name.rstrip("*")
        view = self.view(plain, operands[plain])
        return np.conj(view) if name.endswith("*") and view.dtype.kind == "c" else view


def _out_size(g: Geometry, stride: Size, padding: int | None) -> Size:
    totals = [lo + hi if padding is None else 2 * padding for lo, hi in g.pads]
    return tuple(
        (n + total - e) // s + 1
        for n, total, e, s in zip(g.in_size, totals, g.extent, stride, strict=True)
    )


def gather(call: str, **arrays: Array | None) -> tuple[dict[str, np.ndarray], Kind]:
    """The operands that were given, as NumPy arrays of one dtype, and their kind.

    Only a bias, and the factors of a sum of terms, may be missing.
    """
    for name, array in arrays.items():
        if array is None and name not in OPTIONAL:
            raise ArrayError(f"{call}: {name} is None; an array is needed")
    given = {name: to_numpy(call, name, a) for name, a in arrays.items() if a is not None}
    operands = {name: array for name, (array, _) in given.items()}
    kind = common_kind(call, {name: kind for name, (_, kind) in given.items()})
    common_dtype(call, operands, kind)
    return operands, kind


def target(
    call: str, out: Array | None, shape: Size, operands: dict[str, np.ndarray]
) -> np.ndarray | None:
    """The caller's `out` as a NumPy array that can be written, checked before anything runs."""
    if out is None:
        return None
    array, _ = to_numpy(call, "out", out)
    dtype = next(iter(operands.values())).dtype.newbyteorder("=")
    if array.dtype.newbyteorder("=") != dtype:
        raise DTypeError(f"{call}: out is {array.dtype}, but the operands are {dtype}")
    if array.shape != shape:
        raise ShapeError(f"{call}: out is {array.shape}, but the result is {shape}")
    check_out(call, array, {**operands})
    return array


def conv_frame(
    call: str,
    x_shape: object,
    w_shape: object,
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
    settings: Settings,
) -> Frame:
    """The frame of a convolution of x with w, both as the caller has them."""
    return _conv_frame(
        call,
        shape_of(call, "x_shape", x_shape),
        shape_of(call, "w_shape", w_shape),
        ints(call, "stride", stride),
        padding_of(call, padding),
        ints(call, "dilation", dilation),
        integer(call, "groups", groups),
        settings.checked(call),
    )


def transposed_frame(
    call: str,
    x_shape: object,
    w_shape: object,
    stride: object,
    padding: object,
    output_padding: object,
    groups: object,
    dilation: object,
    settings: Settings,
) -> Frame:
    """The frame of a transposed convolution of x with w, both as the caller has them."""
    return _transposed_frame(
        call,
        shape_of(call, "x_shape", x_shape),
        shape_of(call, "w_shape", w_shape),
        ints(call, "stride", stride),
        padding_of(call, padding),
        ints(call, "output_padding", output_padding),
        integer(call, "groups", groups),
        ints(call, "dilation", dilation),
        settings.checked(call),
    )


@lru_cache(maxsize=4096)
def _conv_frame(
    call: str, x_shape: Size, w_shape: Size, stride: Any, padding: Any, dilation: Any,
    groups: int, settings: Settings,
) -> Frame:  # fmt: skip
    x_shape, w_shape, batched, last = _canonical(call, x_shape, w_shape, settings.layout)
    layout = "channels_last" if last else "channels_first"
    geometry = conv_geometry(call, x_shape, w_shape, stride, padding, dilation, groups, layout)
    return Frame(call, geometry, settings, batched)


@lru_cache(maxsize=4096)
def _transposed_frame(
    call: str, x_shape: Size, w_shape: Size, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any, settings: Settings,
) -> Frame:  # fmt: skip
    x_shape, w_shape, batched, last = _canonical(call, x_shape, w_shape, settings.layout)
    layout = "channels_last" if last else "channels_first"
    geometry = transposed_geometry(
        call, x_shape, w_shape, stride, padding, output_padding, dilation, groups, layout
    )
    return Frame(call, geometry, settings, batched)


def _canonical(
    call: str, x_shape: Size, w_shape: Size, layout: str
) -> tuple[Size, Size, bool, bool]:
    """Channels-first, batched shapes; whether x had a batch axis and channels came last."""
    rank = len(w_shape) - 2
    if rank < 1:
        raise ShapeError(
            f"{call}: w is {w_shape}, with {len(w_shape)} axes; at least 3 are needed: "
            "(output channels, input channels / groups, *kernel)"
        )
    last = channels_last(call, layout, rank)
    if len(x_shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{call}: x is {x_shape} and w {w_shape}; a {rank}-D convolution needs x with "
            f"{rank + 2} axes (batch, channels, {rank} spatial), or {rank + 1} without the batch"
        )
    batched = len(x_shape) == rank + 2
    x_shape = x_shape if batched else (1, *x_shape)
    if last:
        x_shape = (x_shape[0], x_shape[-1], *x_shape[1:-1])
        w_shape = (w_shape[0], w_shape[-1], *w_shape[1:-1])
    return x_shape, w_shape, batched, last
