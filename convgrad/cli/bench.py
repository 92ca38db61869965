"""`convgrad bench`: check every result, then time convgrad beside its peers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

import convgrad as cg
from convgrad.algorithm import DIRECTIONS
from convgrad.bench import limits, machine, peers, report, results, suites
from convgrad.bench.case import Case
from convgrad.bench.measuring import Bench
from convgrad.bench.peers import ours
from convgrad.bench.results import Record
from convgrad.cli import console
from convgrad.nn.training.blas_threads import using_blas_threads

WRONG = 1
BUDGET, QUICK_BUDGET = 0.4, 0.1  # seconds of timing for each library in each case
QUICK_SECONDS = 105  # after which no further case is begun


def bench(
    suite: Annotated[str, typer.Option(help="networks or imaging")] = "networks",
    layers: Annotated[
        str | None, typer.Option(help="only these: classes or parts of names, with commas")
    ] = None,
    directions: Annotated[str, typer.Option(help="maps, with commas")] = ",".join(DIRECTIONS),
    dtypes: Annotated[
        str | None, typer.Option(help="dtypes, with commas (default: float32,float64)")
    ] = None,
    precision: Annotated[str, typer.Option(help="strict, standard or fast")] = "standard",
    algorithm: Annotated[str, typer.Option(help="auto, or an algorithm's name")] = "auto",
    layout: Annotated[str, typer.Option(help="convgrad's layout")] = "channels_first",
    threads: Annotated[
        int | None, typer.Option(min=1, help="threads, of everybody (default: convgrad's)")
    ] = None,
    peer: Annotated[
        str, typer.Option("--peers", help="pytorch, jax, scipy with commas, all or none")
    ] = "all",
    every: Annotated[int, typer.Option(help="only every so-many-th layer")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="layers of each class in turn, for two minutes")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(help=f"seconds for each library and case (default: {BUDGET})")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="write the record here")] = None,
) -> None:
    """Check the maps of a suite's layers, time them beside PyTorch, JAX and SciPy, check again."""
    began = time.monotonic()
    chosen = suites.chosen(suites.layers_of(suite), layers, every)
    cases = suites.cases(
        suites.in_classes(chosen) if quick else chosen,
        suites.directions(directions),
        suites.dtypes(dtypes) if dtypes else suites.dtypes_of(suite),
    )
    settings = ours.Settings(precision, algorithm, layout)
    for case in cases[:1]:
        settings.check(case)
    number = threads or cg.get_num_threads()
    cg.set_num_threads(number)
    with using_blas_threads(number):
        found, left_out = peers.installed(peers.names(peer), number)
        for sentence in left_out.values():
            console.warn(sentence)
        able = limits.measured(number)
        each = budget or (QUICK_BUDGET if quick else BUDGET)
        record = Record(
            suite, datetime.now(UTC).isoformat(timespec="seconds"), machine.machine(),
            machine.versions(), {**asdict(settings), "threads": number, "budget": each},
            asdict(able) if able else None, left_out,
        )  # fmt: skip
        _introduce(record)
        run = Bench(settings, found, able, each)
        _measure(run, cases, record, began + QUICK_SECONDS if quick else None)
    for table in report.tables(record):
        console.say(f"\n{table.text()}")
    if json is not None:
        results.write(record, json)
    wrong = [row for row in record.rows if row.wrong]
    if wrong:
        console.fail(f"{len(wrong)} results of convgrad were wrong, and were not timed")
        raise typer.Exit(WRONG)


def _introduce(record: Record) -> None:
    where, able = record.machine, record.limits
    console.say(f"{where['processor']}, {where['instruction_set']}; {record.date}")
    console.say(", ".join(f"{name} {number}" for name, number in record.versions.items()))
    if able:
        peaks = ", ".join(f"{v / 1e9:.0f} GFLOP/s {name}" for name, v in able["peak"].items())
        slowest = min(able["bandwidth"].values())
        console.say(f"{able['threads']} threads: {peaks}; {slowest / 1e9:.0f} GB/s copied")
    console.say("a ratio is the peer's time by convgrad's: above 1 convgrad is faster")


def _measure(run: Bench, cases: Sequence[Case], record: Record, until: float | None) -> None:
    shown = ""
    for row in run.rows(cases):
        record.rows.append(row)
        if (heading := report.heading(row)) != shown:
            console.say(heading)
            shown = heading
        console.say(report.line(row), style="red" if row.wrong else "")
        if until is not None and time.monotonic() > until:
            console.warn(f"the time is up: {len(cases) - len(record.rows)} cases are left out")
            return
