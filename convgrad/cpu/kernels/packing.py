"""Operands brought into the order in which a micro-kernel reads them."""

from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = ("w", "to", "taps", "R", "K", "so", "sr", "tall", "low", "wg", "tog")


@dataclass(frozen=True)
class Rows:
    """One axis of copied columns: columns [first, last) meet the image, at (i·step + shift)."""

    first: Value
    last: Value
    step: Value
    shift: Value
    width: Value


def pack_weights(lanes: Lanes, tile: Tile) -> str:
    """to[panel][r][τ][row] = w[row·so + r·sr + taps[τ]]; a part is one panel of one group."""
    k, a = start("pack_weights", lanes, FIELDS)
    group, panel = split(k.parameters[1], a["tall"] + a["low"])
    w, to = a["w"].at(group * a["wg"]), a["to"].at(group * a["tog"])
    for height in {tile.height, tile.height - 1} - {0}:
        with k.when((panel < a["tall"]).equals(int(height == tile.height))):
            first = panel * height
            if height < tile.height:
                first = first + a["tall"]
            source, rest = w.at(first * a["so"]), to.at(first * a["R"] * a["K"])
            with k.loop(a["R"]) as (r, _), k.loop(a["K"]) as (t, _):
                column = source.at(r * a["sr"] + a["taps"].load(t, "i64"))
                place = rest.at((r * a["K"] + t) * height)
                for i in range(height):
                    place.store(column.load(a["so"] * i), i)
    return k.text()


def columns(k: Kernel, a: dict[str, Value], phase: Value, inside: Value) -> Rows:
    """Which columns of a copied row meet the image: those with 0 ≤ s·i + φ − pad < W."""
    stride = a["sw"]
    first = ((a["pw"] - phase).maximum(0) + stride - 1) // stride
    last = ((a["W"] + a["pw"] - phase).maximum(0) + stride - 1) // stride
    first = k.select(inside, first.minimum(a["Wq"]), a["Wq"])
    last = k.select(inside, last.minimum(a["Wq"]), a["Wq"])
    return Rows(first, last, stride * a["xw"], (phase - a["pw"]) * a["xw"], a["Wq"])


def copy_row(k: Kernel, to: Value, source: Value, rows: Rows) -> None:
    """to[i] = source[i·step + shift] for the columns that meet the image, zero for the others."""
    lanes = k.lanes.count
    source = source.at(rows.shift)

    def edges() -> None:
        with k.loop(rows.first, step=lanes) as (i, _):
            to.store(k.zero(), i, k.lanes_below(rows.first - i))
        with k.loop(rows.width, start=rows.last, step=lanes) as (i, _):
            to.store(k.zero(), i, k.lanes_below(rows.width - i))

    edges()
    with k.when(rows.step.equals(1)), k.loop(rows.last, start=rows.first, step=lanes) as (i, _):
        mask = k.lanes_below(rows.last - i)
        to.store(source.vector(i, mask), i, mask)
    with k.when(rows.step.equals(2)):
        even = [2 * lane for lane in range(lanes)]
        with k.loop(rows.last, start=rows.first, step=lanes) as (i, _):
            left = rows.last - i
            low = source.vector(i * 2, k.lanes_below(left * 2 - 1))
            high = source.vector(i * 2 + lanes, k.lanes_below(left * 2 - 1 - lanes))
            to.store(k.shuffle(low, high, even), i, k.lanes_below(left))
    with k.when((rows.step.equals(1) | rows.step.equals(2)).equals(0)):
        with k.loop(rows.last, start=rows.first) as (i, _):
            to.store(source.load(i * rows.step), i)


def transpose_row(
    k: Kernel, to: Value, source: Value, rows: Rows, channels: Value, pitch: Value, height: int
) -> None:
    """to[i·height + j] = source[j·pitch + i·step + shift] for j < channels, else zero.

    Writes up to one register beyond the row's end, in increasing order.
    """
    lanes = k.lanes.count
    source = source.at(rows.shift)
    with k.when(rows.step.equals(1)), k.loop(rows.width, step=lanes) as (i, _):
        within = k.lanes_within(rows.first - i, rows.last - i)
        for base in range(0, height, lanes):
            few = min(lanes, height - base)
            read = [
                source.at(pitch * (base + j)).vector(i, k.mask_where(channels > base + j, within))
                for j in range(few)
            ]
            read += [k.zero()] * (lanes - few)
            mask = None if few == lanes else k.lanes_below(k.constant("i64", few))
            for column, v in enumerate(k.transpose(read)):
                with k.when(rows.width - i > column):
                    to.store(v, (i + column) * height + base, mask)
    with k.when(rows.step.equals(1).equals(0)), k.loop(rows.width) as (i, _):
        meets = (i >= rows.first) & (i < rows.last)
        for j in range(height):
            to.store(k.zero_element(), i * height + j)
        with k.when(meets):
            for j in range(height):
                with k.when(channels > j):
                    to.store(source.load(pitch * j + i * rows.step), i * height + j)


def source_row(
    a: dict[str, Value], z: Value, r: Value, fz: Value, fh: Value
) -> tuple[Value, Value, Value]:
    """The source's plane and row for a row of the copy, and whether they exist."""
    iz, ir = z * a["sz"] + fz - a["pz"], r * a["sh"] + fh - a["ph"]
    return iz, ir, (iz >= 0) & (iz < a["D"]) & (ir >= 0) & (ir < a["H"])


def copy_block(
    k: Kernel, a: dict[str, Value], to: Value, channels: Value, samples: Value, z0: Value, r0: Value
) -> None:
    """The padded, phase-split copy of the source that one block of results reads."""
    cells = a["cells"]
    with k.loop(channels) as (c, _), k.loop(a["fz"]) as (fz, _), k.loop(a["fh"]) as (fh, _):
        with k.loop(a["fw"]) as (fw, _):
            phase = to.at((((c * a["fz"] + fz) * a["fh"] + fh) * a["fw"] + fw) * cells)
            with k.loop(samples) as (n, _), k.loop(a["Dq"]) as (z, _), k.loop(a["Hq"]) as (r, _):
                row = phase.at(((n * a["Dq"] + z) * a["Hq"] + r) * a["Wq"])
                iz, ir, inside = source_row(a, z0 + z, r0 + r, fz, fh)
                source = a["x"].at(n * a["xn"] + c * a["xc"] + iz * a["xz"] + ir * a["xh"])
                copy_row(k, row, source, columns(k, a, fw, inside))
            clear_behind(k, a, phase, samples)


def clear_behind(k: Kernel, a: dict[str, Value], plane: Value, samples: Value) -> None:
    """Zeros behind the last cell of a plane, where whole registers read what earlier jobs left."""
    behind, lanes = samples * a["Dq"] * a["Hq"] * a["Wq"], k.lanes.count
    with k.loop(a["cells"], start=behind, step=lanes) as (i, _):
        plane.store(k.zero(), i, k.lanes_below(a["cells"] - i))


PACK_WEIGHTS = Generator("pack_weights", pack_weights, FIELDS, tallest_tiles)
