"""The command line: train · predict · plan · bench · cache · info, one file for each command.

`convgrad --version` and the message about missing packages need nothing but the core.
"""

from __future__ import annotations

import sys

import convgrad
from convgrad.errors import ConvError, MissingExtraError
from convgrad.extras import require

DIVERGED = 3


def main() -> None:
    """Run the command in `sys.argv`. Exit codes: 0 done, 2 a mistake in what was asked,
    3 the training diverged, 130 stopped with Ctrl-C."""
    from convgrad.cli import console

    console.prepare_streams()
    if sys.argv[1:] == ["--version"]:
        print(f"convgrad {convgrad.__version__}")
        return
    try:
        require("typer", "rich", extra="app", purpose="the command line")
    except MissingExtraError as error:
        sys.exit(_plain_failure(str(error)))
    _run_app()


def _plain_failure(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _run_app() -> None:
    import typer

    from convgrad.cli import bench, cache, console, info, plan, predict, train
    from convgrad.nn.training.run import NonFiniteError

    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_print_version, is_eager=True, help="Show the version."
        ),
    ) -> None:
        """Every gradient of a convolution, on NumPy arrays, and networks that learn with them."""

    app.command("train")(train.train)
    app.command("predict")(predict.predict)
    app.command("plan")(plan.plan)
    app.command("bench")(bench.bench)
    app.add_typer(cache.app, name="cache")
    app.command("info")(info.info)
    try:
        app(prog_name="convgrad")
    except NonFiniteError as error:
        console.fail(str(error))
        sys.exit(DIVERGED)
    except ConvError as error:
        console.fail(str(error))
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"convgrad {convgrad.__version__}")
        sys.exit()
