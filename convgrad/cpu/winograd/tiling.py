"""How big things are in Winograd's kernels: register tile, tiles of an image, their blocks."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem
from convgrad.cpu.jit import compiler
from convgrad.cpu.tiling import HEIGHTS
from convgrad.cpu.winograd.axes import TiledAxes, products, taps_of_phase, tiled_axes
from convgrad.cpu.winograd.filtering import F11, F23, F33, F42, F43, F52, F53, Filtering

RUN = 16  # products that are summed in registers: shorter sums err less
LONG_RUN = 128  # with precision="fast"


@dataclass(frozen=True)
class Forms:
    """The filtering on both axes of a tile, and how many products are summed in registers."""

    rows: Filtering
    columns: Filtering
    run: int = RUN

    @property
    def points(self) -> int:
        return self.rows.tile * self.columns.tile


STANDARD = (
    Forms(F43, F43), Forms(F42, F42), Forms(F23, F23), Forms(F33, F33),
    Forms(F11, F43), Forms(F43, F11), Forms(F11, F42), Forms(F42, F11),
)  # fmt: skip
FAST = (
    Forms(F43, F43, LONG_RUN), Forms(F42, F42, LONG_RUN), Forms(F53, F53, LONG_RUN),
    Forms(F52, F52, LONG_RUN), Forms(F11, F53, LONG_RUN), Forms(F53, F11, LONG_RUN),
)  # fmt: skip


@dataclass(frozen=True)
class WinogradTile:
    """A register tile of `height` rows and `vectors` registers, and what it multiplies."""

    height: int
    vectors: int
    forms: Forms

    @property
    def rows(self) -> Filtering:
        return self.forms.rows

    @property
    def columns(self) -> Filtering:
        return self.forms.columns

    @property
    def points(self) -> int:
        return self.forms.points

    @property
    def taps(self) -> int:
        return self.rows.taps * self.columns.taps

    @property
    def divisor(self) -> int:
        return self.rows.divisor * self.columns.divisor


def winograd_tiles(level: str) -> list[WinogradTile]:
    return [WinogradTile(HEIGHTS[level][2], 2, forms) for forms in (*STANDARD, *FAST)]


@dataclass(frozen=True)
class ImageTiles:
    """The tiles of all images of a result.

    planes, rows, columns: of one image, tiles of all residues of the dilation together.
    """

    forms: Forms
    axes: TiledAxes
    planes: int
    rows: int
    columns: int
    count: int

    @property
    def parts(self) -> int:
        """Parts of the taps, each with products of its own."""
        return prod(len(axis.shifts) for axis in self.axes)

    @property
    def column_parts(self) -> int:
        return len(self.axes[2].shifts)

    @property
    def phases(self) -> int:
        """Results that a tile has for each of its own."""
        return prod(axis.every for axis in self.axes)

    def blocks(self, most: int) -> tuple[int, int]:
        """Tiles in a block, about `most`, and how many blocks: woven tiles stay together."""
        woven = self.axes[2].apart
        units = self.count // woven
        blocks = -(-units // max(1, most // woven))
        each = -(-units // blocks)
        return each * woven, -(-units // each)

    def line(self, block: int, lanes: int) -> int:
        """Columns that one tile row of a block reads or writes, and a register beyond."""
        axis = self.axes[2]
        results = axis.form.step * min(self.columns, block)
        return max(axis.stride * results + axis.reach, axis.every * results) + lanes


@lru_cache(maxsize=1024)
def image_tiles(problem: Problem) -> ImageTiles:
    """Tiles of the results (for dw: of y) with the forms that need the fewest products."""
    return min(
        (_image_tiles(problem, forms) for forms in suitable(problem)),
        key=lambda tiles: (tiles.count * products(tiles.axes), tiles.forms.points),
    )


def suitable(problem: Problem) -> list[Forms]:
    """The forms that gain something on the last two axes, and err no more than they may."""
    g = problem.geometry
    allowed = (*FAST, *STANDARD) if problem.precision == "fast" else STANDARD
    rows = taps_of_phase(g, -2) if g.rank > 1 else 1
    return [
        forms for forms in allowed
        if all((n > 1) == (form is not F11) for n, form in (
            (rows, forms.rows), (taps_of_phase(g, -1), forms.columns)
        ))
    ]  # fmt: skip


def _image_tiles(problem: Problem, forms: Forms) -> ImageTiles:
    z, r, c = axes = tiled_axes(problem, forms.rows, forms.columns)
    count = problem.geometry.batch * z.size * r.tiles * c.tiles
    return ImageTiles(forms, axes, z.size, r.tiles, c.tiles, count)


def register_tile(tiles: ImageTiles) -> WinogradTile:
    """The tile of this machine's kernels with the forms of these tiles."""
    return WinogradTile(HEIGHTS[compiler.target().level][2], 2, tiles.forms)
