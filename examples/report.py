"""What the examples share: their options, two languages, printed arrays, PyTorch's opinion."""

import argparse
import importlib.util
import locale
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

LANGUAGES = ("en", "zh")


class Report:
    """Prints in the language asked for; every sentence is given in English and in Chinese."""

    def __init__(self, language: str) -> None:
        self.language = language
        np.set_printoptions(precision=4, suppress=True, linewidth=100)
        any_console()

    def pick(self, english: str, chinese: str) -> str:
        return chinese if self.language == "zh" else english

    def say(self, english: str, chinese: str) -> None:
        print(self.pick(english, chinese))

    def title(self, english: str, chinese: str) -> None:
        """A heading, with an empty line before it."""
        print(f"\n== {self.pick(english, chinese)} ==")

    def show(self, name: str, value: Any) -> None:
        """A named array, number or text, its lines indented."""
        lines = str(value).splitlines()
        if len(lines) == 1:
            print(f"{name} = {lines[0]}")
        else:
            print(f"{name} =\n  " + "\n  ".join(lines))

    def agrees(self, name: str, ours: np.ndarray, theirs: Callable[[Any], Any]) -> None:
        """Compare with PyTorch where it is installed; theirs(torch) gives its tensor or array.

        A difference above rounding ends the example with an error.
        """
        if importlib.util.find_spec("torch") is None:
            self.say(
                f"{name}: not compared, PyTorch is not installed",
                f"{name}：未安装 PyTorch，未作比较",
            )
            return
        import torch

        expected = np.asarray(theirs(torch))
        if expected.shape != np.shape(ours):
            sys.exit(f"{name}: PyTorch has shape {expected.shape}, not {np.shape(ours)}")
        difference = float(np.abs(ours - expected).max(initial=0))
        bound = 64 * np.finfo(expected.dtype).eps * float(np.abs(expected).max(initial=1))
        if not difference <= bound:
            sys.exit(f"{name}: differs from PyTorch by {difference:.3g}")
        self.say(
            f"{name}: agrees with PyTorch: max difference {difference:.3g}",
            f"{name}：与 PyTorch 一致，最大差 {difference:.3g}",
        )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with --lang; an example adds its own options."""
    any_console()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lang", choices=LANGUAGES, default=_language(),
        help="language of the output / 输出语言 (default: the locale's)",
    )  # fmt: skip
    return parser


def any_console() -> None:
    """Print escapes where the console lacks a letter."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _language() -> str:
    """The locale's language where it is Chinese, otherwise English."""
    names = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    name = next((n for n in names if n), "") or locale.getlocale()[0] or ""
    return "zh" if name.lower().startswith(("zh", "chinese")) else "en"
