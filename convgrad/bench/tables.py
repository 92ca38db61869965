"""Table: headings and rows of words, as text or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """The first `words` columns are left-aligned, the others are numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def text(self) -> str:
        """Columns padded with spaces, the title above."""
        lines = [self.headings, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.headings))]
        padded = [
            "  ".join(
                cell.ljust(width) if i < self.words else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *(f"  {line}" for line in padded)])

    def markdown(self) -> str:
        """A pipe table under its title."""
        rules = ["---" if i < self.words else "---:" for i in range(len(self.headings))]
        lines = [self.headings, rules, *self.rows]
        return "\n".join(
            [f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""]
        )
