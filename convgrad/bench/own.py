"""A user's own function, timed beside convgrad and the peers.

A Signature of convgrad.contracts says how the function is called and what it gives. The layers'
operands are laid out by the signature outside of the time; only what runs in the function counts.
It is checked before and after its times are taken, and once more with other numbers in the same
arrays: a function that returns what it kept from an earlier call is caught by that.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convgrad.bench import checking, definition, race
from convgrad.bench.case import Case, Operands, drawn, dtype_of, fitted
from convgrad.bench.limits import Limits
from convgrad.bench.peers.library import Library
from convgrad.bench.results import Row
from convgrad.bench.timing import Work
from convgrad.contracts import TABLE
from convgrad.contracts.signature import Case as Call
from convgrad.contracts.signature import Results, Signature
from convgrad.errors import DataError, SettingError
from convgrad.shapes import Layer

GIVES = {"y": "forward", "dx": "input_grad", "dw": "weight_grad"}
SLOWEST = 5.0  # expected seconds of a call, for a layer to be tried
ALARM = 0.95  # of the limit's seconds


def load(target: str) -> Callable[..., Any]:
    """`file.py:function` → the function. Raises DataError where there is none."""
    file, colon, name = target.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name:
        raise DataError(f"{target!r} names no function; write it as file.py:function")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(sorted(n for n, v in vars(module).items() if callable(v))) or "nothing"
        raise DataError(f"{path} has no function {name!r}; what can be called there: {there}")
    return function


def signature(contract: str | None, function: str) -> Signature:
    """`aten.conv2d_input`, or `aten` with a function that has one of its names.

    Raises SettingError, with the names to choose from, where that names no signature.
    """
    known = {f"{c.name}.{s.name}": s for c in TABLE.values() for s in c.signatures}
    if contract is None:
        raise SettingError(
            f"pass --contract, how {function} is called: {', '.join(known)}; "
            "a convention alone is enough where the function has one of its names"
        )
    fits = [known[key] for key in (contract, f"{contract}.{function}") if key in known]
    if not fits and contract in TABLE and len(TABLE[contract].signatures) == 1:
        fits = list(TABLE[contract].signatures)
    if not fits:
        names = [key for key in known if key.startswith(f"{contract}.")] or list(known)
        raise SettingError(f"--contract is {contract!r}; choose from {', '.join(names)}")
    return fits[0]


@dataclass
class Meter:
    """A function that adds up the seconds spent in it: the clock of its race."""

    function: Callable[..., Any]
    seconds: float = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - began

    def clock(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Contest:
    """What the layers of a run have in common; `name` is the function's, as the user wrote it."""

    name: str
    function: Callable[..., Any]
    signature: Signature
    peers: Sequence[Library]
    limits: Limits | None
    budget: float

    @property
    def maps(self) -> list[str]:
        """The maps whose results the signature gives."""
        return [GIVES[name] for name in self.signature.gives if name in GIVES]

    def rows(self, layers: Sequence[Layer], dtype: str) -> Iterator[Row | str]:
        """A row for each layer, the smallest first, or a sentence that says why there is none."""
        rate = 0.0  # seconds for each multiplication
        for layer in sorted(layers, key=lambda layer: layer.macs):
            expected = rate * layer.macs
            if expected > SLOWEST:
                yield f"{layer.name}: left out, a call would take about {expected:.0f} s"
                continue
            row = self.row(layer, dtype)
            if row.first is not None:
                rate = (row.seconds or row.first) / layer.macs
            yield row

    def row(self, layer: Layer, dtype: str) -> Row:
        """The race of the function, convgrad's own of the same signature, and the libraries."""
        operands = drawn(layer, dtype)
        call, wanted = laid_out(layer, operands), self.references(layer, operands)
        entries = [
            self._entry(self.name, "", self.function, call, wanted),
            self._entry("convgrad", self.signature.name, self.signature.function, call, wanted),
            *(self._library(library, layer, dtype, operands, wanted) for library in self.peers),
        ]
        me, *beside = race.run(entries, dtype, self.budget)
        row = replace(self._described(layer, dtype), first=me.first, error=me.error)
        wrong = me.left_out or self._kept(call, wanted, dtype)
        if wrong is not None:
            return replace(row, wrong=wrong)
        row = replace(row, seconds=me.seconds, beside=tuple(beside))
        return replace(row, alarm=alarm(row))

    def _described(self, layer: Layer, dtype: str) -> Row:
        cases = [Case(layer, direction, dtype) for direction in self.maps]
        flops, moved = sum(case.flops for case in cases), cases[0].bytes
        limit, bound = self.limits.least(flops, moved, dtype) if self.limits else (None, None)
        return Row(
            layer.name, layer.network, layer.layer_class, "+".join(self.signature.gives), dtype,
            layer.x_shape, layer.w_shape, layer.y_shape, flops, moved, self.name, 0,
            limit=limit, bound=bound,
        )  # fmt: skip

    def references(self, layer: Layer, operands: Operands) -> Results:
        """What the signature gives, in float64."""
        found = {
            name: definition.result(layer, GIVES[name], operands.exact)
            for name in self.signature.gives
            if name in GIVES
        }
        if "db" in self.signature.gives:
            found["db"] = operands.exact.dy.sum(axis=(0, *range(2, operands.dy.ndim)))
        return found

    def _entry(
        self, name: str, variant: str, function: Callable[..., Any], call: Call, wanted: Results
    ) -> race.Entry:
        meter = Meter(function)

        def prepare() -> Work:
            return lambda: self.signature.call(meter, call)

        return race.Entry(name, variant, prepare, lambda got: worst(got, wanted), None, meter.clock)

    def _library(
        self, library: Library, layer: Layer, dtype: str, operands: Operands, wanted: Results
    ) -> race.Entry:
        """The maps one after the other; the bias gradient, which is a sum over dy, is left out."""
        cases = [Case(layer, direction, dtype) for direction in self.maps]
        names = [name for name in self.signature.gives if name in GIVES]
        refusal = next((s for case in cases if (s := library.refuses(case)) is not None), None)

        def prepare() -> Work:
            works = [library.work(case, operands) for case in cases]
            return lambda: [work() for work in works]

        def error(got: list[Any]) -> float:
            return worst(dict(zip(names, map(library.numpy, got))), wanted)

        return race.Entry(library.name, library.variant, prepare, error, refusal)

    def _kept(self, call: Call, wanted: Results, dtype: str) -> str | None:
        """What is wrong with results for other numbers in the same arrays, or None.

        x is negated and dy doubled, which is exact, and so is what it does to the results.
        """
        np.negative(call.x, out=call.x)
        np.add(call.dy, call.dy, out=call.dy)
        factors = {"y": -1.0, "dx": 2.0, "dw": -2.0, "db": 2.0}
        changed = {name: factors[name] * reference for name, reference in wanted.items()}
        found = worst(self.signature.call(self.function, call), changed)
        wrong = checking.mistake(found, dtype, "after")
        return wrong and f"{wrong}, for new numbers in the same arrays: are results kept?"


def laid_out(layer: Layer, operands: Operands) -> Call:
    """The layer as the contracts have it, with a bias of zeros."""
    return Call(
        operands.x, operands.w, np.zeros(layer.out_channels, operands.x.dtype), operands.dy,
        layer.stride, tuple((pad, pad) for pad in layer.padding), layer.dilation, layer.groups,
        layer.transposed, layer.output_padding,
    )  # fmt: skip


def expressible(signature: Signature, layers: Sequence[Layer], dtype: str) -> list[Layer]:
    """The layers that the signature can be called for; raises SettingError if there are none."""
    kept, refusals = [], {}
    for layer in layers:
        tiny = replace(layer, batch=1)
        sentence = signature.refuses(laid_out(tiny, _empty(tiny, dtype)))
        if sentence is None:
            kept.append(layer)
        else:
            refusals[sentence] = layer.name
    if not kept:
        raise SettingError(
            f"{signature.name} can express none of the layers: {next(iter(refusals))}"
        )
    return kept


def spread(layers: Sequence[Layer], count: int, most_macs: float) -> list[Layer]:
    """The layers with batches that fit; of more than `count`, that many of all sizes that fit."""
    small = sorted((fitted(layer, most_macs, most_macs) for layer in layers), key=lambda s: s.macs)
    if len(small) <= count:
        return small
    fit = [layer for layer in small if layer.macs <= most_macs] or small[:1]
    places = np.linspace(0, len(fit) - 1, min(count, len(fit)))
    return [fit[round(place)] for place in places]


def _empty(layer: Layer, dtype: str) -> Operands:
    """Operands of the layer's shapes that take no memory: one zero seen from everywhere."""
    zero = np.zeros((), dtype_of(dtype))
    shapes = (layer.x_shape, layer.w_shape, layer.y_shape)
    return Operands(*(np.broadcast_to(zero, shape) for shape in shapes))


def worst(found: Results, wanted: Results) -> float:
    """The largest error among the results."""
    errors = [
        checking.error(np.asarray(found[name]), wanted[name]) for name in wanted if name in found
    ]
    return float(np.max(errors))  # NaN if one is


def alarm(row: Row) -> str | None:
    """What to think of a function that is faster than plain sums can be, or None."""
    if row.seconds is None or row.limit is None or row.seconds >= ALARM * row.limit:
        return None
    return (
        f"faster than this machine's limit for plain sums ({1e3 * row.limit:.3g} ms, by its "
        f"{row.bound}): either it needs fewer multiplications (Winograd, FFT), or it does not do "
        "all its work in each call"
    )
