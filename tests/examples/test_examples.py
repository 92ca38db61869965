"""Every example runs: in both languages, with and without PyTorch, on any console."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "examples"
SCRIPTS = sorted(p.name for p in FOLDER.glob("*.py") if p.name != "report.py")
CJK = re.compile(r"[\u4e00-\u9fff]")
NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e[-+]?\d+)?")

# A module that stands in sys.modules as None cannot be imported, and find_spec says that it is not
# installed.
WITHOUT = """
import runpy, sys
for name in {modules}:
    sys.modules[name] = None
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Numbers that the article behind a script prints or implies, in the order in which they come.
KEY_NUMBERS = {
    "contributions.py": [],  # its numbers are drawn; there is a test of its own
    "im2col_gemm.py": [
        [27, 9],  # columns
        [*range(3), *range(9, 12), *range(18, 21), *range(81, 84), *range(90, 93)],  # a patch
        [9, 27, 10, 9, 27, 9],  # gradColumns: m, n, k, lda, ldb, ldc
        [27, 10, 9, 9, 9, 27],  # gradWeight
        [1, 2, 3, 3, 3, 3, 3, 2, 1],  # copies of the cells of a row at stride 1
    ],
    "rot180_toolbox.py": [
        [2, 6, 10, 14],  # δ·K
        [14, 10, 6, 2],  # and what the unturned kernel gives
        # dx after a correlation, and after a true convolution
        [1, 0, -1, 8, 4, -1, -2, 2, -4, 4, 3, -7, 12, 2, -7, -3, 5, -8, 13, -6],
        [-2, 7, -12, 5, 6, 1, -3, 4, -14, 9, 3, -4, 6, 4, 2, -2, 1, -3, 4, 3],
    ],
    "sgd_step.py": [
        [36, 47, 69, 80],  # σ
        [232],
        [48, 64, 96, 112],  # the gradient
        [2.52, 1.36, 0.04, 3.88],  # the kernel after a step of 0.01
        [4, 4678.56],  # the loss before and after it
        [-34.2],
        [0.296],
        [1, -68.4, -2, 0.592],  # the error after a step, for three rates
        [2.9864, 1.9818, 0.9727, 4.9682],  # where 2e-4 leads
    ],
    "touched_cells.py": [
        [1, 2, 5, 6],
        [14, 4, 14, 4, 3.5],
        [3.5, 4.5, 5.5, 7.5, 8.5, 9.5, 11.5, 12.5, 13.5],
        [1.75, 2.25, 2.75, 3.75, 4.25, 4.75, 5.75, 6.25, 6.75],
        [0.5, 0.5],
        [17, 18, 21, 22],
        [3.5, 4.5, 5.5, 7.5, 8.5, 9.5, 11.5, 12.5, 13.5, 19.5, 20.5, 21.5],
        [6.75, 9.75, 10.25, 10.75],
        [0, 0, 0, 0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11],  # with its padding zeros
        [54, 16, 54, 16, 3.375],
        [0, 0, 0, 6],  # stride 2, padding 1
        [1, 3, 13, 15],  # stride 2
        [1, 1024, 4, 14, 14, 4096, 0.003418],  # the mean over 1024 channels
    ],
}


def start(line: list[str], environ: dict[str, str], folder: str) -> subprocess.CompletedProcess:
    """Run a program in a folder, in no locale but the one that environ names."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LC_MESSAGES", "LANG")}
    settings = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{FOLDER}",
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        line, cwd=folder, env=kept | settings | environ, capture_output=True,
        encoding="utf-8", check=False, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def output(line: list[str], environ: dict[str, str]) -> str:
    """What a program prints in an empty folder, whose name is left out; it must succeed."""
    with TemporaryDirectory() as folder:
        done = start(line, environ, folder)
        printed = done.stdout.replace(str(Path(folder).resolve()), "")
    assert done.returncode == 0, printed + done.stderr
    for bad in ("Traceback", "Warning"):
        assert bad not in printed + done.stderr, printed + done.stderr
    return printed


def run(script: str, *options: str, without: tuple[str, ...] = (), **environ: str) -> str:
    """What a script prints; it trains for one epoch where it trains."""
    path = FOLDER / script
    if "--epochs" in path.read_text(encoding="utf-8") and "--help" not in options:
        options = (*options, "--epochs", "1")
    code = WITHOUT.format(modules=without, argv=[str(path), *options])
    return output([sys.executable, *(["-c", code] if without else [str(path), *options])], environ)


@cache
def english(script: str) -> str:
    """With --lang en, which counts for more than a Chinese locale."""
    return run(script, "--lang", "en", LANG="zh_CN.UTF-8")


@cache
def chinese(script: str) -> str:
    """In a Chinese locale, without an option."""
    return run(script, LANG="zh_CN.UTF-8")


def numbers(text: str) -> list[str]:
    return NUMBER.findall(text)


def holds(text: str, wanted: list[float]) -> bool:
    """Whether the numbers follow one another somewhere in the text."""
    found = [float(n) for n in numbers(text)]
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found)))


def is_english_sentence(line: str) -> bool:
    small = re.findall(r"\b(the|an|of|is|are|and|with|that|which|in|to|by|for|not|it)\b", line)
    return len(small) >= 2 and not CJK.search(line)


each = pytest.mark.parametrize("script", SCRIPTS)


def test_there_is_a_script_for_each_article():
    assert sorted(KEY_NUMBERS) == SCRIPTS


@each
def test_it_says_what_it_shows(script):
    tree = ast.parse((FOLDER / script).read_text(encoding="utf-8"))
    first = (ast.get_docstring(tree) or "").split("\n\n")[0]
    assert len(first.split()) >= 6
    for page in ("README.md", "README.zh-CN.md"):
        assert f"]({script})" in (FOLDER / page).read_text(encoding="utf-8")


@each
def test_english(script):
    assert not CJK.search(english(script))
    missing = [wanted for wanted in KEY_NUMBERS[script] if not holds(english(script), wanted)]
    assert not missing


@each
def test_chinese(script):
    lines = chinese(script).splitlines()
    assert sum(bool(CJK.search(line)) for line in lines) >= 5
    assert not [line for line in lines if is_english_sentence(line)]
    assert not re.findall(r".*[\u4e00-\u9fff][,;:?!](?:\s|[\u4e00-\u9fff]|$).*", chinese(script))


@each
def test_both_languages_print_the_same_numbers(script):
    assert numbers(chinese(script)) == numbers(english(script))


@each
def test_it_agrees_with_pytorch(script):
    pytest.importorskip("torch")
    agreed = english(script).count("agrees with PyTorch: max difference ")
    assert agreed >= 2
    assert chinese(script).count("与 PyTorch 一致，最大差 ") == agreed


@each
def test_without_pytorch_and_matplotlib_on_a_plain_console(script):
    printed = run(script, "--lang", "zh", without=("torch", "matplotlib"), PYTHONIOENCODING="ascii")
    assert printed.isascii()
    text = printed.encode().decode("unicode_escape")
    assert len(CJK.findall(text)) >= 20
    assert "未安装 PyTorch" in text
    assert "与 PyTorch 一致" not in text


@each
def test_help_on_a_plain_console(script):
    assert "--lang" in run(script, "--help", PYTHONIOENCODING="ascii")


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
    ],
    ids=str,
)
def test_the_locale_decides_the_language(environ, language):
    code = "from report import arguments; print(arguments('').parse_args([]).lang)"
    assert output([sys.executable, "-c", code], environ) == f"{language}\n"


def test_a_difference_from_pytorch_ends_a_script(tmp_path):
    pytest.importorskip("torch")
    code = """
import numpy
from report import Report
for ours in (numpy.ones(2), numpy.ones(2) + 1e-12, numpy.ones(3), numpy.ones(2) * numpy.nan):
    try:
        Report("en").agrees("dw", ours, lambda torch: torch.ones(2, dtype=torch.float64))
    except SystemExit as end:
        print(end)
"""
    assert start([sys.executable, "-c", code], {}, str(tmp_path)).stdout.splitlines() == [
        "dw: agrees with PyTorch: max difference 0",
        "dw: differs from PyTorch by 1e-12",
        "dw: PyTorch has shape (2,), not (3,)",
        "dw: differs from PyTorch by nan",
    ]


def test_contributions_are_compared_with_the_gradients():
    assert english("contributions.py").count("conv2d_backward's: difference 0\n") == 15


def test_the_plot_of_sgd_step_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    place = tmp_path / "error.png"
    options = ("--lang", "en", "--plot", str(place))
    assert f"plot = {place}\n" in run("sgd_step.py", *options, without=("torch",))
    picture = imread(place)
    assert picture.shape[0] > 400
    assert picture.shape[1] > 600
    for colour in ("c4500a", "1f5fa8"):  # the line of either rate
        wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        assert (np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.02).sum() > 1000


def test_without_matplotlib_sgd_step_says_so():
    printed = run("sgd_step.py", "--lang", "en", without=("torch", "matplotlib"))
    assert printed.endswith(
        "no plot: matplotlib is not installed (python -m pip install matplotlib)\n"
    )


def test_a_plot_that_cannot_be_written_ends_sgd_step(tmp_path):
    pytest.importorskip("matplotlib")
    place = tmp_path / "no folder" / "error.png"
    argv = [str(FOLDER / "sgd_step.py"), "--lang", "en", "--plot", str(place)]
    code = WITHOUT.format(modules=("torch",), argv=argv)
    done = start([sys.executable, "-c", code], {}, str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot write {place}: ")
