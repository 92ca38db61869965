"""What the public functions do with their arguments, once for all of them.

A call like one before is recognised and run (`ready`). Any other is checked, made canonical
(`calls`), computed, and remembered. Operands come in the order of the map that computes the result;
`settings` are all others that decide how it is computed, in the order of the Frame's maker.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convgrad import maps
from convgrad.algorithm import Epilogue
from convgrad.arrays import Array, apart, check_out, native
from convgrad.calls import Frame, conv_frame, gather, target, transposed_frame
from convgrad.errors import SettingError, ShapeError
from convgrad.ready import Ready, call_key, calls, laid_out, make_ready
from convgrad.settings import Settings, channels_last, flag, needed, real_scale

ORDER = ("x", "w", "dy")
Results = tuple[Array | None, ...]


def of_conv(
    call: str, x_shape: object, w_shape: object, stride: object, padding: object, dilation: object,
    groups: object, *settings: Any,
) -> Frame:  # fmt: skip
    """The frame of a convolution; `settings` in the order of Settings."""
    return conv_frame(
        call, x_shape, w_shape, stride, padding, dilation, groups, Settings(*settings)
    )


def of_transposed(
    call: str, x_shape: object, w_shape: object, stride: object, padding: object,
    output_padding: object, groups: object, dilation: object, *settings: Any,
) -> Frame:  # fmt: skip
    """The frame of a transposed convolution; `settings` from the layout on."""
    return transposed_frame(
        call, x_shape, w_shape, stride, padding, output_padding, groups, dilation,
        Settings("zeros", 0, *settings),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OneMap:
    """A public function whose result is one map of two operands, called `names`.

    group, result: where `rules` has it. given: whose shape is passed, if x's or w's is.
    """

    call: str
    group: str
    result: str
    names: tuple[str, str]
    frame: Callable[..., Frame]

    def __call__(
        self, first: Array, second: Array, settings: tuple[Any, ...], given: Any = None,
        *, b: Array | None = None, out: Array | None = None, scale: Any = 1.0,
        accumulate: bool = False, per_sample: bool = False,
    ) -> Array:  # fmt: skip
        key = None
        if per_sample is False:
            key = call_key(self.call, laid_out(first, second, b, out), settings, given)
            ready = calls.find(key)
            if ready is not None:
                if accumulate is not False:
                    accumulate = checked_accumulate(self.call, out, accumulate)
                if out is not None and not apart(out, first, second, b):
                    one, two = self.names
                    check_out(self.call, out, {one: first, two: second, "b": b})
                if type(scale) is not float:
                    scale = real_scale(self.call, scale)
                return ready.run(first, second, b, out, scale, accumulate)
        return self._anew(
            key, (first, second), settings, given, b, out, scale, accumulate, per_sample
        )

    def _anew(
        self, key: Any, pair: tuple[Array, Array], settings: tuple[Any, ...], given: Any,
        b: Array | None, out: Array | None, scale: Any, accumulate: bool, per_sample: bool,
    ) -> Array:  # fmt: skip
        call, result = self.call, self.result
        operands, kind = gather(call, **_in_order(dict(zip(self.names, pair, strict=True))), b=b)
        shapes = (operands[n].shape if n in operands else given for n in ("x", "w"))
        frame = self.frame(call, *shapes, *settings)
        frame.check(operands)
        if flag(call, "per_sample", per_sample) and not frame.batched:
            raise SettingError(f"{call}: per_sample=True needs x with a batch axis")
        accumulate = checked_accumulate(call, out, accumulate)
        lead = (frame.geometry.batch,) if per_sample else ()
        array = target(call, out, lead + frame.shape(result), operands)
        bias = operands.pop("b", None)
        value = frame.evaluate(
            self.group, result, operands, bias, array, real_scale(call, scale), accumulate,
            per_sample,
        )  # fmt: skip
        if key is not None:
            calls.keep(key, make_ready(frame, self.group, result, operands, bias, array))
        return kind.restore(value) if out is None else out


@dataclass(frozen=True, slots=True)
class ReadyGradients:
    """A backward that was made before: for dx and dw the map and which two of x, w, dy it takes.

    axes: over which dy is summed; None where db is not needed.
    """

    for_x: tuple[Ready, int, int] | None
    for_w: tuple[Ready, int, int] | None
    axes: tuple[int, ...] | None

    def run(self, *operands: np.ndarray) -> Results:
        dx = dw = db = None
        if self.for_x is not None:
            ready, i, j = self.for_x
            dx = ready.run(operands[i], operands[j])
        if self.for_w is not None:
            ready, i, j = self.for_w
            dw = ready.run(operands[i], operands[j])
        if self.axes is not None:
            db = maps.sum_over(operands[2], self.axes)
        return dx, dw, db


@dataclass(frozen=True, slots=True)
class Backward:
    """A public function that gives dx, dw and db, those that are needed."""

    call: str
    frame: Callable[..., Frame]

    def __call__(
        self, x: Array, w: Array, dy: Array, settings: tuple[Any, ...], needs: Iterable[str]
    ) -> Results:
        key = call_key(self.call, laid_out(x, w, dy), settings, needs)
        ready = calls.find(key)
        return self._anew(key, x, w, dy, settings, needs) if ready is None else ready.run(x, w, dy)

    def _anew(
        self, key: Any, x: Array, w: Array, dy: Array, settings: tuple[Any, ...],
        needs: Iterable[str],
    ) -> Results:  # fmt: skip
        operands, kind = gather(self.call, x=x, w=w, dy=dy)
        frame = self.frame(self.call, operands["x"].shape, operands["w"].shape, *settings)
        wanted = needed(self.call, needs, ("x", "w", "b"))
        frame.check(operands)
        dx, dw = (
            frame.evaluate("backward", "d" + name, operands) if name in wanted else None
            for name in ("x", "w")
        )
        axes = _all_but_channels(frame) if "b" in wanted else None
        db = None if axes is None else maps.sum_over(native(operands["dy"]), axes)
        if key is not None and all(a.dtype.isnative for a in operands.values()):
            for_x, for_w = (
                _ready(frame, name, operands) if name in wanted else None for name in ("x", "w")
            )
            calls.keep(key, ReadyGradients(for_x, for_w, axes))
        return tuple(None if d is None else kind.restore(d) for d in (dx, dw, db))


def _ready(frame: Frame, name: str, operands: dict[str, np.ndarray]) -> tuple[Ready, int, int]:
    ready = make_ready(frame, "backward", "d" + name, operands)
    first, second = ready.names
    return ready, ORDER.index(first), ORDER.index(second)


def _all_but_channels(frame: Frame) -> tuple[int, ...]:
    """The axes of the caller's dy that a bias gradient sums over."""
    rank, batched = frame.geometry.rank, frame.batched
    channels = rank + batched if frame.geometry.layout == "channels_last" else int(batched)
    return tuple(axis for axis in range(rank + 1 + batched) if axis != channels)


def double_backward(
    call: str, frame_of: Callable[..., Frame], settings: tuple[Any, ...], needs: Iterable[str],
    **arrays: Array | None,
) -> Results:  # fmt: skip
    """ddy, dx and dw, those that are needed, of x, w, dy, ddx, ddw and ddb."""
    operands, kind = gather(call, **arrays)
    frame = frame_of(call, operands["x"].shape, operands["w"].shape, *settings)
    wanted = needed(call, needs, ("dy", "x", "w"))
    frame.check(operands)
    bias = operands.pop("ddb", None)
    results = {"dy": "ddy", "x": "dx", "w": "dw"}
    return tuple(
        kind.restore(
            frame.evaluate("double_backward", result, operands, bias if name == "dy" else None)
        )
        if name in wanted
        else None
        for name, result in results.items()
    )


def tangent(
    call: str, settings: tuple[Any, ...], out: Array | None, **arrays: Array | None
) -> Array:
    """The tangent of y, of x, w, tx, tw and tb."""
    operands, kind = gather(call, **arrays)
    frame = of_conv(call, operands["x"].shape, operands["w"].shape, *settings)
    frame.check(operands)
    array = target(call, out, frame.shape("y"), operands)
    bias = operands.pop("tb", None)
    value = frame.evaluate("jvp", "ty", operands, bias, array)
    return kind.restore(value) if out is None else out


def bias_grad(
    call: str, dy: Array, layout: str, batched: bool, out: Array | None, scale: Any,
    accumulate: bool, per_sample: bool,
) -> Array:  # fmt: skip
    """db (O) of dy, or with per_sample (N, O)."""
    operands, kind = gather(call, dy=dy)
    array = native(operands["dy"])
    rank = array.ndim - 1 - flag(call, "batched", batched)
    if rank < 1:
        raise ShapeError(
            f"{call}: dy is {array.shape} with batched={batched}; it needs "
            f"{'batch, ' if batched else ''}channels and at least one spatial axis"
        )
    if flag(call, "per_sample", per_sample) and not batched:
        raise SettingError(f"{call}: per_sample=True needs dy with a batch axis")
    if channels_last(call, layout, rank):
        array = np.moveaxis(array, -1, int(batched))
    canonical = array if batched else array[None]
    shape = canonical.shape[:2] if per_sample else canonical.shape[1:2]
    accumulate = checked_accumulate(call, out, accumulate)
    result = target(call, out, shape, operands)
    result = np.empty(shape, array.dtype) if result is None else result
    maps.bias_grad(canonical, result, Epilogue(real_scale(call, scale), accumulate), per_sample)
    return kind.restore(result) if out is None else out


def checked_accumulate(call: str, out: Array | None, accumulate: object) -> bool:
    """`accumulate` as a bool; raises SettingError where there is no `out` to add to."""
    if flag(call, "accumulate", accumulate) and out is None:
        raise SettingError(f"{call}: accumulate=True needs the `out` to add to")
    return bool(accumulate)


def _in_order(operands: dict[str, Array]) -> dict[str, Array]:
    """As the caller thinks of them: x, w, dy."""
    return {name: operands[name] for name in ORDER if name in operands}
