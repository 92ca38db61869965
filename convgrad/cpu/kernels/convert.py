"""Whole arrays of half types in float32, and back."""

from convgrad.cpu.jit.language import Lanes
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import start

FIELDS = ("x", "to", "count", "chunk")


def widen(lanes: Lanes, _: None) -> str:
    """to[i] = x[i] as float32; a part is a chunk."""
    return _copy("widen", lanes, "x")


def narrow(lanes: Lanes, _: None) -> str:
    """to[i] = x[i], rounded to the half type; a part is a chunk."""
    return _copy("narrow", lanes, "to")


def _copy(name: str, lanes: Lanes, half: str) -> str:
    k, a = start(name, lanes, FIELDS, arrays=(half,))
    first = k.parameters[1] * a["chunk"]
    count = a["chunk"].minimum(a["count"] - first)
    source, to = a["x"].at(first), a["to"].at(first)
    whole = count // lanes.count * lanes.count
    with k.loop(whole, step=lanes.count) as (i, _):
        to.store(source.vector(i), i)
    with k.loop(count, start=whole) as (i, _):
        to.store(source.load(i), i)
    return k.text()


def _one(level: str) -> tuple[None]:
    return (None,)


WIDEN = Generator("widen", widen, FIELDS, _one)
NARROW = Generator("narrow", narrow, FIELDS, _one)
