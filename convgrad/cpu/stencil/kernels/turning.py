"""Cells of some channels side by side, a channel in each lane: brought in, and brought out again.

Where channels follow each other in memory a cell is one register. Where planes do, registers of a
run of cells, one for each channel, are transposed; rows of a plane follow each other then.
"""

from convgrad.cpu.jit.language import Kernel, Value

CELLS_AHEAD = 8  # how far ahead cells are asked for


def clear(k: Kernel, to: Value, count: Value) -> None:
    """`count` elements, whole registers, of zeros."""
    with k.loop(count, step=k.lanes.count) as (i, _):
        to.store(k.zero(), i)


def bring_planes(
    k: Kernel, source: Value, channel: Value, count: Value, to: Value, places: Value | None,
    ahead: Value,
) -> None:  # fmt: skip
    """to[places[i]] = cell i of each channel, i < count; places: i itself where there are none.

    Behind the last cell, up to a whole register of them, zeros are written. ahead: elements from
    here to the cells that are read next.
    """
    lanes = k.lanes.count
    whole = count // lanes * lanes

    def group(i: Value, mask: Value | None) -> None:
        place, rows = source.at(i), []
        for _ in range(lanes):
            rows.append(place.vector(0, mask))
            place.prefetch(ahead)
            place = place.at(channel)
        for j, cell in enumerate(k.transpose(rows)):
            if places is None:
                to.store(cell, i * lanes + j * lanes)
            else:
                to.store(cell, places.at(i, "i64").load(j, "i64"))

    with k.loop(whole, step=lanes) as (i, _):
        group(i, None)
    with k.when(whole < count):
        group(whole, k.lanes_below(count - whole))


def bring_cells(
    k: Kernel, source: Value, blocks: tuple[Value, Value, Value], rows: tuple[Value, Value],
    columns: tuple[Value, Value], to: Value, pitch: Value, copy: Value,
) -> None:  # fmt: skip
    """to[b·copy + r·pitch + q] = the channels of cell (r, q), of some blocks of channels.

    blocks: the first, how many, and the number of channels. rows, columns: how many, and how far
    apart in the source.
    """
    lanes = k.lanes.count
    first, many, channels = blocks
    with k.loop(rows[0]) as (r, _):
        line, place = source.at(r * rows[1]), to.at(r * pitch)
        with k.loop(columns[0]) as (q, _):
            cell, there = line.at(q * columns[1]), place.at(q * lanes)
            with k.loop(many) as (b, _):
                c0 = ((first + b) * lanes).minimum(channels - lanes)
                there.at(b * copy).store(cell.vector(c0))
                cell.prefetch(c0 + columns[1] * CELLS_AHEAD)


def bring_runs(
    k: Kernel, source: Value, to: Value, outer: tuple[Value, Value, Value],
    inner: tuple[Value, Value, Value], run: Value,
) -> None:  # fmt: skip
    """Runs of numbers as they are, whole registers; behind each, up to a register of zeros.

    outer, inner: how many there are, how far apart in the source and in the copy.
    """
    lanes = k.lanes.count
    whole = run // lanes * lanes
    mask = k.lanes_below(run - whole)
    with k.loop(outer[0]) as (i, _), k.loop(inner[0]) as (j, _):
        line, place = source.at(i * outer[1] + j * inner[1]), to.at(i * outer[2] + j * inner[2])
        with k.loop(whole, step=lanes) as (q, _):
            place.store(line.vector(q), q)
        with k.when(whole < run):
            place.store(line.vector(whole, mask), whole)


def give_planes(
    k: Kernel, cells: Value, count: Value, to: Value, channel: Value, first: Value, adds: Value
) -> None:
    """Cell i of each channel = cells[i], i < count, added to what is there where adds is 1.

    first: the lanes before it are another block's; they are written again, but not added.
    """
    lanes = k.lanes.count
    whole = count // lanes * lanes

    def rows(i: Value) -> list[Value]:
        place = cells.at(i * lanes)
        return k.transpose([place.vector(j * lanes) for j in range(lanes)])

    def put(i: Value) -> None:
        place = to.at(i)
        for row in rows(i):
            place.store(row)
            place.prefetch(channel * lanes, write=True)
            place = place.at(channel)

    with k.when(adds.equals(0)):
        with k.loop(whole, step=lanes) as (i, _):
            put(i)
        with k.when((whole < count) & (whole > 0)):
            put(count - lanes)
    with k.when(adds.equals(1) | whole.equals(0)), k.loop(count, step=lanes) as (i, _):
        mask = k.lanes_below(count - i)
        place = to.at(i)
        for j, row in enumerate(rows(i)):
            with k.when(adds.equals(0)):
                place.store(row, 0, mask)
            with k.when(adds.equals(1) & (first <= j)):
                place.store(row + place.vector(0, mask), 0, mask)
            place = place.at(channel)
