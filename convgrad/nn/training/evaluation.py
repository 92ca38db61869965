"""How good a trained model is: accuracy and the confusion table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convgrad.errors import ShapeError
from convgrad.nn.network import Model


def outputs(model: Model, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """The model's outputs as float64, in batches and without training behaviour.

    x (N, *input), normalised → (N, classes).
    """
    dtype = np.dtype(model.dtype)
    parts = [
        np.asarray(model.forward(x[i : i + batch_size].astype(dtype), training=False), np.float64)
        for i in range(0, len(x), batch_size)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """The share Σ[truth = guess] / N, from 0 to 1; ShapeError if there is nothing to compare."""
    if truth.shape != guess.shape or truth.size == 0:
        raise ShapeError(
            f"accuracy: truth is {truth.shape} and guess is {guess.shape}; "
            "pass the same number of labels, at least one"
        )
    return float(np.mean(truth == guess))


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """table[t, g]: how many samples of class t were taken for class g.  (classes, classes)"""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, guess), 1)
    return table


def format_confusion(table: np.ndarray, names: Sequence[str]) -> str:
    """The table in plain characters: rows are the truth, columns the guess, `.` is none."""
    name_width = max(len("truth"), *(len(name) for name in names))
    width = max(2, len(str(table.max(initial=0))), *(min(len(name), 7) for name in names)) + 1
    head = "truth".ljust(name_width) + "".join(name[:7].rjust(width) for name in names)
    lines = [head + "   right"]
    for name, row, total, right in zip(
        names, table, table.sum(axis=1), table.diagonal(), strict=True
    ):
        cells = "".join((str(count) if count else ".").rjust(width) for count in row)
        share = f"{right / total:8.1%}".replace("%", " %") if total else "       -"
        lines.append(name.ljust(name_width) + cells + share)
    return "\n".join(lines)


def percent(share: float) -> str:
    """0.9861 → `98.6 %`; never rounded up to 100.0 %."""
    tenths = int(share * 1000 + 0.5)
    if share < 1 and tenths == 1000:
        tenths = 999
    return f"{tenths // 10}.{tenths % 10} %"
