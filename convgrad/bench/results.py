"""The record of a run: what was measured, where and when, as JSON.

    Record   format, date, machine, versions, settings, limits, left out, rows, errors
    Row      one case: what it is, what convgrad did, and each peer beside it
    Beside   one library's variant in a case: seconds, and its time by ours
    Finding  how far a result of a case is from float64

Times are seconds, sizes bytes, rates per second. A ratio is the library's time by convgrad's, so
above 1 convgrad is faster; low and high are the ends of the 95 % interval of its median.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convgrad.errors import DataError

FORMAT = "convgrad bench 1"


@dataclass(frozen=True)
class Beside:
    """A library's variant in a case: `left_out` says why it has no times.

    first is the first call's seconds, compiling included.
    """

    library: str
    variant: str
    seconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    first: float | None = None
    error: float | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class Row:
    """A case: `wrong` says what is wrong with convgrad's result, which then has no times.

    `alarm` is there where a function is faster than plain sums can be on this machine.
    """

    layer: str
    network: str
    layer_class: str
    direction: str
    dtype: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    flops: int
    bytes: int
    algorithm: str
    scratch: int
    seconds: float | None = None
    first: float | None = None
    error: float | None = None
    limit: float | None = None
    bound: str | None = None
    wrong: str | None = None
    alarm: str | None = None
    beside: tuple[Beside, ...] = ()

    @property
    def rate(self) -> float | None:
        """Flops of the plain sums in a second."""
        return None if self.seconds is None else self.flops / self.seconds

    @property
    def fraction(self) -> float | None:
        """Of the limit of plain sums; above 1 where an algorithm needs fewer of them."""
        if self.seconds is None or self.limit is None:
            return None
        return self.limit / self.seconds

    def fastest(self, library: str) -> Beside | None:
        """The library's variant that takes the least time, or None where none was timed."""
        timed = [b for b in self.beside if b.library == library and b.ratio is not None]
        return min(timed, key=lambda b: b.ratio or 0.0, default=None)


@dataclass(frozen=True)
class Finding:
    """The errors of a result: `who` computed it, with `settings` (precisions, or a layout).

    Root mean square and maximum of |error| by Σ|a||b|, and by max|reference|.
    """

    layer: str
    layer_class: str
    direction: str
    dtype: str
    who: str
    settings: str
    rms_of_sum: float
    max_of_sum: float
    rms_of_max: float
    max_of_max: float


@dataclass(frozen=True)
class Record:
    """A run of `convgrad bench`; `subject` is what was timed beside others: convgrad, as a rule."""

    suite: str
    subject: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    limits: dict[str, Any] | None
    left_out: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)

    @property
    def libraries(self) -> list[str]:
        """The libraries that were timed beside convgrad, the one with the most cases first."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for library in dict.fromkeys(b.library for b in row.beside if b.ratio is not None):
                counts[library] = counts.get(library, 0) + 1
        return sorted(counts, key=lambda name: -counts[name])


def write(record: Record, path: Path) -> None:
    """Write the record, a row a line."""
    head = {"format": FORMAT, **asdict(record)}
    lists = {name: head.pop(name) for name in ("rows", "errors")}
    parts = [json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")]
    for name, entries in lists.items():
        lines = ",".join(f"\n  {json.dumps(entry, ensure_ascii=False)}" for entry in entries)
        parts.append(f' "{name}": [{lines}\n ]')
    write_text(",\n".join(parts) + "\n}\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a file. Raises DataError where that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def read(path: Path) -> Record:
    """The record that `write` wrote. Raises DataError for any other file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is no result of convgrad bench; its format is not {FORMAT!r}")
    try:
        made: dict[str, Any] = {k: v for k, v in content.items() if k != "format"}
        made["rows"] = [_row(row) for row in content["rows"]]
        made["errors"] = [Finding(**finding) for finding in content["errors"]]
        return Record(**made)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is a damaged result of convgrad bench: {error}") from error


def _row(content: dict[str, Any]) -> Row:
    made: dict[str, Any] = {name: tuple(content[name]) for name in ("x", "w", "y")}
    made["beside"] = tuple(Beside(**entry) for entry in content["beside"])
    return Row(**{**content, **made})
