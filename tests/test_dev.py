"""tools/dev.py: what counts as not run, what fails the suite, and what is said beforehand."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"

SUITE = """
import pytest

def test_passes():
    assert True

def test_imports_a_peer():
    import scipy.signal

def test_asks_for_a_peer():
    pytest.importorskip("onnx")

@pytest.fixture
def oracle():
    import jax

def test_has_a_fixture_that_imports_a_peer(oracle):
    pass

def test_lacks_something_else():
    import no_such_package

@pytest.mark.cuda
def test_gpu():
    pytest.skip("no GPU")

def test_idle():
    pytest.skip("not today")

@pytest.mark.serial
def test_alone():
    assert True
"""


@pytest.fixture
def tools(monkeypatch):
    """The folder tools/, from which its modules can be imported."""
    monkeypatch.syspath_prepend(TOOLS)
    return TOOLS


def account(folder: Path, *options: str) -> dict:
    """Run pytest in `folder` with the plugin; what it wrote."""
    path = folder / "account.json"
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda\n  serial\n")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "account", f"--account={path}", *options]
    done = subprocess.run(
        line, cwd=folder, env=environ(), capture_output=True, encoding="utf-8", check=False
    )
    assert path.exists(), done.stdout + done.stderr
    return json.loads(path.read_text(encoding="utf-8"))


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOOLS)}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_without_peers_what_needs_one_is_counted_as_not_run(tmp_path, workers):
    (tmp_path / "test_some.py").write_text(SUITE)
    (tmp_path / "test_whole_file.py").write_text("import torch\n\ndef test_a():\n    pass\n")
    found = account(tmp_path, "--no-peers", *workers)
    assert found["counts"] == {"passed": 2, "failed": 1, "skipped": 6}
    assert Counter((s["kind"], s["reason"], s["allowed"]) for s in found["skips"]) == {
        ("test", "needs scipy", "no"): 1,
        ("test", "needs onnx", "no"): 1,
        ("test", "needs jax", "no"): 1,
        ("test", "no GPU", "yes"): 1,
        ("test", "not today", "no"): 1,
        ("test file", "needs torch", "no"): 1,
    }


def test_a_missing_package_is_no_skip_where_peers_are_wanted(tmp_path):
    (tmp_path / "test_other.py").write_text("import no_such_package\n")
    found = account(tmp_path)
    assert found == {"counts": {"errors": 1}, "skips": []}


@pytest.mark.parametrize(
    ("body", "skips_allowed", "passed"),
    [
        ("assert True", False, True),
        ("assert False", True, False),
        ("pytest.skip('not today')", True, True),
        ("pytest.skip('not today')", False, False),
    ],
)
def test_suite_fails_on_a_failure_and_on_a_skip_where_none_is_allowed(
    tools, tmp_path, monkeypatch, capfd, body, skips_allowed, passed
):
    from suite import run_suite

    marks = ("cuda", "serial")
    shared, alone = (f"@pytest.mark.{m}\ndef test_{m}():\n    assert True\n" for m in marks)
    text = f"import pytest\n\ndef test_it():\n    {body}\n\n{shared}\n{alone}"
    (tmp_path / "test_some.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda\n  serial\n")
    monkeypatch.chdir(tmp_path)
    python = Path(sys.executable)
    assert run_suite(python, peers=True, skips_allowed=skips_allowed) is passed
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("===")
    assert f" {2 + ('True' in body)} passed" in last


def test_suite_without_a_serial_test_fails(tools, tmp_path, monkeypatch):
    from suite import run_suite

    (tmp_path / "test_some.py").write_text("def test_it():\n    assert True\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda\n  serial\n")
    monkeypatch.chdir(tmp_path)
    assert run_suite(Path(sys.executable), peers=True, skips_allowed=True) is False


def test_closing_line_has_the_form_of_pytests_own(tools):
    from suite import _closing_line

    line = _closing_line(Counter(passed=12, failed=1, xfailed=2), 75.5)
    assert line.strip("=") == " 1 failed, 12 passed, 2 xfailed in 75.50s (0:01:15) "
    assert len(line) == 80


def test_downloads_are_said_beforehand(tools, capsys):
    from downloads import announce

    announce(".venv", [("numpy", "2.4.6"), ("torch", "2.13.0+cpu"), ("tiny", "1.0")])
    said = capsys.readouterr().out
    assert "about 217 MB" in said
    assert "torch 2.13.0+cpu 200 MB, numpy 2.4.6 17 MB, 1 smaller" in said
    assert "CUDA" not in said


def test_a_torch_with_cuda_is_said_beforehand(tools, capsys):
    from downloads import announce

    announce(".venv", [("torch", "2.13.0"), ("nvidia-cublas", "13.1")])
    said = capsys.readouterr().out
    assert "about 2700 MB" in said
    assert "PEERS=0" in said


def test_an_old_python_is_told_what_is_needed(tools, monkeypatch):
    import dev

    monkeypatch.setattr(sys, "version_info", (3, 8, 10, "final", 0))
    said = dev.too_old()
    assert "needs Python 3.11 or newer; this is Python 3.8.10" in said
    assert "make run PYTHON=" in said


def test_a_python_without_ensurepip_is_told_what_to_install(tools, tmp_path, monkeypatch):
    import environment

    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    made = environment.Environment(tmp_path / ".venv", ("app",))
    with pytest.raises(environment.SetupError, match=r"sudo apt install python3\.\d+-venv"):
        environment.prepare(made)


def test_a_folder_that_is_no_environment_is_left_alone(tools, tmp_path):
    import environment

    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "thesis.txt").write_text("mine")
    with pytest.raises(environment.SetupError, match="no virtual environment; move it away"):
        environment.prepare(environment.Environment(tmp_path / ".venv", ("app",)))
    assert (tmp_path / ".venv" / "thesis.txt").read_text() == "mine"


def test_a_stamp_covers_fewer_extras_of_the_same_clone_only(tools):
    from environment import Stamp

    full = Stamp("/here", "abc", ("app", "dev", "test"))
    assert full.covers(Stamp("/here", "abc", ("app",)))
    assert not Stamp("/here", "abc", ("app",)).covers(full)
    assert not full.covers(Stamp("/there", "abc", ("app",)))
    assert not full.covers(Stamp("/here", "abd", ("app",)))
