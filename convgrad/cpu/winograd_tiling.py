"""How big things are in Winograd's kernels: register tile, block of tiles, group of panels."""

from dataclasses import dataclass

from convgrad.cpu.filtering import F43, Filtering
from convgrad.cpu.tiling import HEIGHTS


@dataclass(frozen=True)
class WinogradTile:
    """A register tile, and the filtering on both axes."""

    height: int
    vectors: int
    filtering: Filtering = F43


def winograd_tiles(level: str) -> list[WinogradTile]:
    return [WinogradTile(HEIGHTS[level][2], 2)]
