"""A record as a heat map: cases × maps, coloured by the logarithm of the ratio.

Every class is a block, every layer a row, every dtype and map a column; the number in a cell is the
ratio against the fastest variant of one library. White is 1, blue is faster, red is slower, so that
a cliff is a patch of red.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convgrad.bench.report import number
from convgrad.bench.results import Record
from convgrad.bench.summary import Ratio, grouped, ratios, summary
from convgrad.errors import DataError
from convgrad.shapes import CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRONGEST = 4.0  # the ratio whose colour is the last one
ROW, CELL, NAME, GAP = 0.17, 0.46, 3.1, 0.35  # inches: heights and widths
MARGIN, HEAD, FOOT = 0.3, 1.2, 0.8
TALLEST = 80  # rows and headings in a column of blocks
LIGHT, GREY = "#ffffff", "#e4e4e4"
MAPS = {"forward": "y", "input_grad": "dx", "weight_grad": "dw"}
SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
MEAN = "geometric mean"
Column = tuple[str, str]  # dtype and direction


@dataclass(frozen=True)
class Block:
    """The layers of a class: names, and for each its ratios by column; their means come first."""

    title: str
    names: list[str]
    cells: list[dict[Column, float]]

    @property
    def height(self) -> int:
        """Rows of the page, the heading counted."""
        return len(self.names) + 2


def draw(record: Record, path: Path, library: str | None = None) -> None:
    """Draw the record's ratios against a library (the one with the most cases) into a PNG file.

    Raises DataError where there are none, or where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    library = library or next(iter(record.libraries), None)
    of = ratios(record, library) if library else []
    if not of or library is None:
        raise DataError("there is nothing to draw: no case was timed beside a library")
    columns = _columns(of)
    pages = _packed(_blocks(of))
    tallest = max(sum(block.height for block in page) for page in pages)
    wide = NAME + CELL * len(columns)
    width = 2 * MARGIN + len(pages) * wide + (len(pages) - 1) * GAP
    figure = Figure(figsize=(max(width, 7.5), HEAD + FOOT + ROW * tallest), dpi=150)
    FigureCanvasAgg(figure)
    _caption(figure, record, library, of)
    for i, page in enumerate(pages):
        top = HEAD
        for block in page:
            left = MARGIN + i * (wide + GAP) + NAME
            _block(figure, block, columns, left, top + 2 * ROW)
            top += block.height * ROW
    _legend(figure, record.subject)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def _columns(of: Sequence[Ratio]) -> list[Column]:
    return list(dict.fromkeys((ratio.row.dtype, ratio.row.direction) for ratio in of))


def _blocks(of: Sequence[Ratio]) -> list[Block]:
    """The classes in their usual order, the layers in the order in which they were timed."""
    classes = grouped(of, lambda ratio: (ratio.row.layer_class,))
    blocks = []
    for name in CLASSES:
        group = classes.get((name,), [])
        columns = grouped(group, lambda ratio: (ratio.row.dtype, ratio.row.direction))
        layers: dict[str, dict[Column, float]] = {
            MEAN: {(key[0], key[1]): summary(column).mean for key, column in columns.items()}
        }
        for ratio in group:
            cells = layers.setdefault(ratio.row.layer, {})
            cells[ratio.row.dtype, ratio.row.direction] = ratio.value
        if group:
            blocks.append(Block(name, list(layers), list(layers.values())))
    return blocks


def _packed(blocks: Sequence[Block]) -> list[list[Block]]:
    """The blocks in columns of about the same height; a tall block goes on in the next column."""
    total = sum(block.height for block in blocks)
    count = max(1, -(-total // TALLEST))
    room = max(6, -(-total // count) + 2)
    pages: list[list[Block]] = [[]]
    left = room
    for block in blocks:
        rest: Block | None = block
        while rest is not None:
            if left < min(rest.height, 5):
                pages.append([])
                left = room
            here, rest = _split(rest, left)
            pages[-1].append(here)
            left -= here.height
    return pages


def _split(block: Block, room: int) -> tuple[Block, Block | None]:
    if block.height <= room:
        return block, None
    rows = room - 2
    title = f"{block.title.removesuffix(' (continued)')} (continued)"
    first = Block(block.title, block.names[:rows], block.cells[:rows])
    return first, Block(title, block.names[rows:], block.cells[rows:])


def _caption(figure: Figure, record: Record, library: str, of: Sequence[Ratio]) -> None:
    """What is shown, on what, and the figures that sum it up."""
    size = figure.get_figheight()
    s = summary(of)
    version = record.versions.get({"PyTorch": "torch"}.get(library, library.lower()), "")
    lines = [
        (0.32, 13, "bold", f"{library} {version}: its time by {record.subject}'s"),
        (0.56, 8, "normal", _where(record)),
        (
            0.74, 8, "normal",
            f"{s.cases} cases: geometric mean {number(s.mean)}, {s.below:.0%} below 1",
        ),
        (
            0.92, 8, "normal",
            f"worst {number(s.worst.value)}: {s.worst.row.layer}, {s.worst.row.direction}, "
            f"{s.worst.row.dtype}",
        ),
    ]  # fmt: skip
    for at, points, weight, text in lines:
        x, y = MARGIN / figure.get_figwidth(), 1 - at / size
        figure.text(x, y, text, fontsize=points, fontweight=weight, va="center")


def _where(record: Record) -> str:
    where, settings = record.machine, record.settings
    return (
        f"{where['processor']}, {where['instruction_set']}, {settings['threads']} threads, "
        f"precision {settings['precision']}, {record.date[:10]}"
    )


def _block(
    figure: Figure, block: Block, columns: Sequence[Column], left: float, top: float
) -> None:
    """One class: a grid of coloured cells, layers named at the left, columns at the top."""
    rows, width, height = len(block.names), figure.get_figwidth(), figure.get_figheight()
    box = (
        left / width, 1 - (top + rows * ROW) / height,
        len(columns) * CELL / width, rows * ROW / height,
    )  # fmt: skip
    axes = figure.add_axes(box)
    values = np.full((rows, len(columns)), np.nan)
    for i, cells in enumerate(block.cells):
        for j, column in enumerate(columns):
            if column in cells:
                values[i, j] = cells[column]
    _grid(axes, values)
    for j in range(1, len(columns)):
        if columns[j][0] != columns[j - 1][0]:
            axes.axvline(j - 0.5, color="white", linewidth=5)
    labels = axes.set_yticks(range(rows), block.names, fontsize=6.5)
    if block.names[0] == MEAN:
        labels[0].label1.set_fontweight("bold")
        axes.axhline(0.5, color="white", linewidth=3)
    axes.set_xticks(range(len(columns)), [_heading(c) for c in columns], fontsize=6.5)
    axes.text(
        -NAME / CELL / len(columns), 1 + 0.75 / rows, block.title,
        transform=axes.transAxes, fontsize=9, fontweight="bold", va="center",
    )  # fmt: skip


def _heading(column: Column) -> str:
    return f"{SHORT[column[0]]} {MAPS[column[1]]}"


def _grid(axes: Axes, values: np.ndarray) -> None:
    """Cells with their numbers; grey where nothing was timed."""
    strongest = np.log2(STRONGEST)
    axes.set_facecolor(GREY)
    axes.imshow(
        np.log2(values), cmap="RdBu", vmin=-strongest, vmax=strongest, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            dark = abs(np.log2(value)) > 0.55 * strongest
            colour = LIGHT if dark else "#202020"
            axes.text(j, i, number(value), fontsize=6.5, ha="center", va="center", color=colour)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, subject: str) -> None:
    """The colours and the ratios they stand for."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    axes = figure.add_axes((MARGIN / width, 0.38 / height, 3.0 / width, 0.14 / height))
    strongest = np.log2(STRONGEST)
    ramp = np.linspace(-strongest, strongest, 256)[None]
    extent = (-strongest, strongest, 0, 1)
    axes.imshow(ramp, cmap="RdBu", aspect="auto", extent=extent)
    marks = [0.25, 0.5, 1, 2, 4]
    labels = ["≤ ¼", "½", "1", "2", "≥ 4"]
    axes.set_xticks(np.log2(marks), labels, fontsize=7)
    axes.set_yticks([])
    axes.text(
        strongest * 1.15, 0.5, f"red: {subject} is slower; blue: faster; grey: not timed",
        fontsize=7.5, va="center",
    )  # fmt: skip
