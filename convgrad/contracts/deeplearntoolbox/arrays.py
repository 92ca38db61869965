"""The toolbox's array functions: convn, rot180, flipall, expand, sigm.

Arrays have MATLAB's axes: a missing trailing axis counts as one of size 1. Results are new arrays.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from math import prod
from numbers import Number
from typing import Any

import numpy as np

from convgrad.api import conv
from convgrad.arrays import Array, to_numpy
from convgrad.errors import DTypeError, SettingError, ShapeError

SHAPES = ("full", "same", "valid")


def convn(a: Array, b: Array, shape: str = "full") -> np.ndarray:
    """C[p] = Σ_q A[q] · B[p − q], true convolution over every axis, as MATLAB's convn.

    a (*n), b (*k) → "full" (*n+k−1): wherever A and B meet; "same" (*n): of that the part which
    starts at ⌊k/2⌋, counted from zero; "valid" (*max(n−k+1, 0)): where B lies inside A, so an
    empty array where B is larger. Of two ranks the lower one gets trailing axes of size 1.
    float64, or complex128 if an operand is complex; plain sums, so whole numbers stay exact.
    Raises SettingError for another shape, ShapeError for an operand without cells.
    """
    if shape not in SHAPES:
        raise SettingError(f"convn: shape is {shape!r}; it is one of {', '.join(SHAPES)}")
    left, right = (any_numbers("convn", name, value) for name, value in (("a", a), ("b", b)))
    rank = max(left.ndim, right.ndim, 1)
    left, right = (m.reshape(m.shape + (1,) * (rank - m.ndim)) for m in (left, right))
    for name, operand in (("a", left), ("b", right)):
        if not operand.size:
            raise ShapeError(
                f"convn: {name} is {operand.shape}; every axis needs at least one cell"
            )
    dtype = np.result_type(left, right)
    if shape == "valid" and any(n < k for n, k in zip(left.shape, right.shape)):
        sizes = zip(left.shape, right.shape)
        return np.zeros([max(n - k + 1, 0) for n, k in sizes], dtype)
    return _convolve(left.astype(dtype, copy=False), right.astype(dtype, copy=False), shape)


def _convolve(left: np.ndarray, right: np.ndarray, shape: str) -> np.ndarray:
    """The convolution on convgrad's map; the axes on which B has one cell are its batch.

    Under "valid", axes on which A and B are equally large leave one number, Σ_q A[q]·B[n−1−q]:
    they are its channels, B reversed.
    """
    axes = range(left.ndim)
    sums = [i for i in axes if shape == "valid" and left.shape[i] == right.shape[i] > 1]
    others = [i for i in axes if i not in sums]
    taps = [i for i in others if right.shape[i] > 1] or others[:1]
    lead = [i for i in others if i not in taps]
    order = lead + sums + taps
    channels = prod(left.shape[i] for i in sums)
    # conv wants a spatial axis: where every axis is summed over, that is one more of size 1.
    size, kernel_size = ([m.shape[i] for i in taps] or [1] for m in (left, right))
    kernel = np.flip(right, tuple(sums)).transpose(order).reshape(1, channels, *kernel_size)
    y = conv(
        left.transpose(order).reshape(-1, channels, *size), kernel,
        padding=[_pads(k, shape) for k in kernel_size], flip=True, precision="strict",
        # A padding zero is no factor in convn: only `direct` keeps 0·∞ out of the sums.
        algorithm="auto" if np.isfinite(kernel).all() else "direct",
    )  # fmt: skip
    found = y.shape[2 : 2 + len(taps)]
    y = y.reshape([left.shape[i] for i in lead] + [1] * len(sums) + list(found))
    return np.ascontiguousarray(y.transpose(np.argsort(order)))


def _pads(k: int, shape: str) -> tuple[int, int]:
    """Zeros before and behind, for a kernel of k cells that is turned."""
    if shape == "valid":
        return 0, 0
    return (k - 1, k - 1) if shape == "full" else (k - 1 - k // 2, k // 2)


def rot180(x: Array) -> np.ndarray:
    """R[r, c, …] = X[H−1−r, W−1−c, …]: the first two axes reversed, the others as they are."""
    array = cells("rot180", "x", x)
    if array.ndim < 2:
        raise ShapeError(f"rot180: x is {array.shape}; it needs rows and columns")
    return np.flip(array, (0, 1)).copy()


def flipall(x: Array) -> np.ndarray:
    """F[p] = X[n − 1 − p]: every axis reversed, that of the samples too."""
    return np.flip(cells("flipall", "x", x)).copy()


def expand(a: Array, sizes: Iterable[int]) -> np.ndarray:
    """E[p] = A[⌊p/s⌋]: every cell becomes a block of s equal ones, one s for each axis of A.

    The same as kron(A, ones(s)). Raises ShapeError unless there is one size for each axis,
    SettingError for a size that is no whole number above 0.
    """
    array = cells("expand", "a", a)
    given = ordered("expand", "sizes", sizes, "one whole number for each axis of a")
    factors = [whole_number("expand", f"sizes[{i}]", one) for i, one in enumerate(given)]
    if len(factors) != array.ndim:
        raise ShapeError(
            f"expand: a is {array.shape} and sizes are {factors}; give one size for each axis"
        )
    grown = array.copy()
    for axis, factor in enumerate(factors):
        if factor > 1:
            grown = np.repeat(grown, factor, axis)
    return grown


def sigm(x: Array) -> np.ndarray:
    """σ(x) = 1/(1 + exp(−x)), so that σ' = σ(1 − σ)."""
    return sigmoid(real_numbers("sigm", "x", x))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """`sigm` of a float64 array that is known to be one."""
    with np.errstate(over="ignore"):  # exp(−x) = ∞ gives 0, as it should
        return 1 / (1 + np.exp(-x))


def cells(call: str, name: str, value: Any) -> np.ndarray:
    """`value` as an array, of any dtype; raises ArrayError or ShapeError for what is none."""
    if not isinstance(value, list | tuple | Number | np.generic):
        return to_numpy(call, name, value)[0]
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(
            f"{call}: {name} is a list whose parts differ in shape; give an array"
        ) from error


def any_numbers(call: str, name: str, value: Any) -> np.ndarray:
    """`value` as float64 or complex128."""
    array = cells(call, name, value)
    if array.dtype.kind == "c":
        return array.astype(np.complex128, copy=False)
    if array.dtype.kind in "biuf" or array.dtype.name == "bfloat16":
        return array.astype(np.float64, copy=False)
    raise DTypeError(f"{call}: {name} is {array.dtype}; numbers are needed")


def real_numbers(call: str, name: str, value: Any) -> np.ndarray:
    """`value` as float64."""
    array = any_numbers(call, name, value)
    if array.dtype.kind == "c":
        raise DTypeError(f"{call}: {name} is complex; pass its real part, {name}.real")
    return array


def whole_number(call: str, name: str, value: Any, least: int = 1) -> int:
    """`value` as an int; raises SettingError unless it is a whole number, `least` or more.

    2.0 and 0-d arrays are accepted: MATLAB's numbers are read back as such.
    """
    number = _python_number(value)
    whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
    if number is None or not whole or number < least:
        raise SettingError(
            f"{call}: {name} is {value!r}; it must be a whole number, {least} or more"
        )
    return int(number)


def real_number(
    call: str, name: str, value: Any, needed: str, holds: Callable[[float], bool]
) -> float:
    """`value` as a float; raises SettingError, with what is `needed`, unless it `holds`."""
    number = _python_number(value)
    try:
        real = float("nan" if number is None else number)
    except OverflowError:
        real = float("inf")
    if number is None or not holds(real):
        raise SettingError(f"{call}: {name} is {value!r}; it must be {needed}")
    return real


def _python_number(value: Any) -> int | float | None:
    """The real number in a Python or NumPy scalar or a 0-d array; None for all else, bools too."""
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.generic) or (type(value) is np.ndarray and value.ndim == 0):
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def ordered(call: str, name: str, value: Any, needed: str) -> Iterable[Any]:
    """`value`; raises SettingError, with what is `needed`, for what is no list or has no order."""
    unfit = isinstance(value, str | bytes | Set | Mapping) or getattr(value, "ndim", 1) == 0
    if unfit or not isinstance(value, Iterable):
        raise SettingError(f"{call}: {name} is {value!r}; give {needed}")
    return value


def random_generator(call: str, rng: Any) -> np.random.Generator:
    """The generator that `rng` is, or that it is the seed of; raises SettingError for neither."""
    try:
        if isinstance(rng, bool | np.bool_):
            raise TypeError
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise SettingError(
            f"{call}: rng is {rng!r}; pass a numpy.random.Generator or a seed, a whole number, "
            "0 or more"
        ) from None
