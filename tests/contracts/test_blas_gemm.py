"""gemm and gemv against BLAS's definition in integers, against SciPy's, and their refusals."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convgrad.contracts.blas import gemm, gemv
from convgrad.errors import ArrayError, ConvError, DTypeError, SettingError, ShapeError

DTYPES = (np.float16, np.float32, np.float64)
GAP = 77.0  # stands between the columns of c


def buffer(rng, rows, columns, ld, dtype, gap):
    """A column-major matrix of integers, its buffer with `gap` between columns and behind."""
    matrix = rng.integers(-3, 4, (rows, columns)).astype(dtype)
    flat = np.full(ld * columns + 2, gap, dtype)
    for j in range(columns):
        flat[j * ld : j * ld + rows] = matrix[:, j]
    return matrix, flat


@st.composite
def products(draw):
    m, n, k = (draw(st.integers(0, 5)) for _ in range(3))
    pads = [draw(st.integers(0, 3)) for _ in range(3)]
    letters = draw(st.sampled_from("nNtTcC")), draw(st.sampled_from("nNtTcC"))
    factors = draw(st.sampled_from((0, 1, -2, 0.5))), draw(st.sampled_from((0, 1, -1, 2)))
    dtype = draw(st.sampled_from(DTYPES))
    return (m, n, k), pads, letters, factors, dtype, draw(st.integers(0, 2**32 - 1))


@given(products())
def test_gemm_is_blas_definition(drawn):
    (m, n, k), pads, (ta, tb), (alpha, beta), dtype, seed = drawn
    rng = np.random.default_rng(seed)
    size_a = (m, k) if ta in "nN" else (k, m)
    size_b = (k, n) if tb in "nN" else (n, k)
    lda, ldb, ldc = (max(1, r) + p for r, p in zip((size_a[0], size_b[0], m), pads))
    op_a, a = buffer(rng, *size_a, lda, dtype, np.nan)
    op_b, b = buffer(rng, *size_b, ldb, dtype, np.nan)
    old, c = buffer(rng, m, n, ldc, dtype, GAP)
    op_a = op_a if ta in "nN" else op_a.T
    op_b = op_b if tb in "nN" else op_b.T
    want = c.copy()
    for i, j in product(range(m), range(n)):
        total = sum(float(op_a[i, p]) * float(op_b[p, j]) for p in range(k))
        want[i + j * ldc] = alpha * total + beta * float(old[i, j])
    assert gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) is c
    np.testing.assert_array_equal(c, want)


@given(products(), st.sampled_from((1, 2, -1, -3)), st.sampled_from((1, 3, -1, -2)))
def test_gemv_is_blas_definition(drawn, incx, incy):
    (m, n, _), (pad, *_), (trans, _), (alpha, beta), dtype, seed = drawn
    rng = np.random.default_rng(seed)
    lda = max(1, m) + pad
    matrix, a = buffer(rng, m, n, lda, dtype, np.nan)
    op = matrix if trans in "nN" else matrix.T
    x, y = vector(rng, op.shape[1], incx, dtype, np.nan), vector(rng, op.shape[0], incy, dtype, GAP)
    want = y.copy()
    for i in range(op.shape[0] if m and n else 0):
        total = sum(
            float(op[i, j]) * float(x[place(j, op.shape[1], incx)]) for j in range(op.shape[1])
        )
        at = place(i, op.shape[0], incy)
        want[at] = alpha * total + beta * float(y[at])
    assert gemv(trans, m, n, alpha, a, lda, x, incx, beta, y, incy) is y
    np.testing.assert_array_equal(y, want)


def place(i, count, increment):
    """Where number i of a vector lies, as BLAS's reference has it."""
    return i * increment if increment > 0 else (i - count + 1) * increment


def vector(rng, count, increment, dtype, gap):
    flat = np.full(max(count, 1) * abs(increment) + 1, gap, dtype)
    for i in range(count):
        flat[place(i, count, increment)] = rng.integers(-3, 4)
    return flat


@pytest.mark.parametrize(("ta", "tb"), [*product("nt", "nt")])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (1, 1), (-0.3, 0.7)])
def test_gemm_agrees_with_scipys(rng, ta, tb, alpha, beta):
    blas = pytest.importorskip("scipy.linalg.blas")
    m, n, k = 17, 11, 23
    a = np.asfortranarray(rng.standard_normal((m, k) if ta == "n" else (k, m)))
    b = np.asfortranarray(rng.standard_normal((k, n) if tb == "n" else (n, k)))
    c = np.asfortranarray(rng.standard_normal((m, n)))
    want = blas.dgemm(alpha, a, b, beta, c, trans_a=ta == "t", trans_b=tb == "t")
    got = gemm(ta, tb, m, n, k, alpha, a, len(a), b, len(b), beta, c, m)
    assert got is c
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("trans", "nt")
@pytest.mark.parametrize(("incx", "incy"), [(1, 1), (2, -3), (-1, 2)])
def test_gemv_agrees_with_scipys(rng, trans, incx, incy):
    blas = pytest.importorskip("scipy.linalg.blas")
    a = np.asfortranarray(rng.standard_normal((5, 4)))
    x, y = rng.standard_normal(16), rng.standard_normal(16)
    rows = 5 if trans == "n" else 4
    x, y = x[: (8 - rows) * abs(incx) + 1], y[: (rows - 1) * abs(incy) + 1]
    want = blas.dgemv(0.5, a, x, 2, y, 0, incx, 0, incy, trans=trans == "t")
    got = gemv(trans, 5, 4, 0.5, a, 5, x, incx, 2, y.copy(), incy)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


def test_beta_zero_does_not_read_c():
    c = np.full(4, np.nan)
    gemm("n", "n", 2, 2, 1, 1, np.array([1.0, 2]), 2, np.array([3.0, 4]), 1, 0, c, 2)
    assert c.tolist() == [3, 6, 4, 8]
    y = np.full(2, np.inf)
    assert gemv("n", 2, 1, 1, np.array([1.0, 2]), 2, np.array([3.0]), 1, 0, y, 1).tolist() == [3, 6]


def test_alpha_zero_does_not_read_a_and_b():
    nothing = np.full(4, np.nan)
    c = np.array([1.0, 2, 3, 4])
    assert gemm("t", "t", 2, 2, 2, 0, nothing, 2, nothing, 2, 2, c, 2).tolist() == [2, 4, 6, 8]
    assert gemm("n", "t", 2, 2, 2, 0, nothing, 2, nothing, 2, 0, c, 2).tolist() == [0, 0, 0, 0]
    y = np.array([1.0, 2])
    assert gemv("n", 2, 2, 0, nothing, 2, nothing[:2], 1, -1, y, 1).tolist() == [-1, -2]


def test_a_nan_in_a_goes_where_its_products_go():
    a = np.array([np.nan, 1, 1, 1])
    c = gemm("n", "n", 2, 2, 2, 1, a, 2, np.zeros(4), 2, 0, np.zeros(4), 2)
    np.testing.assert_array_equal(c, [np.nan, 0, np.nan, 0])


def test_without_products_beta_alone_acts():
    c = np.array([1.0, -0.0, np.nan, 4])
    kept = gemm("n", "n", 2, 2, 0, 1, np.zeros(0), 2, np.zeros(0), 1, 1, c.copy(), 2)
    assert kept.tobytes() == c.tobytes()
    assert gemm("n", "n", 2, 2, 0, 1, np.zeros(0), 2, np.zeros(0), 1, 0, c, 2).tolist() == [0] * 4
    y = np.array([5.0])
    assert gemv("t", 0, 1, 1, np.zeros(0), 1, np.zeros(0), 1, 0, y, 1).tolist() == [5]


def test_row_major_arrays_are_asked_for_with_the_factors_exchanged(rng):
    a, b = rng.integers(-3, 4, (2, 3)) * 1.0, rng.integers(-3, 4, (3, 4)) * 1.0
    c = gemm("n", "n", 4, 2, 3, 1, b, 4, a, 3, 0, np.empty((2, 4)), 4)
    np.testing.assert_array_equal(c, a @ b)


def test_a_slice_is_a_pointer_and_blocks_of_one_buffer_may_interleave():
    whole = np.arange(12.0)  # column-major 4×3: its upper rows times 2 into its lower rows
    upper = whole.copy().reshape(3, 4)[:, :2]
    gemm("n", "n", 2, 3, 2, 1, np.array([2.0, 0, 0, 2]), 2, whole, 4, 0, whole[2:], 4)
    np.testing.assert_array_equal(whole.reshape(3, 4), np.hstack([upper, 2 * upper]))


def test_float16_is_summed_in_float32_and_rounded_once():
    ones = np.ones(4099, np.float16)
    c = np.array([0.0], np.float16)
    assert gemm("t", "n", 1, 1, 4099, 1, ones, 4099, ones, 4099, 0, c, 1)[0] == 4100  # to even
    third = np.array([1 / 3], np.float16)
    c = np.array([-1 / 9], np.float16)
    want = np.float16(np.float32(third[0]) ** 2 + np.float32(c[0]))
    assert gemm("n", "n", 1, 1, 1, 1, third, 1, third, 1, 1, c, 1)[0] == want != 0


def test_float16_factors_may_have_a_float32_sum():
    ones = np.ones(4099, np.float16)
    c = np.array([0.5], np.float32)
    assert gemm("t", "n", 1, 1, 4099, 1, ones, 4099, ones, 4099, 1, c, 1)[0] == 4099.5
    y = np.array([0.5], np.float32)
    assert gemv("t", 4099, 1, 1, ones, 4099, ones, 1, 1, y, 1)[0] == 4099.5


def test_other_byte_order_is_read():
    a = np.array([1.0, 2]).astype(">f8")
    assert gemm("n", "n", 2, 1, 1, 1, a, 2, np.array([3.0]), 1, 0, np.empty(2), 2).tolist() == [
        3,
        6,
    ]


GEMM = {
    "transa": "n", "transb": "n", "m": 3, "n": 2, "k": 4, "alpha": 1, "a": np.ones(12), "lda": 3,
    "b": np.ones(8), "ldb": 4, "beta": 0, "ldc": 3,
}  # fmt: skip
GEMV = {
    "trans": "n", "m": 3, "n": 2, "alpha": 1, "a": np.ones(6), "lda": 3, "x": np.ones(2),
    "incx": 1, "beta": 0, "incy": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"transa": "x"}, SettingError, 'transa=\'x\'; pass "n" for X or "t"'),
        ({"transb": ""}, SettingError, "transb=''"),
        ({"transa": None}, SettingError, "transa=None"),
        ({"m": -1}, SettingError, "m is -1; it must be at least 0"),
        ({"n": -1}, SettingError, "n is -1"),
        ({"k": -2}, SettingError, "k is -2"),
        ({"k": 4.0}, SettingError, "k must be made of ints, not 4.0"),
        ({"lda": 2}, SettingError, "lda is 2; it must be at least 3, the rows of A"),
        ({"transa": "t"}, SettingError, "lda is 3; it must be at least 4, the rows of A"),
        ({"ldb": 3}, SettingError, "ldb is 3; it must be at least 4, the rows of B"),
        ({"transb": "t", "ldb": 1}, SettingError, "ldb is 1; it must be at least 2, the rows of B"),
        ({"ldc": 2}, SettingError, "ldc is 2; it must be at least 3, the rows of C"),
        ({"k": 0, "ldb": 0}, SettingError, "ldb is 0; it must be at least 1"),
        ({"a": np.ones(11)}, ShapeError, "a has 11 numbers, but A 3×4 with lda=3 reaches to .* 12"),
        ({"ldb": 5}, ShapeError, "b has 8 numbers, but B 4×2 with ldb=5 reaches to number 9"),
        ({"ldc": 4}, ShapeError, "c has 6 numbers, but C 3×2 with ldc=4 reaches to number 7"),
        ({"alpha": "1"}, SettingError, "alpha must be a real number, not '1'"),
        ({"beta": 1j}, SettingError, "beta must be a real number"),
        ({"a": [1.0] * 12}, ArrayError, "a is a list, not an array"),
        ({"a": np.ones(24)[::2]}, ArrayError, "a is not contiguous .* numpy.ascontiguousarray"),
        ({"a": np.ones(12, int)}, DTypeError, "a is int64; pass float16, float32, float64"),
        ({"b": np.ones(8, "f4")}, DTypeError, "a is float64 but b is float32; .* b.astype"),
        ({"a": np.ones(12, "f4"), "b": np.ones(8, "f4")}, DTypeError, "a is float32 but c is flo"),
    ],
)  # fmt: skip
def test_gemm_refuses(changes, error, words):
    c = np.full(6, 5.0)
    with pytest.raises(error, match="^gemm: " + words):
        gemm(**{**GEMM, "c": c} | changes)
    assert (c == 5).all()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"trans": "h"}, SettingError, "trans='h'"),
        ({"m": -1}, SettingError, "m is -1"),
        ({"lda": 2}, SettingError, "lda is 2; it must be at least 3, the rows of A"),
        ({"incx": 0}, SettingError, "incx is 0; pass the distance between two numbers"),
        ({"incy": 0}, SettingError, "incy is 0"),
        ({"incx": -2}, ShapeError, "x has 2 numbers, but 2 of them 2 apart reach to number 3"),
        ({"trans": "t"}, ShapeError, "x has 2 numbers, but 3 of them 1 apart"),
        ({"a": np.ones(5)}, ShapeError, "a has 5 numbers, but A 3×2"),
        ({"x": np.ones(2, "f4")}, DTypeError, "a is float64 but x is float32"),
    ],
)
def test_gemv_refuses(changes, error, words):
    y = np.full(3, 5.0)
    with pytest.raises(error, match="^gemv: " + words):
        gemv(**{**GEMV, "y": y} | changes)
    assert (y == 5).all()


def test_what_is_written_is_writable_contiguous_native_and_apart():
    shared = np.ones(12)
    read_only = np.ones(6)
    read_only.flags.writeable = False
    for c, words in [
        (shared[6:], "c, which is written, shares memory with a; pass c as an array of its own"),
        (read_only, "c is read-only"),
        (np.ones(12)[::2], "c is not contiguous"),
        (np.ones(6).astype(">f8"), "c is >f8; pass it in native byte order"),
    ]:
        with pytest.raises(ConvError, match=words):
            gemm(**{**GEMM, "a": shared, "c": c})
    with pytest.raises(ArrayError, match="y, which is written, shares memory with x"):
        gemv("n", 2, 2, 1, np.ones(4), 2, shared[:2], 1, 0, shared[1:3], 1)
