"""`convgrad` itself, and its commands plan and info."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import convgrad as cg
from convgrad.errors import SettingError

WITHOUT_EXTRA = """
import importlib.util, sys

find, hidden = importlib.util.find_spec, ("typer", "rich", "matplotlib", "safetensors", "PIL")

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
importlib.util.find_spec = lambda name, package=None: (
    None if name in hidden else find(name, package)
)
sys.argv[0] = "convgrad"
from convgrad.cli import main
sys.exit(main())
"""


@pytest.fixture
def without_extra(environment, tmp_path):
    """Run `convgrad …` where the packages of the extra `app` cannot be imported."""

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_EXTRA, *words],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_version_needs_no_extra(without_extra) -> None:
    done = without_extra("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"convgrad {cg.__version__}\n", "")


@pytest.mark.parametrize("command", ["train", "info", "--help"])
def test_the_missing_extra_is_named_with_its_command(without_extra, command) -> None:
    done = without_extra(command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r'error: the command line needs typer and rich, .* pip install "\.\[app\]"\n', done.stderr
    )


def test_help_and_version(convgrad_command) -> None:
    assert convgrad_command("--version").stdout == f"convgrad {cg.__version__}\n"
    for encoding in ("ascii", "gbk"):
        shown = convgrad_command("--help", PYTHONIOENCODING=encoding)
        assert shown.returncode == 0
        for name in ("train", "predict", "plan", "bench", "cache", "info"):
            assert f" {name} " in shown.stdout
    assert "(default: digits)" in convgrad_command("train", "--help").stdout


def test_an_unknown_command_is_exit_code_2(convgrad_command) -> None:
    done = convgrad_command("trian")
    assert done.returncode == 2
    assert "trian" in done.stderr


def test_info(here) -> None:
    shown = here("info").stdout
    assert re.search(rf"^numpy +{re.escape(np.__version__)}$", shown, re.M)
    assert re.search(r"^usable cores +\d+$", shown, re.M)
    assert re.search(r"^instruction sets +\S", shown, re.M)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_closed_pipe_is_no_error(environment, tmp_path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "convgrad", "info"],
            cwd=tmp_path,
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("--stride 2 --padding 1", {"stride": 2, "padding": 1}),
        ("--padding same --dilation 1,2", {"padding": "same", "dilation": (1, 2)}),
        ("--padding 0:1,2:0 --dtype float64", {"padding": [(0, 1), (2, 0)], "dtype": "float64"}),
        ("--padding 1,2 --algorithm direct", {"padding": (1, 2), "algorithm": "direct"}),
        ("--max-scratch 100000", {"max_scratch": 100000}),
    ],
)
def test_plan_prints_the_plan(here, words, settings) -> None:
    done = here("plan", "weight_grad", "--x", "8,4,32x32", "--w", "16,4,3,3", *words.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{cg.plan('weight_grad', (8, 4, 32, 32), (16, 4, 3, 3), **settings)}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("backwards --x 1,1,4,4 --w 1,1,3,3", "backwards"),
        ("forward --x 1,1,4,b --w 1,1,3,3", "--x is '1,1,4,b'"),
        ("forward --x 1,1,4,4 --w 1,2,3,3", "channels"),
        ("forward --x 1,1,4,4 --w 1,1,3,3 --padding 1:2:3,1", "give low:high for each axis"),
        ("forward --x 1,1,4,4 --w 1,1,3,3 --stride fast", "--stride is 'fast'"),
        ("forward --x 1,1,4,4 --w 1,1,3,3 --algorithm magic", "magic"),
    ],
)
def test_mistakes_in_a_plan_are_one_line(here, words, message) -> None:
    done = here("plan", *words.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_sizes_are_read() -> None:
    from convgrad.cli.plan import read_padding, read_setting, read_sizes

    assert read_sizes("--x", "8, 3x32×32") == (8, 3, 32, 32)
    assert read_setting("--stride", "2") == 2
    assert read_padding("same_lower") == "same_lower"
    with pytest.raises(SettingError, match="such as 8,3,32,32"):
        read_sizes("--x", "")
