"""The folder of a run: always a new one, and one process at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import convgrad
from convgrad.errors import TrainingError
from convgrad.nn.training.folder import LOCK, locked, new_folder

ROOT = Path(convgrad.__file__).parent.parent

HOLD = """
import sys, time
from pathlib import Path
from convgrad.nn.training.folder import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path) -> None:
    folders = [new_folder(None, tmp_path / "runs") for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(folder.is_dir() and folder.parent == tmp_path / "runs" for folder in folders)


def test_a_folder_with_something_in_it_is_refused(tmp_path) -> None:
    assert new_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert new_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"  # empty: may be used
    (tmp_path / "a" / "b" / "thesis.txt").write_text("precious")
    with pytest.raises(TrainingError, match=r"b is not empty.*another --out.*--resume"):
        new_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "thesis.txt").read_text() == "precious"


def test_a_file_in_the_way_is_named(tmp_path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(TrainingError, match=r"cannot make the folder .*runs.*choose another --out"):
        new_folder(None, tmp_path / "runs")
    with pytest.raises(TrainingError, match="cannot make the folder"):
        new_folder(tmp_path / "runs")
    with pytest.raises(TrainingError, match="cannot make the folder"):
        new_folder(tmp_path / "runs" / "mine")


def test_one_process_at_a_time_and_the_lock_dies_with_its_holder(tmp_path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(TrainingError, match=rf"in use by another process \(number {process.pid}\)"),
        locked(tmp_path),
    ):
        pass
    process.kill()
    assert process.wait() in (-signal.SIGTERM, -9, 1)
    with locked(tmp_path):
        assert os.listdir(tmp_path) == [LOCK]
    with locked(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="another call locks there")
def test_a_disk_without_locks_is_named(tmp_path, monkeypatch) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with (
        pytest.raises(TrainingError, match="cannot be locked: No locks available; use a folder"),
        locked(tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path) -> None:
    with pytest.raises(TrainingError, match="cannot write in"), locked(tmp_path / "gone"):
        pass
