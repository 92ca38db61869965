"""How the learning rate changes: schedule(step, total_steps) → factor of the learning rate.

step counts from 0 to total_steps − 1; steps beyond keep the last factor.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import cos, pi
from typing import Any, Protocol

from convgrad.errors import SettingError
from convgrad.nn.names import choose


class Schedule(Protocol):
    """A schedule is called with the step and the number of steps."""

    def __call__(self, step: int, total_steps: int) -> float: ...


@dataclass(frozen=True)
class Constant:
    """1, always."""

    def __call__(self, step: int, total_steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step:
    """gamma^⌊step/every⌋; without `every`, a third of all steps (PyTorch's StepLR)."""

    gamma: float = 0.1
    every: int | None = None

    def __post_init__(self) -> None:
        _check("step", "gamma", self.gamma, 0, 1)
        if self.every is not None and self.every < 1:
            raise SettingError(f"step: every is {self.every}; it must be a step or more")

    def __call__(self, step: int, total_steps: int) -> float:
        every = self.every or max(1, -(-total_steps // 3))
        return self.gamma ** (_inside(step, total_steps) // every)


@dataclass(frozen=True)
class Exponential:
    """final^(step/total_steps): from 1 down to `final` by the same factor at every step."""

    final: float = 0.01

    def __post_init__(self) -> None:
        _check("exponential", "final", self.final, 1e-300, 1)

    def __call__(self, step: int, total_steps: int) -> float:
        return self.final ** (_inside(step, total_steps) / total_steps)


@dataclass(frozen=True)
class Cosine:
    """final + (1 − final)·½(1 + cos πt), t from 0 to 1 after the warm-up.

    The warm-up is the first `warmup` part of all steps: (step + 1)/(its number of steps).
    Source: Loshchilov & Hutter 2017 (one period, no restart).
    """

    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check("cosine", "warmup", self.warmup, 0, 1)
        _check("cosine", "final", self.final, 0, 1)

    def __call__(self, step: int, total_steps: int) -> float:
        step, rising = _inside(step, total_steps), round(self.warmup * total_steps)
        if step < rising:
            return (step + 1) / rising
        return _cosine(1.0, self.final, (step - rising) / max(1, total_steps - rising))


@dataclass(frozen=True)
class OneCycle:
    """Up from `start` to 1 over the first `rise` part of the steps, then down to `final`.

    Both ways along half a cosine.  The defaults are those of PyTorch's OneCycleLR.
    Source: Smith & Topin 2018.
    """

    rise: float = 0.3
    start: float = 1 / 25
    final: float = 1 / 250_000

    def __post_init__(self) -> None:
        for name in ("rise", "start", "final"):
            _check("onecycle", name, getattr(self, name), 0, 1)

    def __call__(self, step: int, total_steps: int) -> float:
        step, top = _inside(step, total_steps), self.rise * total_steps - 1
        if step <= top:
            return _cosine(self.start, 1.0, step / top) if top > 0 else 1.0
        return _cosine(1.0, self.final, (step - top) / (total_steps - 1 - top))


Kind = type[Constant] | type[Step] | type[Exponential] | type[Cosine] | type[OneCycle]

SCHEDULES: dict[str, Kind] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "onecycle": OneCycle,
}


def named(name: str, **settings: Any) -> Schedule:
    """The schedule of that name; SettingError lists the names, or the settings it has."""
    kind = choose(SCHEDULES, name, "schedule")
    known = {f.name: f for f in fields(kind)}
    for key in settings:
        choose(known, key, f"setting of the schedule {name}")
    return kind(**settings)


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) / 2 * (1 + cos(pi * t))


def _inside(step: int, total_steps: int) -> int:
    if step < 0 or total_steps < 1:
        raise SettingError(
            f"a schedule needs step ≥ 0 and total_steps ≥ 1, but got {step} and {total_steps}"
        )
    return min(step, total_steps - 1)


def _check(schedule: str, name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingError(f"{schedule}: {name} is {value}; it must be from {low} to {high}")
