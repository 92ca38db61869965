"""Weight gradient of groups with few channels: sums along the cells, kept as whole registers."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.rows import GATHER, RUNS, load_rows, narrowed
from convgrad.cpu.stencil.kernels.stencil import panel_start
from convgrad.cpu.stencil.shapes import Sums, weight_shapes

FIELDS = (
    "x", "dy", "dw", "taps", "slots", "picks",
    "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "pz", "ph", "pw", "sz", "sh", "sw",
    "fz", "fh", "fw", "cells", "Dq", "Hq", "Wq", "N", "NB", "BZ", "BR", "OZ", "OH", "OW", "reachz",
    "reachh", "nn", "nz", "nr", "G", "runs", "pieces", "C", "O", "panels", "L", "CK", "tiles0",
    "tiles1", "tiles2", "nv", "part", "GB", "copy", "gradient", "yn", "yo", "yz", "yh", "yw", "dws",
    "slots_full", "slots_last", "full0", "full1", "full2", "full3", "last0", "last1", "last2",
    "last3",
)  # fmt: skip


def stencil_weights(lanes: Lanes, shape: Sums) -> str:
    """dw[o,c,τ] = Σ_{n,p} dy[n,o,p]·copy[c, p + τ].

    A part is a run of groups over a piece of the blocks. Beside the copy of x lies one of dy, whose
    rows end in zeros; where they do, x is masked.
    """
    k, a = start("stencil_weights", narrowed(lanes, shape.narrow), FIELDS, arrays=("x", "dy"))
    _, part, scratch = k.parameters
    run, piece = split(part, a["pieces"])
    g0, g1 = (a["G"] * (run + i) // a["runs"] for i in (0, 1))
    blocks = a["nn"] * a["nz"] * a["nr"]
    b0, b1 = (blocks * (piece + i) // a["pieces"] for i in (0, 1))
    copy, gradient = scratch, scratch.at(a["copy"])
    sums = gradient.at(a["gradient"])
    image, height, count = a["x"], shape.height, k.lanes.count
    total = a["panels"] * a["L"] * height
    room = (total + (count - 1)) // count * count
    with k.loop(g1, start=g0, step=a["GB"]) as (g, _):
        groups = a["GB"].minimum(g1 - g)
        with k.loop(groups * room) as (i, _):
            sums.store(k.zero(), i * count)
        with k.loop(b1, start=b0) as (block, _):
            ib, iz, ir = split(block, a["nz"], a["nr"])
            n0, z0, r0 = ib * a["NB"], iz * a["BZ"], ir * a["BR"]
            samples, planes, rows = (
                a["NB"].minimum(a["N"] - n0), a["BZ"].minimum(a["OZ"] - z0),
                a["BR"].minimum(a["OH"] - r0),
            )  # fmt: skip
            a["x"] = image.at(n0 * a["xn"] + g * a["C"] * a["xc"])
            load_rows(
                k, a, shape.read, copy, groups * a["C"], samples, (z0, planes + a["reachz"]),
                (r0, rows + a["reachh"]),
            )  # fmt: skip
            dy = _gradient_frame(k, a)
            dy["x"] = a["dy"].at(n0 * a["yn"] + g * a["O"] * a["yo"])
            load_rows(
                k, dy, RUNS if shape.contiguous else GATHER, gradient, groups * a["O"], samples,
                (z0, planes), (r0, rows),
            )  # fmt: skip
            whole = samples.equals(a["NB"]) & planes.equals(a["BZ"]) & rows.equals(a["BR"])
            slots = a["slots"].at(k.select(whole, a["slots_full"], a["slots_last"]), "i64")
            numbers = [k.select(whole, a[f"full{i}"], a[f"last{i}"]) for i in range(4)]
            _add_block(k, a, shape, copy, gradient, sums, slots, numbers, groups, room * count)
        dw = a["dw"].at(piece * a["dws"] + g * a["O"] * a["CK"])
        with k.loop(groups) as (own, _):
            place = sums.at(own * room * count)
            reduce(k, a, height, place, room, dw.at(own * a["O"] * a["CK"]))
    return k.text()


def _gradient_frame(k: Kernel, a: dict[str, Value]) -> dict[str, Value]:
    """dy as an array that is copied without pads and phases."""
    one, none = k.constant("i64", 1), k.constant("i64", 0)
    frame = {f"x{axis}": a[f"y{axis}"] for axis in "nzhw"} | {"xc": a["yo"]}
    frame |= dict.fromkeys(("sz", "sh", "sw", "fz", "fh", "fw"), one)
    frame |= dict.fromkeys(("pz", "ph", "pw"), none)
    frame |= {"D": a["OZ"], "H": a["OH"], "W": a["OW"], "cells": a["part"]}
    return frame | {"Dq": a["BZ"], "Hq": a["BR"], "Wq": a["nv"] * k.lanes.count}


def _add_block(
    k: Kernel, a: dict[str, Value], shape: Sums, copy: Value, gradient: Value, sums: Value,
    slots: Value, numbers: list[Value], groups: Value, each: Value,
) -> None:  # fmt: skip
    """Every tile of taps and every panel of output channels, over one block's slots."""
    count, height = k.lanes.count, shape.height
    with k.loop(a["panels"]) as (panel, _):
        own = gradient.at(panel_start(a, panel, height) * a["part"])
        taps, place = a["taps"], sums.at(panel * a["L"] * (height * count))
        for index, (strip, columns) in enumerate(shape.strips):
            size = strip * columns * height * count
            micro = sum_tile(k.lanes, shape, strip, columns, f"sum_tile{index}")
            with k.loop(a[f"tiles{index}"]) as (tile, _):
                k.do(
                    micro, copy, own, place.at(tile * size), taps.at(tile * columns, "i64"), slots,
                    groups, a["C"] * a["fz"] * a["fh"] * a["fw"] * a["cells"],
                    a["O"] * a["part"], each, a["Wq"], a["nv"] * count, a["part"],
                    a["OW"] % count, *numbers,
                )  # fmt: skip
            taps = taps.at(a[f"tiles{index}"] * columns, "i64")
            place = place.at(a[f"tiles{index}"] * size)


def sum_tile(lanes: Lanes, shape: Sums, strip: int, columns: int, name: str) -> Kernel:
    """sums[m][t][u] += Σ_slots gradient[m, slot]·copy[slot + t rows + taps[u]], lane by lane.

    The slots come in four kinds: `rows` rows at a time and single rows, whole registers and the
    registers at a row's end, where only `rest` lanes hold cells.
    """
    k = Kernel(
        name,
        ["copy: ptr", "gradient: ptr", "sums: ptr", "taps: ptr", "slots: ptr",
         "groups: i64", "group: i64", "outputs: i64", "each: i64", "pitch: i64", "row: i64",
         "part: i64", "rest: i64", *[f"number{i}: i64" for i in range(4)]],
        lanes,
    )  # fmt: skip
    copy, gradient, sums, taps, slots, groups, group, outputs, each = k.parameters[:9]
    pitch, row, part, rest, *numbers = k.parameters[9:]
    count, height = lanes.count, shape.height
    mask = k.lanes_below(rest)
    offsets = [taps.load(u, "i64") for u in range(columns)]
    with k.loop(groups) as (g, _):
        place, own, x = sums.at(g * each), gradient.at(g * outputs), copy.at(g * group)
        totals = [place.vector(i * count) for i in range(height * strip * columns)]
        sources, table = [x.at(offset) for offset in offsets], slots
        for kind, number in enumerate(numbers):
            lines, masked = shape.rows if kind < 2 else 1, mask if kind % 2 else None
            if kind < 2 and shape.rows == 1:
                continue
            with k.loop(number, carry=totals) as (s, state):
                here, there = (table.load(s * 2 + i, "i64") for i in (0, 1))
                dy = own.at(there)
                gradients = [
                    [dy.at(part * m + row * r).vector() for r in range(lines)]
                    for m in range(height)
                ]
                cells = [source.at(here) for source in sources]
                state.values = _sum_step(k, strip, cells, pitch, gradients, masked, state.values)
            totals = state.values
            table = table.at(number * 2, "i64")
        for i, value in enumerate(totals):
            place.store(value, i * count)
    return k


def _sum_step(
    k: Kernel, strip: int, cells: list[Value], pitch: Value, gradients: list[list[Value]],
    mask: Value | None, sums: list[Value],
) -> list[Value]:  # fmt: skip
    """Every register of x, loaded once, meets the rows of dy that its taps belong to."""
    sums, lines, columns = list(sums), len(gradients[0]), len(cells)
    for u, cell in enumerate(cells):
        for i in range(lines + strip - 1):
            x = cell.vector(0, mask)
            for t in range(strip):
                if 0 <= i - t < lines:
                    for m, rows in enumerate(gradients):
                        at = (m * strip + t) * columns + u
                        sums[at] = k.fma(x, rows[i - t], sums[at])
            cell = cell.at(pitch)
    return sums


def reduce(
    k: Kernel, a: dict[str, Value], height: int, sums: Value, room: Value, dw: Value
) -> None:
    """The lanes of each sum added up, and the sums put where picks[l, m] says."""
    count = k.lanes.count
    with k.loop(room, step=count) as (i, _):
        line = sums.at(i * count)
        total = k.sums([line.vector(j * count) for j in range(count)])
        sums.store(total, i)
    size = a["L"] * height
    with k.loop(a["panels"]) as (panel, _):
        to = dw.at(panel_start(a, panel, height) * a["CK"])
        own = sums.at(panel * size)
        with k.loop(size) as (i, _):
            to.store(own.load(i), a["picks"].load(i, "i64"))


STENCIL_WEIGHTS = Generator("stencil_weights", stencil_weights, FIELDS, weight_shapes)
