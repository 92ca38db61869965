"""Training: one step, many steps, and the state that makes a cut run go on to the same bits.

A step is  loss, dy = ℓ(model(x), target);  model.backward(dy);  params ← optimizer(params, grads).
All that the next step depends on is in the parameters, the buffers, the optimizer's state, the
model's generator (dropout) and the number of steps done: batches and shifts are pure functions of
seed and step (batches.py).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convgrad.errors import TrainingError
from convgrad.nn import losses, optimizers, schedules
from convgrad.nn.data.dataset import Dataset
from convgrad.nn.description import model_from_spec
from convgrad.nn.losses import Loss
from convgrad.nn.network import Model
from convgrad.nn.optimizers import Optimizer
from convgrad.nn.schedules import Schedule
from convgrad.nn.training import batches
from convgrad.nn.training.evaluation import accuracy, outputs
from convgrad.nn.training.history import History
from convgrad.nn.training.settings import Settings

DEFAULT_LOSS = "softmax_cross_entropy"


class NonFiniteError(TrainingError):
    """The loss or a parameter became NaN or infinite."""


@dataclass(frozen=True)
class Samples:
    """The training samples of a run, those it holds out, and how both are normalised."""

    x: np.ndarray
    y: np.ndarray
    held_x: np.ndarray
    held_y: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    classes: tuple[str, ...]
    digest: str

    def normalised(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.std


@dataclass
class Run:
    """A training run between two steps: all that its future depends on."""

    settings: Settings
    spec: dict[str, Any]
    model: Model
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    samples: Samples
    history: History

    @property
    def step(self) -> int:
        return len(self.history.losses)

    @property
    def total_steps(self) -> int:
        return self.settings.epochs * self.history.steps_per_epoch


def start(settings: Settings, spec: dict[str, Any], dataset: Dataset) -> Run:
    """A new run at step 0, with nothing left open in its settings."""
    settings = settings.resolved(spec.get("loss", DEFAULT_LOSS))
    samples = _samples(settings, dataset)
    model = model_from_spec(
        spec,
        seed=settings.seed,
        dtype=settings.dtype,
        algorithm=settings.algorithm,
        precision=settings.precision,
    )
    _check_fit(model, dataset)
    asked = {
        "lr": settings.lr,
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
    }
    return Run(
        settings=settings,
        spec=spec,
        model=model,
        loss=losses.named(settings.loss or DEFAULT_LOSS),
        optimizer=optimizers.named(
            settings.optimizer,
            **{name: value for name, value in asked.items() if value is not None},
        ),
        schedule=schedules.named(settings.schedule),
        samples=samples,
        history=History(len(samples.x), settings.batch_size),
    )


def train(
    run: Run,
    save: Callable[[Run], None],
    *,
    save_every: int | None = None,
    save_seconds: float = 60.0,
    on_step: Callable[[Run], None] = lambda run: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Do the steps that are left and save on the way; False if `should_stop` ended it early.

    Saves before the first step, after each epoch, after `save_every` steps, after `save_seconds`
    and at the end. Raises NonFiniteError, with the last saved state untouched.
    """
    save(run)
    saved_at, saved_step = time.monotonic(), run.step
    while run.step < run.total_steps and not should_stop():
        one_step(run)
        on_step(run)
        due = run.step % run.history.steps_per_epoch == 0
        due = due or (save_every is not None and run.step % save_every == 0)
        if due or time.monotonic() - saved_at > save_seconds:
            _check_finite(run, run.model.parameters(), "the parameter", *_batch(run))
            save(run)
            saved_at, saved_step = time.monotonic(), run.step
    if saved_step != run.step:
        _check_finite(run, run.model.parameters(), "the parameter", *_batch(run))
        save(run)
    return run.step == run.total_steps


def one_step(run: Run) -> None:
    """Forward, loss, backward, update; after an epoch's last batch the held-out samples too."""
    began = time.perf_counter()
    x, y = _batch(run)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # judged just below
        output = run.model.forward(x, training=True)
        loss, dy = run.loss.value_and_grad(output, _target(run, y))
        if not np.isfinite(loss):
            raise _diverged(run, x, y, f"the loss became {loss}")
        run.model.backward(dy, need_input=False)
        gradients = run.model.gradients()
        _check_finite(run, gradients, "the gradient of", x, y)
        factor = run.schedule(run.step, run.total_steps)
        run.optimizer.step(run.model.parameters(), gradients, lr=run.optimizer.lr * factor)
    run.history.losses.append(float(loss))
    guess = np.asarray(output, np.float32).argmax(axis=1)
    run.history.correct.append(int(np.sum(guess == y)))
    if run.step % run.history.steps_per_epoch == 0 and len(run.samples.held_x):
        run.history.validation.append(_held_out_accuracy(run))
    run.history.seconds += time.perf_counter() - began


def _samples(settings: Settings, dataset: Dataset) -> Samples:
    x, y = dataset.x_train[: settings.limit], dataset.y_train[: settings.limit]
    kept, held = batches.hold_out(y, settings.validation, settings.seed)
    sha = hashlib.sha256(np.ascontiguousarray(x).tobytes())
    sha.update(np.ascontiguousarray(y).tobytes())
    return Samples(
        x=x[kept],
        y=y[kept],
        held_x=x[held],
        held_y=y[held],
        mean=np.asarray(dataset.mean, np.float32),
        std=np.asarray(dataset.std, np.float32),
        classes=tuple(dataset.classes),
        digest=sha.hexdigest(),
    )


def _check_fit(model: Model, dataset: Dataset) -> None:
    image, classes = dataset.x_train.shape[1:], len(dataset.classes)
    if tuple(model.input_shape) != image:
        raise TrainingError(
            f"the model takes {tuple(model.input_shape)}, but {dataset.name} has images of "
            f"{image}; change the model's input_shape, or pass other --data"
        )
    if tuple(model.output_shape) != (classes,):
        raise TrainingError(
            f"the model gives {tuple(model.output_shape)} numbers, but {dataset.name} has "
            f"{classes} classes; its last layer must give ({classes},)"
        )


def _batch(run: Run) -> tuple[np.ndarray, np.ndarray]:
    settings, samples = run.settings, run.samples
    epoch, number = divmod(run.step, run.history.steps_per_epoch)
    order = batches.epoch_order(len(samples.x), settings.seed, epoch)
    chosen = batches.batch_of(order, settings.batch_size, number)
    x = batches.shifted(samples.x[chosen], settings.shift, settings.seed, run.step)
    return samples.normalised(x).astype(run.model.dtype), samples.y[chosen]


def _target(run: Run, labels: np.ndarray) -> np.ndarray | None:
    return losses.target_for(run.loss, labels, len(run.samples.classes), run.settings.dtype)


def _held_out_accuracy(run: Run) -> float:
    scores = outputs(run.model, run.samples.normalised(run.samples.held_x))
    return accuracy(run.samples.held_y, scores.argmax(axis=1))


def _check_finite(
    run: Run, arrays: dict[str, np.ndarray], what: str, x: np.ndarray, y: np.ndarray
) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise _diverged(run, x, y, f"{what} {name} became infinite or not a number")


def _diverged(run: Run, x: np.ndarray, y: np.ndarray, what: str) -> NonFiniteError:
    where = run.model.first_nonfinite(x, run.loss, _target(run, y))
    layer = f"; where a number first is not finite: {where}" if where else ""
    epoch = run.step // run.history.steps_per_epoch + 1
    return NonFiniteError(
        f"step {run.step + 1} (epoch {epoch}): {what}{layer}. "
        f"Start a new run with a smaller --lr than {run.optimizer.lr:g}"
    )
