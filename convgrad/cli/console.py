"""All that the command line prints: any encoding, any width, terminal or file.

No character can stop a command: what the console's encoding lacks is written with plain
characters. Lines meant for copying (commands, paths, errors) are never broken at the
console's width.
"""

from __future__ import annotations

import codecs
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN = {
    "×": "x",
    "·": "*",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "−": "-",
    "–": "-",
    "—": "-",
    "Σ": "sum ",
    "½": "1/2",
    "²": "^2",
    "³": "^3",
    "ε": "eps",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "█": "#",
    "▓": "%",
    "▒": "+",
    "░": ".",
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A codec error handler: plain characters for what an encoding lacks, \\u… for the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(plain), error.end


def prepare_streams() -> None:
    """Make printing to stdout and stderr safe in every encoding; call once, at the start."""
    codecs.register_error("convgrad-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="convgrad-plain")


def out() -> Console:
    """The console for results; colours only where rich finds them wanted (NO_COLOR, no pipe)."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def say(text: str = "", style: str = "") -> None:
    """Print lines to stdout as they are: no markup, not broken at the console's width."""
    out().print(text, style=style or None, soft_wrap=True)


def show(table: Table) -> None:
    """Print a table; its box is plain ASCII where the encoding is not Unicode."""
    out().print(table)


def warn(text: str) -> None:
    _on_stderr(f"warning: {text}", "yellow")


def fail(text: str) -> None:
    """One line about an error, on stderr."""
    _on_stderr(f"error: {' '.join(text.split())}", "red")


def _on_stderr(text: str, style: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(text, style=style, soft_wrap=True)


def is_live() -> bool:
    """Whether lines can be drawn over: a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def quoted(word: str) -> str:
    """The word as the shell here needs it: quotes only where it has to have them."""
    if sys.platform == "win32":
        return f'"{word}"' if any(c in word for c in " &()'") else word
    return shlex.quote(word) if not _is_plain_word(word) else word


def _is_plain_word(word: str) -> bool:
    """Letters of any script need no quotes, which `shlex.quote` would add."""
    return bool(word) and all(c.isalnum() or c in "@%+=:,./-_" for c in word)


def command(*words: str | Path) -> str:
    """A convgrad command line that works from the current folder."""
    return " ".join([_program(), *(quoted(str(word)) for word in words)])


def _program() -> str:
    """`convgrad` if the PATH has this one; else its path, or `python -m convgrad`."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{_shell_path(Path(sys.executable))} -m convgrad"
    found = shutil.which("convgrad")
    if found is not None and Path(found).resolve() == started.resolve():
        return "convgrad"
    return _shell_path(started)


def _shell_path(program: Path) -> str:
    """The program relative to the current folder where it lies below it, quoted."""
    path = program.absolute()
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    text = quoted(str(path) if len(path.parts) > 1 else f".{os.sep}{path}")
    return f"& {text}" if sys.platform == "win32" and text.startswith('"') else text


def columns_of(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first column padded: for lists of names and values."""
    width = max((len(row[0]) for row in rows), default=0)
    return "\n".join(f"{row[0]:<{width}}  {'  '.join(row[1:])}".rstrip() for row in rows)
