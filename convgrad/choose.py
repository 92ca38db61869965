"""Choosing an algorithm: the TABLE of each device, and why one was taken and others were not.

TABLE is the only registry. Each algorithm accepts a problem or declines it in a sentence; among
those that accept, the one that should take the least time is chosen; one that mixes the errors of
many results must gain a quarter. Generated kernels come before the reference algorithms, whose last
bits depend on NumPy's BLAS and its threads. The choice depends on the geometry, the dtype and the
settings alone: never on threads, timing or what ran before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from convgrad.algorithm import Algorithm, KernelFailed, Problem, Strides
from convgrad.cpu import trial
from convgrad.cpu.implicit_gemm import algorithm as implicit_gemm
from convgrad.cpu.overlap_save import algorithm as overlap_save
from convgrad.cpu.stencil import algorithm as stencil
from convgrad.cpu.winograd import algorithm as tiled_winograd
from convgrad.errors import AlgorithmError
from convgrad.reference import direct, fft, im2col, rot180, winograd

MIXING_HANDICAP = 1.25

GENERATED = (
    stencil.ALGORITHM,
    tiled_winograd.ALGORITHM,
    implicit_gemm.ALGORITHM,
    overlap_save.ALGORITHM,
)
REFERENCE = (
    im2col.ALGORITHM,
    winograd.ALGORITHM,
    fft.ALGORITHM,
    direct.ALGORITHM,
    rot180.ALGORITHM,
)
TABLE: dict[str, tuple[Algorithm, ...]] = {"cpu": (*GENERATED, *REFERENCE)}


@dataclass(frozen=True)
class Choice:
    """The algorithm for a problem, and what became of the others."""

    problem: Problem
    algorithm: Algorithm
    reason: str
    declined: tuple[tuple[str, str], ...]
    accepted: tuple[tuple[str, float], ...]


@lru_cache(maxsize=4096)
def choose(problem: Problem, name: str = "auto", device: str = "cpu") -> Choice:
    """The algorithm called `name`, or the one that is expected to be best (see `_rank`).

    Raises AlgorithmError, with the refusals and the names that would accept, where none is left.
    """
    table = TABLE[device]
    refusals = {a.name: refusal(a, problem) for a in table}
    declined = tuple((n, why) for n, why in refusals.items() if why is not None)
    able = sorted((a for a in table if refusals[a.name] is None), key=lambda a: _rank(a, problem))
    accepted = tuple((a.name, a.seconds(problem)) for a in able)
    if name == "auto":
        if not able:
            reasons = "; ".join(f"{n}: {why}" for n, why in declined)
            raise AlgorithmError(f"{problem.direction}: no algorithm accepts this: {reasons}")
        peers = [a for a in able if (a in GENERATED) == (able[0] in GENERATED)]
        fastest = min(peers, key=lambda a: a.seconds(problem))
        reason = "expected to be the fastest of those that accept"
        if fastest is not able[0]:
            reason = f"its sums are plain, and {fastest.name} is expected to gain too little"
        elif len(peers) < len(able):
            reason = "expected to be the fastest of the generated kernels that accept"
        return Choice(problem, able[0], reason, declined, accepted)
    check_name(problem.direction, name, device)
    if refusals[name] is not None:
        others = ", ".join(a.name for a in able) or "none"
        raise AlgorithmError(
            f"{problem.direction}: {name} declines this: {refusals[name]}; "
            f"these accept it: {others}"
        )
    (named,) = (a for a in table if a.name == name)
    return Choice(problem, named, "asked for by name", declined, accepted)


def settle(problem: Problem, name: str, forget: Callable[[], None]) -> Choice:
    """`choose`, with the kernels for operands in plain order made and tested where there are any.

    An algorithm whose kernels compute wrongly on this machine declines then, in a sentence;
    `forget`: drops what was chosen before that.
    """
    while True:
        choice = choose(problem, name)
        try:
            choice.algorithm.bound(problem, *_plain_strides(problem))
        except KernelFailed:
            choose.cache_clear()
            forget()
        else:
            return choice


def _plain_strides(problem: Problem) -> Iterator[Strides]:
    """Strides of operands and result as they mostly lie: in order, channels first or last."""
    g, item = problem.geometry, problem.dtype.itemsize
    shapes = {"x": g.x_shape, "w": g.w_shape, "y": g.y_shape}
    orders = {"forward": "xwy", "input_grad": "wyx", "weight_grad": "xyw"}
    for name in orders[problem.direction]:
        first, channels, *axes = shapes[name]
        last = g.layout == "channels_last"
        strides = [item]
        for n in reversed((first, *axes, channels) if last else shapes[name]):
            strides.insert(0, strides[0] * max(1, n))
        own = strides[1:]
        yield (own[0], own[-1], *own[1:-1]) if last else tuple(own)


def _rank(algorithm: Algorithm, problem: Problem) -> tuple[bool, float]:
    """Generated kernels first; then expected seconds, a quarter more where errors and NaN mix.

    FFT and Winograd err relative to the largest numbers and spread a NaN over its neighbours. What
    errs too much is kept out by `precision`: "standard" takes nothing that errs more than four
    times as much as plain sums, in the largest norm. (Spectra are complex128: beside float32 and
    the half types their error is nothing, and in float64 it is that of plain sums, less from some
    hundred taps on.) So they need not gain more than the estimate itself may be wrong by, and with
    precision="fast" not even that.
    """
    mixing = algorithm.error(problem).scale == "largest" and problem.precision != "fast"
    seconds = algorithm.seconds(problem) * (MIXING_HANDICAP if mixing else 1)
    return algorithm not in GENERATED, seconds


def check_name(call: str, name: str, device: str = "cpu") -> None:
    """Raise AlgorithmError unless `name` is "auto" or stands in the device's table."""
    known = [a.name for a in TABLE[device]]
    if name != "auto" and name not in known:
        raise AlgorithmError(
            f"{call}: there is no algorithm {name!r}; use auto or one of {', '.join(known)}"
        )


def refusal(algorithm: Algorithm, problem: Problem) -> str | None:
    """Why `algorithm` cannot take the problem (its own sentence, or its scratch), or None."""
    sentence = algorithm.refuses(problem) or trial.refusal(algorithm, problem)
    if sentence is None and problem.max_scratch is not None:
        least = algorithm.scratch(problem)
        if least > problem.max_scratch:
            return f"it needs {least:,} bytes of scratch, max_scratch is {problem.max_scratch:,}"
    return sentence
