"""The README's code runs, and its files and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_ten_lines_run():
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENTS[0].read_text("utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 12
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, cwd=ROOT,
        env={"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "weight_grad of a 2-D convolution, float64" in done.stdout


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), (document.name, target)


def test_the_architecture_names_every_module_of_the_core():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for module in sorted((ROOT / "convgrad").glob("*.py")):
        if not module.name.startswith("__"):
            assert module.name in text, module.name
