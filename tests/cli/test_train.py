"""`convgrad train`, from the first line to the last."""

import re
import shlex
import subprocess

import pytest

pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

SHORT = ("train", "--epochs", 1, "--limit", 64, "--model", "conv 4 3, relu, flatten, linear 10")


def test_the_whole_job(convgrad_command, tmp_path) -> None:
    """What `make run` does, with fewer epochs; the full job's accuracy is in tests/nn."""
    done = convgrad_command("train", "--epochs", 6)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert {file.name for file in folder.iterdir()} == {
        "checkpoint.safetensors",
        "checkpoint.previous.safetensors",
        "learning-curve.png",
        "model.safetensors",
        "run.lock",
    }
    epochs = re.findall(
        r"^epoch \d/6  loss [\d.]+  accuracy +[\d.]+ %  held out", done.stdout, re.M
    )
    assert len(epochs) == 6
    assert "images/s" in done.stdout
    assert "\x1b" not in done.stdout
    share = re.fullmatch(r"test accuracy: (\d+\.\d) %", done.stdout.splitlines()[-1])
    assert share is not None
    assert float(share[1]) >= 90
    table = [line.split() for line in done.stdout.splitlines() if re.match(r"\d  +\S", line)]
    right = sum(int(row[1 + int(row[0])]) for row in table)
    assert len(table) == 10
    assert f"{right} of 360 images" in done.stdout
    assert abs(right / 3.6 - float(share[1])) <= 0.05


def test_the_commands_it_suggests_work(convgrad_command, environment, tmp_path) -> None:
    """Also where the path has spaces and Chinese characters."""
    done = convgrad_command(*SHORT, "--out", "数 字/a run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("next, try:\n")[1].split("\n\n")[0].splitlines()
    predict = shlex.split(lines[0])
    assert predict[-3:-1] == ["predict", "数 字/a run"]
    plan = shlex.split(lines[2])
    assert "plan" in plan
    shown = subprocess.run(
        plan, cwd=tmp_path, env=environment(), capture_output=True, check=False, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert b"weight_grad" in shown.stdout


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii", "latin-1"])
def test_any_console_encoding(convgrad_command, encoding) -> None:
    done = convgrad_command(*SHORT, "--out", "数 字", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "images of 1x8x8" in done.stdout or "1×8×8" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("test accuracy: ")
    assert ("数 字" if encoding == "gbk" else r"\u6570 \u5b57") in done.stdout


def test_narrow_consoles_do_not_break_commands(convgrad_command) -> None:
    done = convgrad_command(*SHORT, "--out", "a-run", COLUMNS="20")
    assert re.search(r"convgrad predict a-run .+$", done.stdout, re.M)


def test_a_folder_in_use_is_refused(here, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    done = here(*SHORT, "--out", "mine")
    assert done.returncode == 2
    assert done.stderr.startswith("error: mine is not empty")
    assert len(done.stderr.splitlines()) == 1
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "lenett"), "did you mean 'lenet'"),
        (("--data", "mnist:nowhere"), "nowhere"),
        (("--data", "letters"), "unknown data"),
        (("--algorithm", "magic"), "there is no algorithm 'magic'"),
        (("--optimizer", "adam", "--momentum", "0.5"), "momentum"),
        (("--schedule", "up"), "schedule"),
        (("--loss", "l1"), "loss"),
        (("--dtype", "int8"), "--dtype is int8"),
        (("--precision", "none"), "precision"),
        (("--epochs", "0"), "--epochs is 0"),
        (("--checkpoint-every", "0"), "--checkpoint-every is 0"),
        (("--resume", "nowhere"), "nowhere is not a folder of a run"),
        (("--resume", ".", "--out", "x"), "leave --out away"),
        (("--resume", "."), "holds no checkpoint"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(here, tmp_path, options, message) -> None:
    done = here("train", *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_gradients_are_checked_first(here) -> None:
    done = here(*SHORT, "--check-gradients")
    assert done.returncode == 0
    checked, _, rest = done.stdout.partition("epoch 1/1")
    assert re.search(r"gradient check passed: \d+ entries checked, worst relative error", checked)
    assert rest


def test_a_diverging_run_stops_with_step_and_layer(here, tmp_path) -> None:
    done = here(*SHORT, "--lr", "1e30", "--out", "r", "--epochs", 9)
    assert done.returncode == 3
    assert re.match(
        r"error: step \d+ \(epoch \d\): .*0\d_\w+.*smaller --lr than 1e\+30", done.stderr
    )
    assert (tmp_path / "r" / "failed.safetensors").exists()
    assert (tmp_path / "r" / "checkpoint.safetensors").exists()


def test_options_reach_the_run(here, tmp_path) -> None:
    from convgrad.nn.training.checkpoint import read_latest

    words = "--optimizer rmsprop --lr 0.003 --weight-decay 0.01 --schedule step --seed 5 --shift 1"
    words += " --dtype float64 --algorithm im2col --precision strict --batch-size 16 --loss mse"
    words += " --validation 0.0 --threads 2"
    done = here(*SHORT, "--out", "r", *words.split())
    assert done.returncode == 0, done.stderr
    saved, _ = read_latest(tmp_path / "r")
    found = saved.facts["settings"]
    for name, value in zip(words.split()[::2], words.split()[1::2]):
        assert str(found[name.removeprefix("--").replace("-", "_")]) == value
    assert saved.arrays["parameters/00_conv.weight"].dtype == "float64"
    assert len(saved.arrays["history/losses"]) == 4
