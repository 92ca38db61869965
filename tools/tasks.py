"""The chores behind tools/dev.py, one function each; the Makefile only passes its variables on."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from environment import ROOT, Environment, SetupError, prepare
from suite import run_suite

APP = ("app",)
TESTED = ("app", "dev")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chore that the command line names; the result is the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.chore not in (run, bench):
        _parser().error(f"unknown arguments: {' '.join(rest)}")
    os.chdir(ROOT)
    try:
        return options.chore(options, rest)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tools/dev.py", description="convgrad's chores")
    chores = parser.add_subparsers(required=True, metavar="chore")
    for chore in (run, test, check, format_code, bench, lowest):
        name = chore.__name__.removesuffix("_code")
        help_line = (chore.__doc__ or "").splitlines()[0]
        sub = chores.add_parser(name, help=help_line, allow_abbrev=False)
        sub.set_defaults(chore=chore)
        sub.add_argument("--venv", default=".venv", help="environment to use (default: .venv)")
        if chore is test:
            sub.add_argument("--no-peers", action="store_true", help="without torch, jax, …")
            sub.add_argument("--no-skips", action="store_true", help="a skipped test is a failure")
    return parser


def run(options: argparse.Namespace, rest: list[str]) -> int:
    """install, then train on the digits; further arguments go to `convgrad train`"""
    env = _environment(options, APP)
    prepare(env)
    return _foreground(env, "train", *rest)


def bench(options: argparse.Namespace, rest: list[str]) -> int:
    """install, then `convgrad bench`; further arguments go to it"""
    env = _environment(options, TESTED, peers=True)
    prepare(env)
    return _foreground(env, "bench", *rest)


def check(options: argparse.Namespace, rest: list[str]) -> int:
    """lint, format, types and the import contract"""
    env = _environment(options, TESTED)
    prepare(env)
    return 1 if _failed_checks(env) else 0


def format_code(options: argparse.Namespace, rest: list[str]) -> int:
    """put the code into its format and mend what the linter can mend"""
    env = _environment(options, TESTED)
    prepare(env)
    fixed = _tool(env, "ruff", "check", "--fix", ".")
    return max(fixed, _tool(env, "ruff", "format", "."))


def test(options: argparse.Namespace, rest: list[str]) -> int:
    """everything: the checks, then the whole test suite"""
    env = _environment(options, TESTED, peers=not options.no_peers)
    prepare(env)
    failed = _failed_checks(env)
    passed = run_suite(env.python, peers=env.peers, skips_allowed=not options.no_skips, also=failed)
    return 0 if passed and not failed else 1


def lowest(options: argparse.Namespace, rest: list[str]) -> int:
    """the tests that need no peers, with the oldest versions that pyproject.toml allows"""
    if sys.version_info[:2] > (3, 12):
        raise SetupError("the lowest versions need Python 3.11 or 3.12: make lowest PYTHON=…")
    folder = ".venv-lowest" if options.venv == ".venv" else options.venv
    env = Environment(ROOT / folder, TESTED, constraints=ROOT / "requirements" / "lowest.txt")
    prepare(env)
    return 0 if run_suite(env.python, peers=False, skips_allowed=True) else 1


def _environment(
    options: argparse.Namespace, extras: tuple[str, ...], peers: bool = False
) -> Environment:
    return Environment(ROOT / Path(options.venv).expanduser(), extras, peers)


def _failed_checks(env: Environment) -> list[str]:
    """The names of the checks that fail; each prints why."""
    checks: dict[str, Callable[[], int]] = {
        "lint": lambda: _tool(env, "ruff", "check", "."),
        "format": lambda: _tool(env, "ruff", "format", "--check", "."),
        "types": lambda: _tool(env, "pyright", "--pythonpath", str(env.python)),
        "imports": lambda: _call([env.scripts / "lint-imports"]),
    }
    failed = []
    for name, passes in checks.items():
        print(f"--- {name}", flush=True)
        if passes():
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return failed


def _tool(env: Environment, module: str, *arguments: str) -> int:
    return _call([env.python, "-m", module, *arguments])


def _call(line: Sequence[str | Path]) -> int:
    settings = {
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",  # or it looks for a newer pyright
        "PYTHONUTF8": "1",  # lint-imports draws boxes
    }
    return subprocess.run(line, env={**os.environ, **settings}, check=False).returncode


def _foreground(env: Environment, *arguments: str) -> int:
    """Run a convgrad command; Ctrl-C is the command's to answer, here it is only waited out."""
    signal.signal(signal.SIGINT, lambda *_: None)
    line = [env.python, "-m", "convgrad", *arguments]
    return subprocess.Popen(line).wait()
