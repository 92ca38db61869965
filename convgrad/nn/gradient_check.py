"""Does backward give the gradient?  A whole network against central differences.

    ∂L/∂θ ≈ (L(θ + h) − L(θ − h)) / 2h

in float64, in training mode, with the same Dropout masks for every evaluation, at the model's
own parameters moved by a small random amount: fresh biases are exactly zero, and that is where
ReLU has its corner.

Relative error = |a − n| / max(|a|, |n|, floor), a by backward, n by differences.  The floor is
where rounding of L itself, 16·eps·|L|/h, is as large as the tolerance.

Corners: an entry that disagrees is looked at with h/2 too.  Where L is smooth, both steps give
the same slope, and the second difference S(h) = (L(θ+h) − 2L(θ) + L(θ−h))/h halves with h.
Across a corner of ReLU or MaxPool they do not.  If that departure is large enough to explain
the disagreement, the entry is counted as skipped, not as checked; too many skipped entries, or
a parameter of which none could be checked, fail the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from convgrad.errors import SettingError
from convgrad.nn.losses import Loss
from convgrad.nn.network import Model

MOVE = 1e-3
ROUNDING = 16 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class GradientReport:
    """What a gradient check found; `passed`, and str(report) in words.

    worst: the largest relative error among the checked entries, at `parameter`[index], where
    backward gave `analytic` and differences `numeric`.  unchecked: parameters of which every
    entry was skipped.
    """

    worst: float
    parameter: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int
    skipped: int
    unchecked: tuple[str, ...]
    tolerance: float
    max_skipped: float

    @property
    def passed(self) -> bool:
        tried = self.checked + self.skipped
        few_skipped = self.skipped <= self.max_skipped * tried and not self.unchecked
        return self.worst <= self.tolerance and few_skipped

    def __str__(self) -> str:
        place = f"{self.parameter}[{', '.join(map(str, self.index))}]"
        text = (
            f"gradient check {'passed' if self.passed else 'FAILED'}: {self.checked} entries "
            f"checked, worst relative error {self.worst:.1e} at {place} "
            f"(backward {self.analytic:.9g}, differences {self.numeric:.9g}; "
            f"tolerance {self.tolerance:.0e})"
        )
        if self.skipped:
            text += f"; {self.skipped} skipped where the loss has a corner (ReLU or MaxPool)"
        if self.unchecked:
            text += f"; no entry could be checked of {', '.join(self.unchecked)}"
        return text


@dataclass(frozen=True)
class Entry:
    """One compared entry: its place, both numbers and their relative error (None: a corner)."""

    parameter: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    error: float | None


def check_gradients(
    model: Model,
    x: np.ndarray,
    target: np.ndarray | None,
    loss: Loss,
    *,
    entries: int | None = None,
    step: float = 1e-5,
    tolerance: float = 1e-5,
    max_skipped: float = 0.1,
    seed: int = 0,
) -> GradientReport:
    """Compare every gradient of the model for the batch (x, target) with central differences.

    entries: how many entries of each parameter, drawn without repetition; None for all of them
    (each costs two forward passes).  The model itself is left as it is.
    Raises SettingError for a model without parameters or settings out of range.
    """
    if step <= 0 or tolerance <= 0 or not 0 <= max_skipped < 1:
        raise SettingError("a gradient check needs step > 0, tolerance > 0, 0 ≤ max_skipped < 1")
    if entries is not None and entries < 1:
        raise SettingError(f"entries is {entries}; check one entry of each parameter or more")
    rng = np.random.default_rng(seed)
    twin = _moved_twin(model, rng)
    evaluate = _evaluation(twin, x.astype(np.float64), target, loss)
    value, dy = evaluate()
    if not isfinite(value):
        raise SettingError(f"the loss is {value} already; a gradient check needs a finite one")
    twin.backward(dy, need_input=False)
    grads = {name: grad.copy() for name, grad in twin.gradients().items()}
    compare = _Comparison(lambda: evaluate()[0], value, step, tolerance)
    found = [
        compare.entry(name, param, index, float(grads[name][index]))
        for name, param in twin.parameters().items()
        for index in _places(param.shape, entries, rng)
    ]
    return _report(found, tolerance, max_skipped)


@dataclass(frozen=True)
class _Comparison:
    """Central differences of `loss()` as one entry of a parameter moves."""

    loss: Callable[[], float]
    value: float
    step: float
    tolerance: float

    def entry(self, name: str, param: np.ndarray, index: tuple[int, ...], analytic: float) -> Entry:
        slope, bend = self._difference(param, index, self.step)
        error = self._error(analytic, slope, self.step)
        if error <= self.tolerance:
            return Entry(name, index, analytic, slope, error)
        half, half_bend = self._difference(param, index, self.step / 2)
        half_error = self._error(analytic, half, self.step / 2)
        if half_error <= self.tolerance:
            return Entry(name, index, analytic, half, half_error)
        departure = max(abs(slope - half), abs(bend - 2 * half_bend))
        corner = departure >= abs(analytic - half) / 4
        return Entry(name, index, analytic, half, None if corner else half_error)

    def _difference(
        self, param: np.ndarray, index: tuple[int, ...], step: float
    ) -> tuple[float, float]:
        """The slope (L(θ+h) − L(θ−h))/2h and the bend (L(θ+h) − 2L(θ) + L(θ−h))/h."""
        own = float(param[index])
        param[index] = own + step
        above = self.loss()
        param[index] = own - step
        below = self.loss()
        param[index] = own
        return (above - below) / (2 * step), (above - 2 * self.value + below) / step

    def _error(self, analytic: float, numeric: float, step: float) -> float:
        floor = ROUNDING * max(abs(self.value), 1e-3) / step / self.tolerance
        difference = abs(analytic - numeric)
        return difference / max(abs(analytic), abs(numeric), floor) if isfinite(difference) else inf


def _moved_twin(model: Model, rng: np.random.Generator) -> Model:
    twin = model.astype(np.dtype(np.float64))
    if not twin.parameters():
        raise SettingError(f"{model.name} has no parameters; there is no gradient to check")
    for param in twin.parameters().values():
        param += MOVE * rng.standard_normal(param.shape)
    return twin


def _evaluation(
    twin: Model, x: np.ndarray, target: np.ndarray | None, loss: Loss
) -> Callable[[], tuple[float, np.ndarray]]:
    drawn = twin.rng.bit_generator.state

    def evaluate() -> tuple[float, np.ndarray]:
        twin.rng.bit_generator.state = drawn
        return loss.value_and_grad(twin.forward(x, training=True), target)

    return evaluate


def _places(
    shape: tuple[int, ...], entries: int | None, rng: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    if entries is None or entries >= np.prod(shape):
        yield from np.ndindex(shape)
        return
    for flat in np.sort(rng.choice(int(np.prod(shape)), entries, replace=False)):
        yield tuple(int(i) for i in np.unravel_index(flat, shape))


def _report(found: list[Entry], tolerance: float, max_skipped: float) -> GradientReport:
    compared = [entry for entry in found if entry.error is not None]
    worst = max(compared, key=lambda entry: entry.error or 0.0, default=found[0])
    error = inf if worst.error is None else worst.error
    names = {entry.parameter: None for entry in found}
    seen = {entry.parameter for entry in compared}
    return GradientReport(
        worst=error,
        parameter=worst.parameter,
        index=worst.index,
        analytic=worst.analytic,
        numeric=worst.numeric,
        checked=len(compared),
        skipped=len(found) - len(compared),
        unchecked=tuple(name for name in names if name not in seen),
        tolerance=tolerance,
        max_skipped=max_skipped,
    )
