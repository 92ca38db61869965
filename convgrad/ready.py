"""Calls that were made before: what was checked and decided then is not checked and decided again.

A call depends on its settings and on the shapes, strides and dtypes of its arrays. Where all of
them are as in a call that has succeeded, only `out` is looked at anew (may it be written, does it
overlap an operand?), and the numbers are computed. Arrays of other libraries, subclasses of
NumPy's, and settings that are no plain numbers, names or tuples take the long way every time.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convgrad import memory
from convgrad.algorithm import Bound
from convgrad.calls import Frame

MOST = 4096  # calls that are remembered
SCALARS = (int, float, bool, str, type(None))

Key = tuple[Any, ...]


class Memory:
    """What is known of calls made before; forgotten altogether where it grows beyond `most`."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.known: dict[Key | None, Any] = {}
        self.find = self.known.get

    def keep(self, key: Key | None, value: Any) -> None:
        if key is not None:
            if len(self.known) >= (self.most or MOST):
                self.known.clear()
            self.known[key] = value


calls = Memory()
_nested = Memory()  # the types of settings, and which of them are no plain numbers or names


def laid_out(
    first: Any, second: Any, third: Any = None, fourth: Any = None, array: type = np.ndarray
) -> Key | None:
    """How NumPy arrays (or None) lie in memory; None where one is no plain NumPy array."""
    if type(first) is not array or type(second) is not array:
        return None
    two = (first.shape, first.strides, first.dtype, second.shape, second.strides, second.dtype)
    for other in (third, fourth):
        if other is not None:
            if type(other) is not array:
                return None
            two += (other.shape, other.strides, other.dtype)
        elif third is not fourth:
            two += (None,)
    return two


def call_key(
    call: str, arrays: Key | None, settings: tuple[Any, ...], given: Any = None
) -> Key | None:
    """What the call depends on, with types: 1, 1.0 and True are equal, but not equally right.

    given: a shape that stands for an array. None where the call cannot be recognised.
    """
    if arrays is None:
        return None
    types = tuple(map(type, settings))
    nested = _nested.find(types)
    if nested is None:
        nested = tuple(i for i, kind in enumerate(types) if kind not in SCALARS)
        _nested.keep(types, nested)
    exact: Key | None = settings
    if nested:
        parts = list(settings)
        for i in nested:
            parts[i] = _exact(parts[i])
        exact = None if any(parts[i] is None for i in nested) else tuple(parts)
    shape = None if given is None else _exact(given)
    if exact is None or (shape is None and given is not None):
        return None
    return (call, arrays, exact, types, shape)


def _exact(value: Any) -> Key | None:
    """Scalars and nested tuples and lists as tuples that name each type; None for all else."""
    kind = type(value)
    if kind in SCALARS:
        return (kind, value)
    if kind is not tuple and kind is not list:
        return None
    if set(map(type, value)) == {int}:
        return (kind, int, *value)
    parts = [_exact(part) for part in value]
    return None if None in parts else (kind, *parts)


@dataclass(frozen=True, slots=True)
class Ready:
    """One map of one call with nothing left to decide: for operands in the order of its term.

    bound: the algorithm made ready for these arrays, where it can be.
    flipped: whether an operand or the result is seen turned around.
    """

    frame: Frame
    group: str
    result: str
    names: tuple[str, str]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bound: Bound | None
    flipped: bool

    def run(
        self, first: np.ndarray, second: np.ndarray, bias: np.ndarray | None = None,
        out: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """The result, in `out` (which the caller has checked) or in a new array."""
        if out is None:
            out = memory.empty(self.shape, self.dtype)
        if self.bound is None:
            operands = dict(zip(self.names, (first, second), strict=True))
            return self.frame.evaluate(
                self.group, self.result, operands, bias, out, scale, accumulate
            )
        if self.flipped:
            view, (a, b) = self.frame.view, self.names
            seen = view(self.result, out)
            self.bound.run(view(a, first), view(b, second), seen, bias, scale, accumulate)
        else:
            self.bound.run(first, second, out, bias, scale, accumulate)
        return out

    def with_weights(self, w: np.ndarray) -> "tuple[Ready, int]":
        """The same with what is made of w made now, and its bytes; w is given to each run too."""
        place = [name[-1] for name in self.names].index("w")
        bound = self.bound
        kept = None if bound is None else bound.with_weights(place, self.frame.view("w", w))
        return (self, 0) if kept is None else (replace(self, bound=kept.bound), kept.bytes)


def make_ready(
    frame: Frame, group: str, result: str, operands: dict[str, np.ndarray],
    bias: np.ndarray | None = None, out: np.ndarray | None = None,
) -> Ready:  # fmt: skip
    """What a call that has just succeeded with these arrays can leave to the next one like it."""
    (term,) = frame.rules[group][result]
    names = term.first.rstrip("*"), term.second.rstrip("*")
    first, second = (operands[name] for name in names)
    shape, dtype = frame.shape(result), first.dtype.newbyteorder("=")
    out = np.empty(shape, dtype) if out is None else out
    arrays = [first, second, out] + ([] if bias is None else [bias])
    bound = None
    if all(a.dtype.isnative for a in arrays) and (bias is None or bias.flags.c_contiguous):
        map_ = frame.prepare(term.map, dtype, copies=frame.conjugate_bytes(term, dtype))
        views = [frame.view(n, a) for n, a in zip((*names, result), arrays, strict=False)]
        bound = map_.bind(*(view.strides for view in views))
    flipped = frame.settings.flip and "w" in {name[-1] for name in (*names, result)}
    return Ready(frame, group, result, names, shape, dtype, bound, flipped)
