"""Forward map and input gradient with channels abreast: one of the result's in each lane.

Depthwise, some rows of a register's worth of channels are brought into a copy [row][column][lane]
with padding columns; a tap is then one register of weights that meets a row of cells. In a dense
group, the copy holds its channels' rows as they are, and a number of them meets registers of
weights. Rows of padding are left out. Results go to their array where its channels follow each
other, and otherwise through a stage [row][column][lane], transposed.
"""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import split, start
from convgrad.cpu.stencil.kernels.rows import narrowed
from convgrad.cpu.stencil.kernels.turning import (
    bring_cells,
    bring_planes,
    bring_runs,
    clear,
    give_planes,
)
from convgrad.cpu.stencil.shapes import Abreast, abreast_shapes

WORDS = (
    6  # of a residue: row and column where it begins, its columns, weights, taps, and both of a row
)
FIELDS = (
    "x", "w", "y", "bias", "taps", "residues", "lines", "places",
    "N", "G", "C", "O", "xn", "xc", "xh", "xw", "H", "W", "yn", "yc", "yh", "yw", "OH", "OW",
    "units", "parts", "blocks", "runs", "GB", "nr", "BR", "size", "sh", "sw", "ph", "pw", "eh",
    "ew", "rows", "pitch", "cell", "channel", "run", "beside", "nresidues", "L", "copy", "stage",
    "ahead", "accumulate", "scale",
)  # fmt: skip


def abreast(lanes: Lanes, shape: Abreast) -> str:
    """y[n,m,t] = scale·Σ_{c,τ} w[m,c,τ]·x[n, c, s·t + τ] + bias[m] (+ y), some m at a time.

    A block of channels m fills the registers of a tile; depthwise, c is m. A unit is GB blocks of a
    group, and a block of rows, of a sample; a part, a run of units.
    """
    k, a = start("abreast", narrowed(lanes, shape.narrow), FIELDS, arrays=("x", "y"))
    args, part, scratch = k.parameters
    count = k.lanes.count
    width = shape.height * count
    copy, stage = scratch, scratch.at(a["stage"])
    clear(k, copy, a["stage"])
    u0, u1 = (a["units"] * (part + i) // a["parts"] for i in (0, 1))
    with k.loop(u1, start=u0) as (u, _):
        n, ir, g, run = split(u, a["nr"], a["G"], a["runs"])
        first_block, t0 = run * a["GB"], ir * a["BR"]
        many, high = (a["blocks"] - first_block).minimum(a["GB"]), a["BR"].minimum(a["size"] - t0)
        # Row 0 of the copy is row `begin` of the source; rows of padding stay as they are.
        begin = t0 * a["sh"] - a["ph"]
        first, last = begin.maximum(0), (begin + a["rows"]).minimum(a["H"])
        source = a["x"].at(n * a["xn"] + first * a["xh"])
        to = copy.at((first - begin) * a["pitch"])
        _bring(k, a, shape, source, to, (last - first).maximum(0), g, (first_block, many))
        result = a["y"].at(n * a["yn"] + t0 * a["eh"] * a["yh"])
        with k.loop(many) as (i, _):
            block = first_block + i
            m0 = (block * width).minimum(a["O"] - width)
            own, skipped = result.at((g * a["O"] + m0) * a["yc"]), block * width - m0
            with k.loop(a["nresidues"]) as (residue, _):
                k.do(
                    _residue(k.lanes, shape), args, copy.at(i * a["copy"]),
                    stage if shape.planes_out else own,
                    a["residues"].at(residue * WORDS, "i64"), t0, high,
                    a["bias"].at(g * a["O"] + m0),
                    a["w"].at((g * a["blocks"] + block) * a["L"] * width), skipped,
                )  # fmt: skip
            if shape.planes_out:
                cells = (high * a["eh"]).minimum(a["OH"] - t0 * a["eh"]) * a["OW"]
                size = a["BR"] * a["eh"] * a["OW"] * count
                for v in range(shape.height):
                    give_planes(
                        k, stage.at(size * v), cells, own.at(a["yc"] * (v * count)), a["yc"],
                        skipped - v * count, a["accumulate"],
                    )  # fmt: skip
    return k.text()


def _bring(
    k: Kernel, a: dict[str, Value], shape: Abreast, source: Value, to: Value, rows: Value,
    g: Value, blocks: tuple[Value, Value],
) -> None:  # fmt: skip
    """`rows` rows of the source into the copy: of a group, or of some blocks of channels."""
    first_block, many = blocks
    count = k.lanes.count
    inside = to.at(a["pw"] * a["cell"])
    if shape.dense:
        source = source.at(g * a["C"] * a["xc"])
        of_rows = (rows, a["xh"], a["pitch"])
        if shape.planes_in:
            bring_runs(k, source, inside, (a["C"], a["xc"], a["channel"]), of_rows, a["W"])
        else:
            cells = (a["beside"], a["xw"], a["cell"])
            bring_runs(k, source, inside, of_rows, cells, a["run"])
    elif shape.planes_in:
        c0 = (first_block * count).minimum(a["O"] - count)
        planes = source.at(c0 * a["xc"])
        bring_planes(k, planes, a["xc"], rows * a["W"], to, a["places"], a["ahead"])
    else:
        bring_cells(
            k, source, (first_block, many, a["O"]), (rows, a["xh"]), (a["W"], a["xw"]), inside,
            a["pitch"], a["copy"],
        )  # fmt: skip


def _residue(lanes: Lanes, shape: Abreast) -> Kernel:
    """The results of a residue in `high` rows from t0 on."""
    to = "to: ptr" if shape.planes_out else "to: array"
    k, a = start(
        "abreast_residue", lanes, FIELDS,
        ("args: ptr", "copy: ptr", to, "words: ptr", "t0: i64", "high: i64", "bias: ptr",
         "w: ptr", "skipped: i64"),
    )  # fmt: skip
    _, copy, to, words, t0, high, bias, w, skipped = k.parameters
    count = k.lanes.count
    row0, column0, columns, w0, tap0, across = (words.load(i, "i64") for i in range(WORDS))
    lines = a["lines"].at((row0 * a["size"] + t0) * 2, "i64")
    high = high.minimum((a["OH"] - row0 + (a["eh"] - 1)) // a["eh"] - t0)
    if shape.planes_out:
        row, column = a["OW"] * count, k.constant("i64", count)
    else:
        row, column = a["yh"], a["yw"]
    to = to.at(row0 * row + column0 * column)
    height, step = shape.height, a["sw"] * a["cell"]
    fixed = shape.step * (1 if shape.dense else count)
    scale = k.splat(a["scale"].to_element())
    shifts = [bias.vector(v * count) for v in range(height)]
    apart = a["BR"] * a["eh"] * a["OW"] * count if shape.planes_out else k.constant("i64", count)
    places = [to.at(apart * v) for v in range(height)]
    masks = [
        k.lanes_within(skipped - v * count, k.constant("i64", count)) for v in range(height)
    ]  # fmt: skip
    with k.loop(high) as (r, _):
        begin, number = (lines.load(r * 2 + i, "i64") for i in (0, 1))
        own = w.at((w0 + begin * across) * (height * count))
        table = a["taps"].at(tap0 + begin * across, "i64")
        here = copy.at(r * a["sh"] * a["pitch"])
        with k.loop(columns, step=shape.columns) as (q, _):
            cells, zeros = here.at(q * step), [k.zero()] * (height * shape.columns)
            with k.loop(number * across, carry=zeros) as (tap, sums):
                factors = [own.vector((tap * height + v) * count) for v in range(height)]
                place = cells.at(table.load(tap, "i64"))
                fresh = []
                for j in range(shape.columns):
                    spot = place.at(fixed * j if shape.step else step * j)
                    cell = k.splat(spot.load()) if shape.dense else spot.vector()
                    fresh += [
                        k.fma(cell, factor, sums.values[j * height + v])
                        for v, factor in enumerate(factors)
                    ]
                sums.values = fresh
            at = r * a["eh"] * row + q * a["ew"] * column
            values = [
                k.fma(total, scale, shifts[i % height]) for i, total in enumerate(sums.values)
            ]  # fmt: skip
            _store(k, a, shape, values, [p.at(at) for p in places], column, columns - q, masks)
    return k


def _store(
    k: Kernel, a: dict[str, Value], shape: Abreast, values: list[Value], places: list[Value],
    column: Value, left: Value, masks: list[Value],
) -> None:  # fmt: skip
    """The registers of a tile that are in the row."""
    pitch, height = a["ew"] * column, shape.height
    adds = k.constant("i1", 0) if shape.planes_out else a["accumulate"].equals(1)
    whole = left >= shape.columns
    plain = whole if shape.planes_out else whole & adds.equals(0)
    with k.when(plain):
        for i, value in enumerate(values):
            places[i % height].store(value, pitch * (i // height))
    with k.when(plain.equals(0)):
        for j in range(shape.columns):
            some = list(zip(places, values[j * height :], masks, strict=False))
            with k.when(left > j):
                if shape.planes_out:
                    for place, value, _ in some:
                        place.store(value, pitch * j)
                    continue
                with k.when(adds.equals(0)):
                    for place, value, _ in some:
                        place.store(value, pitch * j)
                with k.when(adds):
                    for place, value, mask in some:
                        spot = place.at(pitch * j)
                        spot.store(value + spot.vector(), 0, mask)


ABREAST = Generator("abreast", abreast, FIELDS, abreast_shapes)
