"""Choosing an algorithm: the TABLE of each device, and why one was taken and others were not.

TABLE is the only registry. Each algorithm accepts a problem or declines it in a sentence; among
those that accept, the one that should take the least time is chosen. The choice depends on the
geometry, the dtype and the settings alone: never on threads, timing or what ran before.
"""

from dataclasses import dataclass
from functools import lru_cache

from convgrad.algorithm import Algorithm, Problem
from convgrad.errors import AlgorithmError
from convgrad.reference import direct, fft, im2col, rot180, winograd

TABLE: dict[str, tuple[Algorithm, ...]] = {
    "cpu": (
        im2col.ALGORITHM,
        winograd.ALGORITHM,
        fft.ALGORITHM,
        direct.ALGORITHM,
        rot180.ALGORITHM,
    ),
}


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
    """The algorithm called `name`, or the one expected to be fastest.

    Raises AlgorithmError, with the refusals and the names that would accept, where none is left.
    """
    table = TABLE[device]
    refusals = {a.name: refusal(a, problem) for a in table}
    declined = tuple((n, why) for n, why in refusals.items() if why is not None)
    able = sorted((a for a in table if refusals[a.name] is None), key=lambda a: a.seconds(problem))
    accepted = tuple((a.name, a.seconds(problem)) for a in able)
    if name == "auto":
        if not able:
            reasons = "; ".join(f"{n}: {why}" for n, why in declined)
            raise AlgorithmError(f"{problem.direction}: no algorithm accepts this: {reasons}")
        reason = "expected to be the fastest of those that accept"
        return Choice(problem, able[0], reason, declined, accepted)
    named = [a for a in table if a.name == name]
    if not named:
        known = ", ".join(a.name for a in table)
        raise AlgorithmError(
            f"{problem.direction}: there is no algorithm {name!r}; use auto or one of {known}"
        )
    if refusals[name] is not None:
        others = ", ".join(a.name for a in able) or "none"
        raise AlgorithmError(
            f"{problem.direction}: {name} declines this: {refusals[name]}; "
            f"these accept it: {others}"
        )
    return Choice(problem, named[0], "asked for by name", declined, accepted)


def refusal(algorithm: Algorithm, problem: Problem) -> str | None:
    """Why `algorithm` cannot take the problem (its own sentence, or its scratch), or None."""
    sentence = algorithm.refuses(problem)
    if sentence is None and problem.max_scratch is not None:
        least = algorithm.scratch(problem)
        if least > problem.max_scratch:
            return f"it needs {least:,} bytes of scratch, max_scratch is {problem.max_scratch:,}"
    return sentence
