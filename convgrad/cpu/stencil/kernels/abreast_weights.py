"""Depthwise weight gradient with channels abreast: see `abreast`. A tap's sum is a register."""

from convgrad.cpu.jit.language import Kernel, Lanes
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.rows import narrowed
from convgrad.cpu.stencil.kernels.turning import bring_cells, bring_planes, clear
from convgrad.cpu.stencil.shapes import SumsAbreast, sums_abreast_shapes

FIELDS = (
    "x", "dy", "dw", "taps", "places", "picks",
    "N", "C", "xn", "xc", "xh", "xw", "H", "W", "yn", "yc", "yh", "yw", "OH", "OW",
    "runs", "pieces", "blocks", "nr", "BR", "sh", "sw", "ph", "pw", "ah", "aw", "rows", "pitch",
    "tiles", "L", "CK", "dws", "GB", "copy", "gradient", "stage", "sums", "ahead", "aheady",
)  # fmt: skip


def abreast_weights(lanes: Lanes, shape: SumsAbreast) -> str:
    """dw[c,τ] = Σ_{n,p} dy[n,c,p]·x[n, c, s·p + τ], some channels at a time.

    A part is a run of blocks of channels over a piece of the samples' blocks of rows.
    """
    k, a = start("abreast_weights", narrowed(lanes, shape.narrow), FIELDS, arrays=("x", "dy"))
    args, part, scratch = k.parameters
    count = k.lanes.count
    run, piece = split(part, a["pieces"])
    b0, b1 = (a["blocks"] * (run + i) // a["runs"] for i in (0, 1))
    v0, v1 = (a["N"] * a["nr"] * (piece + i) // a["pieces"] for i in (0, 1))
    copy, gradient, sums = scratch, scratch.at(a["stage"]), scratch.at(a["sums"])
    clear(k, copy, a["stage"])
    size = a["L"] * count  # of a block's sums
    blocks, pieces = b1 - b0, v1 - v0
    clear(k, sums, blocks * size)
    many = (blocks + (a["GB"] - 1)) // a["GB"]
    one = k.constant("i64", 1)
    turns = (pieces, one) if shape.planes else (one, many)
    with k.loop(many * pieces) as (turn, _):
        own, v = turn // turns[0] % many * a["GB"], v0 + turn // turns[1] % pieces
        beside, first_block = (blocks - own).minimum(a["GB"]), b0 + own
        n, ir = split(v, a["nr"])
        t0 = ir * a["BR"]
        high = a["BR"].minimum(a["OH"] - t0)
        begin = t0 * a["sh"] - a["ph"]
        first, last = begin.maximum(0), (begin + a["rows"]).minimum(a["H"])
        number, skipped = (last - first).maximum(0), (first - begin).minimum(a["rows"])
        row = a["pitch"] * count
        source = a["x"].at(n * a["xn"] + first * a["xh"])
        to = copy.at(skipped * row)
        dy = a["dy"].at(n * a["yn"] + t0 * a["yh"])
        if shape.planes:
            c0 = (first_block * count).minimum(a["C"] - count)
            cells = source.at(c0 * a["xc"])
            bring_planes(k, cells, a["xc"], number * a["W"], to, a["places"], a["ahead"])
            bring_planes(
                k, dy.at(c0 * a["yc"]), a["yc"], high * a["OW"], gradient, None, a["aheady"]
            )  # fmt: skip
        else:
            which = (first_block, beside, a["C"])
            bring_cells(
                k, source, which, (number, a["xh"]), (a["W"], a["xw"]), to.at(a["pw"] * count),
                row, a["copy"],
            )  # fmt: skip
            bring_cells(
                k, dy, which, (high, a["yh"]), (a["OW"], a["yw"]), gradient, a["OW"] * count,
                a["gradient"],
            )  # fmt: skip
        behind = skipped + number
        with k.loop(beside) as (i, _):
            cells = copy.at(i * a["copy"])
            clear(k, cells, skipped * row)
            clear(k, cells.at(behind * row), (a["rows"] - behind) * row)
            with k.loop(a["tiles"]) as (tile, _):
                k.do(
                    _tile(k.lanes, shape), args, cells.at(a["taps"].load(tile, "i64")),
                    gradient.at(i * a["gradient"]),
                    sums.at((own + i) * size + tile * (shape.rows * shape.columns * count)), high,
                )  # fmt: skip
    to = a["dw"].at(piece * a["dws"])
    with k.loop(blocks) as (block, _), k.loop(a["L"]) as (tap, _):
        c0 = ((b0 + block) * count).minimum(a["C"] - count)
        own = sums.at(block * size + tap * count)
        place = to.at(c0 * a["CK"] + a["picks"].load(tap, "i64"))
        for lane in range(count):
            place.store(own.load(lane))
            place = place.at(a["CK"])
    return k.text()


def _tile(lanes: Lanes, shape: SumsAbreast) -> Kernel:
    """sums[i][j] += Σ_{r,q} dy[r, q]·cells[s·r + i, s·q + j] over `high` rows of dy."""
    k, a = start(
        "abreast_sums", lanes, FIELDS,
        ("args: ptr", "cells: ptr", "dy: ptr", "sums: ptr", "high: i64"),
    )  # fmt: skip
    _, cells, dy, sums, high = k.parameters
    count, number = k.lanes.count, shape.rows * shape.columns
    row = a["pitch"] * count
    start_ = [sums.vector(i * count) for i in range(number)]
    apart = a["aw"] * count
    with k.loop(high, carry=start_) as (r, outer):
        here, there = cells.at(r * a["sh"] * row), dy.at(r * a["OW"] * count)
        with k.loop(a["OW"], carry=outer.values) as (q, state):
            g, totals = there.vector(q * count), []
            for i in range(shape.rows):
                place = here.at(row * a["ah"] * i + q * a["sw"] * count)
                totals += [
                    k.fma(place.vector(apart * j), g, state.values[i * shape.columns + j])
                    for j in range(shape.columns)
                ]
            state.values = totals
        outer.values = state.values
    for i, total in enumerate(outer.values):
        sums.store(total, i * count)
    return k


ABREAST_WEIGHTS = Generator("abreast_weights", abreast_weights, FIELDS, sums_abreast_shapes)
