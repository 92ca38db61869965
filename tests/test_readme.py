"""The documents' code runs, and their files and commands exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (ROOT, ROOT / "docs", ROOT / "docs" / "contracts", ROOT / "examples")
DOCUMENTS = [document for folder in FOLDERS for document in sorted(folder.glob("*.md"))]


def code_of(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL)


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if code_of(d)], ids=name_of)
def test_the_code_runs(document):
    for code in code_of(document):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True,
            cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.stdout


def test_the_ten_lines_are_about_ten():
    (code,) = code_of(ROOT / "README.md")
    assert len(code.splitlines()) <= 12


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), (document.name, target)


def test_the_architecture_names_every_module_of_the_core():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for module in sorted((ROOT / "convgrad").glob("*.py")):
        if not module.name.startswith("__"):
            assert module.name in text, module.name
