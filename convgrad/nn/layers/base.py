"""What every layer has: settings, parameters, gradients, an explicit forward and backward.

A layer is a dataclass of its settings and nothing else, so that `spec()` and `fresh()` are
written once, here.  Arrays come into being in `build`.  Shapes here have no batch axis.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np

from convgrad.errors import SettingError, TrainingError

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Compute:
    """How the convolutions of a model are computed: the settings of the public calls."""

    algorithm: str = "auto"
    precision: str = "standard"


@dataclass(eq=False)
class Layer:
    """y = f(x; params), and backward: dx = (∂f/∂x)ᵀ·dy, grads = (∂f/∂params)ᵀ·dy.

    `params` and `grads` have the same keys; `buffers` are arrays that are saved but not
    trained.  `rng` is the model's generator, for layers that draw numbers while training.
    """

    kind: ClassVar[str] = "layer"

    params: Arrays = field(init=False, repr=False, default_factory=dict)
    grads: Arrays = field(init=False, repr=False, default_factory=dict)
    buffers: Arrays = field(init=False, repr=False, default_factory=dict)
    compute: Compute = field(init=False, repr=False, default_factory=Compute)
    rng: np.random.Generator | None = field(init=False, repr=False, default=None)
    _cache: Any = field(init=False, repr=False, default=None)

    def configure(self, compute: Compute) -> None:
        """Take the model-wide settings of the convolutions."""
        self.compute = compute

    def build(self, in_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        """Create the parameters for samples of `in_shape`; return the shape of the output."""
        self.rng = rng
        return in_shape

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        """y for x (N, *in_shape); keeps what `backward` needs when training."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx for dy (N, *out_shape), and `grads`; with need_input=False dx may be None."""
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def nonfinite_output(self, x: np.ndarray) -> str | None:
        """The part inside this layer whose output is the first that is not finite."""
        return None

    def nonfinite_gradient(self, dy: np.ndarray) -> str | None:
        """The part inside this layer whose gradient is the first that is not finite."""
        return None

    def inside(self) -> list[tuple[str, Layer, Shape]]:
        """(name, layer, output shape) of the layers within this one, for the model's table."""
        return []

    def spec(self) -> dict[str, Any]:
        """{"layer": kind, setting: value …} without the settings that have their default."""
        changed = {
            name: plain(value)
            for name, value, default in self._settings()
            if default is MISSING or value != default
        }
        return {"layer": self.kind} | changed

    def fresh(self) -> Self:
        """The same layer with the same settings and no arrays."""
        return type(self)(**{name: unbuilt(value) for name, value, _ in self._settings()})

    def _settings(self) -> list[tuple[str, Any, Any]]:
        return [(f.name, getattr(self, f.name), f.default) for f in fields(self) if f.init]

    def _kept(self) -> Any:
        if self._cache is None:
            raise TrainingError(
                f"{self.kind}: backward needs what a forward pass kept, and none was kept; "
                "call forward(x, training=True) first"
            )
        return self._cache


def plain(value: Any) -> Any:
    """A setting as JSON and TOML have it: tuples become lists, layers their specs."""
    if isinstance(value, Layer):
        return value.spec()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def frozen(value: Any) -> Any:
    """A setting as the layers keep it: lists become tuples."""
    if isinstance(value, (tuple, list)):
        return tuple(frozen(item) for item in value)
    return value


def unbuilt(value: Any) -> Any:
    """A setting for a twin of a layer: layers inside it become fresh ones."""
    if isinstance(value, Layer):
        return value.fresh()
    if isinstance(value, tuple):
        return tuple(unbuilt(item) for item in value)
    return value


def check_count(kind: str, name: str, value: Any, least: int = 1) -> int:
    """An integer setting that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise SettingError(f"{kind}: {name} is {value!r}; it must be an integer ≥ {least}")
    return int(value)


def check_sizes(kind: str, name: str, value: Any, least: int = 1) -> int | Shape:
    """A setting that is one integer for every axis, or one for each."""
    value = frozen(value)
    if isinstance(value, tuple) and value:
        return tuple(check_count(kind, f"an entry of {name}", item, least) for item in value)
    return check_count(kind, name, value, least)


def check_number(kind: str, name: str, value: Any, low: float, high: float) -> float:
    """A number setting from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise SettingError(f"{kind}: {name} is {value!r}; it must be a number from {low} to {high}")
    return float(value)


def check_flag(kind: str, name: str, value: Any) -> bool:
    """A setting that is true or false."""
    if not isinstance(value, bool):
        raise SettingError(f"{kind}: {name} is {value!r}; it must be true or false")
    return value


def per_axis(kind: str, name: str, value: int | Shape, in_shape: Shape) -> Shape:
    """The setting for each spatial axis of samples (C, *in)."""
    rank = len(in_shape) - 1
    if isinstance(value, int):
        return (value,) * rank
    if len(value) != rank:
        raise SettingError(
            f"{kind}: {name} {value} has {len(value)} entries, but samples of shape {in_shape} "
            f"have {rank} spatial axes; give one integer, or {rank} of them"
        )
    return value


def check_spatial(kind: str, in_shape: Shape) -> None:
    """Raise unless samples are (C, *in) with at least one spatial axis."""
    if len(in_shape) < 2:
        raise SettingError(
            f"{kind}: needs samples of shape (channels, size, …), but gets {in_shape}; "
            f"put {kind} before flatten and linear"
        )
