"""What depthwise kernels read of a plane where it lies: registers of a row, edges masked."""

from collections.abc import Iterator
from dataclasses import dataclass

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.stencil.shapes import Planes

AHEAD = 8192  # bytes: how far ahead cache lines are asked for
COLUMN = 4  # words of a register of a row: first result, its masks, how it is stored, if whole


@dataclass(frozen=True)
class Column:
    """A register of a row: its first result; its masks: of the lanes that are in the row, of those
    that no register before has, and (`loads`) of what it is made from; how it is stored; whether no
    register before has lanes of it."""

    first: Value
    masks: Value
    loads: list[Value]
    way: Value
    whole: Value


def column(k: Kernel, a: dict[str, Value], shape: Planes, q: Value) -> Column:
    """Register q of a row, from the table."""
    first, masks, way, whole = (a["columns"].load(q * COLUMN + i, "i64") for i in range(COLUMN))
    on, number = a["masks"].at(masks), len(shape.loads) * shape.step
    before = 2 * len(shape.wide)  # masks for results
    loads = [on.mask((before + i) * k.lanes.count) for i in range(number)]
    return Column(first, on, loads, way, whole)


def clear_row(k: Kernel, to: Value, width: Value) -> None:
    """A row of zeros, for rows of padding."""
    with k.loop(width, step=k.lanes.count) as (i, _):
        to.store(k.zero(), i)


def cells(
    k: Kernel, a: dict[str, Value], shape: Planes, source: tuple[Value, Value], row: Value,
    at: Column, padded: bool = True,
) -> Iterator[Value]:  # fmt: skip
    """What each tap of a row of the kernel meets in a row of the source, for a register of results.

    source: the plane, and a row of zeros, which a row of padding is where there are any. The order
    of the lanes is that of `order`.
    """
    plane, zeros = source
    line = plane.at(row * a["xh"])
    if padded:
        line = k.select((row >= 0) & (row < a["H"]), line, zeros)
    line = line.at(at.first * shape.step - a["pw"])
    count = k.lanes.count
    ahead = AHEAD // k.lanes.bytes
    read: dict[int, list[Value]] = {}
    for phase, shift in shape.across:
        if shift not in read:
            place, mask = line.at(shape.step * shift), shape.step * len(read)
            for half in range(shape.step if not read else 0):
                line.prefetch(ahead + half * count, near=True)
            read[shift] = [
                place.vector(half * count, at.loads[mask + half]) for half in range(shape.step)
            ]
        parts = read[shift]
        if shape.step == 1:
            yield parts[0]
        else:
            yield k.shuffle(parts[0], parts[1], [2 * lane + phase for lane in order(k.lanes)])


def order(lanes: Lanes) -> list[int]:
    """Every second cell of two registers, such that none crosses 128 bits where that costs."""
    if lanes.count * lanes.bytes == 64:
        return list(range(lanes.count))
    half = max(1, min(lanes.count, 16 // lanes.bytes) // 2)
    blocks = range(lanes.count // (2 * half))
    return [
        side * lanes.count // 2 + block * half + lane
        for block in blocks
        for side in range(2)
        for lane in range(half)
    ]


def in_order(k: Kernel, shape: Planes, value: Value) -> Value:
    """A register in the order of the columns, out of that of `order`."""
    lanes = order(k.lanes)
    if shape.step == 1 or lanes == list(range(k.lanes.count)):
        return value
    return k.shuffle(value, value, [lanes.index(i) for i in range(k.lanes.count)])
