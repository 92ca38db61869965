"""Which cases the courses' conventions can express, and a case's arrays as a course has them."""

import numpy as np

from convgrad.contracts.signature import Case


def refusal(case: Case, *, square: bool, dilation_and_groups: bool) -> str | None:
    """Why a course has no words for the case, or None.

    square and dilation_and_groups say whether the kernel must be f×f, and whether the function
    has arguments for dilation and groups.
    """
    obstacles = {
        "there is no function for transposed convolution": case.transposed,
        f"images have two spatial axes, not {case.rank}": case.rank != 2,
        "the numbers are real": case.x.dtype.kind == "c",
        "there is at least one sample": case.x.shape[0] == 0,
        "padding is one number for all four sides": len(_sides(case)) != 1,
        "padding is not negative": min(_sides(case)) < 0,
        "stride is one number for both axes": len(set(case.stride)) != 1,
        "dilation is one number for both axes": len(set(case.dilation)) != 1,
        "the kernel is square": square and len(set(case.kernel)) != 1,
        "there is no argument for dilation": not dilation_and_groups and max(case.dilation) > 1,
        "there is no argument for groups": not dilation_and_groups and case.groups > 1,
    }
    return next((sentence for sentence, stands in obstacles.items() if stands), None)


def _sides(case: Case) -> set[int]:
    return {pad for pair in case.pads for pad in pair}


def channels_last(array: np.ndarray) -> np.ndarray:
    """(N, C, H, W) → (N, H, W, C), and (O, I, f, f) → (O, f, f, I); contiguous."""
    return np.moveaxis(array, 1, -1).copy()


def channels_first(array: np.ndarray) -> np.ndarray:
    """(N, H, W, C) → (N, C, H, W), and (O, f, f, I) → (O, I, f, f); a view."""
    return np.moveaxis(np.asarray(array), -1, 1)
