"""Runs that are cut: by SIGKILL, by Ctrl-C, by SIGTERM; and two processes at one run."""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convgrad.nn.training import checkpoint, machine

pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

MODEL = "conv 8 3 same, batchnorm, relu, maxpool 2, flatten, dropout 0.3, linear 10"
LONG = (
    *("train", "--model", MODEL, "--limit", 320, "--batch-size", 8, "--epochs", 6),
    *("--optimizer", "adam", "--shift", 1, "--seed", 3, "--validation", 0.1),
)


def tensors(folder: Path) -> dict[str, bytes]:
    saved, warning = checkpoint.read_latest(folder)
    assert warning == ""
    return {name: array.tobytes() for name, array in saved.arrays.items()}


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def wait_for_line(process: subprocess.Popen, start: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    raise AssertionError(f"no line {start!r}; stderr: {process.communicate()[1]}")


def test_killed_at_random_moments_it_ends_with_the_same_bits(
    convgrad_command, started, tmp_path
) -> None:
    longer = (*LONG, "--epochs", 40)  # four kills leave something to do
    assert convgrad_command(*longer, "--out", "whole").returncode == 0
    moments, kills, least = random.Random(20240229), 0, 0
    words = (*longer, "--out", "cut", "--checkpoint-every", 3)
    while kills < 4:
        process = started(*words)
        if kills == 0:
            wait_for(tmp_path / "cut" / checkpoint.CHECKPOINT)
        else:
            wait_for_line(process, "going on after step")
        time.sleep(moments.uniform(0.0, 0.25))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        saved, warning = checkpoint.read_latest(tmp_path / "cut")
        assert warning == ""
        assert saved.facts["step"] >= least  # nothing that was saved is ever lost
        least = saved.facts["step"]
        words = ("train", "--resume", "cut", "--checkpoint-every", 3)
    done = convgrad_command("train", "--resume", "cut")
    assert done.returncode == 0, done.stderr
    assert 0 < least < 37 * 40  # it was really cut on the way
    assert tensors(tmp_path / "cut") == tensors(tmp_path / "whole")
    a, b = (checkpoint.read(tmp_path / run / checkpoint.MODEL) for run in ("cut", "whole"))
    assert a.facts == b.facts
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name], strict=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(started, environment, tmp_path, number, code) -> None:
    process = started(*LONG, "--out", "数 字", "--epochs", 1000, "--schedule", "constant")
    wait_for_line(process, "epoch    1/1000")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == ""
    stopped = re.search(r"stopped after step (\d+) of 37000, which is saved; go on:\n  (.*)", out)
    assert stopped is not None
    saved, _ = checkpoint.read_latest(tmp_path / "数 字")
    assert saved.facts["step"] == int(stopped[1])
    words = shlex.split(stopped[2])
    assert words[-3:] == ["train", "--resume", "数 字"]
    again = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_line(again, f"going on after step {stopped[1]} of 37000")
    again.kill()
    again.communicate()


def test_one_process_at_a_time(convgrad_command, started, tmp_path) -> None:
    process = started(*LONG, "--out", "r", "--epochs", 1000)
    wait_for_line(process, "epoch    1/1000")
    done = convgrad_command("train", "--resume", "r")
    process.kill()
    process.communicate()
    assert done.returncode == 2
    assert f"error: r is in use by another process (number {process.pid})" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_resuming_says_what_differs(here, tmp_path) -> None:
    assert here(*LONG, "--out", "r", "--epochs", 1).returncode == 0
    before = tensors(tmp_path / "r")
    done = here("train", "--resume", "r", "--lr", "0.5", "--seed", 4)
    assert done.returncode == 2
    assert "--lr was 0.002 and is now 0.5" in done.stderr
    assert "--seed was 3 and is now 4" in done.stderr
    done = here("train", "--resume", "r", "--epochs", 2)
    assert done.returncode == 2
    assert "other learning rates" in done.stderr
    assert tensors(tmp_path / "r") == before


def test_a_finished_run_can_be_resumed_to_see_its_result(here, tmp_path) -> None:
    first = here(*LONG, "--out", "r", "--epochs", 1)
    again = here("train", "--resume", "r")
    assert again.returncode == 0
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
    assert again.stderr == ""


def test_another_machine_is_warned_about(here, monkeypatch) -> None:
    assert here(*LONG, "--out", "r", "--epochs", 1).returncode == 0
    monkeypatch.setattr(machine, "instruction_sets", lambda: ["ABACUS"])
    again = here("train", "--resume", "r")
    assert again.returncode == 0
    assert re.match(
        r"warning: the instruction sets was .* is now ABACUS; the last bits", again.stderr
    )


def test_a_longer_run_with_a_constant_schedule(here, tmp_path) -> None:
    steady = (*LONG, "--schedule", "constant")
    assert here(*steady, "--out", "short", "--epochs", 1).returncode == 0
    assert here("train", "--resume", "short", "--epochs", 2).returncode == 0
    assert here(*steady, "--out", "whole", "--epochs", 2).returncode == 0
    assert tensors(tmp_path / "short") == tensors(tmp_path / "whole")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(here, tmp_path) -> None:
    assert here(*LONG, "--out", "r", "--epochs", 2).returncode == 0
    whole = tensors(tmp_path / "r")
    os.truncate(tmp_path / "r" / checkpoint.CHECKPOINT, 1000)
    done = here("train", "--resume", "r")
    assert done.returncode == 0, done.stderr
    assert "cut short" in done.stderr
    assert "going on after step 37 of 74" in done.stdout
    assert tensors(tmp_path / "r") == whole
    for name in (checkpoint.CHECKPOINT, checkpoint.PREVIOUS):
        os.truncate(tmp_path / "r" / name, 1000)
    done = here("train", "--resume", "r")
    assert done.returncode == 2
    assert "cut short" in done.stderr
