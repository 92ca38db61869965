"""Tiles of sums into the rows of a result: whole registers, runs of cells, or woven columns."""

from convgrad.cpu.implicit_gemm.kernels.runs import NUMBER, PLACE, RECORD, TABLE
from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.kernels.frame import start
from convgrad.cpu.tiling import Tile


def finish_tile(
    k: Kernel, a: dict[str, Value], sums: list[Value], tile: Tile, height: int,
    into: tuple[Value, Value, Value, Value, Value],
) -> None:  # fmt: skip
    """A tile to where its panel lies in a band of the result, added to it where `adds` is 1.

    into: the panel's table, the band, the band's first row in memory, adds, room for a tile.
    """
    table, band, row, adds, buffer = into
    count, width = k.lanes.count, tile.vectors * k.lanes.count
    beside = a["yo"].equals(1) & a["yw"].equals(1).equals(0)
    whole = table.load(0, "i64").equals(1) & beside.equals(0)
    begin = first_cell(table, row)
    places = [(i, j, begin.at(a["yo"] * i + j * count))
              for i in range(height) for j in range(tile.vectors)]  # fmt: skip
    with k.when(whole & adds.equals(0)):
        for i, j, at in places:
            at.store(sums[i * tile.vectors + j])
    with k.when(whole & adds.equals(1)):
        for i, j, at in places:
            at.store(sums[i * tile.vectors + j] + at.vector())
    with k.when(beside):
        _turn(k, sums, buffer, tile, height)
        _scatter_cells(k, a, table, band, row, buffer, adds, height)
    with k.when((whole | beside).equals(0)):
        for i, j, _ in places:
            buffer.store(sums[i * tile.vectors + j], i * width + j * count)
        _scatter(k, a, table, band, row, buffer, adds, height, width)


def first_cell(table: Value, row: Value) -> Value:
    """Where the first cell of a panel goes in a row of the result."""
    return row.at(table.load(TABLE + PLACE, "i64"))


def expect_rows(
    k: Kernel, a: dict[str, Value], table: Value, row: Value, height: int, width: int
) -> None:
    """Ask for the cache lines that a tile will be written to, while its sums are computed."""
    begin, line = first_cell(table, row), 64 // k.lanes.bytes
    for i in range(height):
        for j in range(0, width, line):
            begin.prefetch(a["yo"] * i + j, write=True)
        begin.prefetch(a["yo"] * i + width - 1, write=True)


def _cells_of(
    k: Kernel, record: Value, band: Value, phases: Value | int = 1
) -> tuple[Value, Value]:
    """How many cells of a run a band has, and how many columns of all its phases: its columns
    may end before the run does, and its planes and rows as well."""
    cells, z, r, c = (record.load(word, "i64") for word in (1, 3, 4, 5))
    planes, rows, columns = (band.load(word, "i64") for word in range(1, 4))
    left = k.select((z < planes) & (r < rows), columns - c * phases, k.constant("i64", 0))
    left = left.maximum(0).minimum(cells * phases)
    return (left + (phases - 1)) // phases, left


def _scatter(
    k: Kernel, a: dict[str, Value], table: Value, band: Value, row: Value, buffer: Value,
    adds: Value, height: int, width: int,
) -> None:  # fmt: skip
    """The tile from the buffer, run by run, to where the runs lie in the result."""
    records, lanes = table.at(TABLE, "i64"), k.lanes.count
    with k.loop(table.load(NUMBER, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        tile, count = buffer.at(record.load(0, "i64")), _cells_of(k, record, band)[0]
        to = row.at(record.load(PLACE, "i64"))
        with k.when(a["yw"].equals(1)), k.loop(count, step=lanes) as (c, _):
            mask = k.lanes_below(count - c)
            for h in range(height):
                at = to.at(a["yo"] * h + c)
                old = at.vector(0, k.mask_where(adds.equals(1), mask))
                at.store(tile.vector(c + h * width, mask) + old, 0, mask)
        with k.when(a["yw"].equals(1).equals(0)), k.loop(count) as (c, _):
            place = to.at(c * a["yw"])
            with k.when(adds.equals(0)):
                for h in range(height):
                    place.store(tile.load(c + h * width), a["yo"] * h)
            with k.when(adds.equals(1)):
                for h in range(height):
                    value = tile.load(c + h * width) + place.load(a["yo"] * h)
                    place.store(value, a["yo"] * h)


def _turn(k: Kernel, sums: list[Value], buffer: Value, tile: Tile, height: int) -> None:
    """The tile into the buffer as [cell][row], whole registers for each cell."""
    lanes = k.lanes.count
    pitch = -(-height // lanes) * lanes
    for j in range(tile.vectors):
        for top in range(0, height, lanes):
            rows = [sums[i * tile.vectors + j] for i in range(top, min(top + lanes, height))]
            for cell, v in enumerate(k.transpose(rows + [k.zero()] * (lanes - len(rows)))):
                buffer.store(v, (j * lanes + cell) * pitch + top)


def _scatter_cells(
    k: Kernel, a: dict[str, Value], table: Value, band: Value, row: Value, buffer: Value,
    adds: Value, height: int,
) -> None:  # fmt: skip
    """The tile from [cell][row] to a result whose channels lie side by side."""
    records, lanes = table.at(TABLE, "i64"), k.lanes.count
    pitch = -(-height // lanes) * lanes
    with k.loop(table.load(NUMBER, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        cells, to = buffer.at(record.load(0, "i64") * pitch), row.at(record.load(PLACE, "i64"))
        with k.loop(_cells_of(k, record, band)[0]) as (c, _):
            for top in range(0, height, lanes):
                few = min(lanes, height - top)
                mask = k.lanes_below(k.constant("i64", few))
                at = to.at(c * a["yw"] + top)
                old = at.vector(0, k.mask_where(adds.equals(1), mask))
                at.store_first(few, cells.vector(c * pitch + top) + old)


def weave_tiles(lanes: Lanes, tile: Tile, height: int, fields: tuple[str, ...]) -> Kernel:
    """The tiles of all phases, column by column in turn, into the rows of the result."""
    k, a = start(
        f"weave_tiles_{height}", lanes, fields,
        ("args: ptr", "table: ptr", "band: ptr", "row: array", "bias: ptr", "adds: i64",
         "buffer: ptr"),
    )  # fmt: skip
    _, table, band, row, bias, adds, buffer = k.parameters
    width, count = tile.vectors * lanes.count, lanes.count
    size, scale = tile.height * width, a["scale"].to_element()
    low = [lane // 2 + lane % 2 * count for lane in range(count)]
    high = [lane + count // 2 for lane in low]
    records = table.at(TABLE, "i64")
    pairs = a["phases"].equals(2) & a["yw"].equals(2)
    with k.loop(table.load(NUMBER, "i64")) as (i, _):
        record = records.at(i * RECORD, "i64")
        tiles, to = buffer.at(record.load(0, "i64")), row.at(record.load(PLACE, "i64"))
        cells, left = _cells_of(k, record, band, a["phases"])
        with k.when(pairs), k.loop(cells, step=count) as (c, _):
            masks = [k.lanes_below(left - c * 2 - part * count) for part in (0, 1)]
            fits = left - c * 2 >= 2 * count
            for h in range(height):
                source, place = tiles.at(c + h * width), to.at(a["yo"] * h + c * 2)
                even, odd = source.vector(), source.at(size).vector()
                offset = k.splat(bias.load(h))
                both = [
                    k.fma(k.shuffle(even, odd, lanes_), k.splat(scale), offset)
                    for lanes_ in (low, high)
                ]
                with k.when(fits):
                    for part, v in enumerate(both):
                        old = place.vector(part * count, k.mask_where(adds.equals(1), masks[part]))
                        place.store(v + old, part * count)
                with k.when(fits.equals(0)):
                    for part, v in enumerate(both):
                        at = place.at(part * count)
                        old = at.vector(0, k.mask_where(adds.equals(1), masks[part]))
                        at.store(v + old, 0, masks[part])
        with k.when(pairs.equals(0)), k.loop(cells) as (c, _), k.loop(a["phases"]) as (f, _):
            with k.when(c * a["phases"] + f < left):
                place = to.at(c * a["yw"] + f * a["yf"])
                for h in range(height):
                    at = place.at(a["yo"] * h)
                    value = k.fma(tiles.load(f * size + c + h * width), scale, bias.load(h))
                    with k.when(adds.equals(0)):
                        at.store(value)
                    with k.when(adds.equals(1)):
                        at.store(value + at.load())
    return k
