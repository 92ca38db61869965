"""One training run from the first line printed to the last: new, or gone on with."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import typer

import convgrad
from convgrad.cli import console, progress
from convgrad.errors import TrainingError
from convgrad.nn import losses, models
from convgrad.nn.data import source
from convgrad.nn.data.dataset import Dataset
from convgrad.nn.gradient_check import check_gradients
from convgrad.nn.training import checkpoint
from convgrad.nn.training import run as training
from convgrad.nn.training.blas_threads import using_blas_threads
from convgrad.nn.training.curves import save_learning_curve
from convgrad.nn.training.evaluation import accuracy, confusion, format_confusion, outputs, percent
from convgrad.nn.training.folder import locked, new_folder
from convgrad.nn.training.run import NonFiniteError, Run
from convgrad.nn.training.settings import Settings
from convgrad.nn.training.state import differences, restored, snapshot, trained

CURVE = "learning-curve.png"
FAILED = "failed.safetensors"
CHECKED_SAMPLES, CHECKED_ENTRIES = 4, 20


def begin(asked: dict[str, Any], out: Path | None, every: int | None, check: bool) -> None:
    """Train anew; what cannot work is refused before a folder is made."""
    settings = Settings(**asked)
    dataset = source.load(settings.data)
    spec = models.resolve(settings.model, dataset.input_shape, len(dataset.classes))
    with using_blas_threads(settings.threads):
        _rehearse(settings, spec, dataset)
        run = training.start(settings, spec, dataset)
        _introduce(run, dataset)
        if check:
            _check_gradients(run)
        folder = new_folder(out)
        with locked(folder):
            _train(run, dataset, folder, every)


def go_on(folder: Path, asked: dict[str, Any], every: int | None, check: bool) -> None:
    """Resume the run in `folder` where its checkpoint stands."""
    checkpoint.read_latest(folder)  # a folder that holds no run is refused before it is touched
    with locked(folder):
        saved, warning = checkpoint.read_latest(folder)
        if warning:
            console.warn(warning)
        run, dataset = restored(saved, asked, source.load)
        with using_blas_threads(run.settings.threads):
            for difference in differences(saved):
                console.warn(f"{difference}; the last bits may come out differently")
            _introduce(run, dataset)
            if check:
                _check_gradients(run)
            _train(run, dataset, folder, every)


def _rehearse(settings: Settings, spec: dict[str, Any], dataset: Dataset) -> None:
    """One step of a throw-away run: settings that do not go together fail here."""
    small = replace(settings, limit=settings.batch_size, validation=0.0)
    training.one_step(training.start(small, spec, dataset))


def _introduce(run: Run, dataset: Dataset) -> None:
    settings, samples = run.settings, run.samples
    held = f", {len(samples.held_x):,} held out" if len(samples.held_x) else ""
    console.say(f"{dataset!r}")
    console.say(str(run.model))
    console.say(
        f"training on {len(samples.x):,} images{held}: {settings.epochs} epochs of "
        f"{run.history.steps_per_epoch} steps, {settings.optimizer}, lr {run.optimizer.lr:g} "
        f"({settings.schedule}), {settings.loss}, seed {settings.seed}"
    )
    if run.step:
        console.say(f"going on after step {run.step} of {run.total_steps}")


def _check_gradients(run: Run) -> None:
    """Central differences of a few entries of each parameter, for a small batch; or no training."""
    labels = run.samples.y[:CHECKED_SAMPLES]
    report = check_gradients(
        run.model,
        run.samples.normalised(run.samples.x[:CHECKED_SAMPLES]),
        losses.target_for(run.loss, labels, len(run.samples.classes), "float64"),
        run.loss,
        entries=CHECKED_ENTRIES,
    )
    if not report.passed:
        raise TrainingError(f"{report}; not trained, for its gradients would be wrong")
    console.say(str(report))


def _train(run: Run, dataset: Dataset, folder: Path, every: int | None) -> None:
    """Train to the end, or say how to go on; then judge and show the result."""
    latest, previous = folder / checkpoint.CHECKPOINT, folder / checkpoint.PREVIOUS

    def save(run: Run) -> None:
        checkpoint.write(latest, snapshot(run), previous)

    with _signals_noted() as noted, progress.shown(run) as after_step:
        try:
            training.train(
                run,
                save,
                save_every=every,
                on_step=after_step,
                should_stop=lambda: bool(noted),
            )
        except NonFiniteError as error:
            checkpoint.write(folder / FAILED, snapshot(run))
            raise NonFiniteError(
                f"{error}; the state before that step is in {folder / FAILED}"
            ) from error
    if noted and run.step < run.total_steps:
        again = console.command("train", "--resume", folder)
        console.say(f"stopped after step {run.step} of {run.total_steps}, which is saved; go on:")
        console.say(f"  {again}")
        raise typer.Exit(128 + noted[0])
    _finish(run, dataset, folder)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM only leave a note, so that no step is cut; a second one ends at once."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(run: Run, dataset: Dataset, folder: Path) -> None:
    """Judge on the test set, save model and picture, and say what can be done next."""
    scores = outputs(run.model, run.samples.normalised(dataset.x_test))
    guess = scores.argmax(axis=1)
    share = accuracy(dataset.y_test, guess)
    checkpoint.write(folder / checkpoint.MODEL, trained(run))
    save_learning_curve(run.history, folder / CURVE, f"{run.settings.model} on {dataset.name}")
    table = confusion(dataset.y_test, guess, len(dataset.classes))
    console.say(f"\ntrained in {run.history.seconds:.1f} s; on the test images:\n")
    console.say(format_confusion(table, dataset.classes))
    console.say()
    console.say(
        console.columns_of(
            [
                ("saved model", str(folder / checkpoint.MODEL)),
                ("learning curve", str(folder / CURVE)),
            ]
        )
    )
    _suggest(run, folder)
    wrong = int((dataset.y_test != guess).sum())
    console.say(f"\n{len(guess) - wrong} of {len(guess)} images it never saw are right")
    console.say(f"test accuracy: {percent(share)}")


def _suggest(run: Run, folder: Path) -> None:
    """The next commands to try, as they work from the current folder."""
    samples = _samples_folder()
    picture = console.quoted(str(samples)) if samples else "PICTURE-OR-FOLDER"
    lines = [
        f"{console.command('predict', folder)} {picture}",
        console.command("train", "--data", run.settings.data, "--model", "residual"),
        console.command("plan", "weight_grad", "--x", "8,3,32,32", "--w", "16,3,3,3"),
    ]
    console.say("\nnext, try:")
    for line in lines:
        console.say(f"  {line}")


def _samples_folder() -> Path | None:
    """The repository's sample pictures, if this is a clone, relative to here where possible."""
    folder = Path(convgrad.__file__).parent.parent / "samples"
    if not folder.is_dir():
        return None
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
