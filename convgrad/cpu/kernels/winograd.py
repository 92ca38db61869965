"""Winograd's forward and input gradient: products of transformed tiles, one plane at a time."""

from convgrad.cpu.filtering import Filtering
from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.kernels.tiles import (
    Grid,
    Image,
    Planes,
    Run,
    Work,
    contract,
    each_run,
    expand,
    transform,
)
from convgrad.cpu.winograd_tiling import WinogradTile, winograd_tiles

IMAGE = ("x", "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "pz", "ph", "pw", "C", "K")
GRID = ("OZ", "OH", "OW", "TY", "TX", "tiles", "block", "blocks", "line")
WEIGHT_FIELDS = ("w", "to", "taps", "R", "M", "C", "K", "so", "sr", "panels", "plane", "wg", "tog")
FIELDS = (
    *IMAGE, *GRID, "w", "y", "bias", "yn", "yo", "yz", "yh", "yw", "M", "panels", "few", "shares",
    "padded", "vplane", "mplane", "uplane", "xg", "wg", "yg", "bg", "accumulate", "scale",
)  # fmt: skip


def transform_weights(lanes: Lanes, tile: WinogradTile) -> str:
    """to[point][panel][(k, c)][row] = (G w Gᵀ)[point] / divisor²; a part is a panel of a group.

    taps: the places of the nine weights of a depth k, K of them. Rows that are none repeat the
    last one.
    """
    k, a = start("transform_weights", lanes, WEIGHT_FIELDS)
    group, panel = split(k.parameters[1], a["panels"])
    w, to = a["w"].at(group * a["wg"]), a["to"].at(group * a["tog"])
    form, count = tile.filtering, lanes.count
    width = tile.vectors * count
    divisor = k.number(float(form.divisor**2))
    taps = len(form.g[0])
    to = to.at(panel * a["K"] * a["C"] * width)
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
                    at.store(v, a["plane"] * (r * form.tile + s))
    return k.text()


def winograd(lanes: Lanes, tile: WinogradTile) -> str:
    """result = scale·Aᵀ[Σ_{k,c} U[k,c] ⊙ V[k,c]]A + bias (+ result), a block of tiles at a time.

    A part is one block of tiles of one group, for a share of the panels of weights.
    """
    k, a = start("winograd", lanes, FIELDS)
    _, part, scratch = k.parameters
    form, width = tile.filtering, tile.vectors * lanes.count
    points = form.tile**2
    group, block, share = split(part, a["blocks"], a["shares"])
    p0, p1 = (a["panels"] * (share + i) // a["shares"] for i in (0, 1))
    first = block * a["block"]
    last = (first + a["block"]).minimum(a["tiles"])
    source = Planes(scratch, a["vplane"], a["K"] * a["padded"])
    products = Planes(scratch.at(a["vplane"] * points), a["mplane"], a["few"] * width)
    cells = products.at.at(a["mplane"] * points)
    work = Work(cells, cells.at(a["line"] * (form.tile * lanes.count)), a["line"])
    grid = Grid(a["OZ"], a["TY"], a["TX"], form.step)
    x = image(a, a["x"].at(group * a["xg"]))
    transform(k, x, form.bt, grid, first, last, a["K"], a["padded"], source, work)
    micros = {h: tile_products(lanes, tile, h) for h in (tile.height, tile.height - 1) if h}
    weights, bias = a["w"].at(group * a["wg"]), a["bias"].at(group * a["bg"])
    y = Image(
        a["y"].at(group * a["yg"]), a["M"], a["yn"], a["yo"], (a["yz"], a["yh"], a["yw"]),
        (a["OZ"], a["OH"], a["OW"]), (k.constant("i64", 0),) * 3,
    )  # fmt: skip
    count = last - first
    size = a["K"] * a["C"] * width
    panels = (count + tile.height - 1) // tile.height
    low = (panels * tile.height - count).minimum(panels)
    tall = panels - low
    with k.loop(p1, start=p0, step=a["few"]) as (p, _):
        few = a["few"].minimum(p1 - p)
        with k.loop(points) as (point, _), k.loop(few) as (i, _):
            b = weights.at(point * a["uplane"] + (p + i) * size)
            v = source.at.at(point * source.plane)
            to = products.at.at(point * products.plane + i * width)
            for height, micro in micros.items():
                is_tall = height == tile.height
                number, start_at = (tall, k.constant("i64", 0)) if is_tall else (low, tall * tile.height)
                with k.loop(number) as (row, _):
                    t = start_at + row * height
                    k.do(
                        micro, to.at(t * products.tile), v.at(t * source.tile), b, a["C"], a["K"],
                        source.tile, a["padded"], products.tile,
                    )  # fmt: skip
        begin = p * width
        channels = (few * width).minimum(a["M"] - begin)
        untransform(k, a, form, grid, (first, last), products, begin, channels, y, bias, work)
    return k.text()


def image(a: dict[str, Value], at: Value) -> Image:
    return Image(
        at, a["C"], a["xn"], a["xc"], (a["xz"], a["xh"], a["xw"]), (a["D"], a["H"], a["W"]),
        (a["pz"], a["ph"], a["pw"]),
    )  # fmt: skip


def tile_products(lanes: Lanes, tile: WinogradTile, height: int) -> Kernel:
    """to[i][·] = Σ_{k,c} source[i][k,c] · weights[k,c][·]: the micro-kernel."""
    k = Kernel(
        f"tile_products_{height}",
        ["to: ptr", "source: ptr", "weights: ptr", "C: i64", "K: i64", "tile: i64", "padded: i64",
         "pitch: i64"],
        lanes,
    )  # fmt: skip
    to, source, weights, channels, depth, pitch, padded, to_pitch = k.parameters
    vectors, width = range(tile.vectors), tile.vectors * lanes.count
    rows = [source.at(pitch * i) for i in range(height)]
    with k.loop(depth, carry=[k.zero()] * (height * tile.vectors)) as (d, outer):
        own, line = weights.at(d * channels * width), d * padded
        with k.loop(channels, carry=outer.values) as (c, sums):
            b = own.at(c * width)
            registers = [b.vector(j * lanes.count) for j in vectors]
            fresh = []
            for i, row in enumerate(rows):
                one = k.splat(row.load(line + c))
                fresh += [k.fma(one, v, sums.values[i * tile.vectors + j]) for j, v in enumerate(registers)]
            sums.values = fresh
        outer.values = sums.values
    for i in range(height):
        for j in vectors:
            to.store(outer.values[i * tile.vectors + j], to_pitch * i + j * lanes.count)
    return k


def untransform(
    k: Kernel, a: dict[str, Value], form: Filtering, grid: Grid, tiles: tuple[Value, Value],
    products: Planes, begin: Value, channels: Value, y: Image, bias: Value, work: Work,
) -> None:  # fmt: skip
    """Aᵀ·products·A of the channels begin … begin + channels − 1, into the result."""
    lanes, points = k.lanes.count, form.tile
    scale = k.splat(a["scale"].to_element())
    with k.loop(channels, step=lanes) as (o, _):
        left = channels - o
        add = bias.at(begin).vector(o, k.lanes_below(left))
        with each_run(k, grid, *tiles) as run:
            with k.loop(run.count) as (i, _):
                place = products.at.at((run.local + i) * products.tile + o)
                with k.loop(points) as (s, _):
                    column = [
                        place.vector((s + r * points) * products.plane) for r in range(points)
                    ]
                    for r, v in enumerate(contract(k, form.a, column)):
                        work.middle.store(v, (s + r * points) * lanes)
                with k.loop(form.step) as (r, _):
                    row = [work.middle.vector((r * points + s) * lanes) for s in range(points)]
                    line = work.cells.at((r * work.line + i * form.step) * lanes)
                    for s, v in enumerate(contract(k, form.a, row)):
                        line.store(k.fma(v, scale, add), s * lanes)
            write_run(k, a, run, grid, begin + o, left, y, work)


def write_run(
    k: Kernel, a: dict[str, Value], run: Run, grid: Grid, channel: Value, left: Value, y: Image,
    work: Work,
) -> None:  # fmt: skip
    """The cells of a run that are results, from [row][column][channel] into the result."""
    lanes = k.lanes.count
    top, begin = run.row * grid.step, run.column * grid.step
    rows = (y.size[1] - top).minimum(grid.step)
    width = (y.size[2] - begin).minimum(run.count * grid.step)
    deep, high, wide = y.strides
    at = y.at.at(run.n * y.sample + run.z * deep + top * high + begin * wide + channel * y.channel)
    adds = a["accumulate"].equals(1)
    every = k.lanes_below(k.constant("i64", lanes))
    maybe = k.mask_where(adds, every)
    tail = work.middle
    with k.loop(rows) as (r, _):
        to, cells = at.at(r * high), work.cells.at(r * work.line * lanes)
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
WINOGRAD_WEIGHTS = Generator("transform_weights", transform_weights, WEIGHT_FIELDS, winograd_tiles)
