"""Operands and their dtypes as SciPy promotes them, and integers exactly.

The result has NumPy's result_type of both operands. Floats and complex numbers go to the maps in
that dtype. Integers go in float64: in one piece where every sum stays exact, otherwise in digits,

    n ≡ Σ_i d_i·2^(b·i)  (mod 2⁶⁴),     |d_i| ≤ 2^(b−1),

one convolution for each pair of digits, with b as large as keeps those exact. So the sums are
those of integers that wrap around, as SciPy's are, whatever the algorithm: where FFT is used, its
error bound is below one half, and rounding removes it. bool is "does any product hold".
"""

from collections.abc import Iterator
from math import isfinite
from numbers import Number
from typing import Any

import numpy as np

from convgrad.arrays import floating_dtype, listed, to_numpy
from convgrad.errors import DTypeError, SettingError
from convgrad.plans import Plan

EXACT = 1 << 53  # float64 holds all whole numbers up to here


def operand(call: str, name: str, value: Any) -> np.ndarray:
    """An array, a nested list or a number as a NumPy array of a dtype that is served."""
    if isinstance(value, list | tuple | Number | np.generic):
        array = listed(call, name, value)
    else:
        array, _ = to_numpy(call, name, value)
    if array.dtype.kind not in "biu":
        floating_dtype(call, name, array.dtype)
    return array


def promoted(call: str, **dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that NumPy gives a product of arrays of these dtypes."""
    try:
        return np.result_type(*dtypes.values())
    except TypeError:
        kinds = " and ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise DTypeError(f"{call}: {kinds} have no common dtype; convert one of them") from None


def fill_of(call: str, fillvalue: Any, dtype: np.dtype[Any]) -> Any:
    """`fillvalue` as a number of `dtype`: integers cut off its fraction, as SciPy does."""
    try:
        given = np.asarray(fillvalue)
    except (TypeError, ValueError, RuntimeError):
        given = None
    if given is None or given.size != 1 or given.dtype.kind not in "biufc":
        raise SettingError(f"{call}: fillvalue must be one number, not {fillvalue!r}")
    number = given.item()
    if not _fits(number, dtype):
        raise SettingError(
            f"{call}: fillvalue={fillvalue!r} is no {dtype}, as the result is; "
            "choose another, or convert in1"
        )
    return dtype.type(number if dtype.kind == "c" else number.real)


def _fits(number: complex, dtype: np.dtype[Any]) -> bool:
    if number.imag != 0 and dtype.kind != "c":
        return False
    if dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return isfinite(number.real) and limits.min <= int(number.real) <= limits.max


def whole_numbers(plan: Plan, x: np.ndarray, w: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """plan(x, w) of integer arrays in integers modulo 2⁶⁴, then in `dtype`."""
    x, w = x.astype(np.int64), w.astype(np.int64)
    limit = _largest_product(plan)
    if _peak(x) * _peak(w) <= limit:
        total = np.rint(plan(x.astype(np.float64), w.astype(np.float64))).astype(np.int64)
    else:
        bits = 1 + (limit.bit_length() - 1) // 2
        total = np.zeros(plan.frame.shape("y"), np.int64)
        w_digits = [digit.astype(np.float64) for digit in _digits(w, bits)]
        for i, digit in enumerate(_digits(x, bits)):
            x_digit = digit.astype(np.float64)
            for j, w_digit in enumerate(w_digits):
                shift = bits * (i + j)
                if shift < 64:
                    total += np.rint(plan(x_digit, w_digit)).astype(np.int64) << shift
    return total.astype(dtype)


def _largest_product(plan: Plan) -> int:
    """How large |a·b| may be so that sums of whole numbers come out whole after rounding."""
    choice = plan.map.choice
    bound = choice.algorithm.error(choice.problem)
    terms = choice.problem.geometry.terms("forward")
    if bound.scale == "terms":
        return EXACT // terms
    return min(EXACT // terms, int(0.49 / (bound.factor * terms)))


def _peak(n: np.ndarray) -> int:
    return max(int(n.max()), -int(n.min()))


def _digits(n: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """d_0, d_1, … of the module's first formula; int64 that overflows is right modulo 2⁶⁴."""
    half, mask = 1 << (bits - 1), (1 << bits) - 1
    for _ in range(0, 64, bits):
        digit = ((n + half) & mask) - half
        yield digit
        n = (n - digit) >> bits
        if not n.any():
            return
