"""Weight gradient of depthwise maps whose planes are read where they lie: see `planes`."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.planes import (
    COLUMN,
    ENTRY,
    cells_at,
    clear_zeros,
    point_at_rows,
    spread_order,
)
from convgrad.cpu.stencil.kernels.rows import ask_ahead, narrowed
from convgrad.cpu.stencil.kernels.weights import reduce
from convgrad.cpu.stencil.shapes import SumsInPlace, sums_in_place_shapes

FIELDS = (
    "x", "dy", "dw", "taps", "columns", "masks", "deeps", "picks",
    "xn", "xc", "xz", "xh", "D", "H", "W", "ph", "sz", "sh", "sw", "fh", "reachh", "ndeep",
    "N", "OZ", "OH", "BR", "G", "runs", "pieces", "GB", "ncolumns", "tiles0", "tiles1", "tiles2",
    "yn", "yc", "yz", "yh", "zeros", "sums", "dws", "O", "panels", "L", "CK",
)  # fmt: skip


def plane_weights(lanes: Lanes, shape: SumsInPlace) -> str:
    """dw[c,τ] = Σ_{n,p} dy[n,c,p]·x[n, c, s·p + τ].

    A part is a run of channels over a piece of the samples and planes. Sums stay whole registers
    until the end.
    """
    k, a = start("plane_weights", narrowed(lanes, shape.narrow), FIELDS)
    _, part, rows = k.parameters
    run, piece = split(part, a["pieces"])
    g0, g1 = (a["G"] * (run + i) // a["runs"] for i in (0, 1))
    u0, u1 = (a["N"] * a["OZ"] * (piece + i) // a["pieces"] for i in (0, 1))
    zeros, sums, count = clear_zeros(k, a, rows), rows.at(a["sums"]), k.lanes.count
    room = (a["L"] + (count - 1)) // count * count  # sums of a channel, each a register
    with k.loop(g1, start=g0, step=a["GB"]) as (g, _):
        groups = a["GB"].minimum(g1 - g)
        with k.loop(groups * room) as (i, _):
            sums.store(k.zero(), i * count)
        with (
            k.loop(u1, start=u0) as (u, _),
            k.loop(groups) as (own, _),
            k.loop(a["OH"], step=a["BR"]) as (r, _),
        ):
            n, z = u // a["OZ"], u % a["OZ"]
            source = a["x"].at(n * a["xn"] + (g + own) * a["xc"])
            dy = a["dy"].at(n * a["yn"] + (g + own) * a["yc"] + z * a["yz"] + r * a["yh"])
            point_at_rows(k, a, rows, zeros, source, z, r, a["reachh"] + a["BR"])
            high = a["BR"].minimum(a["OH"] - r)
            first = source.at(z * a["sz"] * a["xz"] + r * a["sh"] * a["xh"])
            ask_ahead(k, first, high * a["sh"] * a["xh"])
            ask_ahead(k, dy, high * a["yh"])
            _add_rows(k, a, shape, rows, dy, sums.at(own * room * count), high)
        to = a["dw"].at(piece * a["dws"] + g * a["CK"])
        with k.loop(groups) as (own, _):
            reduce(k, a, 1, sums.at(own * room * count), room, to.at(own * a["CK"]))
    return k.text()


def _add_rows(
    k: Kernel, a: dict[str, Value], shape: SumsInPlace, rows: Value, dy: Value, sums: Value,
    high: Value,
) -> None:  # fmt: skip
    """Every tile of taps over `high` rows of dy."""
    taps, count = a["taps"], k.lanes.count
    for index, (strip, columns) in enumerate(shape.strips):
        micro = plane_sums(k.lanes, shape, strip, columns, f"plane_sums{index}")
        size = strip * columns * count
        with k.loop(a[f"tiles{index}"]) as (tile, _):
            k.do(
                micro, rows, dy, sums.at(tile * size), taps.at(tile * (columns * ENTRY), "i64"),
                a["columns"], a["masks"], a["ncolumns"], high, a["yh"], a["sw"],
            )  # fmt: skip
        taps = taps.at(a[f"tiles{index}"] * (columns * ENTRY), "i64")
        sums = sums.at(a[f"tiles{index}"] * size)


def plane_sums(lanes: Lanes, shape: SumsInPlace, strip: int, columns: int, name: str) -> Kernel:
    """sums[t][u] += Σ_{r,q} dy[r, q]·x[row r + t of column u, s·q + offset u], lane by lane."""
    k = Kernel(
        name,
        ["rows: ptr", "dy: ptr", "sums: ptr", "taps: ptr", "columns: ptr", "masks: ptr",
         "number: i64", "high: i64", "yh: i64", "step: i64"],
        lanes,
    )  # fmt: skip
    rows, dy, sums, taps, table, masks, number, high, yh, step = k.parameters
    count = lanes.count
    entries = [[taps.load(u * ENTRY + i, "i64") for i in range(ENTRY)] for u in range(columns)]
    with k.loop(number) as (q, _):
        first, masked = (table.load(q * COLUMN + i, "i64") for i in (0, 1))
        own = masks.at(masked)
        fresh = own.mask(count)
        on = [[own.mask(e[2] + j * count) for j in range(shape.step)] for e in entries]
        totals = [sums.vector(i * count) for i in range(strip * columns)]
        together = high // shape.rows * shape.rows
        spans = [(shape.rows, k.constant("i64", 0), together), (1, together, high)]
        for lines, begin, end in spans[: shape.rows]:
            with k.loop(end, start=begin, step=lines, carry=totals) as (r, state):
                gradients = [
                    _gradient(k, shape, dy.at((r + i) * yh + first), fresh) for i in range(lines)
                ]
                totals = list(state.values)
                for u, (base, offset, _) in enumerate(entries):
                    table_of_rows, here = rows.at(base + r, "ptr"), first * step + offset
                    for i in range(lines + strip - 1):
                        cells = cells_at(k, table_of_rows.load(i, "ptr").at(here), on[u])
                        for t in range(strip):
                            if 0 <= i - t < lines:
                                at = t * columns + u
                                totals[at] = k.fma(cells, gradients[i - t], totals[at])
                state.values = totals
            totals = state.values
        for i, value in enumerate(totals):
            sums.store(value, i * count)
    return k


def _gradient(k: Kernel, shape: SumsInPlace, place: Value, fresh: Value) -> Value:
    """A register of dy, each result in one register only, in the order of the cells of x."""
    cells = place.vector(0, fresh)
    return k.shuffle(cells, cells, spread_order(k.lanes)) if shape.step == 2 else cells


PLANE_WEIGHTS = Generator("plane_weights", plane_weights, FIELDS, sums_in_place_shapes)
