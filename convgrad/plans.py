"""Plan: what a call would do, as an object to print, keep and run."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from time import perf_counter
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convgrad.algorithm import DIRECTIONS
from convgrad.arrays import Array, apart, check_out, dtype_of, to_numpy
from convgrad.calls import Frame, conv_frame, gather, target, transposed_frame
from convgrad.errors import DTypeError, SettingError
from convgrad.geometry import axis_text, pads_text
from convgrad.maps import Map
from convgrad.ready import Memory, Ready, laid_out, make_ready
from convgrad.settings import Settings, flag, ints, one_of, real_scale

RESULTS = {
    "forward": ("value", "y", ("x", "w")),
    "input_grad": ("backward", "dx", ("w", "dy")),
    "weight_grad": ("backward", "dw", ("x", "dy")),
}
LAYOUTS = 4  # of operand and result, for which a plan keeps what it made of its weights


@dataclass(frozen=True)
class Plan:
    """One gradient's (or the forward's) geometry with its algorithm chosen.

    print(plan) tells what was chosen and why, what declined and why, and what it costs.
    plan(x, w), plan(w, dy) or plan(x, dy) runs it: operands in the order x, w, dy.
    """

    direction: str
    frame: Frame
    dtype: np.dtype[Any]
    map: Map
    measured: tuple[tuple[str, float], ...] = ()
    _known: Memory = field(default_factory=Memory, init=False, repr=False, compare=False)

    @property
    def algorithm(self) -> str:
        """The chosen algorithm's name."""
        return self.map.choice.algorithm.name

    @property
    def reason(self) -> str:
        return "measured to be the fastest" if self.measured else self.map.choice.reason

    @property
    def declined(self) -> dict[str, str]:
        """Each algorithm that cannot do this, and its sentence."""
        return dict(self.map.choice.declined)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The algorithms that could do this, the one that is preferred (or measured best) first."""
        return tuple(name for name, _ in self.measured or self.map.choice.accepted)

    @property
    def flops(self) -> int:
        """Real operations of the plain sums, padding counted."""
        return self.map.choice.problem.flops * (
            self.frame.geometry.batch if self.map.per_sample else 1
        )

    @property
    def bytes(self) -> int:
        """Bytes of the operands and the result."""
        numbers = sum(prod(self.frame.shape(name)) for name in ("x", "w", "y"))
        return numbers * self.dtype.itemsize

    @property
    def scratch(self) -> int:
        """The most bytes taken beside operands and result."""
        return self.map.scratch

    @property
    def error_bound(self) -> str:
        return str(self.map.choice.algorithm.error(self.map.choice.problem))

    def __call__(
        self,
        first: Array,
        second: Array,
        b: Array | None = None,
        *,
        out: Array | None = None,
        scale: float = 1.0,
        accumulate: bool = False,
    ) -> Array:
        """Run the plan on operands of the planned shapes and dtype, in the order x, w, dy."""
        key = laid_out(first, second, b, out)
        again = self._known.find(key)
        if again is not None and type(scale) is float and type(accumulate) is bool:
            ready, (one, two) = again
            if out is not None and not apart(out, first, second, b):
                check_out(self.frame.call, out, {one: first, two: second, "b": b})
            if not accumulate or out is not None:
                if ready.names[0] != one:
                    first, second = second, first
                return ready.run(first, second, b, out, scale, accumulate)
        group, result, names = RESULTS[self.direction]
        call = self.frame.call
        if b is not None and self.direction != "forward":
            raise SettingError(f"{call}: a bias takes part in forward only")
        if flag(call, "accumulate", accumulate) and out is None:
            raise SettingError(f"{call}: accumulate=True needs the `out` to add to")
        arrays = dict(zip(names, (first, second), strict=True))
        operands, kind = gather(call, **arrays, b=b)
        self.check_dtype(names[0], operands[names[0]])
        self.frame.check(operands)
        bias = operands.pop("b", None)
        lead = (self.frame.geometry.batch,) if self.map.per_sample else ()
        shape = lead + self.frame.shape(result)
        array = target(call, out, shape, operands if bias is None else {**operands, "b": bias})
        value = self.frame.evaluate(
            group, result, operands, bias, array,
            scale=real_scale(call, scale), accumulate=accumulate, per_sample=self.map.per_sample,
        )  # fmt: skip
        if key is not None and not self.map.per_sample:
            ready = make_ready(self.frame, group, result, operands, bias, array)
            self._known.keep(key, (ready, names))
        return kind.restore(value) if out is None else out

    def with_weights(self, w: Array) -> "PlanWithWeights":
        """The plan of a forward or an input gradient for these weights, called without them.

        What is made of w (packed, transformed, its spectra) is made now and not at each call; the
        results have the same bits. w is copied: what is written into it later does not matter.
        """
        if self.direction == "weight_grad":
            raise SettingError(f"{self.frame.call}: with_weights is for forward and input_grad")
        array, _ = to_numpy(self.frame.call, "w", w)
        self.check_dtype("w", array)
        self.frame.check({"w": array})
        return PlanWithWeights(self, np.array(array, self.dtype, order="C"))

    def check_dtype(self, name: str, array: np.ndarray) -> None:
        """Raise DTypeError unless the array has the planned dtype."""
        if array.dtype.newbyteorder("=") != self.dtype:
            raise DTypeError(
                f"{self.frame.call}: the plan is for {self.dtype}, but {name} is {array.dtype}; "
                "make another plan"
            )

    def __str__(self) -> str:
        g, choice = self.frame.geometry, self.map.choice
        shapes = "  ".join(f"{name} {self.frame.shape(name)}" for name in ("x", "w", "y"))
        kind = "transposed convolution" if g.transposed else "convolution"
        lines = [
            f"{self.direction} of a {g.rank}-D {kind}, {self.dtype.name}",
            f"  shapes     {shapes}",
            f"  settings   {self._settings()}",
            f"  algorithm  {choice.algorithm.name}: {choice.algorithm.summary}",
            f"  because    {self.reason}",
        ]
        lines += [f"  accepts    {line}" for line in self._others()]
        lines += [f"  declines   {name}: {why}" for name, why in choice.declined]
        lines += [
            f"  flops      {self.flops:,}",
            f"  bytes      {self.bytes:,}",
            f"  scratch    {self.scratch:,} bytes",
            f"  error      {self.error_bound}",
        ]
        return "\n".join(lines)

    def _settings(self) -> str:
        g, settings = self.frame.geometry, self.frame.settings
        pads = f"{pads_text(g.pads)} ({settings.padding_mode})"
        return (
            f"stride {axis_text(g.stride)}, padding {pads}, dilation {axis_text(g.dilation)}, "
            f"groups {g.groups}, precision {settings.precision}, layout {g.layout}"
        )

    def _others(self) -> list[str]:
        times = self.measured or self.map.choice.accepted
        own = max(dict(times)[self.algorithm], 1e-9)  # no work where C is 0
        word = "measured" if self.measured else "expected"
        return [
            f"{name} ({word} {seconds / own:.3g} times as long)"
            for name, seconds in times
            if name != self.algorithm
        ]


@dataclass(frozen=True, eq=False)
class PlanWithWeights:
    """A plan and the weights that it always runs with: see `Plan.with_weights`.

    print(plan) tells what the plan says, and how many bytes are kept. Any number of threads may
    call it at once.
    """

    plan: Plan
    w: np.ndarray
    _known: Memory = field(default_factory=Memory, init=False, repr=False)
    _kept: Memory = field(default_factory=lambda: Memory(LAYOUTS), init=False, repr=False)

    def __post_init__(self) -> None:
        self.w.flags.writeable = False
        self._made(_unread(self.plan.frame.shape(self.name), self.w.dtype))

    @property
    def name(self) -> str:
        """What it is called with: x, or dy for an input gradient."""
        (name,) = (n for n in RESULTS[self.plan.direction][2] if n != "w")
        return name

    @property
    def bytes(self) -> int:
        """Bytes of the weights, and of what was made of them."""
        return self.w.nbytes + sum(count for _, count in self._kept.known.values())

    def __call__(
        self,
        operand: Array,
        b: Array | None = None,
        *,
        out: Array | None = None,
        scale: float = 1.0,
        accumulate: bool = False,
    ) -> Array:
        """Run the plan on x or dy: what plan(x, w, b) gives, or plan(w, dy)."""
        key = laid_out(operand, self.w, b, out)
        ready = self._known.find(key)
        if ready is not None and type(scale) is float and type(accumulate) is bool:
            if out is not None and not apart(out, operand, self.w, b):
                check_out(self.plan.frame.call, out, {self.name: operand, "w": self.w, "b": b})
            if not accumulate or out is not None:
                first, second = operand, self.w
                if ready.names[0] == "w":
                    first, second = second, first
                return ready.run(first, second, b, out, scale, accumulate)
        if key is None:
            return self._converted(operand, b, out, scale, accumulate)
        gather(self.plan.frame.call, **{self.name: operand})
        self.plan.check_dtype(self.name, operand)
        given = {self.name: operand, "w": self.w}
        first, second = (given[name] for name in RESULTS[self.plan.direction][2])
        result = self.plan(first, second, b, out=out, scale=scale, accumulate=accumulate)
        self._known.keep(key, self._made(operand, b, out))
        return result

    def _converted(
        self, operand: Array, b: Array | None, out: Array | None, scale: float, accumulate: bool
    ) -> Array:
        """For arrays of other libraries, and subclasses of NumPy's."""
        call = self.plan.frame.call
        arrays, kind = gather(call, **{self.name: operand}, b=b)
        to = None if out is None else to_numpy(call, "out", out)[0]
        value = self(arrays[self.name], arrays.get("b"), out=to, scale=scale, accumulate=accumulate)
        return kind.restore(value) if out is None else out

    def _made(
        self, operand: np.ndarray, b: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> Ready:
        """What a call with these arrays can leave to the next one; its weights are made once."""
        group, result, _ = RESULTS[self.plan.direction]
        frame, given = self.plan.frame, {self.name: operand, "w": self.w}
        to = _unread(frame.shape(result), self.w.dtype) if out is None else out
        ready = make_ready(frame, group, result, given, b, to)
        if ready.bound is None:
            return ready
        layout = (operand.strides, to.strides)
        kept = self._kept.find(layout)
        if kept is None:
            kept = ready.with_weights(self.w)
            self._kept.keep(layout, kept)
        return kept[0]

    def __str__(self) -> str:
        made = self.bytes - self.w.nbytes
        what = f"w, and {made:,} made of it once" if made else "w; nothing is made of it beforehand"
        return f"{self.plan}\n  weights    {self.bytes:,} bytes kept: {what}"


def _unread(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array of this shape in order, to be asked for its strides and never for its numbers."""
    strides = [dtype.itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return as_strided(np.empty(1, dtype), shape, strides, writeable=False)


def make_plan(
    direction: str, x_shape: object, w_shape: object, how: tuple[Any, Any, Any, Any],
    settings: tuple[Any, ...], transposed: bool, output_padding: Any, dtype: Any,
    per_sample: bool, measure: bool,
) -> Plan:  # fmt: skip
    """The plan of one direction; with `measure`, every accepting algorithm is timed first.

    how: stride, padding, dilation and groups. settings: in the order of Settings.
    """
    given = Settings(*settings)
    if flag("plan", "measure", measure) and given.algorithm != "auto":
        raise SettingError(
            f"plan: measure=True chooses the algorithm, so algorithm={given.algorithm!r} cannot "
            "be met; leave one of them out"
        )
    if flag("plan", "transposed", transposed):
        frame = _transposed(x_shape, w_shape, how, output_padding, given)
    else:
        extra = ints("plan", "output_padding", output_padding)
        if extra != 0 and any((extra,) if isinstance(extra, int) else extra):
            raise SettingError("plan: output_padding needs transposed=True")
        frame = conv_frame("plan", x_shape, w_shape, *how, given)
    if flag("plan", "per_sample", per_sample) and (direction != "weight_grad" or not frame.batched):
        raise SettingError("plan: per_sample=True is for weight_grad of x with a batch axis")
    return _planned(direction, frame, dtype_of("plan", dtype), per_sample, measure)


def _transposed(
    x_shape: object, w_shape: object, how: tuple[Any, Any, Any, Any], extra: Any, given: Settings
) -> Frame:
    if given.padding_mode != "zeros":
        raise SettingError(
            "plan: transposed=True pads with zeros only; plan input_grad for other modes"
        )
    stride, padding, dilation, groups = how
    return transposed_frame(
        "plan", x_shape, w_shape, stride, padding, extra, groups, dilation, given
    )


def _planned(
    direction: str, frame: Frame, dtype: np.dtype[Any], per_sample: bool, measure: bool
) -> Plan:
    one_of("plan", "direction", direction, DIRECTIONS)
    measured = ()
    if measure:
        measured = _measured(direction, frame, dtype, per_sample)
        settings = replace(frame.settings, algorithm=measured[0][0])
        frame = replace(frame, settings=settings)
    return Plan(direction, frame, dtype, _map(direction, frame, dtype, per_sample), measured)


def _map(direction: str, frame: Frame, dtype: np.dtype[Any], per_sample: bool) -> Map:
    group, result, _ = RESULTS[direction]
    term = frame.rules[group][result][0]
    copies = frame.conjugate_bytes(term, dtype)
    return frame.prepare(term.map, dtype, per_sample, copies)


@lru_cache(maxsize=1024)
def _measured(
    direction: str, frame: Frame, dtype: np.dtype[Any], per_sample: bool
) -> tuple[tuple[str, float], ...]:
    """(algorithm, seconds) for each that accepts, the fastest first; the best of three runs."""
    rng = np.random.default_rng(0)
    group, result, names = RESULTS[direction]
    operands = {n: rng.standard_normal(frame.shape(n)).astype(dtype) for n in names}
    times = []
    for name, _ in _map(direction, frame, dtype, per_sample).choice.accepted:
        named = replace(frame, settings=replace(frame.settings, algorithm=name))
        runs = []
        for _ in range(3):
            start = perf_counter()
            named.evaluate(group, result, operands, per_sample=per_sample)
            runs.append(perf_counter() - start)
        times.append((name, min(runs)))
    return tuple(sorted(times, key=lambda entry: entry[1]))
