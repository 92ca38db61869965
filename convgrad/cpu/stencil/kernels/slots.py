"""Tiles of some channels by some slots: registers of cells, anywhere in the copy of a block."""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.stencil.shapes import Slots


def slot_tile(lanes: Lanes, tile: Slots) -> Kernel:
    """A panel of rows: to[m][slot] = Σ_l w[l,m]·copy[slot + taps[l]].

    A slot is one register of cells: where it lies in the copy, and where in the stage. The taps run
    over channels and kernel cells.
    """
    k = Kernel(
        "slot_tile",
        ["copy: ptr", "to: ptr", "w: ptr", "taps: ptr", "count: i64", "slots: ptr",
         "number: i64", "pitch: i64"],
        lanes,
    )  # fmt: skip
    copy, to, w, taps, count, slots, number, pitch = k.parameters
    with k.loop(number, step=tile.vectors) as (s, _):
        table = slots.at(s * 2, "i64")
        sums = _sums(k, tile, copy, table, w, taps, count)
        for j in range(tile.vectors):
            place = to.at(table.load(2 * j + 1, "i64"))
            for i in range(tile.height):
                place.at(pitch * i).store(sums[i * tile.vectors + j])
    return k


def writing_tile(lanes: Lanes, tile: Slots) -> Kernel:
    """The same, scaled and biased, into the result, whose channels lie `pitch` apart.

    The last slots are done once more where less than a tile is left.
    """
    k = Kernel(
        "writing_tile",
        ["copy: ptr", "to: array", "w: ptr", "taps: ptr", "count: i64", "slots: ptr",
         "number: i64", "pitch: i64", "bias: ptr", "scale: double"],
        lanes,
    )  # fmt: skip
    copy, to, w, taps, count, slots, number, pitch, bias, scale = k.parameters
    with k.loop(number, step=tile.vectors) as (s, _):
        table = slots.at(s.minimum(number - tile.vectors) * 2, "i64")
        sums = _sums(k, tile, copy, table, w, taps, count)
        factor = k.splat(scale.to_element())
        for i in range(tile.height):
            row, shift = to.at(pitch * i), k.splat(bias.load(i))
            for j in range(tile.vectors):
                value = k.fma(sums[i * tile.vectors + j], factor, shift)
                row.store(value, table.load(2 * j + 1, "i64"))
    return k


def _sums(
    k: Kernel, tile: Slots, copy: Value, table: Value, w: Value, taps: Value, count: Value
) -> list[Value]:
    height, vectors = tile.height, tile.vectors
    sources = [copy.at(table.load(2 * j, "i64")) for j in range(vectors)]
    with k.loop(count, carry=[k.zero()] * (height * vectors)) as (line, sums):
        tap, row = taps.load(line, "i64"), w.at(line * height)
        cells = [source.vector(tap) for source in sources]
        fresh = []
        for i in range(height):
            factor = k.splat(row.load(i))
            fresh += [
                k.fma(cell, factor, sums.values[i * vectors + j]) for j, cell in enumerate(cells)
            ]
        sums.values = fresh
    return sums.values
