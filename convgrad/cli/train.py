"""`convgrad train`: train a network, or go on with a run that was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from convgrad.cli import training_run
from convgrad.errors import TrainingError
from convgrad.extras import require
from convgrad.nn.training.settings import Settings


def _option(text: str, default: object = None) -> OptionInfo:
    """An option whose absence can be told from its default, which the help names."""
    shown = text if default is None else f"{text} (default: {default})"
    return typer.Option(help=shown, show_default=False)


_DATA = "digits, digits:by-writer, mnist:FOLDER, fashion-mnist:FOLDER or cifar10:FOLDER"
_EVERY = "steps between checkpoints (default: at the end of each epoch and after each minute)"


def train(
    data: Annotated[str | None, _option(_DATA, Settings.data)] = None,
    model: Annotated[
        str | None, _option("a model's name, a TOML file, or a short list", Settings.model)
    ] = None,
    epochs: Annotated[
        int | None, _option("passes over the training samples", Settings.epochs)
    ] = None,
    batch_size: Annotated[int | None, _option("samples in a step", Settings.batch_size)] = None,
    optimizer: Annotated[
        str | None, _option("sgd, rmsprop, adam or adamw", Settings.optimizer)
    ] = None,
    lr: Annotated[
        float | None, _option("learning rate (default: what suits the optimizer and the loss)")
    ] = None,
    momentum: Annotated[float | None, _option("momentum (default: 0.9 for sgd)")] = None,
    weight_decay: Annotated[float | None, _option("weight decay", Settings.weight_decay)] = None,
    schedule: Annotated[
        str | None, _option("how the learning rate changes", Settings.schedule)
    ] = None,
    loss: Annotated[
        str | None, _option("the loss (default: what suits the model's last layer)")
    ] = None,
    shift: Annotated[
        int | None, _option("move training images by up to so many pixels", Settings.shift)
    ] = None,
    validation: Annotated[
        float | None,
        _option("share of the training samples that is only looked at", Settings.validation),
    ] = None,
    limit: Annotated[int | None, _option("use only the first so many training samples")] = None,
    seed: Annotated[
        int | None, _option("for weights, order, shifts and dropout", Settings.seed)
    ] = None,
    algorithm: Annotated[
        str | None, _option("how convolutions are computed", Settings.algorithm)
    ] = None,
    precision: Annotated[
        str | None, _option("strict, standard or fast", Settings.precision)
    ] = None,
    dtype: Annotated[str | None, _option("float16, float32 or float64", Settings.dtype)] = None,
    threads: Annotated[
        int | None, _option("threads of NumPy's matrix products", Settings.threads)
    ] = None,
    out: Annotated[Path | None, _option("the run's new folder", "runs/<date-time>")] = None,
    resume: Annotated[Path | None, _option("go on with the run in this folder")] = None,
    checkpoint_every: Annotated[int | None, _option(_EVERY)] = None,
    check_gradients: Annotated[
        bool,
        typer.Option("--check-gradients", help="compare with central differences before training"),
    ] = False,
) -> None:
    """Train a network; every gradient is computed by convgrad."""
    asked = _named(
        data=data,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        loss=loss,
        shift=shift,
        validation=validation,
        limit=limit,
        seed=seed,
        algorithm=algorithm,
        precision=precision,
        dtype=dtype,
        threads=threads,
    )
    if checkpoint_every is not None and checkpoint_every < 1:
        raise TrainingError(f"--checkpoint-every is {checkpoint_every}; it must be at least 1 step")
    if resume is not None and out is not None:
        raise TrainingError("--resume goes on in the run's own folder; leave --out away")
    require("safetensors", "matplotlib", extra="app", purpose="training a model")
    if resume is None:
        training_run.begin(asked, out, checkpoint_every, check_gradients)
    else:
        training_run.go_on(resume, asked, checkpoint_every, check_gradients)


def _named(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
