"""Printing: every encoding, commands that can be copied, errors on one line."""

import io
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")

from convgrad.cli import console
from convgrad.cli.progress import Clock, batch_line, duration, epoch_line
from convgrad.nn import models
from convgrad.nn.data import source
from convgrad.nn.training.run import one_step, start
from convgrad.nn.training.settings import Settings


@pytest.fixture
def printed(monkeypatch):
    """Print with a given encoding; gives what reached the stream, decoded again."""

    def run(encoding: str, action) -> tuple[str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        console.prepare_streams()
        action()
        texts = []
        for stream in streams:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
        return texts[0], texts[1]

    return run


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "3×3 → ½Σ … 数 █ 🙂"),
        ("gbk", "3×3 → 1/2Σ … 数 █ \\U0001f642"),
        ("cp1252", "3×3 -> ½sum  … \\u6570 # \\U0001f642"),
        ("ascii", "3x3 -> 1/2sum  ... \\u6570 # \\U0001f642"),
    ],
)
def test_what_an_encoding_lacks_is_spelled_plainly(printed, encoding, shown) -> None:
    out, err = printed(encoding, lambda: console.say("3×3 → ½Σ … 数 █ 🙂"))
    assert (out, err) == (shown + "\n", "")


def test_print_and_errors_are_safe_too(printed) -> None:
    def action() -> None:
        print("数")
        console.fail("two\n  lines of 数 [red]no markup[/red] " + "long " * 50)

    out, err = printed("ascii", action)
    assert out == "\\u6570\n"
    assert err.startswith("error: two lines of \\u6570 [red]no markup[/red] long long ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "word", ["plain", "runs/2026-01-01", "数字", "a b", "数 字's", "$HOME", "a*", ""]
)
def test_quoted_words_come_back_from_the_shell(word) -> None:
    assert shlex.split(console.quoted(word)) == [word]


def test_only_words_that_need_quotes_have_them() -> None:
    assert console.quoted("runs/数字-1.png") == "runs/数字-1.png"


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        (".venv/bin/convgrad", ".venv/bin/convgrad"),
        ("{here}/.venv/bin/convgrad", ".venv/bin/convgrad"),
        ("{here}/convgrad", "./convgrad"),
        ("/opt/my tools/convgrad", "'/opt/my tools/convgrad'"),
    ],
)
def test_commands_work_from_here(tmp_path, monkeypatch, started, shown) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [started.format(here=tmp_path), "train"])
    assert console.command("predict", Path("a run")) == f"{shown} predict 'a run'"


def test_the_name_alone_if_the_path_has_this_convgrad(tmp_path, monkeypatch) -> None:
    program = tmp_path / "convgrad"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert console.command("info") == "convgrad info"
    monkeypatch.setattr(sys, "argv", ["/elsewhere/convgrad"])
    assert console.command("info") == "/elsewhere/convgrad info"


def test_python_m(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/convgrad/__main__.py"])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert console.command("info") == "/usr/bin/python3 -m convgrad info"


def test_progress_lines_fit_the_console() -> None:
    digits = source.load("digits")
    settings = Settings(model="flatten, linear 10", limit=40, batch_size=8, epochs=2)
    run = start(settings, models.resolve(settings.model, (1, 8, 8), 10), digits)
    clock = Clock(run)
    for _ in range(run.history.steps_per_epoch):
        one_step(run)
        clock.tick(run)
    whole = batch_line(run, clock)
    steps = run.history.steps_per_epoch
    for part in (f"epoch 1/2 batch {steps}/{steps}", "loss ", "accuracy ", " images/s", " left"):
        assert part in whole
    for width in range(24, 120):
        assert len(batch_line(run, clock, width)) <= width
    assert "held out" in epoch_line(run, clock)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (75, "1:15"), (3700, "1:01:40")]
)
def test_duration(seconds, text) -> None:
    assert duration(seconds) == text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(("terminal", "moves"), [("xterm", True), ("dumb", False)])
def test_a_terminal_has_a_moving_line_and_a_dumb_one_has_not(
    environment, tmp_path, terminal, moves
) -> None:
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "convgrad", "train", "--epochs", "2", "--limit", "99", "--out", "r"],
        cwd=tmp_path,
        env=environment(TERM=terminal),
        stdout=theirs,
        stderr=theirs,
    )
    import os

    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a terminal's output so
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert ("\x1b[?25l" in text) == moves  # the cursor is hidden while the line moves …
    assert ("\x1b[?25h" in text) == moves  # … and shown again
    assert "test accuracy: " in text
    assert text.count("epoch 2/2") >= 1
