"""Winograd's forward and input gradient: products of transformed tiles, one plane at a time."""

from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.winograd.kernels.results import RESULT, untransform
from convgrad.cpu.winograd.kernels.tiles import Planes, Rows, Work, transform
from convgrad.cpu.winograd.kernels.transforms import (
    GRID,
    IMAGE,
    WEIGHTS,
    block_tiles,
    image,
    source_matrices,
    tile_grid,
    transform_panel,
)
from convgrad.cpu.winograd.tiling import WinogradTile, winograd_tiles

LINE = 64  # bytes of a cache line
FIELDS = (*IMAGE, *GRID, *RESULT, "w", "uplane", "ug")
FEW_FIELDS = ("x", "C", "K", "Q", *GRID, *RESULT, *WEIGHTS, "vg")


def winograd(lanes: Lanes, tile: WinogradTile) -> str:
    """result = scale·Aᵀ[Σ_{part,c} U[part,c] ⊙ V[part,c]]A + bias (+ result), many tiles.

    A part of the job is one block of tiles of one group, which it transforms, for a share of the
    panels of transformed weights; a chunk of the channels after the other.
    """
    k, a = start("winograd", lanes, FIELDS, arrays=("x", "y"))
    width = tile.vectors * lanes.count
    group, block, share = split(k.parameters[1], a["blocks"], a["shares"])
    p0, p1 = (a["panels"] * (share + i) // a["shares"] for i in (0, 1))
    first, last = block_tiles(a, block)
    parts = a["K"] * a["Q"]
    source = Planes(k.parameters[2], a["vplane"], a["vtile"])
    products = Planes(source.end(tile.points), a["mplane"], a["few"] * a["phases"] * width)
    work = Work.behind(products.end(tile.points), a["line"], tile.rows.tile * lanes.count)
    grid, x = tile_grid(a, tile), image(a, group)
    weights, multiply = a["w"].at(group * a["ug"]), Multiply(k, a, tile, work.cells)
    with k.loop(p1, start=p0, step=a["few"]) as (p, _):
        few = a["few"].minimum(p1 - p)
        own = weights.at(p * a["phases"] * parts * a["C"] * width)
        with k.loop(a["C"], step=a["chunk"]) as (c, _):
            channels = (a["C"] - c).minimum(a["chunk"])
            with k.when(p.equals(p0) | (a["chunk"] < a["C"])):
                some = x.channels_from(c, channels)
                transform(
                    k, some, source_matrices(tile), grid, first, last, a["padded"], source, work
                )
            chunk = Chunk(c, channels, source.at, own.at(c * width), a["C"])
            multiply.products(source, chunk, few, last - first, products, a["ahead"].equals(1))
        panels = (p * width, (few * width).minimum(a["M"] - p * width))
        untransform(k, a, tile, grid, (first, last), products, panels, group, work)
    return k.text()


def winograd_few(lanes: Lanes, tile: WinogradTile) -> str:
    """The same of few tiles, that have been transformed: the weights are transformed here.

    A part of the job is some panels of weights of one group.
    """
    k, a = start("winograd_few", lanes, FEW_FIELDS, arrays=("w", "y"))
    width = tile.vectors * lanes.count
    group, share = split(k.parameters[1], a["shares"])
    p0, p1 = (a["panels"] * (share + i) // a["shares"] for i in (0, 1))
    parts, weights = a["K"] * a["Q"], k.parameters[2]
    products = Planes(
        weights.at(a["uplane"] * tile.points), a["mplane"], a["few"] * a["phases"] * width
    )
    work = Work.behind(products.end(tile.points), a["line"], tile.rows.tile * lanes.count)
    grid, multiply = tile_grid(a, tile), Multiply(k, a, tile, work.cells)
    panels = (p0 * width, (a["M"] - p0 * width).minimum((p1 - p0) * width))
    with k.loop(a["blocks"]) as (block, _):
        first, last = block_tiles(a, block)
        tiles = a["x"].at(group * a["vg"] + first * a["vtile"])
        source = Planes(tiles, a["vplane"], a["vtile"])
        with k.loop(a["C"], step=a["chunk"]) as (c, _):
            channels = (a["C"] - c).minimum(a["chunk"])
            with k.when(block.equals(0) | (a["chunk"] < a["C"])):
                own = a["w"].at(group * a["wg"] + c * a["sr"])
                phases = (k.constant("i64", 0), a["phases"])
                with k.loop(p1 - p0) as (i, _):
                    to = weights.at(i * a["phases"] * parts * channels * width)
                    transform_panel(k, a, tile, own, p0 + i, phases, channels, to, work.cells)
            chunk = Chunk(c, channels, source.at.at(c), weights, channels)
            multiply.products(source, chunk, p1 - p0, last - first, products, a["ahead"].equals(1))
        untransform(k, a, tile, grid, (first, last), products, panels, group, work)
    return k.text()


@dataclass(frozen=True)
class Chunk:
    """Channels whose products are added at once: the first one's number, and how many they are.

    source: their transformed tiles; weights: theirs, where each part of the taps has `pitch`.
    """

    first: Value
    channels: Value
    source: Value
    weights: Value
    pitch: Value


class Multiply:
    """The products of transformed tiles and weights, point by point; `work` has room for a tile's
    sums."""

    def __init__(self, k: Kernel, a: dict[str, Value], tile: WinogradTile, work: Value) -> None:
        self.k, self.a, self.tile, self.work = k, a, tile, work
        self.micros = {h: tile_products(k.lanes, tile, h) for h in range(1, tile.height + 1)}

    def products(
        self, source: Planes, chunk: Chunk, panels: Value, count: Value, to: Planes, ahead: Value
    ) -> None:
        """to[point][tile][panel][phase][·] (+)= the chunk's products, of `count` tiles.

        A list for each point and phase holds the parts of the taps that are met there.
        """
        k, a = self.k, self.a
        width, parts = self.tile.vectors * k.lanes.count, a["K"] * a["Q"]
        rows = Rows.of(count, self.tile.height)
        with (
            k.loop(self.tile.points) as (point, _), k.loop(panels) as (p, _),
            k.loop(a["phases"]) as (phase, _),
        ):  # fmt: skip
            panel = p * a["phases"] + phase
            own = chunk.weights.at(point * a["uplane"] + panel * parts * chunk.pitch * width)
            v, m = chunk.source.at(point * source.plane), to.at.at(point * to.plane + panel * width)
            met = a["lists"].at((point * a["phases"] + phase) * (parts + 1), "i64")
            number = met.load(0, "i64")
            with k.loop(chunk.channels, step=a["step"]) as (c, _), k.loop(number) as (i, _):
                d = met.load(i + 1, "i64")
                following = self.following(panel, chunk, met, (c, i), number, point)
                b, line = own.at((d * chunk.pitch + c) * width), v.at(d * a["padded"] + c)
                channels = (chunk.channels - c).minimum(a["step"])
                fresh = (chunk.first + c + i).equals(0)
                for height, t in rows.each(k):
                    asked = self.share(following, channels, (t, height, count), ahead)
                    k.do(
                        self.micros[height], m.at(t * to.tile), line.at(t * source.tile), b,
                        channels, source.tile, to.tile, fresh, *asked, self.work,
                    )  # fmt: skip
            with k.when(number.equals(0)), k.loop(count) as (t, _):
                for j in range(0, width, k.lanes.count):
                    m.store(k.zero(), t * to.tile + j)

    def share(
        self, weights: Value, channels: Value, rows: tuple[Value, int, Value], ahead: Value
    ) -> tuple[Value, Value]:
        """Where the share begins that so many of all rows have in asking for the weights of so many
        channels, and how many lines that is for each run."""
        k, run, (first, height, count) = self.k, self.tile.forms.run, rows
        lines = channels * (self.tile.vectors * k.lanes.count * k.lanes.bytes) // LINE
        runs = (channels + run - 1) // run
        low, high = (lines * (first + i) // count for i in (0, height))
        each = k.select(ahead, (high - low + runs - 1) // runs, k.constant("i64", 0))
        return weights.at(low * (LINE // k.lanes.bytes)), each

    def following(
        self, panel: Value, chunk: Chunk, met: Value, at: tuple[Value, Value], number: Value,
        point: Value,
    ) -> Value:  # fmt: skip
        """The weights that are multiplied after those of a step and a part of the taps."""
        k, a, (c, i) = self.k, self.a, at
        width, parts = self.tile.vectors * k.lanes.count, a["K"] * a["Q"]
        zero = k.constant("i64", 0)
        last = (i + 1).equals(number)
        i = k.select(last, zero, i + 1)
        c = k.select(last, c + a["step"], c)
        last = c >= chunk.channels
        c, panel = k.select(last, zero, c), k.select(last, panel + 1, panel)
        d = met.load(i + 1, "i64")
        return chunk.weights.at(
            point * a["uplane"] + ((panel * parts + d) * chunk.pitch + c) * width
        )


def tile_products(lanes: Lanes, tile: WinogradTile, height: int) -> Kernel:
    """to[i][·] (+)= Σ_c source[i][c] · weights[c][·]: the micro-kernel; it adds unless `fresh`.

    A run of channels is summed in registers, the runs in `between`, and what is summed there is
    added once: shorter sums err less, so much that this outweighs what the transforms of the
    standard forms add.
    """
    k = Kernel(
        f"tile_products_{height}",
        ["to: ptr", "source: ptr", "weights: ptr", "C: i64", "tile: i64", "pitch: i64",
         "fresh: i1", "following: ptr", "lines: i64", "between: ptr"],
        lanes,
    )  # fmt: skip
    to, source, weights, channels, pitch, to_pitch, fresh, following, lines, between = k.parameters
    vectors, width = range(tile.vectors), tile.vectors * lanes.count
    rows = [source.at(pitch * i) for i in range(height)]
    kept = [between.at(i * lanes.count) for i in range(height * tile.vectors)]
    places = [to.at(to_pitch * i + j * lanes.count) for i in range(height) for j in vectors]
    none, run = [k.zero()] * len(places), tile.forms.run
    ahead = LINE // lanes.bytes

    def run_sums(first: Value, last: Value) -> list[Value]:
        with k.loop(lines) as (i, _):
            following.prefetch((first // run * lines + i) * ahead)
        with k.loop(last, start=first, carry=none) as (c, sums):
            b = weights.at(c * width)
            registers = [b.vector(j * lanes.count) for j in vectors]
            new = []
            for i, row in enumerate(rows):
                one, own = k.splat(row.load(c)), sums.values[i * tile.vectors :]
                new += [k.fma(one, r, v) for r, v in zip(registers, own, strict=False)]
            sums.values = new
        return sums.values

    before = (channels - 1) // run * run
    with k.loop(before, step=run) as (c0, _):
        store_sums(k, kept, run_sums(c0, c0 + run), c0.equals(0))
    with k.loop(before.minimum(1), carry=run_sums(before, channels)) as (_, last):
        last.values = [place.vector() + v for place, v in zip(kept, last.values, strict=True)]
    store_sums(k, places, last.values, fresh)
    return k


def store_sums(k: Kernel, places: list[Value], sums: list[Value], fresh: Value) -> None:
    """Sums stored, or unless `fresh` added to what is there."""
    with k.when(fresh):
        for place, value in zip(places, sums, strict=True):
            place.store(value)
    with k.when(fresh.equals(0)):
        for place, value in zip(places, sums, strict=True):
            place.store(place.vector() + value)


WINOGRAD = Generator("winograd", winograd, FIELDS, winograd_tiles)
WINOGRAD_FEW = Generator("winograd_few", winograd_few, FEW_FIELDS, winograd_tiles)
