"""The package as others get it: what its import costs, what its wheel holds, what extras it has."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import convgrad
from convgrad.errors import ConvError, MissingExtraError
from convgrad.extras import require

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

NEW_MODULES = """
import sys
import numpy
before = set(sys.modules)
import convgrad
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names) - {"numpy"}))
"""

SECONDS_BEYOND_NUMPY = """
import time
import numpy
start = time.perf_counter()
import convgrad
print(time.perf_counter() - start)
"""

# x is 1..9 as 3×3, w is 3 2 1 5: y[0,0] = 3·1 + 2·2 + 1·4 + 5·5 = 36, and so on.
TINY_CONVOLUTION = """
import numpy as np
import convgrad as cg
x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
w = np.array([3.0, 2.0, 1.0, 5.0]).reshape(1, 1, 2, 2)
print(cg.__file__)
print(*cg.conv(x, w).ravel().astype(int))
print(*cg.weight_grad(x, w.shape, np.ones((1, 1, 2, 2))).ravel().astype(int))
"""


def run(*line: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in `cwd` without this process's PYTHONPATH."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"PYTHONIOENCODING": "utf-8", **environ}
    return subprocess.run(
        line, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False, timeout=300
    )


def output(*line: str | Path, cwd: Path, **environ: str) -> str:
    """What the program prints; it must succeed."""
    done = run(*line, cwd=cwd, **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_import_loads_no_third_party_module_but_numpy():
    assert output(sys.executable, "-c", NEW_MODULES, cwd=ROOT).split() == ["convgrad"]


@pytest.mark.serial
def test_import_takes_under_150_ms_beyond_numpy(tmp_path):
    environ = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    line = (sys.executable, "-c", SECONDS_BEYOND_NUMPY)
    output(*line, cwd=ROOT, **environ)  # compiles
    seconds = [float(output(*line, cwd=ROOT, **environ)) for _ in range(7)]
    assert statistics.median(seconds) < 0.15, seconds


def test_version_is_the_one_that_is_cited():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [convgrad.__version__]


def test_lowest_versions_are_the_lower_bounds():
    bounds = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["app"]]
    lines = (ROOT / "requirements" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    exact = [line for line in lines if not line.startswith("#")]
    assert exact == [bound.replace(">=", "==") for bound in bounds]


def test_require_passes_for_what_is_there():
    require("numpy", "json", extra="app", purpose="this test")


def test_require_names_purpose_packages_and_command():
    with pytest.raises(MissingExtraError) as caught:
        require("numpy", "no_such_a", "no_such_b", extra="app", purpose="drawing a picture")
    assert str(caught.value) == (
        "drawing a picture needs no_such_a and no_such_b, which are not installed; "
        'in the folder of convgrad\'s clone run: python -m pip install ".[app]"'
    )
    assert isinstance(caught.value, ConvError)
    assert isinstance(caught.value, ImportError)


def test_require_speaks_of_the_package_not_the_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="needs pillow, which is not installed"):
        require("PIL", extra="app", purpose="reading an image")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources, so that nothing is left in the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "convgrad", source / "convgrad", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    line = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source)
    output(*line, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of a clean environment, outside the clone, that has the wheel and no extras."""
    folder = tmp_path_factory.mktemp("elsewhere") / "env"
    output(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    output(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder.parent)
    return python


def test_wheel_is_pure_python(wheel):
    assert wheel.name == f"convgrad-{convgrad.__version__}-py3-none-any.whl"


def test_wheel_has_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for path in (ROOT / "convgrad").rglob("*") if path.is_file()}
    expected = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    assert names == expected
    assert "convgrad/py.typed" in names
    assert any(name.endswith("-ubyte") for name in names)  # the digits


def test_wheel_states_its_licences_and_python(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"convgrad-{convgrad.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        licences = {Path(n).name for n in archive.namelist() if f"{info}/licenses/" in n}
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: MIT AND CC-BY-4.0" in metadata
    assert licences == {"LICENSE", "DIGITS_LICENSE.md"}


def test_installed_wheel_computes(installed):
    elsewhere = installed.parent.parent
    file, y, dw = output(installed, "-I", "-c", TINY_CONVOLUTION, cwd=elsewhere).splitlines()
    assert Path(file).is_relative_to(elsewhere)
    assert y == "36 47 69 80"
    assert dw == "12 16 24 28"


def test_installed_command_says_its_version(installed):
    command = installed.with_name("convgrad.exe" if os.name == "nt" else "convgrad")
    said = f"convgrad {convgrad.__version__}\n"
    assert output(command, "--version", cwd=installed.parent) == said
    assert output(installed, "-m", "convgrad", "--version", cwd=installed.parent) == said


def test_installed_command_names_the_extra_it_lacks(installed):
    done = run(installed, "-m", "convgrad", "train", cwd=installed.parent)
    assert done.returncode == 2
    assert "typer and rich, which are not installed" in done.stderr
    assert 'python -m pip install ".[app]"' in done.stderr
    assert "Traceback" not in done.stderr
