"""`convgrad bench` and `convgrad cache` as a user runs them."""

import json
import re

import numpy as np
import pytest

import convgrad as cg
from convgrad.bench import limits, timing
from convgrad.cpu.jit import cache

KNOWN = dict.fromkeys(("float32", "float64"), 1e11)
TINY = ("--layers", "lenet5/00,cifar_resnet20/05", "--budget", "0.001", "--peers", "none")


@pytest.fixture
def bench(here, monkeypatch):
    """Run `convgrad bench …` on a machine whose limits are known, without settling."""
    monkeypatch.setattr(limits, "measured", lambda n: limits.Limits(n, KNOWN, KNOWN, {65536: 1e10}))
    monkeypatch.setattr(timing, "SETTLE", 0.0)
    before = cg.get_num_threads()
    yield lambda *words: here("bench", *words)
    cg.set_num_threads(before)


def test_layers_are_checked_and_timed(bench, tmp_path):
    done = bench(*TINY, "--dtypes", "float32", "--json", "r.json", "--threads", "1")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^  (\w+) +\w+ +([\d.]+) ms +([\d.]+) GFLOP/s", done.stdout, re.M)
    assert [direction for direction, _, _ in rows] == 2 * ["forward", "input_grad", "weight_grad"]
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert len(record["rows"]) == 6
    assert record["settings"]["threads"] == 1
    assert all(row["seconds"] > 0 and row["limit"] > 0 for row in record["rows"])


def test_beside_pytorch(bench, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    words = ["lenet5/00", "--budget", "0.05", "--peers", "pytorch", "--directions", "forward"]
    files = ["--json", "r.json", "--picture", "map.png", "--markdown", "r.md"]
    done = bench("--layers", *words, "--dtypes", "float32", *files)
    assert done.returncode == 0, done.stderr
    assert re.search(r"PyTorch [\d.]+ \([\d.]+–[\d.]+\)", done.stdout)
    assert "PyTorch: its time by convgrad's" in done.stdout
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| float32 | forward | 1 |" in page
    shown = bench("--read", "r.json", "--markdown", "again.md")
    assert shown.returncode == 0
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == page
    assert done.stdout.splitlines()[-5:] == shown.stdout.splitlines()[-5:]


def test_what_is_wrong_is_not_timed(bench, monkeypatch):
    right = cg.weight_grad
    monkeypatch.setattr(cg, "weight_grad", lambda *a, **k: right(*a, **k) * 1.01)
    done = bench(*TINY, "--dtypes", "float32")
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if "wrong before timing" in line]
    assert len(wrong) == 2
    assert all("weight_grad" in line and " ms " not in line for line in wrong)
    assert done.stderr == "error: 2 of 6 results were wrong, and have no times\n"


def test_errors_are_measured(bench, tmp_path):
    done = bench(
        "--errors", "--layers", "lenet5/00", "--directions", "forward", "--algorithm", "direct",
        "--json", "e.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  forward +direct +strict, standard, fast +1 ", done.stdout, re.M)
    record = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert record["errors"][0]["who"] == "direct"


def test_the_quick_run_ends_when_its_time_is_up(bench, monkeypatch):
    monkeypatch.setattr("convgrad.cli.bench_runs.QUICK_SECONDS", 0)
    done = bench(*TINY, "--quick")
    assert done.returncode == 0
    assert "warning: the time is up: 11 cases are left out" in done.stderr


FUNCTION = """
import numpy as np

def conv_forward_naive(x, w, b, conv_param):
    pad, s = conv_param["pad"], conv_param["stride"]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::s, ::s]
    return np.einsum("ncpqkl,ockl->nopq", windows, w) + b[:, None, None], None
"""


def test_a_function_of_a_user(bench, tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION)
    words = ["--layers", "lenet5/00", "--budget", "0.001", "--peers", "none"]
    done = bench("mine.py:conv_forward_naive", "--contract", "numpy_cache", *words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  y +mine.py:conv_forward_naive +[\d.]+ ms", done.stdout, re.M)
    assert "convgrad: its time by mine.py:conv_forward_naive's" in done.stdout


def test_a_wrong_function_of_a_user(bench, tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION.replace("+ b[", "+ 0.01 + b["))
    words = ["--layers", "lenet5/00", "--budget", "0.001", "--peers", "none"]
    done = bench("mine.py:conv_forward_naive", "--contract", "numpy_cache", *words)
    assert done.returncode == 1
    assert "wrong before timing" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--suite pictures", "--suite is 'pictures'"),
        ("--layers nonesuch", "'nonesuch'"),
        ("--dtypes int8", "--dtypes is 'int8'"),
        ("--directions sideways", "--directions is 'sideways'"),
        ("--peers mxnet", "--peers is 'mxnet'"),
        ("--precision high --layers lenet5", "precision"),
        ("--algorithm magic --layers lenet5", "magic"),
        ("--budget 0", "--budget is 0"),
        ("none.py:f --contract aten.convolution", "there is no file none.py"),
        ("--contract aten", "name it: file.py:function"),
        ("--read none.json", "cannot read none.json"),
    ],
)
def test_mistakes_are_one_line(bench, words, message):
    done = bench(*words.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_the_cache_is_shown_and_cleared(here, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVGRAD_CACHE_DIR", str(tmp_path / "kernels"))
    cache.write("k", b"code")
    assert cache.read("k") == b"code"
    shown = here("cache")
    assert shown.returncode == 0
    assert re.search(r"^folder +.*kernels$", shown.stdout, re.M)
    assert re.search(r"^kernels +1$", shown.stdout, re.M)
    assert re.search(r"^bytes +36$", shown.stdout, re.M)
    cleared = here("cache", "clear")
    assert cleared.stdout.startswith("deleted 1 kernels, 36 bytes, from ")
    assert cache.read("k") is None


def test_the_limits_stand_in_info(here, monkeypatch):
    monkeypatch.setattr(
        limits, "measured", lambda n: limits.Limits(n, KNOWN, KNOWN, {65536: 2e9, 1 << 20: 1e9})
    )
    shown = here("info").stdout
    if "generated kernels  none" not in shown:
        assert re.search(
            r"^peak float32 +100 GFLOP/s on \d+ threads, 100 on one thread$", shown, re.M
        )
        assert "2 GB/s for 64 KiB, 1 GB/s for 1 MiB read and written" in shown
    assert np.__version__ in shown
