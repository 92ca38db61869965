"""How big things are in Winograd's kernels: register tile, tiles of an image, their blocks."""

from dataclasses import dataclass

from convgrad.cpu.correlation import lifted
from convgrad.cpu.tiling import HEIGHTS
from convgrad.cpu.winograd.filtering import F43, Filtering
from convgrad.geometry import Geometry, Size


@dataclass(frozen=True)
class WinogradTile:
    """A register tile, and the filtering on both axes."""

    height: int
    vectors: int
    filtering: Filtering = F43


def winograd_tiles(level: str) -> list[WinogradTile]:
    return [WinogradTile(HEIGHTS[level][2], 2)]


@dataclass(frozen=True)
class ImageTiles:
    """The tiles of all images of a result.

    apart: cells between the taps on each axis. The cells of one residue are an image of their own;
    rows, columns: tile rows and columns of all residues together.
    """

    form: Filtering
    apart: tuple[int, int, int]
    rows: int
    columns: int
    count: int

    def blocks(self, most: int) -> tuple[int, int]:
        """Tiles in a block, about `most`, and how many blocks: woven tiles stay together."""
        woven = self.apart[2]
        units = self.count // woven
        blocks = -(-units // max(1, most // woven))
        each = -(-units // blocks)
        return each * woven, -(-units // each)

    def line(self, block: int, lanes: int) -> int:
        """Columns that one tile row of a block reads or writes, and a register beyond."""
        form = self.form
        beyond = self.apart[2] * (form.tile - form.step)
        return form.step * min(self.columns, block) + beyond + lanes


def image_tiles(g: Geometry, size: Size, form: Filtering) -> ImageTiles:
    """Tiles of a result with these sizes."""
    deep, high, wide = lifted(size, 1)
    apart = lifted(g.dilation, 1)
    rows, columns = (
        -(-n // (a * form.step)) * a for n, a in zip((high, wide), apart[1:], strict=True)
    )
    return ImageTiles(form, apart, rows, columns, g.batch * deep * rows * columns)
