"""Forward and input gradient of groups with few channels: tiles of rows over a padded copy."""

from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.rows import Finish, interleave, load_rows, narrowed
from convgrad.cpu.stencil.kernels.slots import slot_tile, writing_tile
from convgrad.cpu.stencil.shapes import RESIDUE, Slots, Stencil, Strips, shapes

PACK_FIELDS = ("w", "to", "picks", "G", "each", "M", "L", "panels", "O", "so", "wg")
FIELDS = (
    "x", "w", "y", "bias", "taps", "residues", "slots", "places",
    "xn", "xc", "xz", "xh", "xw", "D", "H", "W", "pz", "ph", "pw", "sz", "sh", "sw",
    "fz", "fh", "fw", "cells", "Dq", "Hq", "Wq", "N", "NB", "BZ", "BR", "TZ", "TR", "reachz",
    "reachh", "nn", "nz", "nr", "nc", "BC", "G", "runs", "shares", "C", "O", "panels", "L",
    "nresidues", "ez", "eh", "ew", "nv", "stageh", "stagez", "part", "most", "GB", "copy", "stage",
    "yn", "yo", "yz", "yh", "yw", "OZ", "OH", "OW", "writes", "accumulate", "scale",
)  # fmt: skip


def pack_stencil(lanes: Lanes, height: int) -> str:
    """to[group][panel][l][row] = w[group, row, picks[l]]; a part is `each` groups.

    A panel is `height` rows; the last one ends with the group and may overlap the one before.
    """
    k, a = start("pack_stencil", lanes, PACK_FIELDS, arrays=("w",))
    first = k.parameters[1] * a["each"]
    with k.loop((first + a["each"]).minimum(a["G"]), start=first) as (g, _):
        w, to = a["w"].at(g * a["wg"]), a["to"].at(g * a["panels"] * a["L"] * height)
        with k.loop(a["panels"]) as (panel, _):
            rows = w.at(panel_start(a, panel, height) * a["so"])
            place = to.at(panel * a["L"] * height)
            with k.loop(a["L"]) as (line, _):
                source = rows.at(a["picks"].load(line, "i64"))
                for i in range(height):
                    place.store(source.load(a["so"] * i), line * height + i)
    return k.text()


def panel_start(a: dict[str, Value], panel: Value, height: int) -> Value:
    return (panel * height).minimum(a["O"] - height)


def stencil(lanes: Lanes, shape: Stencil) -> str:
    """result[n,m,t] = scale·Σ_{c,τ} w[m,c,τ]·copy[c, t + τ] + bias[m] (+ result).

    A part is a run of groups, for one block of samples, over a share of the planes, the rows, and
    where these are long, of parts of them.
    """
    k, a = start("stencil", narrowed(lanes, shape.narrow), FIELDS, arrays=("x", "y"))
    _, part, scratch = k.parameters
    ib, run, share = split(part, a["runs"], a["shares"])
    n0 = ib * a["NB"]
    samples = a["NB"].minimum(a["N"] - n0)
    g0, g1 = (a["G"] * (run + i) // a["runs"] for i in (0, 1))
    blocks = a["nz"] * a["nr"] * a["nc"]
    b0, b1 = (blocks * (share + i) // a["shares"] for i in (0, 1))
    image, result = a["x"].at(n0 * a["xn"]), a["y"].at(n0 * a["yn"])
    copy, stage = scratch, scratch.at(a["copy"])
    lines = stage if shape.every == 1 else stage.at(a["stage"])
    height, pad, width = shape.tile.height, a["pw"], a["OW"]
    with k.loop(g1, start=g0, step=a["GB"]) as (g, _), k.loop(b1, start=b0) as (block, _):
        groups = a["GB"].minimum(g1 - g)
        iz, ir, ic = split(block, a["nr"], a["nc"])
        z0, r0, q0 = iz * a["BZ"], ir * a["BR"], ic * a["BC"]
        planes, rows = a["BZ"].minimum(a["TZ"] - z0), a["BR"].minimum(a["TR"] - r0)
        count = (((samples - 1) * a["BZ"] + planes - 1) * a["BR"] + rows) * a["nv"]
        writes = a["writes"].equals(1) & (count >= shape.tile.vectors) & a["accumulate"].equals(0)
        if isinstance(shape.tile, Slots):  # the last part of a row ends with it
            q0 = k.select(writes, q0.minimum(width - a["BC"]), q0)
        a["pw"] = pad - q0 * a["sw"]
        a["OW"] = (width - q0 * a["ew"]).minimum(a["BC"] * a["ew"])
        finish = Finish(k, a, shape.contiguous)
        a["x"] = image.at(g * a["C"] * a["xc"])
        load_rows(
            k, a, shape.read, copy, groups * a["C"], samples, (z0, planes + a["reachz"]),
            (r0, rows + a["reachh"]),
        )  # fmt: skip
        to = result.at(
            z0 * a["ez"] * a["yz"] + r0 * a["eh"] * a["yh"] + q0 * a["ew"] * a["yw"]
        )  # fmt: skip
        block_rows = Block(
            (rows * a["eh"]).minimum(a["OH"] - r0 * a["eh"]),
            (planes * a["ez"]).minimum(a["OZ"] - z0 * a["ez"]), samples, to,
        )  # fmt: skip
        if isinstance(shape.tile, Strips):
            weights = a["w"].at(g * a["L"])
            with k.loop(a["nresidues"]) as (residue, _):
                fields = [a["residues"].load(residue * RESIDUE + i, "i64") for i in range(RESIDUE)]
                with k.loop(samples) as (n, _), k.loop(planes) as (z, _):
                    k.do(
                        strip_tile(k.lanes, shape.tile),
                        copy.at((n * a["Dq"] + z) * a["Hq"] * a["Wq"]),
                        stage.at(fields[0] + (n * a["BZ"] + z) * a["ez"] * a["stagez"]),
                        weights.at(fields[1]), a["taps"].at(fields[2], "i64"), groups, rows,
                        a["nv"], a["fz"] * a["fh"] * a["fw"] * a["cells"], a["part"], a["L"],
                        a["Wq"], a["stageh"], *fields[3 : 3 + len(shape.tile.strips)],
                    )  # fmt: skip
            none = k.constant("i64", 0)
            _finish(k, a, shape, finish, stage, lines, g, (none, groups), block_rows)
        else:
            with k.loop(groups) as (own, _), k.loop(a["panels"]) as (panel, _):
                m0 = panel_start(a, panel, height)
                channel = (g + own) * a["O"] + m0
                weights = a["w"].at(((g + own) * a["panels"] + panel) * a["L"] * height)
                source = copy.at(own * a["C"] * a["fz"] * a["fh"] * a["fw"] * a["cells"])
                if shape.writes:
                    with k.when(writes):
                        k.do(
                            writing_tile(k.lanes, shape.tile), source, to.at(channel * a["yo"]),
                            weights, a["taps"], a["L"], a["places"], count, a["yo"],
                            a["bias"].at(channel), a["scale"],
                        )  # fmt: skip
                with k.when(writes.equals(0)):
                    with k.loop(a["nresidues"]) as (residue, _):
                        offset, first, table, number = (
                            a["residues"].load(residue * RESIDUE + i, "i64") for i in range(4)
                        )
                        k.do(
                            slot_tile(k.lanes, shape.tile), source, stage.at(offset),
                            weights.at(first * height), a["taps"].at(table, "i64"), number,
                            a["slots"], count, a["part"],
                        )  # fmt: skip
                    done = panel * height - m0  # rows that the panel before has written
                    many = k.constant("i64", height)
                    _finish(k, a, shape, finish, stage, lines, channel, (done, many), block_rows)
    return k.text()


@dataclass(frozen=True)
class Block:
    """A block of results: its rows, planes and samples, and where it begins."""

    rows: Value
    planes: Value
    samples: Value
    to: Value


def _finish(
    k: Kernel, a: dict[str, Value], shape: Stencil, finish: Finish, stage: Value, lines: Value,
    m0: Value, span: tuple[Value, Value], block: Block,
) -> None:  # fmt: skip
    """The channels m0 + i, i in the span, out of the stage: columns interleaved, rows stored."""
    start, channels = span
    if shape.every != 1:
        size = a["part"] * a["most"]
        with k.when(a["ew"] > 1):
            interleave(k, shape.every, a["part"] * channels, stage, size, lines, a["ew"])
    pitch = a["nv"] * a["ew"] * k.lanes.count
    plane = a["stagez"] * a["ew"]
    # Where channels follow each other in memory, the rows of the next are written later.
    whole = block.rows.equals(a["OH"]) & (a["OZ"].equals(1))
    dense = whole & a["yo"].equals(a["OH"] * a["OW"]) & a["yh"].equals(a["OW"])
    with k.loop(channels, start=start) as (i, _):
        bias, own = a["bias"].load(m0 + i), block.to.at((m0 + i) * a["yo"])
        free = dense & (i + 1 < channels) & (a["OH"] > finish.behind)
        with k.loop(block.samples) as (n, _), k.loop(block.planes) as (z, _):
            finish.rows(
                lines.at(i * a["part"] * a["ew"] + (n * a["BZ"] * a["ez"] + z) * plane),
                pitch, own.at(n * a["yn"] + z * a["yz"]), bias, block.rows, free,
            )  # fmt: skip


def strip_tile(lanes: Lanes, tile: Strips) -> Kernel:
    """to[c,r,q] = Σ_entries Σ_t w[c,entry,t]·source[c, r + t, q + taps[entry]]: planes of channels.

    A tile is `rows` rows by `vectors` registers; an entry is a strip of up to T taps, one below the
    other, which share what is loaded of a row of the source. The entries of each T follow each
    other.
    """
    counts = [f"count{i}: i64" for i in range(len(tile.strips))]
    k = Kernel(
        "strip_tile",
        ["source: ptr", "to: ptr", "w: ptr", "taps: ptr", "channels: i64", "rows: i64", "nv: i64",
         "channel: i64", "part: i64", "weights: i64", "pitch: i64", "stage: i64", *counts],
        lanes,
    )  # fmt: skip
    source, to, w, taps, channels, rows, nv, channel, part, length, pitch, stage = k.parameters[:12]
    numbers = k.parameters[12:]
    count, width = lanes.count, tile.vectors * lanes.count
    with (
        k.loop(channels) as (c, _),
        k.loop(rows, step=tile.rows) as (r, _),
        k.loop(nv * count, step=width) as (q, _),
    ):
        here = source.at(c * channel + r * pitch + q)
        sums = [k.zero()] * (tile.rows * tile.vectors)
        weights, table = w.at(c * length), taps
        for strip, number in zip(tile.strips, numbers, strict=True):
            with k.loop(number, carry=sums) as (entry, state):
                row = here.at(table.load(entry, "i64"))
                column = weights.at(entry * strip)
                factors = [k.splat(column.load(t)) for t in range(strip)]
                state.values = _strip_step(k, tile, row, pitch, factors, state.values)
            sums = state.values
            weights, table = weights.at(number * strip), table.at(number, "i64")
        out = to.at(c * part + r * stage + q)
        for i in range(tile.rows):
            for j in range(tile.vectors):
                out.store(sums[i * tile.vectors + j], j * count)
            out = out.at(stage)
    return k


def _strip_step(
    k: Kernel, tile: Strips, row: Value, pitch: Value, factors: list[Value], sums: list[Value]
) -> list[Value]:
    """Every row of the source, loaded once, meets the rows of the tile that it belongs to."""
    sums = list(sums)
    for i in range(tile.rows + len(factors) - 1):
        for j in range(tile.vectors):
            cells = row.vector(j * k.lanes.count)
            for t, factor in enumerate(factors):
                if 0 <= i - t < tile.rows:
                    at = (i - t) * tile.vectors + j
                    sums[at] = k.fma(cells, factor, sums[at])
        row = row.at(pitch)
    return sums


PACK_STENCIL = Generator(
    "pack_stencil",
    pack_stencil,
    PACK_FIELDS,
    lambda level: sorted({s.tile.height for s in shapes(level)} | {2, 4, 8, 16}),
)
STENCIL = Generator("stencil", stencil, FIELDS, shapes)
