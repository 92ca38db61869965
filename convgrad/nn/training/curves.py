"""The learning curve of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convgrad.errors import TrainingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from convgrad.nn.training.run import History

BLUE, ORANGE, GREY = "#1f5fa8", "#c4500a", "#9db4cf"


def save_learning_curve(history: History, path: Path, title: str) -> None:
    """Loss (of each batch, and its mean over each epoch) and accuracy, against the epoch.

    What is a mean over an epoch stands in its middle, what was measured after it at its end.
    Raises TrainingError if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_loss(left, history)
    _draw_accuracy(right, history)
    figure.suptitle(title)
    half_done = path.with_name(path.name + ".part")
    try:
        figure.savefig(half_done, format="png")
        half_done.replace(path)
    except OSError as error:
        raise TrainingError(
            f"cannot write {path}: {error.strerror or error}; make room, then resume the run, "
            "which draws it again"
        ) from error


def _draw_loss(axes: Axes, history: History) -> None:
    per_step = np.asarray(history.losses)
    at = np.arange(1, len(per_step) + 1) / history.steps_per_epoch
    axes.plot(at, per_step, color=GREY, linewidth=0.8, label="each batch")
    means = history.epoch_losses()
    axes.plot(_middles(means), means, "o-", color=BLUE, label="mean of each epoch")
    positive = per_step[per_step > 0]
    if positive.size and positive.max() > 30 * positive.min():
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="training loss")
    _finish(axes)


def _draw_accuracy(axes: Axes, history: History) -> None:
    share = 100 * np.asarray(history.epoch_accuracies())
    axes.plot(_middles(share), share, "o-", color=BLUE, label="training samples, while training")
    if history.validation:
        held = 100 * np.asarray(history.validation)
        epochs = np.arange(1, len(held) + 1)
        axes.plot(epochs, held, "s--", color=ORANGE, label="held-out samples, after each epoch")
    axes.set(xlabel="epoch", ylabel="accuracy (%)")
    _finish(axes)


def _middles(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.arange(len(values)) + 0.5


def _finish(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
