"""Forward and input gradient: tiles of results, rows of weights against vectors of cells."""

from collections.abc import Iterator
from contextlib import contextmanager

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import BLOCKS, SOURCE, split, start
from convgrad.cpu.kernels.packing import copy_block
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    *SOURCE, *BLOCKS, "w", "y", "taps", "bias", "C", "K", "yn", "yo", "yz", "yh", "yw",
    "tall", "low", "shares", "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip
POINTWISE_FIELDS = (
    "x", "w", "y", "bias", "N", "C", "P", "chunk", "chunks", "xn", "xc", "yn", "yo",
    "tall", "low", "shares", "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip


def product_step(
    k: Kernel, a: Value, b: Value, tile: Tile, height: int, sums: list[Value]
) -> list[Value]:
    """sums + a (height) ⊗ b (vectors): one step of the micro-kernel."""
    lanes = k.lanes.count
    vectors = [b.vector(j * lanes) for j in range(tile.vectors)]
    fresh = []
    for i in range(height):
        one = k.splat(a.load(i))
        fresh += [k.fma(one, v, sums[i * tile.vectors + j]) for j, v in enumerate(vectors)]
    return fresh


def heights(tile: Tile) -> list[int]:
    """The heights that panels have: the tile's, and one less."""
    return [height for height in (tile.height, tile.height - 1) if height]


@contextmanager
def each_panel(
    k: Kernel, a: dict[str, Value], tile: Tile, height: int, share: Value
) -> Iterator[Value]:
    """For each panel of this height in the part's share: its first row."""
    total, tall = a["tall"] + a["low"], height == tile.height
    first, last = (total * (share + i) // a["shares"] for i in (0, 1))
    low = first if tall else first.maximum(a["tall"])
    high = last.minimum(a["tall"]) if tall else last
    with k.loop(high, start=low) as (panel, _):
        yield panel * height if tall else panel * height + a["tall"]


def correlate(lanes: Lanes, tile: Tile) -> str:
    """result[n,m,t] = scale·Σ_{r,τ} weights[m,r,τ]·source[n,r,…] + bias[m] (+ result).

    A part is one block of one group, for a share of the panels.
    """
    k, a = start("correlate", lanes, FIELDS)
    _, part, scratch = k.parameters
    width = tile.vectors * lanes.count
    group, ib, iz, ir, share = split(part, a["nn"], a["nz"], a["nr"], a["shares"])
    n0, z0, r0 = ib * a["NB"], iz * a["BZ"], ir * a["BR"]
    samples, planes, rows = (
        a["NB"].minimum(a["N"] - n0), a["BZ"].minimum(a["OZ"] - z0), a["BR"].minimum(a["OH"] - r0),
    )  # fmt: skip
    a["x"] = a["x"].at(group * a["xg"] + n0 * a["xn"])
    weights, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    y = a["y"].at(group * a["yg"] + n0 * a["yn"] + z0 * a["yz"] + r0 * a["yh"])
    copy = scratch.at(tile.height * width)
    copy_block(k, a, copy, a["C"], samples, z0, r0)
    cells = a["cells"]
    channel = a["fz"] * a["fh"] * a["fw"] * cells
    end = (((samples - 1) * a["Dq"] + planes - 1) * a["Hq"] + rows - 1) * a["Wq"] + a["OW"]
    flat = (
        a["OW"].equals(a["Wq"]) & a["yw"].equals(1) & a["yh"].equals(a["OW"])
        & samples.equals(1) & planes.equals(1)
    )  # fmt: skip
    out = Out(k, a, tile, y, scratch, rows, planes, end)
    for height in heights(tile):
        with each_panel(k, a, tile, height, share) as row0:
            panel = weights.at(row0 * a["C"] * a["K"])
            with k.loop(end, step=width) as (q, _):
                with k.loop(a["C"], carry=[k.zero()] * (height * tile.vectors)) as (c, sums):
                    source, row = copy.at(c * channel + q), panel.at(c * a["K"] * height)
                    with k.loop(a["K"], carry=sums.values) as (t, inner):
                        b = source.at(a["taps"].load(t, "i64"))
                        inner.values = product_step(
                            k, row.at(t * height), b, tile, height, inner.values
                        )
                    sums.values = inner.values
                out.write(sums.values, height, row0, bias.at(row0), q, flat)
    return k.text()


def pointwise(lanes: Lanes, tile: Tile) -> str:
    """result[n,m,q] = scale·Σ_r weights[m,r]·source[n,r,q] + bias[m] (+ result): 1×1 maps.

    The cells are copied into panels of a tile's width, one behind the other. A part is a chunk of
    one sample's cells, of one group, for a share of the panels of weights.
    """
    k, a = start("pointwise", lanes, POINTWISE_FIELDS)
    width = tile.vectors * lanes.count
    group, n, chunk, share = split(k.parameters[1], a["N"], a["chunks"], a["shares"])
    first = chunk * a["chunk"]
    source = a["x"].at(group * a["xg"] + n * a["xn"] + first)
    y = a["y"].at(group * a["yg"] + n * a["yn"] + first)
    weights, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    cells = a["chunk"].minimum(a["P"] - first)
    copy = k.parameters[2]
    with k.loop(a["C"]) as (c, _):
        row, line = copy.at(c * width), source.at(c * a["xc"])
        with k.loop(cells, step=width) as (q, _):
            place = row.at(q * a["C"])
            for j in range(tile.vectors):
                at = q + j * lanes.count
                place.store(line.vector(at, k.lanes_below(cells - at)), j * lanes.count)
    out = Out(k, a, tile, y, copy, cells, cells, cells)
    for height in heights(tile):
        with each_panel(k, a, tile, height, share) as row0:
            panel = weights.at(row0 * a["C"])
            with k.loop(cells, step=width) as (q, _):
                b = copy.at(q * a["C"])
                with k.loop(a["C"], carry=[k.zero()] * (height * tile.vectors)) as (c, sums):
                    sums.values = product_step(
                        k, panel.at(c * height), b.at(c * width), tile, height, sums.values
                    )
                out.write_flat(sums.values, height, row0, bias.at(row0), q)
    return k.text()


class Out:
    """The way of a finished tile into the result: scaled, biased, accumulated, cut into rows."""

    def __init__(
        self, k: Kernel, a: dict[str, Value], tile: Tile, y: Value, buffer: Value,
        rows: Value, planes: Value, end: Value,
    ) -> None:  # fmt: skip
        self.k, self.a, self.tile, self.y, self.buffer = k, a, tile, y, buffer
        self.rows, self.planes, self.end = rows, planes, end
        self.scale = k.splat(a["scale"].to_element())
        self.adds = a["accumulate"].equals(1)

    def write(
        self, sums: list[Value], height: int, row0: Value, bias: Value, q: Value, flat: Value
    ) -> None:
        k, lanes = self.k, self.k.lanes.count
        y, width = self.y.at(row0 * self.a["yo"]), self.tile.vectors * lanes
        with k.when(flat):
            self.write_flat(sums, height, row0, bias, q)
        with k.when(flat.equals(0)):
            for i in range(height):
                for j in range(self.tile.vectors):
                    self.buffer.store(sums[i * self.tile.vectors + j], i * width + j * lanes)
            self.scatter(y, height, self.biases(bias, height), q, width)

    def write_flat(
        self, sums: list[Value], height: int, row0: Value, bias: Value, q: Value
    ) -> None:
        """A tile whose cells lie in the result as they do in the tile."""
        a, lanes = self.a, self.k.lanes.count
        y, biases = self.y.at(row0 * a["yo"]), self.biases(bias, height)
        for j in range(self.tile.vectors):
            mask = self.k.lanes_below(self.end - q - j * lanes)
            for i in range(height):
                at = y.at(a["yo"] * i + q + j * lanes)
                self.finish(sums[i * self.tile.vectors + j], biases[i], at, mask)

    def biases(self, bias: Value, height: int) -> list[Value]:
        return [self.k.splat(bias.load(i)) for i in range(height)]

    def scatter(self, y: Value, height: int, biases: list[Value], q: Value, width: int) -> None:
        """The tile's cells that are results, row by row of the result."""
        k, a, lanes = self.k, self.a, self.k.lanes.count
        end = (q + width).minimum(self.end)
        with k.loop((end - 1) // a["Wq"] + 1, start=q // a["Wq"]) as (row, _):
            sample, z, r = split(row, a["Dq"], a["Hq"])
            begin = row * a["Wq"]
            left, right = begin.maximum(q), (begin + a["OW"]).minimum(end)
            with k.when((r < self.rows) & (z < self.planes) & (left < right)):
                to = y.at(sample * a["yn"] + z * a["yz"] + r * a["yh"] + (left - begin) * a["yw"])
                cells, count = self.buffer.at(left - q), right - left
                with k.when(a["yw"].equals(1)), k.loop(count, step=lanes) as (i, _):
                    mask = k.lanes_below(count - i)
                    for h in range(height):
                        value = cells.vector(i + h * width, mask)
                        self.finish(value, biases[h], to.at(a["yo"] * h + i), mask)
                with k.when(a["yw"].equals(1).equals(0)), k.loop(count) as (i, _):
                    mask = k.lanes_below(k.constant("i64", 1))
                    for h in range(height):
                        value = cells.vector(i + h * width, mask)
                        self.finish(value, biases[h], to.at(a["yo"] * h + i * a["yw"]), mask)

    def finish(self, value: Value, bias: Value, at: Value, mask: Value) -> None:
        k = self.k
        value = k.fma(value, self.scale, bias)
        old = at.vector(0, k.mask_where(self.adds, mask))
        at.store(value + old, 0, mask)


CORRELATE = Generator("correlate", correlate, FIELDS, tallest_tiles)
POINTWISE = Generator("pointwise", pointwise, POINTWISE_FIELDS, tallest_tiles)
