"""A record in words: a line for each case, then tables of the ratios."""

from __future__ import annotations

from collections.abc import Sequence

from convgrad.algorithm import DIRECTIONS
from convgrad.bench.results import Beside, Finding, Record, Row
from convgrad.bench.summary import Ratio, grouped, ratios, summary
from convgrad.bench.tables import Table
from convgrad.shapes import CLASSES

WORST = 10  # cases listed


def caption(record: Record) -> str:
    """Where and when it was measured, with what."""
    where, able = record.machine, record.limits
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    lines = [
        f"{record.suite}, {record.date}: {where['processor']}, {where['instruction_set']}, "
        f"{record.settings['threads']} of {where['cores']} threads, {where['system']}",
        versions,
    ]
    if able:
        peaks = ", ".join(f"{v / 1e9:.0f} GFLOP/s {name}" for name, v in able["peak"].items())
        slowest = min(able["bandwidth"].values())
        lines.append(f"the machine's limits: {peaks}; {slowest / 1e9:.0f} GB/s copied")
    return "\n".join(lines)


def heading(row: Row) -> str:
    """What the rows of a layer have in common."""
    return f"{row.layer}: {row.layer_class}, batch {row.x[0]}, {row.dtype}"


def line(row: Row) -> str:
    """A case's figures, for under its layer's heading; what is wrong or odd, on lines of its own.

    The first call is told where it took ten times as long as others do.
    """
    start = f"  {row.direction:<12} {row.algorithm:<14}"
    if row.seconds is None or row.rate is None:
        return f"{start} {row.wrong}"
    parts = [f"{start}{1e3 * row.seconds:9.3f} ms {row.rate / 1e9:7.1f} GFLOP/s"]
    if row.fraction is not None:
        parts.append(f"{row.fraction:4.0%} of {row.bound}")
    parts += [f"{library} {interval(best)}" for library, best in _timed(row).items()]
    if row.first is not None and row.first > 10 * row.seconds:
        parts.append(f"first call {1e3 * row.first:.0f} ms")
    notes = [f"\n    {row.alarm}"] if row.alarm else []
    notes += [
        f"\n    {b.library} {b.variant}: {b.left_out}"
        for b in row.beside
        if b.left_out is not None and b.error is not None
    ]
    return "  ".join(parts) + "".join(notes)


def _timed(row: Row) -> dict[str, Beside]:
    """The fastest variant of each library that was timed."""
    names = dict.fromkeys(b.library for b in row.beside)
    found = {name: row.fastest(name) for name in names}
    return {name: best for name, best in found.items() if best is not None}


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
        by = f"{library}: its time by {record.subject}'s"
        found += [_by_direction(by, of), _by_class(by, of), _worst(by, of)]
    dtypes = dict.fromkeys(finding.dtype for finding in record.errors)
    return [*found, *(_errors(dtype, record.errors) for dtype in dtypes)]


def markdown(record: Record) -> str:
    """The caption and the tables as a page of Markdown."""
    head = caption(record).replace("\n", "  \n")  # two spaces break a line in Markdown
    return "\n".join([head, "", *(table.markdown() for table in tables(record))])


def _by_direction(title: str, of: list[Ratio]) -> Table:
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
    return Table(title, headings, rows, words=2)


def _by_class(title: str, of: list[Ratio]) -> Table:
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
    return Table(f"{title}, geometric mean and worst of each class", headings, rows)


def _mean_and_worst(group: list[Ratio] | None) -> str:
    if not group:
        return "–"
    s = summary(group)
    return f"{number(s.mean)} / {number(s.worst.value)}"


def _worst(title: str, of: list[Ratio]) -> Table:
    worst = sorted(of, key=lambda ratio: ratio.upper)[:WORST]
    rows = [
        (
            r.row.layer, r.row.dtype, r.row.direction, r.row.algorithm, interval(r.beside),
            "–" if r.row.fraction is None else f"{r.row.fraction:.0%}",
        )
        for r in worst
    ]  # fmt: skip
    headings = ("layer", "dtype", "map", "algorithm", "ratio", "of limit")
    return Table(f"{title}, the worst cases", headings, rows, words=4)


def _errors(dtype: str, findings: Sequence[Finding]) -> Table:
    """The worst layer's figures of each algorithm, precision and direction.

    The last columns are the most by which a figure exceeds PyTorch's in the same case.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    peer = {}
    for f in findings:
        if f.dtype == dtype:
            groups.setdefault((f.direction, f.who, f.settings), []).append(f)
            if (f.who, f.settings) == ("PyTorch", "channels_first"):
                peer[f.layer, f.direction] = f
    rows = []
    for direction in DIRECTIONS:
        for key, group in groups.items():
            if key[0] == direction:
                rows.append((*key, str(len(group)), *_figures(group, peer)))
    headings = (
        "map", "who", "setting", "layers", "rms/Σ", "max/Σ", "rms/max", "max/max",
        "rms by PyTorch's", "max by PyTorch's",
    )  # fmt: skip
    return Table(f"{dtype}: errors against float64, of the worst layer", headings, rows, words=3)


def _figures(group: list[Finding], peer: dict[tuple[str, str], Finding]) -> list[str]:
    figures = ("rms_of_sum", "max_of_sum", "rms_of_max", "max_of_max")
    worst = [f"{max(getattr(f, figure) for f in group):.1e}" for figure in figures]
    pairs = [(f, peer[f.layer, f.direction]) for f in group if (f.layer, f.direction) in peer]
    rms = [a.rms_of_max / b.rms_of_max for a, b in pairs if b.rms_of_max]
    most = [a.max_of_max / b.max_of_max for a, b in pairs if b.max_of_max]
    return [*worst, *(number(max(ratios)) if ratios else "–" for ratios in (rms, most))]
