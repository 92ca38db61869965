"""What Winograd's products become: transformed back, and written where they belong."""

from convgrad.cpu.jit.language import Kernel, Value
from convgrad.cpu.winograd.kernels.matrices import contract
from convgrad.cpu.winograd.kernels.tiles import (
    Grid,
    Planes,
    Run,
    Work,
    each_run,
    each_tile,
)
from convgrad.cpu.winograd.tiling import WinogradTile

RESULT = (
    "y", "bias", "yn", "yo", "yz", "yh", "yw", "OZ", "OH", "OW", "ez", "eh", "ew", "M",
    "panels", "phases", "lists", "few", "shares", "step", "chunk", "ahead", "padded", "vtile",
    "vplane", "mplane", "yg", "bg", "accumulate", "scale",
)  # fmt: skip


def untransform(
    k: Kernel, a: dict[str, Value], tile: WinogradTile, grid: Grid, tiles: tuple[Value, Value],
    products: Planes, panels: tuple[Value, Value], group: Value, work: Work,
) -> None:  # fmt: skip
    """Aᵀ·products·A of so many channels from a first one on, into the result.

    Phases of the columns are woven together, those of planes and rows are written one by one.
    """
    lanes, down, along = k.lanes.count, tile.rows.tile, tile.columns.tile
    width = tile.vectors * lanes
    apart, every = grid.apart[1] * a["ew"] * lanes, a["ew"]
    scale = k.splat(a["scale"].to_element())
    begin, channels = panels
    bias, y = a["bias"].at(group * a["bg"]), a["y"].at(group * a["yg"])
    with k.loop(channels, step=lanes) as (o, _):
        left = channels - o
        add = bias.at(begin).vector(o, k.lanes_below(left))
        panel = o // width * a["phases"] * width + o % width
        with each_run(k, grid, *tiles) as run, k.loop(a["ez"]) as (z, _), k.loop(a["eh"]) as (h, _):
            with k.loop(every) as (w, _), each_tile(k, grid, run) as (i, column):
                phase = (z * a["eh"] + h) * every + w
                place = products.at.at((run.local + i) * products.tile + panel + phase * width)
                with k.loop(along) as (s, _):
                    values = [place.vector((s + r * along) * products.plane) for r in range(down)]
                    for r, v in enumerate(contract(k, tile.rows.a, values)):
                        work.middle.store(v, (s + r * along) * lanes)
                with k.loop(tile.rows.step) as (r, _):
                    row = [work.middle.vector((r * along + s) * lanes) for s in range(along)]
                    line = work.cells.at((r * work.line + column * every + w) * lanes)
                    for s, v in enumerate(contract(k, tile.columns.a, row)):
                        line.store(k.fma(v, scale, add), apart * s)
            write_run(k, a, run, grid, (z, h), y.at((begin + o) * a["yo"]), left, work)


def write_run(
    k: Kernel, a: dict[str, Value], run: Run, grid: Grid, phase: tuple[Value, Value], y: Value,
    left: Value, work: Work,
) -> None:  # fmt: skip
    """The cells of a run that are results, from [row][column][channel] into the result."""
    lanes, wide, channel = k.lanes.count, a["yw"], a["yo"]
    z, top = run.z * a["ez"] + phase[0], grid.top(run) * a["eh"] + phase[1]
    column = run.column * grid.step[1] * a["ew"]
    most = (a["OW"] - column).minimum(run.count * grid.step[1] * a["ew"])
    at = y.at(run.n * a["yn"] + z * a["yz"] + column * wide)
    adds = a["accumulate"].equals(1)
    every = k.lanes_below(k.constant("i64", lanes))
    maybe = k.mask_where(adds, every)
    tail = work.middle
    with k.loop(grid.step[0]) as (r, _):
        high = top + r * grid.apart[0] * a["eh"]
        inside = (z < a["OZ"]) & (high < a["OH"])
        to, cells = at.at(high * a["yh"]), work.cells.at(r * work.line * lanes)
        width = k.select(inside, most, k.constant("i64", 0))
        rest = width % lanes
        with k.when(wide.equals(1)):
            with k.loop(width - rest, step=lanes) as (i, _):
                read = [cells.vector((i + j) * lanes) for j in range(lanes)]
                for j, v in enumerate(k.transpose(read)):
                    with k.when(left > j):
                        place = to.at(channel * j + i)
                        place.store(v + place.vector(0, maybe))
            with k.when(rest > 0):
                i = width - rest
                read = [cells.vector((i + j) * lanes) for j in range(lanes)]
                for j, v in enumerate(k.transpose(read)):
                    tail.store(v, j * lanes)
                write_tail(k, tail, to.at(i), channel, rest, left, adds)
        with k.when(wide.equals(1).equals(0)), k.loop(width) as (i, _):
            side_by_side, place = channel.equals(1), to.at(i * wide)
            with k.when(side_by_side):
                mask = k.lanes_below(left)
                old = place.vector(0, k.mask_where(adds, mask))
                place.store(cells.vector(i * lanes) + old, 0, mask)
            with k.when(side_by_side.equals(0)):
                for j in range(lanes):
                    with k.when(left > j):
                        one = place.at(channel * j)
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
