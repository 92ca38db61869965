"""Winograd's forward and input gradient: products of transformed tiles, one plane at a time."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.winograd.filtering import Filtering
from convgrad.cpu.winograd.kernels.tiles import (
    Grid,
    Image,
    Planes,
    Run,
    Work,
    contract,
    each_run,
    each_tile,
    expand,
    transform,
)
from convgrad.cpu.winograd.tiling import WinogradTile, winograd_tiles

RUN = 32  # channels whose products are summed in registers
CHUNK = 16 << 10  # bytes of a panel of weights that stay in the first cache
IMAGE = ("x", "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "pz", "ph", "pw", "C", "K", "xg")
GRID = ("OZ", "OH", "OW", "TY", "TX", "az", "ah", "aw", "tiles", "block", "blocks", "line")
WEIGHTS = ("w", "taps", "M", "so", "sr", "panels", "uplane", "wg")
RESULT = ("y", "bias", "yn", "yo", "yz", "yh", "yw", "mplane", "yg", "bg", "accumulate", "scale")
WEIGHT_FIELDS = (*WEIGHTS, "to", "C", "K", "ug")
SOURCE_FIELDS = (*IMAGE, *GRID, "to", "shares", "padded", "vplane", "vg")
FIELDS = (
    *IMAGE, *GRID, *RESULT, "w", "M", "panels", "few", "shares", "padded", "vplane", "uplane", "ug",
)  # fmt: skip
FEW_FIELDS = (
    "x", "C", "K", *GRID, *RESULT, *WEIGHTS, "few", "shares", "padded", "vplane", "vg",
)  # fmt: skip


def transform_weights(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][panel][(k, c)][row] = (G w Gᵀ)[point] / divisor²; a part is a panel of a group."""
    k, a = start("transform_weights", lanes, WEIGHT_FIELDS)
    group, panel = split(k.parameters[1], a["panels"])
    size = a["K"] * a["C"] * (tile.vectors * lanes.count)
    to = a["to"].at(group * a["ug"] + panel * size)
    transform_panel(k, a, tile, a["w"].at(group * a["wg"]), panel, to)
    return k.text()


def transform_panel(
    k: Kernel, a: dict[str, Value], tile: WinogradTile, w: Value, panel: Value, to: Value
) -> None:
    """One panel of weights. Rows that are none repeat the last one."""
    form, count = tile.filtering, k.lanes.count
    width = tile.vectors * count
    divisor = k.number(float(form.divisor**2))
    taps = len(form.g[0])
    with k.loop(tile.vectors) as (j, _):
        first = panel * width + j * count
        rows = [w.at((first + i).minimum(a["M"] - 1) * a["so"]) for i in range(count)]
        with k.loop(a["K"]) as (d, _), k.loop(a["C"]) as (c, _):
            kernel = []
            for i in range(taps * taps):
                place = c * a["sr"] + a["taps"].load(d * (taps * taps) + i, "i64")
                kernel.append(k.gathered([row.load(place) for row in rows]) / divisor)
            columns = [expand(k, form.g, kernel[s::taps]) for s in range(taps)]
            at = to.at((d * a["C"] + c) * width + j * count)
            for r in range(form.tile):
                row = [column[r] for column in columns]
                for s, v in enumerate(expand(k, form.g, row)):
                    at.store(v, a["uplane"] * (r * form.tile + s))


def transform_source(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][tile][(k, c)] = (Bᵀ x B)[point]; a part: a block of tiles, a share of channels."""
    k, a = start("transform_source", lanes, SOURCE_FIELDS)
    form = tile.filtering
    group, block, share = split(k.parameters[1], a["blocks"], a["shares"])
    panels = (a["C"] + lanes.count - 1) // lanes.count
    c0, c1 = (panels * (share + i) // a["shares"] * lanes.count for i in (0, 1))
    first, last = block_tiles(a, block)
    x = image(a, a["x"].at(group * a["xg"] + c0 * a["xc"]), c1.minimum(a["C"]) - c0)
    pitch = a["K"] * a["padded"]
    to = Planes(a["to"].at(group * a["vg"] + first * pitch + c0), a["vplane"], pitch)
    grid = tile_grid(a, form)
    work = Work.behind(k.parameters[2], a["line"], form.tile * lanes.count)
    transform(k, x, form.bt, grid, first, last, a["K"], a["padded"], to, work)
    return k.text()


def winograd(lanes: Lanes, tile: WinogradTile) -> str:
    """result = scale·Aᵀ[Σ_{k,c} U[k,c] ⊙ V[k,c]]A + bias (+ result), many tiles.

    A part is one block of tiles of one group, which it transforms, for a share of the panels of
    transformed weights.
    """
    k, a = start("winograd", lanes, FIELDS)
    form, width = tile.filtering, tile.vectors * lanes.count
    points = form.tile**2
    group, block, share = split(k.parameters[1], a["blocks"], a["shares"])
    p0, p1 = (a["panels"] * (share + i) // a["shares"] for i in (0, 1))
    first, last = block_tiles(a, block)
    source = Planes(k.parameters[2], a["vplane"], a["K"] * a["padded"])
    products = Planes(source.end(points), a["mplane"], a["few"] * width)
    work = Work.behind(products.end(points), a["line"], form.tile * lanes.count)
    grid = tile_grid(a, form)
    x = image(a, a["x"].at(group * a["xg"]), a["C"])
    transform(k, x, form.bt, grid, first, last, a["K"], a["padded"], source, work)
    weights, bias = a["w"].at(group * a["ug"]), a["bias"].at(group * a["bg"])
    multiply = Multiply(k, a, tile)
    with k.loop(p1, start=p0, step=a["few"]) as (p, _):
        few = a["few"].minimum(p1 - p)
        own = weights.at(p * a["K"] * a["C"] * width)
        multiply.products(source, own, few, last - first, products)
        channels = (few * width).minimum(a["M"] - p * width)
        y = result(a, k, group)
        untransform(k, a, form, grid, (first, last), products, p * width, channels, y, bias, work)
    return k.text()


def winograd_few(lanes: Lanes, tile: WinogradTile) -> str:
    """The same of few tiles, that have been transformed: the weights are transformed here.

    A part is some panels of weights of one group.
    """
    k, a = start("winograd_few", lanes, FEW_FIELDS)
    form, width = tile.filtering, tile.vectors * lanes.count
    points = form.tile**2
    group, share = split(k.parameters[1], a["shares"])
    p0, p1 = (a["panels"] * (share + i) // a["shares"] for i in (0, 1))
    weights, size = k.parameters[2], a["K"] * a["C"] * width
    products = Planes(weights.at(a["uplane"] * points), a["mplane"], a["few"] * width)
    work = Work.behind(products.end(points), a["line"], form.tile * lanes.count)
    grid = tile_grid(a, form)
    with k.loop(p1 - p0) as (i, _):
        transform_panel(k, a, tile, a["w"].at(group * a["wg"]), p0 + i, weights.at(i * size))
    multiply = Multiply(k, a, tile)
    begin, bias = p0 * width, a["bias"].at(group * a["bg"])
    channels = (a["M"] - begin).minimum((p1 - p0) * width)
    with k.loop(a["blocks"]) as (block, _):
        first, last = block_tiles(a, block)
        pitch = a["K"] * a["padded"]
        source = Planes(a["x"].at(group * a["vg"] + first * pitch), a["vplane"], pitch)
        multiply.products(source, weights, p1 - p0, last - first, products)
        y = result(a, k, group)
        untransform(k, a, form, grid, (first, last), products, begin, channels, y, bias, work)
    return k.text()


def block_tiles(a: dict[str, Value], block: Value) -> tuple[Value, Value]:
    first = block * a["block"]
    return first, (first + a["block"]).minimum(a["tiles"])


def tile_grid(a: dict[str, Value], form: Filtering) -> Grid:
    return Grid(a["OZ"], a["TY"], a["TX"], form.step, (a["az"], a["ah"], a["aw"]))


def image(a: dict[str, Value], at: Value, channels: Value) -> Image:
    return Image(
        at, channels, a["xn"], a["xc"], (a["xz"], a["xh"], a["xw"]), (a["D"], a["H"], a["W"]),
        (a["pz"], a["ph"], a["pw"]),
    )  # fmt: skip


def result(a: dict[str, Value], k: Kernel, group: Value) -> Image:
    zero = k.constant("i64", 0)
    return Image(
        a["y"].at(group * a["yg"]), a["M"], a["yn"], a["yo"], (a["yz"], a["yh"], a["yw"]),
        (a["OZ"], a["OH"], a["OW"]), (zero, zero, zero),
    )  # fmt: skip


class Multiply:
    """The products of transformed tiles and weights, point by point."""

    def __init__(self, k: Kernel, a: dict[str, Value], tile: WinogradTile) -> None:
        self.k, self.a, self.tile = k, a, tile
        self.micros = {
            h: tile_products(k.lanes, tile, h) for h in (tile.height, tile.height - 1) if h
        }

    def products(
        self, source: Planes, weights: Value, panels: Value, count: Value, to: Planes
    ) -> None:
        """to[point][tile][·] of `count` tiles and so many panels.

        The tiles are cut into rows of a register tile's height and of one less; where that does
        not come out even, some more are computed.
        """
        k, a, height = self.k, self.a, self.tile.height
        width = self.tile.vectors * k.lanes.count
        chunk = CHUNK // (k.lanes.bytes * width) // RUN * RUN
        size = a["K"] * a["C"] * width
        rows = (count + height - 1) // height
        low = (rows * height - count).minimum(rows)
        tall = rows - low
        with k.loop(self.tile.filtering.tile**2) as (point, _), k.loop(panels) as (i, _):
            b = weights.at(point * a["uplane"] + i * size)
            v, m = source.at.at(point * source.plane), to.at.at(point * to.plane + i * width)
            with k.loop(a["K"]) as (d, _), k.loop(a["C"], step=chunk) as (c, _):
                own, line = b.at((d * a["C"] + c) * width), v.at(d * a["padded"] + c)
                channels, fresh = (a["C"] - c).minimum(chunk), (d + c).equals(0)
                for h, micro in self.micros.items():
                    number, begin = (tall, 0) if h == height else (low, tall * height)
                    with k.loop(number) as (row, _):
                        t = row * h + begin
                        k.do(
                            micro, m.at(t * to.tile), line.at(t * source.tile), own, channels,
                            source.tile, to.tile, fresh,
                        )  # fmt: skip


def tile_products(lanes: Lanes, tile: WinogradTile, height: int) -> Kernel:
    """to[i][·] (+)= Σ_c source[i][c] · weights[c][·]: the micro-kernel; it adds unless `fresh`.

    RUN channels are summed in registers, and their sums in memory: shorter sums err less, so much
    that this outweighs what the transforms add.
    """
    k = Kernel(
        f"tile_products_{height}",
        ["to: ptr", "source: ptr", "weights: ptr", "C: i64", "tile: i64", "pitch: i64",
         "fresh: i1"],
        lanes,
    )  # fmt: skip
    to, source, weights, channels, pitch, to_pitch, fresh = k.parameters
    vectors, width = range(tile.vectors), tile.vectors * lanes.count
    rows = [source.at(pitch * i) for i in range(height)]
    none = [k.zero()] * (height * tile.vectors)
    with k.loop(channels, step=RUN) as (c0, _):
        last = (c0 + RUN).minimum(channels)
        with k.loop(last, start=c0, carry=none) as (c, sums):
            b = weights.at(c * width)
            registers = [b.vector(j * lanes.count) for j in vectors]
            following = []
            for i, row in enumerate(rows):
                one, own = k.splat(row.load(c)), sums.values[i * tile.vectors :]
                following += [k.fma(one, r, v) for r, v in zip(registers, own, strict=False)]
            sums.values = following
        places = [to.at(to_pitch * i + j * lanes.count) for i in range(height) for j in vectors]
        first = c0.equals(0) & fresh
        with k.when(first):
            for place, value in zip(places, sums.values, strict=True):
                place.store(value)
        with k.when(first.equals(0)):
            for place, value in zip(places, sums.values, strict=True):
                place.store(place.vector() + value)
    return k


def untransform(
    k: Kernel, a: dict[str, Value], form: Filtering, grid: Grid, tiles: tuple[Value, Value],
    products: Planes, begin: Value, channels: Value, y: Image, bias: Value, work: Work,
) -> None:  # fmt: skip
    """Aᵀ·products·A of the channels begin … begin + channels − 1, into the result."""
    lanes, points = k.lanes.count, form.tile
    apart = grid.apart[2] * lanes
    scale = k.splat(a["scale"].to_element())
    with k.loop(channels, step=lanes) as (o, _):
        left = channels - o
        add = bias.at(begin).vector(o, k.lanes_below(left))
        with each_run(k, grid, *tiles) as run:
            with each_tile(k, grid, run) as (i, first_column):
                place = products.at.at((run.local + i) * products.tile + o)
                with k.loop(points) as (s, _):
                    column = [
                        place.vector((s + r * points) * products.plane) for r in range(points)
                    ]
                    for r, v in enumerate(contract(k, form.a, column)):
                        work.middle.store(v, (s + r * points) * lanes)
                with k.loop(form.step) as (r, _):
                    row = [work.middle.vector((r * points + s) * lanes) for s in range(points)]
                    line = work.cells.at((r * work.line + first_column) * lanes)
                    for s, v in enumerate(contract(k, form.a, row)):
                        line.store(k.fma(v, scale, add), apart * s)
            write_run(k, a, run, grid, begin + o, left, y, work)


def write_run(
    k: Kernel, a: dict[str, Value], run: Run, grid: Grid, channel: Value, left: Value, y: Image,
    work: Work,
) -> None:  # fmt: skip
    """The cells of a run that are results, from [row][column][channel] into the result."""
    lanes = k.lanes.count
    top, begin, apart = grid.top(run), run.column * grid.step, grid.apart[1]
    rows = ((y.size[1] - top + apart - 1).maximum(0) // apart).minimum(grid.step)
    width = (y.size[2] - begin).minimum(run.count * grid.step)
    deep, high, wide = y.strides
    at = y.at.at(run.n * y.sample + run.z * deep + top * high + begin * wide + channel * y.channel)
    adds = a["accumulate"].equals(1)
    every = k.lanes_below(k.constant("i64", lanes))
    maybe = k.mask_where(adds, every)
    tail = work.middle
    with k.loop(rows) as (r, _):
        to, cells = at.at(r * apart * high), work.cells.at(r * work.line * lanes)
        rest = width % lanes
        with k.when(wide.equals(1)):
            with k.loop(width - rest, step=lanes) as (i, _):
                read = [cells.vector((i + j) * lanes) for j in range(lanes)]
                for j, v in enumerate(k.transpose(read)):
                    with k.when(left > j):
                        place = to.at(y.channel * j + i)
                        place.store(v + place.vector(0, maybe))
            with k.when(rest > 0):
                i = width - rest
                read = [cells.vector((i + j) * lanes) for j in range(lanes)]
                for j, v in enumerate(k.transpose(read)):
                    tail.store(v, j * lanes)
                write_tail(k, tail, to.at(i), y.channel, rest, left, adds)
        with k.when(wide.equals(1).equals(0)), k.loop(width) as (i, _):
            side_by_side, place = y.channel.equals(1), to.at(i * wide)
            with k.when(side_by_side):
                mask = k.lanes_below(left)
                old = place.vector(0, k.mask_where(adds, mask))
                place.store(cells.vector(i * lanes) + old, 0, mask)
            with k.when(side_by_side.equals(0)):
                for j in range(lanes):
                    with k.when(left > j):
                        one = place.at(y.channel * j)
                        old = k.select(adds, one.load(), k.zero_element())
                        one.store(cells.load(i * lanes + j) + old)


def write_tail(
    k: Kernel, tail: Value, to: Value, pitch: Value, rest: Value, left: Value, adds: Value
) -> None:
    """The last columns of a row, fewer than a register holds: pieces of half of it, a quarter, …"""
    lanes = k.lanes.count
    with k.loop(left.minimum(lanes)) as (j, _):
        row, own = to.at(pitch * j), tail.at(j * lanes)
        size = lanes // 2
        while size:
            with k.when((rest & size) > 0):
                place = rest // (2 * size) * (2 * size)
                at = row.at(place)
                new, old = own.piece(size, place), at.piece(size)
                at.store(k.select(adds, new + old, new))
            size //= 2


WINOGRAD = Generator("winograd", winograd, FIELDS, winograd_tiles)
WINOGRAD_FEW = Generator("winograd_few", winograd_few, FEW_FIELDS, winograd_tiles)
WINOGRAD_SOURCE = Generator("transform_source", transform_source, SOURCE_FIELDS, winograd_tiles)
WINOGRAD_WEIGHTS = Generator("transform_weights", transform_weights, WEIGHT_FIELDS, winograd_tiles)
