"""Optimizers: how parameters move against their gradients.

`step(params, grads, lr=None)` changes the arrays of `params` in place; `lr` stands in for the
optimizer's own when a schedule gives one.  Formulas and defaults are PyTorch's.  The state
(momenta, averages, the step count) is a flat dict of arrays, ready to be saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import isfinite, sqrt
from typing import Any, ClassVar

import numpy as np

from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.nn.names import choose

Arrays = dict[str, np.ndarray]


@dataclass
class Optimizer:
    """What every optimizer shares: the checks, the step count, and the state of each slot."""

    kind: ClassVar[str] = "optimizer"
    slots: ClassVar[tuple[str, ...]] = ()

    lr: float = 1e-3
    steps: int = field(init=False, default=0)
    _state: dict[str, Arrays] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._state = {slot: {} for slot in self.slots}
        for name, value in self.spec().items():
            if isinstance(value, (int, float)) and not (isfinite(value) and value >= 0):
                raise SettingError(f"{self.kind}: {name} is {value}; it must be finite and ≥ 0")

    def step(self, params: Arrays, grads: Arrays, lr: float | None = None) -> None:
        """Move every parameter once; the arrays are changed in place.

        Raises ShapeError or DTypeError, before anything moves, if names, shapes or dtypes of
        params, grads and the state do not agree.
        """
        self._check(params, grads)
        self.steps += 1
        for name, p in params.items():
            self._move(name, p, grads[name], self.lr if lr is None else float(lr))

    def state(self) -> Arrays:
        """{"steps": (1,) int64, "<slot>/<parameter>": array, …}, copied."""
        arrays = {
            f"{slot}/{name}": array.copy()
            for slot, of_params in self._state.items()
            for name, array in of_params.items()
        }
        return {"steps": np.array([self.steps], np.int64)} | arrays

    def load_state(self, arrays: Arrays) -> None:
        """Take up a state that `state()` gave; SettingError if it is another optimizer's."""
        loaded: dict[str, Arrays] = {slot: {} for slot in self.slots}
        for key, array in arrays.items():
            slot, _, name = key.partition("/")
            if key != "steps":
                choose(loaded, slot, f"slot of {self.kind}")[name] = np.array(array)
        if "steps" not in arrays:
            raise SettingError(f"{self.kind}: the state has no entry 'steps'; it is not complete")
        self.steps = int(np.asarray(arrays["steps"]).reshape(-1)[0])
        self._state = loaded

    def spec(self) -> dict[str, Any]:
        """{"optimizer": kind, setting: value, …}, which `named` takes back."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
        return {"optimizer": self.kind} | plain

    def _move(self, name: str, p: np.ndarray, g: np.ndarray, lr: float) -> None:
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    def _slot(self, slot: str, name: str, p: np.ndarray) -> np.ndarray:
        """The state array of a parameter, zero at first; changed in place by the caller."""
        arrays = self._state[slot]
        if name not in arrays:
            arrays[name] = np.zeros_like(p)
        return arrays[name]

    def _check(self, params: Arrays, grads: Arrays) -> None:
        if params.keys() != grads.keys():
            odd = ", ".join(sorted(params.keys() ^ grads.keys()))
            raise ShapeError(
                f"{self.kind}: parameters and gradients differ in {odd}; "
                "run forward(x, training=True) and backward before the step"
            )
        for name, p in params.items():
            beside = [grads, *self._state.values()]
            for other in (arrays[name] for arrays in beside if name in arrays):
                if other.shape != p.shape:
                    raise ShapeError(f"{self.kind}: {name} is {p.shape}, but got {other.shape}")
                if other.dtype != p.dtype:
                    raise DTypeError(f"{self.kind}: {name} is {p.dtype}, but got {other.dtype}")


@dataclass
class SGD(Optimizer):
    """g ← g + weight_decay·p;  v ← momentum·v + g;  p ← p − lr·v.

    With nesterov, p ← p − lr·(g + momentum·v).  Without momentum, p ← p − lr·g.
    """

    kind: ClassVar[str] = "sgd"
    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise SettingError("sgd: nesterov needs a momentum above 0, such as 0.9")

    def _move(self, name: str, p: np.ndarray, g: np.ndarray, lr: float) -> None:
        g = g + self.weight_decay * p if self.weight_decay else g
        if self.momentum:
            v = self._slot("velocity", name, p)
            v[...] = self.momentum * v + g
            g = g + self.momentum * v if self.nesterov else v
        p -= lr * g


@dataclass
class RMSProp(Optimizer):
    """s ← alpha·s + (1 − alpha)·g²;  p ← p − lr·g/(√s + eps).

    centered takes the mean's square off s: m ← alpha·m + (1 − alpha)·g, √(s − m²).
    momentum: v ← momentum·v + g/(√s + eps), p ← p − lr·v.  weight_decay adds to g.
    Source: Tieleman & Hinton 2012; Graves 2013 (centered).
    """

    kind: ClassVar[str] = "rmsprop"
    slots: ClassVar[tuple[str, ...]] = ("square", "mean", "velocity")

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0

    def _move(self, name: str, p: np.ndarray, g: np.ndarray, lr: float) -> None:
        g = g + self.weight_decay * p if self.weight_decay else g
        s = self._slot("square", name, p)
        s[...] = self.alpha * s + (1 - self.alpha) * g * g
        spread = np.sqrt(s - self._mean_square(name, p, g)) + self.eps
        if not self.momentum:
            p -= lr * g / spread
            return
        v = self._slot("velocity", name, p)
        v[...] = self.momentum * v + g / spread
        p -= lr * v

    def _mean_square(self, name: str, p: np.ndarray, g: np.ndarray) -> np.ndarray | float:
        if not self.centered:
            return 0.0
        m = self._slot("mean", name, p)
        m[...] = self.alpha * m + (1 - self.alpha) * g
        return m * m


@dataclass
class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  p ← p − lr·m̂/(√v̂ + eps).

    m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ) at step t.  weight_decay adds weight_decay·p to g.
    Source: Kingma & Ba 2015.
    """

    kind: ClassVar[str] = "adam"
    slots: ClassVar[tuple[str, ...]] = ("first", "second")

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        if not all(0 <= beta < 1 for beta in self.betas):
            raise SettingError(f"{self.kind}: betas are {self.betas}; they must be ≥ 0 and < 1")

    def _move(self, name: str, p: np.ndarray, g: np.ndarray, lr: float) -> None:
        self._adapt(name, p, g + self.weight_decay * p if self.weight_decay else g, lr)

    def _adapt(self, name: str, p: np.ndarray, g: np.ndarray, lr: float) -> None:
        first, second = self.betas
        m, v = self._slot("first", name, p), self._slot("second", name, p)
        m[...] = first * m + (1 - first) * g
        v[...] = second * v + (1 - second) * g * g
        root = sqrt(1 - second**self.steps)
        p -= lr / (1 - first**self.steps) * m / (np.sqrt(v) / root + self.eps)


@dataclass
class AdamW(Adam):
    """Adam with the decay beside it: p ← p − lr·weight_decay·p, then Adam's step on g alone.

    Source: Loshchilov & Hutter 2019.
    """

    kind: ClassVar[str] = "adamw"

    weight_decay: float = 1e-2

    def _move(self, name: str, p: np.ndarray, g: np.ndarray, lr: float) -> None:
        p *= 1 - lr * self.weight_decay
        self._adapt(name, p, g, lr)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}


def named(name: str, **settings: Any) -> Optimizer:
    """The optimizer of that name; SettingError lists the names, or the settings it has."""
    kind = choose(OPTIMIZERS, name, "optimizer")
    known = {f.name: f for f in fields(kind) if f.init}
    for key in settings:
        choose(known, key, f"setting of {name}")
    return kind(**settings)
