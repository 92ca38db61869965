"""Losses: one number for a batch, and its gradient by the model's output.

Every loss is a frozen dataclass with `value_and_grad(output, target) -> (float, dy)`.  `takes`
says what the target is: "labels" (N,) of integers, "values" in the output's shape, or "nothing".
Values are added up in float64; dy has the output's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.nn.layers.activations import sigmoid
from convgrad.nn.names import choose

Takes = Literal["labels", "values", "nothing"]


class Loss(Protocol):
    """What a loss has: the kind of target, and value_and_grad."""

    takes: ClassVar[Takes]

    def value_and_grad(
        self, output: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]: ...


@dataclass(frozen=True)
class SumLoss:
    """L = Σ y; dy = 1.  Needs no target."""

    takes: ClassVar[Takes] = "nothing"
    name: ClassVar[str] = "sum"

    def value_and_grad(
        self, output: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        return float(output.sum(dtype=np.float64)), np.ones_like(output)


@dataclass(frozen=True)
class MeanLoss:
    """L = Σ y / (number of entries); dy = 1/(number of entries).  Needs no target."""

    takes: ClassVar[Takes] = "nothing"
    name: ClassVar[str] = "mean"

    def value_and_grad(
        self, output: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        _check_not_empty(self.name, output)
        return float(output.mean(dtype=np.float64)), np.full_like(output, 1 / output.size)


@dataclass(frozen=True)
class MSE:
    """With e = y − t, L = Σe²/(number of entries), or ½Σe²/N over a batch of N.

    reduction "mean": dy = 2e/(number of entries).
    reduction "half_sum_per_sample": dy = e/N, as the MATLAB DeepLearnToolbox has it.
    Raises ShapeError if the target does not have the output's shape.
    """

    reduction: Literal["mean", "half_sum_per_sample"] = "mean"

    takes: ClassVar[Takes] = "values"

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "half_sum_per_sample"):
            raise SettingError(
                f"mse: reduction is {self.reduction!r}; choose mean or half_sum_per_sample"
            )

    @property
    def name(self) -> str:
        return "mse" if self.reduction == "mean" else "half_mse"

    def value_and_grad(
        self, output: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        error = output - _values(self.name, output, target)
        scale = 1 / output.size if self.reduction == "mean" else 0.5 / len(output)
        value = float(np.square(error, dtype=np.float64).sum()) * scale
        return value, error * (2 * scale)


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """L = −(1/N) Σ_n log softmax(y_n)[t_n], from logits y (N, classes) and labels t (N,).

    dy = (softmax(y) − one_hot(t))/N.  The largest logit is taken off first, so that nothing
    overflows.  Raises ShapeError or DTypeError for labels that do not fit.
    """

    takes: ClassVar[Takes] = "labels"
    name: ClassVar[str] = "softmax_cross_entropy"

    def value_and_grad(
        self, output: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        labels = _labels(self.name, output, target)
        samples = np.arange(len(output))
        shifted = output - output.max(axis=1, keepdims=True)
        grown = np.exp(shifted)
        total = grown.sum(axis=1, keepdims=True)
        picked = shifted[samples, labels] - np.log(total[:, 0])
        dy = grown / total
        dy[samples, labels] -= 1
        return -float(picked.mean(dtype=np.float64)), dy * (1 / len(output))


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """L = mean of −t·log σ(y) − (1 − t)·log(1 − σ(y)), from logits y and targets t in [0, 1].

    Computed as max(y, 0) − y·t + log(1 + e^−|y|).  dy = (σ(y) − t)/(number of entries).
    Raises ShapeError if the target does not have the output's shape.
    """

    takes: ClassVar[Takes] = "values"
    name: ClassVar[str] = "binary_cross_entropy"

    def value_and_grad(
        self, output: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        t = _values(self.name, output, target)
        if ((t < 0) | (t > 1)).any():
            raise SettingError(
                f"{self.name}: targets must be from 0 to 1, but they go from {t.min()} to {t.max()}"
            )
        values = np.maximum(output, 0) - output * t + np.log1p(np.exp(-np.abs(output)))
        return float(values.mean(dtype=np.float64)), (sigmoid(output) - t) * (1 / output.size)


def one_hot(labels: np.ndarray, classes: int, dtype: str | np.dtype = "float32") -> np.ndarray:
    """t[n, labels[n]] = 1, all else 0: (N,) integers from 0 to classes − 1 → (N, classes).

    Raises DTypeError for labels that are not integers, ShapeError for labels out of range.
    """
    labels = _check_labels("one_hot", np.asarray(labels), classes)
    target = np.zeros((len(labels), classes), dtype)
    target[np.arange(len(labels)), labels] = 1
    return target


def target_for(
    loss: Loss, labels: np.ndarray, classes: int, dtype: str | np.dtype
) -> np.ndarray | None:
    """What `loss` takes as the target of a classifier: the labels, one-hot values, or nothing."""
    if loss.takes == "nothing":
        return None
    return labels if loss.takes == "labels" else one_hot(labels, classes, dtype)


LOSSES: dict[str, Callable[[], Loss]] = {
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "mse": MSE,
    "half_mse": lambda: MSE("half_sum_per_sample"),
    "sum": SumLoss,
    "mean": MeanLoss,
}


def named(name: str) -> Loss:
    """The loss of that name; SettingError lists the names there are."""
    return choose(LOSSES, name, "loss")()


def _check_not_empty(name: str, output: np.ndarray) -> None:
    if output.size == 0:
        raise ShapeError(f"{name}: the output {output.shape} is empty; it needs a sample or more")


def _values(name: str, output: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    _check_not_empty(name, output)
    if target is None:
        raise ShapeError(f"{name}: needs a target of shape {output.shape}, but got none")
    target = np.asarray(target)
    if target.shape != output.shape:
        raise ShapeError(
            f"{name}: the target has shape {target.shape}, but the output {output.shape}; "
            "make them equal (for class labels: losses.one_hot)"
        )
    return target.astype(output.dtype, copy=False)


def _labels(name: str, output: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    _check_not_empty(name, output)
    if output.ndim != 2:
        raise ShapeError(
            f"{name}: the output has shape {output.shape}, but (samples, classes) is needed; "
            "end the model with flatten and linear"
        )
    if target is None or np.shape(target) != (len(output),):
        came = "none" if target is None else f"shape {np.shape(target)}"
        raise ShapeError(f"{name}: needs labels of shape ({len(output)},), but got {came}")
    return _check_labels(name, np.asarray(target), output.shape[1])


def _check_labels(name: str, labels: np.ndarray, classes: int) -> np.ndarray:
    if not np.issubdtype(labels.dtype, np.integer):
        raise DTypeError(f"{name}: labels are {labels.dtype}; pass integers: .astype('int64')")
    if labels.ndim != 1:
        raise ShapeError(f"{name}: labels have shape {labels.shape}; one axis is needed")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ShapeError(
            f"{name}: labels go from {labels.min()} to {labels.max()}, but {classes} classes "
            f"are numbered 0 to {classes - 1}"
        )
    return labels
