"""`convgrad predict`: pictures of digits, good ones and bad ones."""

import re

import numpy as np
import pytest

from convgrad.nn.training import checkpoint
from convgrad.nn.training.checkpoint import MODEL, Saved
from convgrad.nn.training.settings import Settings

pytest.importorskip("safetensors")
Image = pytest.importorskip("PIL.Image")

NAMES = tuple("0123456789")


@pytest.fixture
def run(tmp_path):
    """A run whose model gives the logits 3 for "7", 2 for "1", 0 for all others."""
    bias = np.zeros(10, np.float32)
    bias[[7, 1]] = 3, 2
    arrays = {
        "parameters/01_linear.weight": np.zeros((10, 64), np.float32),
        "parameters/01_linear.bias": bias,
        "samples/mean": np.zeros((1, 1, 1), np.float32),
        "samples/std": np.ones((1, 1, 1), np.float32),
    }
    facts = {
        "settings": Settings(loss="softmax_cross_entropy").as_dict(),
        "model": {"name": "m", "input_shape": [1, 8, 8], "layers": "flatten, linear 10"},
        "classes": list(NAMES),
        "step": 10,
        "epochs_done": 5,
    }
    (tmp_path / "run").mkdir()
    checkpoint.write(tmp_path / "run" / MODEL, Saved(arrays, facts))
    return tmp_path / "run"


@pytest.fixture
def picture(tmp_path):
    """Black on white, the left half of 8×8 dark."""
    pixels = np.full((8, 8), 255, np.uint8)
    pixels[2:6, 1:4] = 0
    path = tmp_path / "数 字.png"
    Image.fromarray(pixels).save(path)
    return path


def test_one_picture(here, run, picture) -> None:
    done = here("predict", run, picture)
    assert done.returncode == 0, done.stderr
    total = np.exp(3) + np.exp(2) + 8
    assert f"it is: 7 ({100 * np.exp(3) / total:.1f} %)" in done.stdout
    assert f"then 1 {100 * np.exp(2) / total:.1f} %, 0 {100 / total:.1f} %" in done.stdout
    assert "softmax probabilities" in done.stdout
    assert "after 5 epochs" in done.stdout
    seen = re.findall(r"^  \|(.*)\|$", done.stdout, re.M)
    assert len(seen) == 8
    assert seen[3][2:8] == "██████"  # the ink, bright on dark, two characters for a pixel
    assert seen[0].strip() == ""


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252"])
def test_any_console_encoding(convgrad_command, run, picture, encoding) -> None:
    done = convgrad_command("predict", run, picture, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "it is: 7" in done.stdout


def test_a_folder_with_a_bad_file(here, run, picture, tmp_path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    picture.rename(folder / "good.png")
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("no picture either")
    Image.new("L", (9, 9), 255).save(folder / "blank.png")
    done = here("predict", run, folder)
    assert done.returncode == 1
    assert re.search(r"^good.png +7 +\d+\.\d %  1 +\d+\.\d %", done.stdout, re.M)
    errors = done.stderr.splitlines()
    assert "bad.png" in errors[0]
    assert "blank.png" in errors[1]
    assert errors[2] == "error: 2 of 3 pictures could not be judged"


@pytest.mark.parametrize("name", ["none.png", "empty"])
def test_nothing_to_look_at(here, run, tmp_path, name) -> None:
    (tmp_path / "empty").mkdir()
    done = here("predict", run, name)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr


def test_what_is_not_a_run_is_refused(here, picture, tmp_path) -> None:
    for place, message in ((tmp_path, "holds no checkpoint"), (picture, "not a whole safetensors")):
        done = here("predict", place, picture)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
