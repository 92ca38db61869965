"""What Winograd's kernels transform: panels of weights, and all tiles of an image."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.winograd.filtering import Matrix
from convgrad.cpu.winograd.kernels.matrices import expand
from convgrad.cpu.winograd.kernels.tiles import Grid, Image, Planes, Work, transform
from convgrad.cpu.winograd.tiling import WinogradTile, winograd_tiles

IMAGE = (
    "x", "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "pz", "ph", "pw", "sz", "sh", "sw", "C", "K",
    "Q", "shifts", "columns", "xg",
)  # fmt: skip
GRID = ("TZ", "TY", "TX", "ah", "aw", "tiles", "block", "blocks", "line")
WEIGHTS = ("w", "taps", "so", "sr", "uplane", "wg", "each", "places", "together")
WEIGHT_FIELDS = (*WEIGHTS, "M", "panels", "phases", "to", "C", "K", "Q", "ug")
SOURCE_FIELDS = (*IMAGE, *GRID, "to", "shares", "padded", "vtile", "vpanel", "vplane", "vg")
NONE = -(1 << 62)  # the place of a tap that is none


def transform_weights(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][panel][phase][(part, c)][row] = (G w Gᵀ)[point] / divisor.

    A part of the job is a panel of a group, for one phase.
    """
    k, a = start("transform_weights", lanes, WEIGHT_FIELDS, arrays=("w",))
    group, panel, phase = split(k.parameters[1], a["panels"], a["phases"])
    size = a["K"] * a["Q"] * a["C"] * (tile.vectors * lanes.count)
    to = a["to"].at(group * a["ug"] + (panel * a["phases"] + phase) * size)
    w = a["w"].at(group * a["wg"])
    transform_panel(k, a, tile, w, panel, (phase, phase + 1), a["C"], to, k.parameters[2])
    return k.text()


def transform_panel(
    k: Kernel, a: dict[str, Value], tile: WinogradTile, w: Value, panel: Value,
    phases: tuple[Value, Value], channels: Value, to: Value, work: Value,
) -> None:  # fmt: skip
    """The first channels of one panel of weights, for the phases from the first to before the last.

    Rows that are none repeat the last one; taps that are none are zero. The taps of some channels
    are read at once, and kept in `work` behind a register of zeros.
    """
    count, taps, (low, high) = k.lanes.count, tile.taps, phases
    width, along = tile.vectors * count, tile.columns.taps
    parts, some = a["K"] * a["Q"], a["together"].maximum(1)
    end = (a["M"] - 1) * a["so"] + (channels - 1) * a["sr"] + a["each"]
    found = work.at(count)
    work.store(k.zero())
    with k.loop(tile.vectors) as (j, _), k.loop(channels, step=some) as (c, _):
        first, now = panel * width + j * count, (channels - c).minimum(some)
        offsets = [(first + i).minimum(a["M"] - 1) * a["so"] + c * a["sr"] for i in range(count)]
        read_taps(k, a, tile, [w.at(offset) for offset in offsets], now, end - offsets[-1], found)
        with k.loop(high * parts, start=low * parts) as (d, _), k.loop(now) as (i, _):
            own, kernel = found.at(i * a["each"] * count), []
            for tap in range(taps):
                place = a["taps"].load(d * taps + tap, "i64")
                kernel.append(k.select(place < 0, work, own.at(place * count)).vector())
            columns = [expand(k, tile.rows.g, kernel[s::along]) for s in range(along)]
            at = to.at(((d - low * parts) * channels + c + i) * width + j * count)
            for r in range(tile.rows.tile):
                row = [column[r] for column in columns]
                for s, v in enumerate(expand(k, tile.columns.g, row)):
                    at.store(v, a["uplane"] * (r * tile.columns.tile + s))


def read_taps(
    k: Kernel, a: dict[str, Value], tile: WinogradTile, rows: list[Value], channels: Value,
    left: Value, to: Value,
) -> None:  # fmt: skip
    """to[channel][tap][row] = w / divisor; where taps lie side by side, a register of each row.

    left: elements of w from the last row on. More than the taps are read where they do not end
    there: masks are slow.
    """
    count, divisor = k.lanes.count, k.number(float(tile.divisor))
    total, dense = channels * a["each"], a["together"] > 0
    with k.when(dense), k.loop(total, step=count) as (i, _):
        whole = (i + count) <= left
        for fits in (whole, whole.equals(0)):
            mask = None if fits is whole else k.lanes_below(total - i)
            with k.when(fits):
                for j, v in enumerate(k.transpose([row.vector(i, mask) for row in rows])):
                    to.store(v / divisor, (i + j) * count)
    with k.when(dense.equals(0)), k.loop(total) as (i, _):
        at = a["places"].load(i, "i64")
        to.store(k.gathered([row.load(at) for row in rows]) / divisor, i * count)


def transform_source(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][tile][(part, c)] = (Bᵀ x B)[point]."""
    return transform_image("transform_source", lanes, tile, source_matrices(tile), False)


def transform_panels(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][part][panel][tile][c] = (Bᵀ x B)[point], a panel as wide as the register tile."""
    return transform_image("transform_panels", lanes, tile, source_matrices(tile), True)


def transform_gradient(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][tile][c] = (A dy Aᵀ)[point]."""
    matrices = tile.rows.a, tile.columns.a
    return transform_image("transform_gradient", lanes, tile, matrices, False)


def transform_image(
    name: str, lanes: Lanes, tile: WinogradTile, matrices: tuple[Matrix, Matrix], panels: bool
) -> str:
    """All tiles of an image; a part of the job is a block of them, and a share of the channels."""
    k, a = start(name, lanes, SOURCE_FIELDS, arrays=("x",))
    group, block, share = split(k.parameters[1], a["blocks"], a["shares"])
    width = tile.vectors * lanes.count if panels else lanes.count
    count = (a["C"] + width - 1) // width
    c0, c1 = (count * (share + i) // a["shares"] * width for i in (0, 1))
    first, last = block_tiles(a, block)
    x = image(a, group).channels_from(c0, c1.minimum(a["C"]) - c0)
    tiles = a["to"].at(group * a["vg"] + first * a["vtile"])
    to = Planes(tiles.at(c0), a["vplane"], a["vtile"])
    if panels:
        to = Planes(
            tiles.at(c0 // width * a["vpanel"]), a["vplane"], a["vtile"], width, a["vpanel"]
        )
    work = Work.behind(k.parameters[2], a["line"], tile.rows.tile * lanes.count)
    transform(k, x, matrices, tile_grid(a, tile), first, last, a["padded"], to, work)
    return k.text()


def source_matrices(tile: WinogradTile) -> tuple[Matrix, Matrix]:
    return tile.rows.bt, tile.columns.bt


def block_tiles(a: dict[str, Value], block: Value) -> tuple[Value, Value]:
    first = block * a["block"]
    return first, (first + a["block"]).minimum(a["tiles"])


def tile_grid(a: dict[str, Value], tile: WinogradTile) -> Grid:
    step = (tile.rows.step, tile.columns.step)
    return Grid(a["TZ"], a["TY"], a["TX"], step, (a["ah"], a["aw"]))


def image(a: dict[str, Value], group: Value) -> Image:
    return Image(
        a["x"].at(group * a["xg"]), a["C"], a["xn"], a["xc"], (a["xz"], a["xh"], a["xw"]),
        (a["D"], a["H"], a["W"]), (a["sz"], a["sh"], a["sw"]), (a["pz"], a["ph"], a["pw"]),
        a["K"], a["Q"], a["shifts"], a["columns"],
    )  # fmt: skip


WINOGRAD_WEIGHTS = Generator("transform_weights", transform_weights, WEIGHT_FIELDS, winograd_tiles)
WINOGRAD_SOURCE = Generator("transform_source", transform_source, SOURCE_FIELDS, winograd_tiles)
WINOGRAD_PANELS = Generator("transform_panels", transform_panels, SOURCE_FIELDS, winograd_tiles)
WINOGRAD_GRADIENT = Generator(
    "transform_gradient", transform_gradient, SOURCE_FIELDS, winograd_tiles
)
