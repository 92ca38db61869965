"""Ratios of many cases in a few numbers: geometric mean, worst case, share below 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

from convgrad.bench.results import Beside, Record, Row


@dataclass(frozen=True)
class Ratio:
    """A case's ratio against the fastest variant of a library."""

    row: Row
    beside: Beside

    @property
    def value(self) -> float:
        return self.beside.ratio or 0.0

    @property
    def upper(self) -> float:
        """The upper end of the interval, where there is one."""
        return self.beside.high or self.value


@dataclass(frozen=True)
class Summary:
    """Of some cases against one library.

    worst is the case whose interval ends lowest; below is the share of cases whose ratio is less
    than 1; certain, of those whose whole interval is.
    """

    cases: int
    mean: float
    worst: Ratio
    below: float
    certain: float
    fraction: float | None


def ratios(record: Record, library: str) -> list[Ratio]:
    found = [(row, row.fastest(library)) for row in record.rows]
    return [Ratio(row, beside) for row, beside in found if beside is not None]


def summary(of: Sequence[Ratio]) -> Summary:
    """Raises ValueError for no cases."""
    values = [ratio.value for ratio in of]
    fractions = [ratio.row.fraction for ratio in of if ratio.row.fraction is not None]
    return Summary(
        cases=len(of),
        mean=exp(sum(map(log, values)) / len(values)),
        worst=min(of, key=lambda ratio: ratio.upper),
        below=sum(value < 1 for value in values) / len(of),
        certain=sum(ratio.upper < 1 for ratio in of) / len(of),
        fraction=median(fractions) if fractions else None,
    )


def grouped(
    of: Iterable[Ratio], key: Callable[[Ratio], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Ratio]]:
    """The ratios by key, keys in the order in which they first occur."""
    groups: dict[tuple[str, ...], list[Ratio]] = {}
    for ratio in of:
        groups.setdefault(key(ratio), []).append(ratio)
    return groups
