"""The product where cells are few beside weights: all cells are packed beforehand, and weights some
panels at a time, as they are needed. The sums are those of `multiply`, in the same order.
"""

from convgrad.cpu.implicit_gemm.kernels.multiply import LINE, ZEROS, panel_words, tile_room
from convgrad.cpu.implicit_gemm.kernels.packing import FIELDS as PACKING
from convgrad.cpu.implicit_gemm.kernels.packing import HOME, Panels
from convgrad.cpu.implicit_gemm.kernels.panels import pack_panel
from convgrad.cpu.implicit_gemm.kernels.runs import find_runs
from convgrad.cpu.implicit_gemm.kernels.tiles import (
    FIELDS,
    Cells,
    Rows,
    Target,
    each_tile,
    panel_times_panel,
)
from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import arguments, split, start
from convgrad.cpu.kernels.tile import heights, panels_of, row_of
from convgrad.cpu.tiling import Tile, tallest_tiles

# packed: cells, cg numbers of each group; packing: arguments of `pack_weights`; panels: of cells;
# beside: panels of weights that are packed at once
FEW_FIELDS = (*FIELDS, "packed", "cg", "packing", "panels", "beside")


def packed_cells(
    panels: int, words: int, channels: int, block: int, places: int, width: int
) -> int:
    """Elements that the packed cells of a group take: see `Packed`."""
    return panels * (words + (channels * places + -(-channels // block)) * width)


class Packed:
    """Packed cells of a group: the panels' tables, then [block of channels][panel][…][cell].

    Behind each panel there is room for a row more: whoever packs one may write a register too far,
    and others pack its neighbours meanwhile.
    """

    def __init__(self, k: Kernel, a: dict[str, Value], group: Value, tile: Tile) -> None:
        self.a, self.width = a, tile.vectors * k.lanes.count
        self.words = panel_words(k.lanes, self.width)
        self.tables = a["packed"].at(group * a["cg"])
        self.at = self.tables.at(a["panels"] * self.words)

    def panel(self, c0: Value, channels: Value, panel: Value) -> Cells:
        """A panel's cells of the block of channels that begins with c0."""
        a, block = self.a, c0 // self.a["cb"]
        before = (c0 * a["U"] + block) * a["panels"] + (channels * a["U"] + 1) * panel
        at = self.at.at(before * self.width)
        return Cells(at, channels, self.tables.at(panel * self.words), a["lists"])


def pack_cells(lanes: Lanes, tile: Tile) -> str:
    """All panels of cells; a part is some of a group."""
    k, a = start("pack_cells", lanes, FEW_FIELDS, arrays=("x",))
    args, part, scratch = k.parameters
    group, block = split(part, a["blocks"])
    packed, x = Packed(k, a, group, tile), a["x"].at(group * a["xg"])
    first, last = (a["panels"] * (block + i) // a["blocks"] for i in (0, 1))
    with k.loop(last, start=first) as (p, _):
        table = packed.tables.at(p * packed.words)
        k.do(find_runs(lanes, packed.width, FIELDS), args, table, p * packed.width)
        with k.loop(a["C"], step=a["cb"]) as (c0, _):
            cells = packed.panel(c0, a["cb"].minimum(a["C"] - c0), p)
            k.do(pack_panel(lanes, packed.width, FIELDS), args, table, scratch,
                 x.at(c0 * a["xc"]), cells.channels, cells.at)  # fmt: skip
    return k.text()


def multiply_few(lanes: Lanes, tile: Tile) -> str:
    """What `multiply` gives."""
    return _multiply_few("multiply_few", lanes, tile, woven=False)


def weave_few(lanes: Lanes, tile: Tile) -> str:
    """What `weave` gives."""
    return _multiply_few("weave_few", lanes, tile, woven=True)


def _multiply_few(name: str, lanes: Lanes, tile: Tile, woven: bool) -> str:
    """A part: a share of the panels of weights of a group, for all cells."""
    k, a = start(name, lanes, FEW_FIELDS, arrays=("w", "y"))
    _, part, scratch = k.parameters
    group, share = split(part, a["shares"])
    w, y = a["w"].at(group * a["wg"]), a["y"].at(group * a["yg"])
    cells, packing = Packed(k, a, group, tile), arguments(a["packing"], PACKING)
    with k.loop(ZEROS, step=lanes.count) as (i, _):
        scratch.store(k.zero(), i)
    buffer = scratch.at(ZEROS)
    target = Target(y, a["bias"].at(group * a["bg"]), scratch, buffer)
    homes = buffer.at(tile_room(a, lanes, tile))
    words = 8 // lanes.bytes
    panels = homes.at((a["K"] * HOME + (LINE - 1)) // LINE * LINE * words)
    none, merged = k.constant("i64", 0), packing["R"] // a["C"]
    with k.loop(a["C"], step=a["cb"]) as (c0, _):
        channels = a["cb"].minimum(a["C"] - c0)
        for height in heights(tile):
            low, high = panels_of(a, tile, height, share)
            with k.loop(high, start=low, step=a["beside"]) as (first, _):
                count, row = a["beside"].minimum(high - first), row_of(a, first, tile, height)
                here = packing | {"rows": count * height, "R": channels * merged}
                source = w.at(row * packing["so"] + c0 * merged * packing["sr"])
                Panels(k, here, height, (none, count, none), panels, none, homes).pack(source)
                each = channels * height
                with k.loop(count) as (i, _):
                    rows, row0 = Rows(panels, each * count, each * i), row + i * height
                    with each_tile(k, a, target, c0, row0, a["panels"]) as (b, p, result):
                        panel_times_panel(k, a, b, rows, cells.panel(c0, channels, p), result,
                                          tile, height, woven)  # fmt: skip
    return k.text()


def one_row(level: str) -> list[Tile]:
    """Tiles of every width, for a kernel that knows no rows."""
    return [Tile(1, tile.vectors) for tile in tallest_tiles(level)]


PACK_CELLS = Generator("pack_cells", pack_cells, FEW_FIELDS, one_row)
MULTIPLY_FEW = Generator("multiply_few", multiply_few, FEW_FIELDS, tallest_tiles)
WEAVE_FEW = Generator("weave_few", weave_few, FEW_FIELDS, tallest_tiles)
