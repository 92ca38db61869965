"""The keywords of a public call, checked: each function gives a clean value or raises SettingError.

Ints come as Python ints, sequences of them as tuples, so that everything can be a cache key.
"""

import operator
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any, SupportsFloat

import numpy as np

from convgrad.algorithm import PRECISIONS
from convgrad.choose import check_name
from convgrad.errors import SettingError, ShapeError
from convgrad.padding import MODES

LAYOUTS = {
    "channels_first": None, "channels_last": None,
    "NCL": 1, "NCW": 1, "NLC": 1, "NWC": 1, "NCHW": 2, "NHWC": 2, "NCDHW": 3, "NDHWC": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The keywords of a call that choose how it is computed."""

    padding_mode: str = "zeros"
    padding_value: complex = 0
    layout: str = "channels_first"
    flip: bool = False
    algorithm: str = "auto"
    precision: str = "standard"
    max_scratch: int | None = None

    def checked(self, call: str) -> "Settings":
        """The same settings in clean types; the layout's rank is checked with the shapes.

        Raises SettingError, or AlgorithmError for a name that no algorithm has.
        """
        one_of(call, "padding_mode", self.padding_mode, MODES)
        one_of(call, "precision", self.precision, PRECISIONS)
        one_of(call, "layout", self.layout, LAYOUTS)
        one_of(call, "algorithm", self.algorithm)
        check_name(call, self.algorithm)
        return replace(
            self,
            padding_value=_padding_value(call, self.padding_value, self.padding_mode),
            flip=flag(call, "flip", self.flip),
            max_scratch=_max_scratch(call, self.max_scratch),
        )


def one_of(call: str, name: str, value: object, known: Iterable[str] | None = None) -> None:
    """Raise SettingError unless `value` is a string, and one of those known."""
    if not isinstance(value, str):
        raise SettingError(f"{call}: {name} must be a string, not {value!r}")
    if known is not None and value not in known:
        raise SettingError(f"{call}: {name}={value!r} is not known; use one of {', '.join(known)}")


def flag(call: str, name: str, value: object) -> bool:
    """A bool, NumPy's included; raises SettingError for anything that is only truthy."""
    if not isinstance(value, bool | np.bool_):
        raise SettingError(f"{call}: {name} must be True or False, not {value!r}")
    return bool(value)


def _padding_value(call: str, value: object, mode: str) -> complex:
    if not isinstance(value, Number | np.number) or isinstance(value, bool):
        raise SettingError(f"{call}: padding_value must be a number, not {value!r}")
    try:
        number = complex(value)  # type: ignore[call-overload]
    except OverflowError:
        raise SettingError(f"{call}: padding_value={value!r} is too large for a float") from None
    if number != 0 and mode != "constant":
        raise SettingError(
            f'{call}: padding_value={value} needs padding_mode="constant", not "{mode}"'
        )
    return number


def _max_scratch(call: str, value: object) -> int | None:
    if value is None:
        return None
    limit = integer(call, "max_scratch", value)
    if limit < 0:
        raise SettingError(
            f"{call}: max_scratch is in bytes and cannot be {limit}; leave it out for no limit"
        )
    return limit


def channels_last(call: str, layout: str, rank: int) -> bool:
    """Whether the layout's name puts channels last; raises SettingError for another rank's."""
    one_of(call, "layout", layout, LAYOUTS)
    if LAYOUTS[layout] not in (None, rank):
        raise SettingError(
            f"{call}: layout={layout!r} has {LAYOUTS[layout]} spatial axes, but the arrays have "
            f'{rank}; "channels_first" and "channels_last" fit any rank'
        )
    return layout == "channels_last" or layout.endswith("C")


def ints(call: str, name: str, value: object, depth: int = 1) -> Any:
    """An int, or ordered collections of ints nested up to `depth`, as int or tuples."""
    if isinstance(value, Set | Mapping):
        raise SettingError(f"{call}: {name}={value!r} has no order; pass a tuple")
    single = isinstance(value, str | bytes) or getattr(value, "ndim", None) == 0
    if isinstance(value, Iterable) and not single:
        if depth == 0:
            raise SettingError(f"{call}: {name} is nested too deep at {value!r}; pass ints there")
        return tuple(ints(call, name, v, depth - 1) for v in value)
    return integer(call, name, value)


def padding_of(call: str, padding: object) -> Any:
    """ "same" and its kin, an int, ints, or (lo, hi) pairs, as a hashable value."""
    return padding if isinstance(padding, str) else ints(call, "padding", padding, depth=2)


def shape_of(call: str, name: str, shape: object) -> tuple[int, ...]:
    """A shape as a tuple of sizes ≥ 0; raises ShapeError, with a hint if an array was passed."""
    if getattr(shape, "ndim", 1) != 1:
        raise ShapeError(f"{call}: {name} is an array; pass its shape")
    sizes = ints(call, name, shape)
    if not isinstance(sizes, tuple) or any(n < 0 for n in sizes):
        raise ShapeError(f"{call}: {name}={shape!r} is no shape; pass a tuple of sizes ≥ 0")
    return sizes


def integer(call: str, name: str, value: object) -> int:
    """An int of any kind (not a bool) as a Python int; raises SettingError for anything else."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise SettingError(f"{call}: {name} must be made of ints, not {value!r}")
    return number


def needed(call: str, needs: object, names: tuple[str, ...]) -> frozenset[str]:
    """The gradients asked for, checked."""
    wanted = [needs] if isinstance(needs, str) else needs
    if isinstance(wanted, Iterable):
        wanted = list(wanted)
        if all(isinstance(name, str) and name in names for name in wanted):
            return frozenset(wanted)
    raise SettingError(f"{call}: needs={needs!r}, but it must be a tuple of names out of {names}")


def real_scale(call: str, scale: SupportsFloat) -> float:
    """`scale` as a float; raises SettingError where it is no real number."""
    try:
        if isinstance(scale, str):
            raise TypeError
        return float(scale)
    except (TypeError, ValueError, OverflowError):
        raise SettingError(f"{call}: scale must be a real number, not {scale!r}") from None
