"""What every kernel begins with: its arguments read from memory, and its part taken apart.

Arguments are 64-bit words in the order of a kernel's field list: addresses, sizes, and strides
counted in elements. Usual names:

    xn xc xz xh xw    strides of sample, channel, plane, row, column;  xg of a group
    D H W             planes, rows, columns;  pz ph pw pads in front;  sz sh sw strides of the map
    az ah aw          how far taps are apart on each axis (the dilation)
    OZ OH OW          planes, rows and columns of the result;  yn yo yz yh yw its strides
"""

from dataclasses import replace

from convgrad.cpu.jit.language import Kernel, Lanes, Value

POINTERS = (
    "x", "w", "y", "dy", "dw", "to", "taps", "places", "starts", "lists", "bands", "where", "bias",
    "u", "v", "spectra",
    "column_passes", "row_passes", "line_factors", "picks", "residues", "slots",
    "columns", "masks", "deeps", "packed", "packing", "shifts", "lines",
)  # fmt: skip


def start(
    name: str,
    lanes: Lanes,
    fields: tuple[str, ...],
    signature: tuple[str, ...] = ("args: ptr", "part: i64", "scratch: ptr"),
    arrays: tuple[str, ...] = (),
) -> tuple[Kernel, dict[str, Value]]:
    """A kernel, or a part of one, with its arguments read from memory, to which args points.

    arrays: fields that are arrays of a call, of whatever type those have in memory.
    """
    k = Kernel(name, signature, lanes)
    a = arguments(k.parameters[0], fields)
    return k, a | {f: replace(a[f], element=lanes.memory) for f in arrays}


def arguments(words: Value, fields: tuple[str, ...]) -> dict[str, Value]:
    """The words of these fields, read from memory."""
    kinds = {"scale": "double"} | dict.fromkeys(POINTERS, "ptr")
    return {f: words.load(i, kinds.get(f, "i64")) for i, f in enumerate(fields)}


def split(part: Value, *counts: Value) -> list[Value]:
    """The digits of `part` in a mixed base, the last count's digit first to change."""
    digits = []
    for count in reversed(counts):
        digits.append(part % count)
        part = part // count
    return [part, *reversed(digits)]
