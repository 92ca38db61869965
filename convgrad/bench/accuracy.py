"""How far float32 results are from float64 ones: each algorithm, beside PyTorch on the same data.

    e = result − reference,  m = Σ|a||b|        (the sums of the operands' magnitudes, in float64)
    rms and max of |e| / m over the result, where m is not 0;  rms and max of |e| / max|reference|

The first two compare with what plain sums may err at each number; the others with the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from convgrad.bench import definition
from convgrad.bench.case import Case, Operands, drawn
from convgrad.bench.peers import ours
from convgrad.bench.peers.library import Library
from convgrad.bench.results import Finding
from convgrad.errors import AlgorithmError

PRECISIONS = ("strict", "standard", "fast")
SLOWEST = 2.0  # expected seconds of an algorithm that is still run


Figures = tuple[float, float, float, float]


def deviation(result: np.ndarray, reference: np.ndarray, sums: np.ndarray) -> Figures:
    """rms and max by sums, rms and max by max|reference|; sums are those of magnitudes."""
    error = np.abs(result.astype(np.float64) - reference)
    relative = (error[sums > 0] / sums[sums > 0]).ravel()
    largest = np.abs(reference).max()
    return (
        float(np.sqrt(np.mean(relative**2))), float(relative.max()),
        float(np.sqrt(np.mean(error**2)) / largest), float(error.max() / largest),
    )  # fmt: skip


def findings(
    cases: Sequence[Case], peers: Sequence[Library], algorithm: str | None = None
) -> Iterator[tuple[Case, list[Finding]]]:
    """For each case: "auto" and every algorithm that accepts, in each precision; then the peers."""
    last: tuple[object, ...] = ()
    operands: Operands | None = None
    for case in cases:
        if operands is None or (case.layer, case.dtype) != last:
            operands, last = drawn(case.layer, case.dtype), (case.layer, case.dtype)
        exact = operands.exact
        magnitudes = Operands(*(np.abs(a) for a in (exact.x, exact.w, exact.dy)))
        reference = definition.result(case.layer, case.direction, exact)
        sums = definition.result(case.layer, case.direction, magnitudes)
        found, layer = [], case.layer
        what = (layer.name, layer.layer_class, case.direction, case.dtype)
        for names, compute in _results(case, operands, peers, algorithm):
            figures = deviation(compute(), reference, sums)
            found += [Finding(*what, who, settings, *figures) for who, settings in names]
        yield case, found


def _results(
    case: Case, operands: Operands, peers: Sequence[Library], algorithm: str | None
) -> Iterator[tuple[list[tuple[str, str]], Callable[[], np.ndarray]]]:
    """([(who, its settings)], how to compute it); what several do alike is computed once."""
    settings: dict[tuple[str, str], dict[str, list[str]]] = {}
    calls: dict[tuple[str, str], ours.Call] = {}
    for precision in PRECISIONS:
        for name in _algorithms(case, precision, algorithm):
            call = ours.Call(case, ours.Settings(precision, name))
            plan = call.plan
            alike = plan.algorithm, plan.error_bound  # another tile of Winograd has another bound
            calls.setdefault(alike, call)
            settings.setdefault(alike, {}).setdefault(name, []).append(precision)
    for alike, call in calls.items():
        each = {name: [", ".join(found)] for name, found in settings[alike].items()}
        each |= {"auto": settings[alike].get("auto", [])}
        yield [(name, word) for name in each for word in each[name]], call.work(operands)
    for library in peers:
        if library.refuses(case) is None:
            yield [(library.name, library.variant)], _result(library, case, operands)


def _result(library: Library, case: Case, operands: Operands) -> Callable[[], np.ndarray]:
    return lambda: library.numpy(library.work(case, operands)())


def _algorithms(case: Case, precision: str, only: str | None) -> list[str]:
    """ "auto", and those that accept and do not take long; or the one that is asked for."""
    if only is not None:
        try:
            ours.Settings(precision, only).check(case)
        except AlgorithmError:
            return []
        return [only]
    accepted = ours.Call(case, ours.Settings(precision)).plan.map.choice.accepted
    return ["auto", *(name for name, seconds in accepted if seconds <= SLOWEST)]
