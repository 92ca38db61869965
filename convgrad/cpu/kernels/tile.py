"""The register tile: rows of numbers times registers, and the panels of rows that it goes over."""

from collections.abc import Iterator
from contextlib import contextmanager

from convgrad.cpu.jit.language import Kernel, Value
from convgrad.cpu.tiling import Tile


def product_step(
    k: Kernel, a: Value, b: Value, tile: Tile, height: int, sums: list[Value]
) -> list[Value]:
    """sums + a (height) ⊗ b (vectors): one step of the micro-kernel."""
    vectors = [b.vector(j * k.lanes.count) for j in range(tile.vectors)]
    return rank_one(k, [a.at(i) for i in range(height)], vectors, sums)


def rank_one(k: Kernel, rows: list[Value], vectors: list[Value], sums: list[Value]) -> list[Value]:
    """sums + rows ⊗ vectors, each row a number in memory."""
    fresh = []
    for i, place in enumerate(rows):
        one = k.splat(place.load())
        fresh += [k.fma(one, v, sums[i * len(vectors) + j]) for j, v in enumerate(vectors)]
    return fresh


def heights(tile: Tile) -> list[int]:
    """The heights that panels have: the tile's, and one less."""
    return [height for height in (tile.height, tile.height - 1) if height]


@contextmanager
def each_panel(
    k: Kernel, a: dict[str, Value], tile: Tile, height: int, share: Value
) -> Iterator[Value]:
    """For each panel of this height in the part's share: its first row."""
    low, high = panels_of(a, tile, height, share)
    with k.loop(high, start=low) as (panel, _):
        yield row_of(a, panel, tile, height)


def panels_of(a: dict[str, Value], tile: Tile, height: int, share: Value) -> tuple[Value, Value]:
    """The panels of this height in a share: the first one's number, and that behind the last."""
    total, tall = a["tall"] + a["low"], height == tile.height
    first, last = (total * (share + i) // a["shares"] for i in (0, 1))
    return (first, last.minimum(a["tall"])) if tall else (first.maximum(a["tall"]), last)


def row_of(a: dict[str, Value], panel: Value, tile: Tile, height: int) -> Value:
    """The first row of a panel of this height."""
    return panel * height if height == tile.height else panel * height + a["tall"]


def rows_of(k: Kernel, a: dict[str, Value], tile: Tile, share: Value) -> tuple[Value, Value, Value]:
    """Of the panels of a share: the first row, the second panel's, and that behind the last."""
    first, last = ((a["tall"] + a["low"]) * (share + i) // a["shares"] for i in (0, 1))
    low = [
        panel * (tile.height - 1) + panel.minimum(a["tall"]) for panel in (first, first + 1, last)
    ]
    return low[0], low[1], low[2]
