"""Is a result right? Compared with float64 sums of the same operands, and never with a peer's.

A result that is wrong is not timed; one that is wrong after it was timed takes its times along.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convgrad.bench.peers.library import Library
from convgrad.bench.timing import Work

TOLERANCE = {"float32": 1e-4, "float64": 1e-10, "float16": 5e-3, "bfloat16": 4e-2}  # of max|result|


def error(result: np.ndarray, reference: np.ndarray) -> float:
    """max|result − reference| / max|reference|; NaN where the result holds one, 0 if both are 0."""
    if result.shape != reference.shape:
        return float("inf")
    largest = np.abs(reference).max(initial=0.0)
    difference = np.abs(result.astype(np.float64) - reference).max(initial=0.0)
    return float(difference / largest) if largest else float(difference)


def mistake(found: float, dtype: str, when: str) -> str | None:
    """What is wrong with a result of this error, as a sentence, or None."""
    allowed = TOLERANCE[dtype]
    if found <= allowed:  # false for NaN
        return None
    return f"wrong {when} timing: it errs by {found:.1e} of max|result|, allowed is {allowed:.0e}"


def first_result(library: Library, work: Work, reference: np.ndarray, dtype: str) -> Any:
    """The result of a first call, in memory that held NaN just before.

    A work that leaves its result unwritten would otherwise find there what another one left.
    """
    poison = np.full(reference.shape, np.nan, np.float64 if dtype == "float64" else np.float32)
    del poison
    return library.numpy(work())
