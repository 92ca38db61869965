"""gemm and gemv with BLAS's contract: column-major matrices in plain buffers, leading dimensions.

    gemm    C := alpha·op(A)·op(B) + beta·C        op(A) m×k, op(B) k×n, C m×n
    gemv    y := alpha·op(A)·x + beta·y            A m×n

op(X) is X for "n" and Xᵀ for "t" ("N", "T", and "c", "C" for "t", since the numbers are real). A
matrix X lies in its buffer column by column, X[i, j] = buffer[i + j·ldx], so ldx is at least the
number of its rows; what lies between two columns is neither read nor written.

The same buffer read row by row is Xᵀ. A row-major product Cᵀ = op(B)ᵀ·op(A)ᵀ is therefore asked
for with a and b exchanged: that is how code whose arrays are row-major calls BLAS.

Buffers: contiguous NumPy arrays of any shape, taken as they lie in memory (a Fortran-ordered array
column by column); a part of one is a slice, as pointer + offset in C. beta = 0 does not read C,
alpha = 0 does not read A and B, whatever they hold, NaN too. The products run in NumPy's BLAS on
strided views of the buffers. dtypes: float16, float32, float64, one for all; float16 is multiplied
and summed in float32 and rounded once, and its c or y may be float32, which is then not rounded.
Raises SettingError for an argument that BLAS refuses, ShapeError for a buffer that is too short,
DTypeError, ArrayError; nothing has been written then.
Source: Dongarra, Du Croz, Hammarling & Duff 1990, A Set of Level 3 Basic Linear Algebra
Subprograms.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convgrad.algorithm import wide_dtype
from convgrad.arrays import Array, share_memory, to_numpy
from convgrad.errors import ArrayError, DTypeError, SettingError, ShapeError
from convgrad.settings import integer

DTYPES = ("float16", "float32", "float64")
TURNED = {"n": False, "N": False, "t": True, "T": True, "c": True, "C": True}


def gemm(
    transa: str, transb: str, m: int, n: int, k: int,
    alpha: float, a: Array, lda: int, b: Array, ldb: int,
    beta: float, c: Array, ldc: int,
) -> Array:  # fmt: skip
    """C := alpha·op(A)·op(B) + beta·C, in the buffer c, which is returned.

    op(A) m×k, op(B) k×n, C m×n, all column-major. Leading dimensions:
    lda ≥ m ("n": A is m×k) or k ("t": A is k×m), ldb ≥ k ("n") or n ("t"), ldc ≥ m; at least 1.
    k = 0 leaves beta·C, and m = 0 or n = 0 nothing to do.
    """
    a_turned, b_turned = turned("gemm", "transa", transa), turned("gemm", "transb", transb)
    m, n, k = (_at_least("gemm", name, v, 0) for name, v in (("m", m), ("n", n), ("k", k)))
    alpha, beta = _number("gemm", "alpha", alpha), _number("gemm", "beta", beta)
    buffers = _buffers("gemm", "c", a=a, b=b, c=c)
    right = _transposed("gemm", "a", buffers["a"], (k, m) if a_turned else (m, k), lda)
    left = _transposed("gemm", "b", buffers["b"], (n, k) if b_turned else (k, n), ldb)
    target = _transposed("gemm", "c", buffers["c"], (m, n), ldc)
    check_apart("gemm", {"c": target}, {"a": right, "b": left})
    left, right = left.T if b_turned else left, right.T if a_turned else right
    _update(target, alpha, left, right, beta)
    return c


def gemv(
    trans: str, m: int, n: int, alpha: float, a: Array, lda: int,
    x: Array, incx: int, beta: float, y: Array, incy: int,
) -> Array:  # fmt: skip
    """y := alpha·op(A)·x + beta·y, in the buffer y, which is returned.

    A m×n, column-major, lda ≥ max(1, m); op(A) is A ("n") or Aᵀ ("t"). Number i of a vector lies at
    i·inc of its buffer; with inc < 0 they stand in reverse order, the first at the end. As in BLAS,
    m = 0 or n = 0 leaves y as it is, whatever beta says.
    """
    a_turned = turned("gemv", "trans", trans)
    m, n = (_at_least("gemv", name, v, 0) for name, v in (("m", m), ("n", n)))
    alpha, beta = _number("gemv", "alpha", alpha), _number("gemv", "beta", beta)
    buffers = _buffers("gemv", "y", a=a, x=x, y=y)
    matrix = _transposed("gemv", "a", buffers["a"], (m, n), lda)
    factor = _vector("gemv", "x", buffers["x"], m if a_turned else n, incx)
    target = _vector("gemv", "y", buffers["y"], n if a_turned else m, incy)
    check_apart("gemv", {"y": target}, {"a": matrix, "x": factor})
    if m and n:
        _update(target, alpha, matrix if a_turned else matrix.T, factor, beta)
    return y


def _update(
    target: np.ndarray, alpha: float, left: np.ndarray, right: np.ndarray, beta: float
) -> None:
    """target := alpha·left·right + beta·target, in the wide dtype, rounded once."""
    wide = wide_dtype(target.dtype)
    multiplies = alpha != 0 and left.shape[-1] > 0
    if not multiplies and beta == 1:
        return
    result = np.zeros((), wide)
    with np.errstate(all="ignore"):
        if multiplies:
            result = left.astype(wide, copy=False) @ right.astype(wide, copy=False)
            if alpha != 1:
                result = result * wide.type(alpha)
        if beta != 0:
            kept = target.astype(wide, copy=False)
            result = result + (kept if beta == 1 else kept * wide.type(beta))
        target[...] = result


def turned(call: str, name: str, value: object) -> bool:
    """Whether op is the transposition; raises SettingError for no letter of BLAS."""
    if not isinstance(value, str) or value not in TURNED:
        raise SettingError(f'{call}: {name}={value!r}; pass "n" for X or "t" for X transposed')
    return TURNED[value]


def real_dtype(call: str, arrays: dict[str, np.ndarray]) -> np.dtype[Any]:
    """The one dtype of all arrays; raises DTypeError unless it is float16, float32 or float64."""
    (first, lead), *_ = arrays.items()
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise DTypeError(f"{call}: {name} is {array.dtype}; pass {', '.join(DTYPES)}")
        if array.dtype.newbyteorder("=") != lead.dtype.newbyteorder("="):
            raise DTypeError(
                f"{call}: {first} is {lead.dtype} but {name} is {array.dtype}; pass all in one "
                f"dtype, as {name}.astype(numpy.{lead.dtype.name})"
            )
    return lead.dtype.newbyteorder("=")


def check_writable(call: str, name: str, array: np.ndarray) -> None:
    """Raise ArrayError or DTypeError unless the array is one block in memory, ready to write."""
    if not array.flags.writeable:
        raise ArrayError(f"{call}: {name} is read-only; pass an array that can be written")
    if not array.flags.c_contiguous:
        raise ArrayError(
            f"{call}: {name} is not contiguous (shape {array.shape}, strides {array.strides}); "
            f"pass numpy.ascontiguousarray({name}), and copy the result back if you need it there"
        )
    if not array.dtype.isnative:
        raise DTypeError(f"{call}: {name} is {array.dtype}; pass it in native byte order")


def check_apart(call: str, written: dict[str, np.ndarray], read: dict[str, np.ndarray]) -> None:
    """Raise ArrayError where an array that is written shares memory with any other."""
    names = list(written)
    for i, name in enumerate(names):
        others = {other: written[other] for other in names[i + 1 :]} | read
        for other, array in others.items():
            if share_memory(written[name], array):
                raise ArrayError(
                    f"{call}: {name}, which is written, shares memory with {other}; "
                    f"pass {name} as an array of its own"
                )


def _buffers(call: str, result: str, **arrays: Array) -> dict[str, np.ndarray]:
    """The buffers as flat arrays over their memory, of one dtype, the result's writable."""
    found = {name: to_numpy(call, name, array)[0] for name, array in arrays.items()}
    factors = {name: array for name, array in found.items() if name != result}
    target = found[result]
    if real_dtype(call, factors) != np.float16 or target.dtype != np.float32:
        real_dtype(call, found)
    for name, array in found.items():
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            raise ArrayError(
                f"{call}: {name} is not contiguous (shape {array.shape}, strides {array.strides});"
                f" pass numpy.ascontiguousarray({name})"
            )
        found[name] = (array if array.flags.c_contiguous else array.T).reshape(-1)
    check_writable(call, result, found[result])
    return found


def _transposed(
    call: str, name: str, flat: np.ndarray, size: tuple[int, int], leading: object
) -> np.ndarray:
    """The column-major matrix in a buffer, seen row-major: Xᵀ (columns, rows), a view."""
    rows, columns = size
    ld = _at_least(call, f"ld{name}", leading, max(1, rows), f", the rows of {name.upper()}")
    needed = (columns - 1) * ld + rows if rows and columns else 0
    if flat.size < needed:
        raise ShapeError(
            f"{call}: {name} has {flat.size} numbers, but {name.upper()} {rows}×{columns} with "
            f"ld{name}={ld} reaches to number {needed}; pass a longer buffer"
        )
    return as_strided(flat, (columns, rows), (ld * flat.itemsize, flat.itemsize))


def _vector(call: str, name: str, flat: np.ndarray, count: int, increment: object) -> np.ndarray:
    """`count` numbers of a buffer, `increment` apart; a view."""
    step = integer(call, f"inc{name}", increment)
    if step == 0:
        raise SettingError(f"{call}: inc{name} is 0; pass the distance between two numbers")
    needed = (count - 1) * abs(step) + 1 if count else 0
    if flat.size < needed:
        raise ShapeError(
            f"{call}: {name} has {flat.size} numbers, but {count} of them {abs(step)} apart reach "
            f"to number {needed}; pass a longer buffer"
        )
    return flat[:needed][:: abs(step)][:: 1 if step > 0 else -1]


def _at_least(call: str, name: str, value: object, least: int, why: str = "") -> int:
    number = integer(call, name, value)
    if number < least:
        raise SettingError(f"{call}: {name} is {number}; it must be at least {least}{why}")
    return number


def _number(call: str, name: str, value: object) -> float:
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise SettingError(f"{call}: {name} must be a real number, not {value!r}") from None
