"""How results are cut into blocks, and the sizes of the tiles that they are computed from."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil, log2, prod

from convgrad.cpu.jit.compiler import BITS
from convgrad.cpu.jit.threads import SCRATCH

Size = tuple[int, ...]
WIDEST = max(BITS.values()) // 64  # doubles of the widest register: tiles are multiples of it
SECOND_CACHE = 1 << 19
CELL = 16  # bytes of a complex number
# Sides of a tile: multiples of 8 whose other factors are 2, 3 and 5, few of the odd ones.
SIDES = sorted(8 * 2**a * b for a, b in product(range(8), (1, 3, 5, 9, 15)) if 8 * 2**a * b <= 2048)
LINES = [(a, b) for a in SIDES for b in (a, 2 * a) if b in SIDES]


@dataclass(frozen=True)
class Tiling:
    """How results are cut into blocks, each from a tile of rows × columns cells.

    tile: rows and columns of the transform. block: rows and columns of results; a line's block is
    one row. counts: blocks along rows and columns. Two tiles of a channel make a pair.
    """

    tile: Size
    block: Size
    counts: Size

    @property
    def points(self) -> int:
        return prod(self.tile)

    @property
    def tiles(self) -> int:
        return prod(self.counts)

    @property
    def pairs(self) -> int:
        return -(-self.tiles // 2)

    @property
    def scratch(self) -> int:
        """Bytes of a panel of rows and of the buffer, whatever the register's width."""
        rows, columns = self.tile
        return CELL * (columns * WIDEST + (rows + 2) * columns)

    @property
    def nanoseconds(self) -> float:
        """To spectra and back, for a pair of tiles, on one thread of an ordinary processor."""
        far = max(0.0, log2(self.points * CELL / SECOND_CACHE))
        return self.points * (7.0 + 0.1 * log2(self.points) + 0.8 * far)


def one_tile(cut: Tiling, extent: Size) -> Tiling:
    """The tiles of `cut`, for an operand or a result that one of them holds."""
    block = extent if len(extent) == 2 else (1, *extent)
    return Tiling(cut.tile, block, (1, 1))


@lru_cache(maxsize=4096)
def tiling(out_size: Size, extent: Size, channels: int = 0) -> Tiling:
    """The tiling that should take the least time for results of out_size.

    channels: of a sample, where each pair of tiles is one piece of work; an odd piece is waited
    for, so there is one more. With 0, the work is cut into small pieces.
    Raises LookupError if the kernel's extent leaves no room for results in any tile.
    """
    if len(extent) == 1:
        every = [
            _line(out_size[0], extent[0], *sides) for sides in LINES if prod(sides) >= extent[0]
        ]
    else:
        every = [
            Tiling((r[0], c[0]), (r[1], c[1]), (r[2], c[2]))
            for r, c in product(*map(_best_sides, out_size, extent))
        ]
    fitting = [one for one in every if one.scratch <= SCRATCH]
    if not fitting:
        raise LookupError(
            f"no tile of {SCRATCH:,} bytes has room for a kernel's extent of {extent}"
        )

    def time(one: Tiling) -> float:
        pieces = channels * one.pairs
        rounds = (pieces + pieces % 2) / channels if channels else one.pairs
        return (rounds + 0.3) * one.nanoseconds

    return min(fitting, key=time)


def _best_sides(out: int, extent: int) -> list[tuple[int, int, int]]:
    """Sides of a tile, results in it and blocks, the six that repeat the fewest cells."""
    sides = []
    for side in SIDES:
        if side >= extent:
            block = min(side - extent + 1, out)
            sides.append((side, block, ceil(out / block)))
            if block == out:
                break
    return sorted(sides, key=lambda one: one[0] * one[2] * (8 + log2(one[0])))[:8]


def _line(out: int, extent: int, rows: int, columns: int) -> Tiling:
    block = min(rows * columns - extent + 1, out)
    return Tiling((rows, columns), (1, block), (1, ceil(out / block)))
