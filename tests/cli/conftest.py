"""The command line as a user runs it: in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import convgrad
from convgrad.cli import main

ROOT = Path(convgrad.__file__).parent.parent
Command = Callable[..., subprocess.CompletedProcess]


def environment(**changes: str) -> dict[str, str]:
    """This environment, with convgrad to be found and no wishes about colours."""
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    return plain | {
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "80",
        **changes,
    }


@pytest.fixture(name="environment")
def environment_fixture() -> Callable[..., dict[str, str]]:
    return environment


@pytest.fixture
def here(tmp_path, monkeypatch, capsys) -> Command:
    """Run `convgrad …` in tmp_path, but within this process: faster, for what prints little."""
    pytest.importorskip("typer")
    pytest.importorskip("rich")

    def run(*words: object) -> subprocess.CompletedProcess:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["convgrad", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            sys.exit(main())
        code = end.value.code or 0
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(code), out, err)

    return run


@pytest.fixture
def convgrad_command(tmp_path) -> Command:
    """Run `convgrad …` in tmp_path; keyword arguments are environment variables."""
    pytest.importorskip("typer")
    pytest.importorskip("rich")

    def run(*words: object, **changes: str) -> subprocess.CompletedProcess:
        encoding = changes.get("PYTHONIOENCODING", "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "convgrad", *map(str, words)],
            cwd=tmp_path,
            env=environment(**changes),
            capture_output=True,
            timeout=300,
            check=False,
        )
        done.stdout, done.stderr = done.stdout.decode(encoding), done.stderr.decode(encoding)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def started(tmp_path) -> Callable[..., subprocess.Popen]:
    """Start `convgrad …` in tmp_path and go on at once."""
    pytest.importorskip("typer")

    def start(*words: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "convgrad", *map(str, words)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
