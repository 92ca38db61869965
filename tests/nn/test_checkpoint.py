"""Checkpoints: whole or not at all, and every damaged or foreign file is named as such."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import convgrad
from convgrad.errors import TrainingError
from convgrad.nn.training import checkpoint
from convgrad.nn.training.checkpoint import CHECKPOINT, MODEL, PREVIOUS, Saved

pytest.importorskip("safetensors")
ROOT = Path(convgrad.__file__).parent.parent


def example(seed: int = 0) -> Saved:
    rng = np.random.default_rng(seed)
    arrays = {
        "parameters/00_conv.weight": rng.standard_normal((3, 2, 3, 3)).astype(np.float32),
        "parameters/half": rng.standard_normal(5).astype(np.float16),
        "buffers/mean": rng.standard_normal((2, 3)).T,  # not contiguous
        "optimizer/velocity/00_conv.weight": np.array([np.inf, -0.0, np.nan]),
        "optimizer/steps": np.array([7], np.int64),
        "history/validation": np.zeros(0),
    }
    facts = {"rng": {"state": 2**127 + 1}, "text": "数字 ½", "numbers": [0.1, 1e-300], "none": None}
    return Saved(arrays, facts)


def assert_same(a: Saved, b: Saved) -> None:
    assert a.facts == b.facts
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        assert b.arrays[name].dtype == array.dtype
        assert b.arrays[name].shape == array.shape
        assert b.arrays[name].tobytes() == array.tobytes()


def test_what_is_written_is_read_to_the_bit(tmp_path) -> None:
    checkpoint.write(tmp_path / "数 字", example())
    assert_same(example(), checkpoint.read(tmp_path / "数 字"))
    assert checkpoint.read(tmp_path / "数 字").group("buffers").keys() == {"mean"}
    assert os.listdir(tmp_path) == ["数 字"]


def test_any_reader_of_safetensors_can_read_it(tmp_path) -> None:
    from safetensors.numpy import load_file

    checkpoint.write(tmp_path / "c", example())
    loaded = load_file(tmp_path / "c")
    for name, array in example().arrays.items():
        assert loaded[name].tobytes() == array.tobytes()


def test_arrays_that_were_read_can_be_changed(tmp_path) -> None:
    checkpoint.write(tmp_path / "c", example())
    checkpoint.read(tmp_path / "c").arrays["buffers/mean"][0, 0] = 1


def test_every_cut_is_noticed(tmp_path) -> None:
    path = tmp_path / "c"
    checkpoint.write(path, example())
    content = path.read_bytes()
    for length in [*range(24), *range(24, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(TrainingError, match="not a whole safetensors file"):
            checkpoint.read(path)


def test_every_changed_bit_is_noticed(tmp_path) -> None:
    path = tmp_path / "c"
    checkpoint.write(path, example())
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(TrainingError):
            checkpoint.read(path)


def test_foreign_files_are_named_as_such(tmp_path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "c"
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(TrainingError, match="not written by this version of convgrad"):
        checkpoint.read(path)
    path.write_text(json.dumps({"a": 1}) * 10)
    with pytest.raises(TrainingError, match="not a whole safetensors file"):
        checkpoint.read(path)
    with pytest.raises(TrainingError, match="cannot read"):
        checkpoint.read(tmp_path)


def test_folders_without_a_run_are_refused(tmp_path) -> None:
    with pytest.raises(TrainingError, match="is not a folder of a run"):
        checkpoint.read_latest(tmp_path / "none")
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        checkpoint.read_latest(tmp_path)


def test_the_checkpoint_before_stands_in_for_a_damaged_one(tmp_path) -> None:
    for seed in range(3):
        checkpoint.write(tmp_path / CHECKPOINT, example(seed), tmp_path / PREVIOUS)
    assert sorted(os.listdir(tmp_path)) == sorted([CHECKPOINT, PREVIOUS])
    saved, warning = checkpoint.read_latest(tmp_path)
    assert_same(saved, example(2))
    assert warning == ""
    with (tmp_path / CHECKPOINT).open("r+b") as file:
        file.truncate(100)
    saved, warning = checkpoint.read_latest(tmp_path)
    assert_same(saved, example(1))
    assert "cut short" in warning
    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(TrainingError, match="cut short"):
        checkpoint.read_latest(tmp_path)


def test_a_model_is_found_in_a_file_a_finished_run_and_an_unfinished_one(tmp_path) -> None:
    checkpoint.write(tmp_path / CHECKPOINT, example(1))
    saved, where = checkpoint.read_model(tmp_path)
    assert_same(saved, example(1))
    assert "not ended" in where
    checkpoint.write(tmp_path / MODEL, example(2))
    for place in (tmp_path, tmp_path / MODEL):
        saved, where = checkpoint.read_model(place)
        assert_same(saved, example(2))
        assert where == str(tmp_path / MODEL)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path) -> None:
    import resource

    path = tmp_path / CHECKPOINT
    checkpoint.write(path, example(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(TrainingError, match=r"cannot write .*: File too large; what was there"):
            checkpoint.write(path, example(2), tmp_path / PREVIOUS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert_same(checkpoint.read(path), example(1))
    assert os.listdir(tmp_path) == [CHECKPOINT]


def test_a_folder_that_is_gone_is_named(tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"cannot write .*No such file or directory"):
        checkpoint.write(tmp_path / "gone" / CHECKPOINT, example())


WRITE_ALL_THE_TIME = """
import sys
from pathlib import Path
import numpy as np
from convgrad.nn.training.checkpoint import CHECKPOINT, PREVIOUS, Saved, write

folder, number = Path(sys.argv[1]), 0
while True:
    write(
        folder / CHECKPOINT,
        Saved({"a": np.full(300_000, number, np.float64)}, {"number": number}),
        folder / PREVIOUS,
    )
    print(number, flush=True)
    number += 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("milliseconds", [3, 11, 26, 40])
def test_sigkill_while_writing_leaves_a_whole_checkpoint(tmp_path, milliseconds) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_ALL_THE_TIME, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
    timer = threading.Timer(milliseconds / 1000, process.kill)
    timer.start()
    told = [1, *map(int, process.stdout.read().split())]
    assert process.wait() == -signal.SIGKILL
    saved, warning = checkpoint.read_latest(tmp_path)
    assert warning == ""
    assert saved.facts["number"] in (told[-1], told[-1] + 1)
    assert (saved.arrays["a"] == saved.facts["number"]).all()
    checkpoint.write(tmp_path / CHECKPOINT, example(), tmp_path / PREVIOUS)  # leftovers do no harm
    assert sorted(os.listdir(tmp_path)) == sorted([CHECKPOINT, PREVIOUS])
