"""A record in words: a line for each case, then tables of the ratios."""

from __future__ import annotations

from convgrad.bench.results import Beside, Record, Row
from convgrad.bench.summary import Ratio, grouped, ratios, summary
from convgrad.bench.tables import Table
from convgrad.shapes import CLASSES

WORST = 10  # cases listed


def heading(row: Row) -> str:
    """What the rows of a layer have in common."""
    return f"{row.layer}: {row.layer_class}, batch {row.x[0]}, {row.dtype}"


def line(row: Row) -> str:
    """A case's figures, for under its layer's heading."""
    start = f"  {row.direction:<12} {row.algorithm:<14}"
    if row.seconds is None or row.rate is None:
        return f"{start} {(row.wrong or '').upper()[:5]}{(row.wrong or '')[5:]}"
    of_limit = "" if row.fraction is None else f"  {row.fraction:4.0%} of {row.bound}"
    peers = "".join(f"  {_beside(row, library)}" for library in _timed(row))
    figures = f"{1e3 * row.seconds:9.3f} ms {row.rate / 1e9:7.1f} GFLOP/s"
    wrong = "".join(
        f"\n    {b.library} {b.variant}: {b.left_out}"
        for b in row.beside
        if b.left_out is not None and b.error is not None
    )
    return f"{start}{figures}{of_limit}{peers}{wrong}"


def _timed(row: Row) -> list[str]:
    return list(dict.fromkeys(b.library for b in row.beside if b.ratio is not None))


def _beside(row: Row, library: str) -> str:
    best = row.fastest(library)
    assert best is not None
    return f"{library} {interval(best)}"


def interval(beside: Beside) -> str:
    """`1.32 (1.30–1.35)`, without the interval where there were too few pairs."""
    value = number(beside.ratio or 0.0)
    if beside.low is None or beside.high is None:
        return value
    return f"{value} ({number(beside.low)}–{number(beside.high)})"


def number(value: float) -> str:
    """Three significant digits at most: 0.87, 1.32, 13.2, 132."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def tables(record: Record) -> list[Table]:
    """For each library: by direction, by class, and the worst cases."""
    found = []
    for library in record.libraries:
        of = ratios(record, library)
        found += [_by_direction(library, of), _by_class(library, of), _worst(library, of)]
    return found


def _by_direction(library: str, of: list[Ratio]) -> Table:
    rows = []
    for (dtype, direction), group in grouped(of, lambda r: (r.row.dtype, r.row.direction)).items():
        s = summary(group)
        fraction = "–" if s.fraction is None else f"{s.fraction:.0%}"
        rows.append(
            (
                dtype, direction, str(s.cases), number(s.mean), number(s.worst.value),
                f"{s.below:.0%}", f"{s.certain:.0%}", fraction,
            )
        )  # fmt: skip
    headings = (
        "dtype", "map", "cases", "geometric mean", "worst", "below 1", "certainly", "of limit",
    )  # fmt: skip
    return Table(f"{library}: its time by convgrad's", headings, rows, words=2)


def _by_class(library: str, of: list[Ratio]) -> Table:
    """Geometric mean and worst of each class, a column for each dtype and direction."""
    columns = list(grouped(of, lambda r: (r.row.dtype, r.row.direction)))
    groups = grouped(of, lambda r: (r.row.layer_class, r.row.dtype, r.row.direction))
    rows = []
    for name in CLASSES:
        if not any(key[0] == name for key in groups):
            continue
        cells = [_mean_and_worst(groups.get((name, *column))) for column in columns]
        rows.append((name, *cells))
    headings = ("class", *(f"{dtype} {direction}" for dtype, direction in columns))
    return Table(f"{library}: geometric mean and worst case of each class", headings, rows)


def _mean_and_worst(group: list[Ratio] | None) -> str:
    if not group:
        return "–"
    s = summary(group)
    return f"{number(s.mean)} / {number(s.worst.value)}"


def _worst(library: str, of: list[Ratio]) -> Table:
    worst = sorted(of, key=lambda ratio: ratio.upper)[:WORST]
    rows = [
        (
            r.row.layer, r.row.dtype, r.row.direction, r.row.algorithm, interval(r.beside),
            "–" if r.row.fraction is None else f"{r.row.fraction:.0%}",
        )
        for r in worst
    ]  # fmt: skip
    headings = ("layer", "dtype", "map", "algorithm", "ratio", "of limit")
    return Table(f"{library}: the worst cases", headings, rows, words=4)
