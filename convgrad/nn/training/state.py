"""A run as a file holds it: to arrays and facts, and back to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convgrad.errors import DataError, TrainingError
from convgrad.nn.data.dataset import Dataset
from convgrad.nn.training.checkpoint import Saved
from convgrad.nn.training.machine import numerics
from convgrad.nn.training.run import Run, start
from convgrad.nn.training.settings import continued, settings_from_dict


def snapshot(run: Run) -> Saved:
    """All of the run's state, for `checkpoint.write`."""
    groups = {
        "parameters": run.model.parameters(),
        "buffers": run.model.buffers(),
        "optimizer": run.optimizer.state(),
        "history": {
            "losses": np.array(run.history.losses, np.float64),
            "correct": np.array(run.history.correct, np.int64),
            "validation": np.array(run.history.validation, np.float64),
        },
    }
    saved = trained(run)
    arrays = {f"{group}/{name}": a for group, part in groups.items() for name, a in part.items()}
    facts = saved.facts | {
        "rng": run.model.rng.bit_generator.state,
        "seconds": run.history.seconds,
        "samples_digest": run.samples.digest,
        "numerics": numerics(),
    }
    return Saved(saved.arrays | arrays, facts)


def trained(run: Run) -> Saved:
    """The part of the state that predicting needs: model, buffers, normalisation, class names."""
    groups = {
        "parameters": run.model.parameters(),
        "buffers": run.model.buffers(),
        "samples": {"mean": run.samples.mean, "std": run.samples.std},
    }
    arrays = {f"{group}/{name}": a for group, part in groups.items() for name, a in part.items()}
    facts = {
        "settings": run.settings.as_dict(),
        "model": run.spec,
        "classes": list(run.samples.classes),
        "step": run.step,
        "epochs_done": run.history.epochs_done,
    }
    return Saved(arrays, facts)


def restored(
    saved: Saved, asked: dict[str, Any], load: Callable[[str], Dataset]
) -> tuple[Run, Dataset]:
    """The run that `snapshot` saved, and its data; `asked` are the settings that the caller named.

    Raises TrainingError if `asked` contradicts the run, or the data is not what it was.
    """
    settings = continued(settings_from_dict(saved.facts["settings"]), asked)
    dataset = _loaded(settings.data, load)
    run = start(settings, saved.facts["model"], dataset)
    if run.samples.digest != saved.facts["samples_digest"]:
        raise TrainingError(
            f"the training samples of {settings.data} are not those the run began with; "
            "pass --data with the place where the same files lie"
        )
    run.model.load(saved.group("parameters") | saved.group("buffers"))
    run.model.rng.bit_generator.state = saved.facts["rng"]
    run.optimizer.load_state(saved.group("optimizer"))
    for name, values in saved.group("history").items():
        getattr(run.history, name).extend(values.tolist())
    run.history.seconds = saved.facts["seconds"]
    _check_schedule(run, saved.facts["settings"]["epochs"])
    return run, dataset


def _loaded(data: str, load: Callable[[str], Dataset]) -> Dataset:
    try:
        return load(data)
    except DataError as error:
        raise TrainingError(
            f"{error}. The run was trained on {data}; if that lies elsewhere now, pass it as --data"
        ) from error


def _check_schedule(run: Run, epochs_before: int) -> None:
    """A longer run must have had the same learning rates so far, or it is not one run."""
    before = epochs_before * run.history.steps_per_epoch
    for step in range(run.step):
        if run.schedule(step, before) != run.schedule(step, run.total_steps):
            raise TrainingError(
                f"--epochs {run.settings.epochs}: the schedule '{run.settings.schedule}' depends "
                f"on the number of epochs ({epochs_before} so far), so the steps already done "
                "would have had other learning rates; start a new run with more epochs, "
                "or use --schedule constant for runs that may grow"
            )


def differences(saved: Saved) -> list[str]:
    """What may change bits and is not now as it was when the run was saved, in sentences."""
    before, now = saved.facts["numerics"], numerics()
    return [
        f"{name} was {before.get(name)} and is now {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
