"""`convgrad predict`: what a trained model sees in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from convgrad.cli import console
from convgrad.errors import ConvError
from convgrad.extras import require
from convgrad.nn.data.picture import image_files, prepare, show
from convgrad.nn.training import checkpoint
from convgrad.nn.training.classifier import Classifier, classifier
from convgrad.nn.training.evaluation import percent

SOME_FAILED = 1


@dataclass(frozen=True)
class Answer:
    """A picture, what the model saw of it, and the classes, best first, with their shares."""

    path: Path
    seen: np.ndarray
    best: list[tuple[str, float]]


def predict(
    run: Annotated[Path, typer.Argument(help="a run's folder, or a model.safetensors")],
    pictures: Annotated[Path, typer.Argument(help="a PNG or JPEG picture, or a folder of them")],
) -> None:
    """Say what is in a picture, or in each picture of a folder, and how sure that is.

    A folder's bad files are named and passed over; the exit code is then 1.
    """
    require("safetensors", "PIL", extra="app", purpose="looking at pictures")
    saved, where = checkpoint.read_model(run)
    judge = classifier(saved)
    files = image_files(pictures)
    console.say(f"model: {where}, after {saved.facts['epochs_done']} epochs")
    console.say(f"the shares are {judge.meaning}")
    if pictures.is_dir():
        _show_all(judge, files)
    else:
        _show_one(_answer(judge, files[0]))


def _answer(judge: Classifier, path: Path) -> Answer:
    seen = prepare(path, judge.model.input_shape)
    shares = judge.shares(seen[None])[0]
    order = np.argsort(-shares, kind="stable")[:3]
    return Answer(path, seen, [(judge.classes[i], float(shares[i])) for i in order])


def _show_one(answer: Answer) -> None:
    console.say(f"\n{answer.path}, as the model saw it:\n")
    console.say("\n".join(f"  |{line}|" for line in show(answer.seen).splitlines()))
    (name, share), *others = answer.best
    rest = ", ".join(f"{other} {percent(part)}" for other, part in others)
    console.say(f"\nit is: {name} ({percent(share)}); then {rest}")


def _show_all(judge: Classifier, files: list[Path]) -> None:
    """A picture and a line for each file, and a table of all at the end."""
    rows, failures = [], 0
    for path in files:
        try:
            answer = _answer(judge, path)
        except ConvError as error:
            console.fail(str(error))
            failures += 1
            continue
        rows.append((path.name, *(f"{name} {percent(part):>7}" for name, part in answer.best)))
        console.say(f"\n{path.name}")
        console.say("\n".join(f"  |{line}|" for line in show(answer.seen).splitlines()))
    if rows:
        console.say("\n" + console.columns_of([("picture", "it is", "   then"), *rows]))
    if failures:
        console.fail(f"{failures} of {len(files)} pictures could not be judged")
        raise typer.Exit(SOME_FAILED)
