"""The runs of `convgrad bench`: a suite, errors, a user's function, a record that was kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

import convgrad as cg
from convgrad.bench import accuracy, limits, machine, own, peers, picture, report, results, suites
from convgrad.bench.case import Case
from convgrad.bench.measuring import Bench
from convgrad.bench.peers.library import Library
from convgrad.bench.peers.ours import Settings
from convgrad.bench.results import Record, Row
from convgrad.cli import console
from convgrad.contracts.signature import Signature
from convgrad.nn.training.blas_threads import using_blas_threads
from convgrad.shapes import Layer

WRONG = 1
QUICK_SECONDS = 95  # after which no further case is begun
OWN_LAYERS = 6  # that a user's function is timed on, unless asked otherwise
OWN_MACS = 2e7  # of the largest of them


@dataclass(frozen=True)
class Request:
    """What was asked for, checked."""

    suite: str
    layers: Sequence[Layer]
    directions: tuple[str, ...]
    dtypes: tuple[str, ...] | None
    settings: Settings
    threads: int | None
    peers: tuple[str, ...]
    quick: bool
    budget: float

    def cases(self, dtypes: Sequence[str]) -> list[Case]:
        """The cases; refuses settings that cannot be before anything is measured."""
        select = suites.sample if self.quick else suites.cases
        cases = select(self.layers, self.directions, dtypes)
        for case in cases[:1]:
            self.settings.check(case)
        return cases


@dataclass(frozen=True)
class Outputs:
    """The files that are written beside what is printed."""

    json: Path | None
    picture: Path | None
    markdown: Path | None

    def write(self, record: Record) -> None:
        if self.json is not None:
            results.write(record, self.json)
        if self.markdown is not None:
            results.write_text(report.markdown(record), self.markdown)
        if self.picture is not None:
            picture.draw(record, self.picture)


def time_suite(request: Request, outputs: Outputs) -> None:
    """Time the suite's cases; exit code 1 if a result of convgrad was wrong."""
    began = time.monotonic()
    cases = request.cases(request.dtypes or suites.dtypes_of(request.suite))
    with _prepared(request) as (record, libraries, able):
        run = Bench(request.settings, libraries, able, request.budget)
        until = began + QUICK_SECONDS if request.quick else None
        _collect(run.rows(cases), record, len(cases), until)
    _finish(record, outputs)


def time_own(
    name: str, function: Callable[..., Any], signature: Signature, request: Request, out: Outputs
) -> None:
    """Time a user's function, called `name`; exit code 1 if a result of it was wrong."""
    dtype = (request.dtypes or ("float64",))[0]
    layers = own.spread(own.expressible(signature, request.layers, dtype), OWN_LAYERS, OWN_MACS)
    with _prepared(request, name) as (record, found, able):
        contest = own.Contest(name, function, signature, found, able, request.budget)
        _collect(contest.rows(layers, dtype), record, len(layers), None)
    _finish(record, out)


def measure_errors(request: Request, outputs: Outputs) -> None:
    """Compare every algorithm's results, and PyTorch's, with float64."""
    began = time.monotonic()
    cases = request.cases(request.dtypes or ("float32",))
    only = None if request.settings.algorithm == "auto" else request.settings.algorithm
    with _prepared(replace(request, peers=("PyTorch",)), limited=False) as (record, found, _):
        for case, findings in accuracy.findings(cases, found, only):
            record.errors.extend(findings)
            console.say(f"{case.layer.name} {case.dtype} {case.direction}: {len(findings)} results")
            if request.quick and time.monotonic() - began > QUICK_SECONDS:
                console.warn("the time is up: the other cases are left out")
                break
    _finish(record, outputs)


def show(path: Path, outputs: Outputs) -> None:
    """Show a record that was kept, and write what is asked for."""
    record = results.read(path)
    console.say(report.caption(record))
    shown = ""
    for row in record.rows:
        shown = _say(row, shown)
    for table in report.tables(record):
        console.say(f"\n{table.text()}")
    outputs.write(record)


@contextmanager
def _prepared(
    request: Request, subject: str = "convgrad", limited: bool = True
) -> Iterator[tuple[Record, list[Library], limits.Limits | None]]:
    """Everybody on the same number of threads, the machine measured, and an empty record."""
    number = request.threads or cg.get_num_threads()
    cg.set_num_threads(number)
    with using_blas_threads(number):
        found, left_out = peers.installed(request.peers, number)
        for sentence in left_out.values():
            console.warn(sentence)
        able = limits.measured(number) if limited else None
        settings = {**asdict(request.settings), "threads": number, "budget": request.budget}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        record = Record(
            request.suite, subject, date, machine.machine(), machine.versions(),
            settings, asdict(able) if able else None, left_out,
        )  # fmt: skip
        console.say(report.caption(record))
        yield record, found, able


def _collect(rows: Iterable[Row | str], record: Record, count: int, until: float | None) -> None:
    """Say each row and keep it, until the time is up."""
    shown = ""
    for number, row in enumerate(rows, start=1):
        if isinstance(row, str):
            console.say(row)
            continue
        record.rows.append(row)
        shown = _say(row, shown)
        if until is not None and time.monotonic() > until and number < count:
            console.warn(f"the time is up: {count - number} cases are left out")
            return


def _say(row: Row, shown: str) -> str:
    """Print a row, under its layer's heading if that isn't the one `shown`."""
    if (heading := report.heading(row)) != shown:
        console.say(heading)
    console.say(report.line(row), style="red" if row.wrong or row.alarm else "")
    return heading


def _finish(record: Record, outputs: Outputs) -> None:
    for table in report.tables(record):
        console.say(f"\n{table.text()}")
    outputs.write(record)
    wrong = [row for row in record.rows if row.wrong]
    if wrong:
        console.fail(f"{len(wrong)} of {len(record.rows)} results were wrong, and have no times")
        raise typer.Exit(WRONG)
