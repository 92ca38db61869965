"""Operands brought into the order in which a micro-kernel reads them."""

from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.tiling import Tile, tallest_tiles

FIELDS = (
    "w", "to", "taps", "where", "span", "R", "K", "so", "sr", "cb", "order", "form", "rows",
    "tall", "low", "wg", "tog",
)  # fmt: skip
BY_ROW, BY_SUM, BY_TAP, SCATTERED = range(4)  # which of the weights' axes is contiguous


@dataclass(frozen=True)
class Rows:
    """One axis of copied columns: columns [first, last) meet the image, at (i·step + shift)."""

    first: Value
    last: Value
    step: Value
    shift: Value
    width: Value


def pack_weights(lanes: Lanes, tile: Tile) -> str:
    """to[r block][panel][…][row] = w[row·so + r·sr + taps[τ]]; a part is one panel of one group.

    … is [r][τ], or [τ][r] where order is 1; a block has cb of the R summed channels r.
    """
    k, a = start("pack_weights", lanes, FIELDS)
    group, panel = split(k.parameters[1], a["tall"] + a["low"])
    w, to = a["w"].at(group * a["wg"]), a["to"].at(group * a["tog"])
    for height in {tile.height, tile.height - 1} - {0}:
        with k.when((panel < a["tall"]).equals(int(height == tile.height))):
            first = panel * height
            if height < tile.height:
                first = first + a["tall"]
            source = w.at(first * a["so"])
            with k.loop(a["R"], step=a["cb"]) as (r0, _):
                channels = a["cb"].minimum(a["R"] - r0)
                block = to.at((r0 * a["rows"] + first * channels) * a["K"])
                by_tap = a["order"].equals(1)
                each_r = k.select(by_tap, k.constant("i64", 1), a["K"]) * height
                each_tap = k.select(by_tap, channels, k.constant("i64", 1)) * height
                _pack_panel(k, a, height, source.at(r0 * a["sr"]), channels, block,
                            (each_r, each_tap))  # fmt: skip
    return k.text()


def _pack_panel(
    k: Kernel, a: dict[str, Value], height: int, source: Value, channels: Value, to: Value,
    each: tuple[Value, Value],
) -> None:  # fmt: skip
    """One panel's weights of a block, a register at a time along the axis that is contiguous."""
    lanes, (each_r, each_tap) = k.lanes.count, each
    with k.when(a["form"].equals(BY_ROW)), k.loop(channels) as (r, _), k.loop(a["K"]) as (t, _):
        column = source.at(r * a["sr"] + a["taps"].load(t, "i64"))
        place = to.at(r * each_r + t * each_tap)
        for i in range(0, height, lanes):
            few = min(lanes, height - i)
            mask = k.lanes_below(k.constant("i64", few))
            place.store(k.some(column.vector(i, mask), few), i)
    with k.when(a["form"].equals(BY_SUM)), k.loop(a["K"]) as (t, _):
        line, place = source.at(a["taps"].load(t, "i64")), to.at(t * each_tap)
        with k.loop(channels, step=lanes) as (r, _):
            columns = _columns(k, line.at(r), a["so"], height, channels - r)
            for i, column in enumerate(columns):
                with k.when(channels - r > i):
                    _store_column(place.at((r + i) * each_r), column, height)
    with k.when(a["form"].equals(BY_TAP)), k.loop(channels) as (r, _):
        line, place = source.at(r * a["sr"]), to.at(r * each_r)
        with k.loop(a["span"], step=lanes) as (j, _):
            columns = _columns(k, line.at(j), a["so"], height, a["span"] - j)
            for i, column in enumerate(columns):
                tap = a["where"].load(j + i, "i64")
                with k.when(tap >= 0):
                    _store_column(place.at(tap * each_tap), column, height)
    with k.when(a["form"].equals(SCATTERED)), k.loop(channels) as (r, _), k.loop(a["K"]) as (t, _):
        column = source.at(r * a["sr"] + a["taps"].load(t, "i64"))
        place = to.at(r * each_r + t * each_tap)
        for i in range(height):
            place.store(column.load(a["so"] * i), i)


def _columns(
    k: Kernel, source: Value, pitch: Value, height: int, left: Value
) -> list[list[Value]]:
    """A square of rows and consecutive elements, transposed: for each element its rows."""
    lanes, mask = k.lanes.count, k.lanes_below(left)
    columns: list[list[Value]] = [[] for _ in range(lanes)]
    for top in range(0, height, lanes):
        few = min(lanes, height - top)
        read = [source.at(pitch * (top + i)).vector(0, mask) for i in range(few)]
        for column, v in zip(columns, k.transpose(read + [k.zero()] * (lanes - few)), strict=True):
            column.append(k.some(v, few))
    return columns


def _store_column(to: Value, column: list[Value], height: int) -> None:
    lanes = to.kernel.lanes.count
    for top, v in zip(range(0, height, lanes), column, strict=True):
        to.store(v, top)


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
