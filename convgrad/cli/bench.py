"""`convgrad bench`: check every result, then time convgrad beside its peers; its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convgrad.algorithm import DIRECTIONS
from convgrad.bench import own, peers, suites
from convgrad.bench.peers.ours import Settings
from convgrad.cli import bench_runs
from convgrad.cli.bench_runs import Request
from convgrad.errors import SettingError
from convgrad.extras import require

BUDGET, QUICK_BUDGET = 0.4, 0.06  # seconds of timing for each library in each case


def bench(
    target: Annotated[
        str | None,
        typer.Argument(help="a function of yours to time, as file.py:function", show_default=False),
    ] = None,
    contract: Annotated[
        str | None, typer.Option(help="how the function is called, such as aten.conv2d_input")
    ] = None,
    suite: Annotated[str, typer.Option(help="networks or imaging")] = "networks",
    layers: Annotated[
        str | None, typer.Option(help="only these: classes or parts of names, with commas")
    ] = None,
    every: Annotated[int, typer.Option(help="only every so-many-th layer")] = 1,
    directions: Annotated[str, typer.Option(help="maps, with commas")] = ",".join(DIRECTIONS),
    dtypes: Annotated[
        str | None, typer.Option(help="dtypes, with commas (default: what the suite is about)")
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
    quick: Annotated[
        bool, typer.Option("--quick", help="layers of each class in turn, for two minutes")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(help=f"seconds for each library and case (default: {BUDGET})")
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="measure errors against float64 instead of times")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="write the record here")] = None,
    picture: Annotated[Path | None, typer.Option(help="draw the heat map here, a PNG")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="write the tables here, as Markdown")
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--read", help="show this record instead of measuring")
    ] = None,
) -> None:
    """Check the maps of a suite's layers, time them beside PyTorch, JAX and SciPy, check again.

    With file.py:function and --contract, time that function beside convgrad and the peers.
    """
    if picture is not None:
        require("matplotlib", extra="app", purpose="drawing a heat map")
    outputs = bench_runs.Outputs(json, picture, markdown)
    if read is not None:
        bench_runs.show(read, outputs)
        return
    if budget is not None and not budget > 0:
        raise SettingError(f"--budget is {budget}; it must be more than 0 seconds")
    request = Request(
        suite=suite,
        layers=suites.chosen(suites.layers_of(suite), layers, every),
        directions=suites.directions(directions),
        dtypes=suites.dtypes(dtypes) if dtypes else None,
        settings=Settings(precision, algorithm, layout),
        threads=threads,
        peers=peers.names(peer),
        quick=quick,
        budget=budget or (QUICK_BUDGET if quick else BUDGET),
    )
    if target is not None:
        function = own.load(target)
        file, _, name = target.rpartition(":")
        called, shown = own.signature(contract, name), f"{Path(file).name}:{name}"
        bench_runs.time_own(shown, function, called, request, outputs)
    elif contract is not None:
        raise SettingError("--contract says how a function is called; name it: file.py:function")
    elif errors:
        bench_runs.measure_errors(request, outputs)
    else:
        bench_runs.time_suite(request, outputs)
