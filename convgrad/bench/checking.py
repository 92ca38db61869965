"""Is a result right? Compared with float64 sums of the same operands, and never with a peer's.

A result that is wrong is not timed; one that is wrong after it was timed takes its times along.
"""

from __future__ import annotations

import numpy as np

TOLERANCE = {"float32": 1e-4, "float64": 1e-10, "float16": 5e-3, "bfloat16": 4e-2}  # of max|result|


def error(result: np.ndarray, reference: np.ndarray) -> float:
    """max|result − reference| / max|reference|.

    NaN where the result holds one, infinite where it has another shape; with a reference of zeros,
    max|result|.
    """
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


def poison(shape: tuple[int, ...], dtype: str) -> None:
    """Fill memory of a result's size with NaN and give it back.

    Who leaves its result unwritten would otherwise find there what somebody else left.
    """
    np.full(shape, np.nan, np.float64 if dtype == "float64" else np.float32)
