"""The pieces of a long sum added in order, and brought into the result."""

from convgrad.cpu.jit.language import Lanes
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import start

OUTER_AXES = 4
FIELDS = (
    "x", "dw", "pieces", "pitch", "n0", "n1", "n2", "n3", "run", "chunk",
    "s0", "s1", "s2", "s3", "s4", "accumulate", "scale",
)  # fmt: skip


def add_pieces(lanes: Lanes, _shape: None) -> str:
    """dw[i] = scale·Σ_p x[p][i] (+ dw[i]), p in order; each x[p] (n0, n1, n2, n3, run) contiguous.

    A part is one chunk of the innermost axis.
    """
    k, a = start("add_pieces", lanes, FIELDS, arrays=("dw",))
    first = k.parameters[1] * a["chunk"]
    cells = a["chunk"].minimum(a["run"] - first)
    scale, keeps = a["scale"].to_element(), a["accumulate"].equals(0)
    dense = a["s4"].equals(1)
    whole = k.select(dense, cells // lanes.count * lanes.count, k.constant("i64", 0))
    with (
        k.loop(a["n0"]) as (i0, _), k.loop(a["n1"]) as (i1, _),
        k.loop(a["n2"]) as (i2, _), k.loop(a["n3"]) as (i3, _),
    ):  # fmt: skip
        row = ((i0 * a["n1"] + i1) * a["n2"] + i2) * a["n3"] + i3
        source = a["x"].at(row * a["run"] + first)
        to = a["dw"].at(i0 * a["s0"] + i1 * a["s1"] + i2 * a["s2"] + i3 * a["s3"] + first * a["s4"])
        with k.loop(whole, step=lanes.count) as (i, _):
            with k.loop(a["pieces"], start=1, carry=[source.vector(i)]) as (p, total):
                total.values = [total.values[0] + source.vector(p * a["pitch"] + i)]
            value = total.values[0] * k.splat(scale)
            with k.when(keeps):
                to.store(value, i)
            with k.when(keeps.equals(0)):
                to.store(value + to.vector(i), i)
        with k.loop(cells, start=whole) as (i, _):
            with k.loop(a["pieces"], start=1, carry=[source.load(i)]) as (p, total):
                total.values = [total.values[0] + source.load(p * a["pitch"] + i)]
            value, at = total.values[0] * scale, i * a["s4"]
            with k.when(keeps):
                to.store(value, at)
            with k.when(keeps.equals(0)):
                to.store(value + to.load(at), at)
    return k.text()


ADD_PIECES = Generator("add_pieces", add_pieces, FIELDS, lambda _level: (None,))
