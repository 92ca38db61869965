"""convn, rot180, flipall, expand and sigm beside their definitions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convgrad.api import conv
from convgrad.contracts.deeplearntoolbox import arrays, convn, expand, flipall, rot180, sigm
from convgrad.errors import ArrayError, DTypeError, SettingError, ShapeError


def full(a, b):
    """Every product a[p]·b[q] laid at p + q: the definition of convolution."""
    c = np.zeros([n + k - 1 for n, k in zip(a.shape, b.shape)], np.result_type(a, b))
    for q in product(*map(range, b.shape)):
        c[tuple(slice(i, i + n) for i, n in zip(q, a.shape))] += a * b[q]
    return c


@st.composite
def operands(draw):
    rank = draw(st.integers(1, 4))
    sizes = st.lists(st.integers(1, 5 if rank < 4 else 3), min_size=rank, max_size=rank)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a, b = (rng.integers(-9, 10, draw(sizes)).astype(float) for _ in range(2))
    if draw(st.booleans()):
        a, b = a + 1j * a[::-1], b - 2j * b[::-1]
    return a, b


@given(operands())
def test_convn_is_the_definition_and_its_parts(pair):
    a, b = pair
    whole = full(a, b)
    np.testing.assert_array_equal(convn(a, b), whole, strict=True)
    starts = [k // 2 for k in b.shape]
    same = whole[tuple(slice(s, s + n) for s, n in zip(starts, a.shape))]
    np.testing.assert_array_equal(convn(a, b, "same"), same, strict=True)
    inner = [(k - 1, max(n, k - 1)) for n, k in zip(a.shape, b.shape)]
    valid = whole[tuple(slice(*edge) for edge in inner)]
    np.testing.assert_array_equal(convn(a, b, "valid"), valid, strict=True)


def test_a_missing_last_axis_has_size_1(rng):
    """The toolbox convolves (H, W, N) maps with (K, K) kernels: each sample for itself."""
    maps, kernel = rng.integers(-5, 6, (6, 5, 4)), rng.integers(-5, 6, (3, 2))
    got = convn(maps, kernel, "valid")
    each = [convn(maps[:, :, n], kernel, "valid") for n in range(4)]
    np.testing.assert_array_equal(got, np.stack(each, axis=2))
    assert convn(kernel, maps[:2, :2]).shape == (4, 3, 4)
    np.testing.assert_array_equal(convn([1, 2], [[1], [10]]), [[1], [12], [20]])
    assert convn(2, 3) == 6


def test_convn_where_b_is_larger():
    """'valid' is empty, as in MATLAB; 'same' has the size of a."""
    assert convn(np.ones((3, 3)), np.ones((2, 4)), "valid").shape == (2, 0)
    np.testing.assert_array_equal(convn([1, 2], [1, 10, 100, 1000], "same"), [120, 1200])


@given(operands(), st.data())
def test_convn_over_axes_of_equal_size(pair, data):
    """'valid' leaves one number there, and each cell of a meets one of b: Σ_q A[q]·B[n−1−q]."""
    a, b = pair
    equal = data.draw(st.lists(st.booleans(), min_size=a.ndim, max_size=a.ndim))
    sizes = [max(n, k) for n, k in zip(a.shape, b.shape)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    a = rng.integers(-9, 10, sizes) * (1 + 1j * a.imag.any())
    b = rng.integers(-9, 10, [n if e else k for n, k, e in zip(sizes, b.shape, equal)])
    inner = [slice(k - 1, n) for n, k in zip(a.shape, b.shape)]
    want = full(a.astype(np.result_type(a, float)), b.astype(float))[tuple(inner)]
    np.testing.assert_array_equal(convn(a, b, "valid"), want, strict=True)


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [(0, 1, 3), (2, 0, 0)])
@pytest.mark.parametrize("owner", ["a", "b"])
def test_convn_over_axes_of_equal_size_keeps_infinity_where_it_is(rng, special, place, owner):
    a, b = rng.integers(1, 9, (4, 5, 6)).astype(float), rng.integers(1, 9, (4, 2, 6)).astype(float)
    (a if owner == "a" else b)[place] = special
    np.testing.assert_array_equal(convn(a, b, "valid"), full(a, b)[3:4, 1:5, 5:6])


def test_convn_sums_over_samples_as_a_matrix_product(rng, monkeypatch):
    """The gradient of a large kernel: the samples are channels, no taps of 24·24·50 cells."""
    seen = []
    monkeypatch.setattr(arrays, "conv", lambda x, w, **k: seen.append(w.shape) or conv(x, w, **k))
    a, d = rng.integers(-9, 10, (9, 8, 50)), rng.integers(-9, 10, (7, 6, 50))
    got = convn(flipall(a), d, "valid")
    assert seen == [(1, 50, 7, 6)]
    windows = np.lib.stride_tricks.sliding_window_view(a, (7, 6), (0, 1))
    want = np.einsum("pqnij,ijn->pq", windows, d)[::-1, ::-1, None]
    np.testing.assert_array_equal(got, want)


def test_convn_keeps_infinity_where_it_is():
    """A zero beyond the edge is no factor: 0·∞ would be NaN."""
    got = convn(np.array([1.0, 2, 4]), np.array([np.inf, 1]), "full")
    np.testing.assert_array_equal(got, [np.inf, np.inf, np.inf, 4])
    got = convn(np.array([1, np.inf, 4]), np.array([1.0, 1]), "full")
    np.testing.assert_array_equal(got, [1, np.inf, np.inf, 4])


@pytest.mark.parametrize("dtype", ["float32", "int16", "bool", "bfloat16", ">f8"])
def test_numbers_become_float64(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype
    a = np.array([[0, 1], [1, 1]]).astype(dtype)
    got = convn(a, a)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, [[0, 0, 1], [0, 2, 2], [1, 2, 1]])


def test_turning(rng):
    x = rng.integers(0, 99, (3, 4, 2))
    turned, reversed_ = rot180(x), flipall(x)
    for r, c, n in np.ndindex(x.shape):
        assert turned[2 - r, 3 - c, n] == reversed_[2 - r, 3 - c, 1 - n] == x[r, c, n]
    turned[:] = reversed_[:] = -1
    assert x.min() >= 0


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_expand_is_kron_with_ones(shape, data):
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape)))
    a = np.arange(np.prod(shape)).reshape(shape)
    grown = expand(a, sizes)
    np.testing.assert_array_equal(grown, np.kron(a, np.ones(sizes, int)), strict=True)
    grown[...] = -1
    assert a.min() == 0


def test_sigm():
    got = sigm(np.array([-1e4, -np.log(3), 0, np.log(3), 1e4]))
    np.testing.assert_allclose(got, [0, 0.25, 0.5, 0.75, 1], rtol=1e-15)
    assert sigm(0) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: convn([1], [1], "wide"), SettingError, "'wide'; it is one of full, same, valid"),
        (lambda: convn(np.ones((2, 0)), [1]), ShapeError, r"a is \(2, 0\)"),
        (lambda: convn([1], np.ones((0, 2))), ShapeError, r"b is \(0, 2\)"),
        (lambda: convn([[1, 2], [3]], [1]), ShapeError, "a is a list whose parts differ"),
        (lambda: convn("abc", [1]), ArrayError, "a is a str"),
        (lambda: convn(np.array(["a"]), [1]), DTypeError, "a is <U1; numbers are needed"),
        (lambda: rot180(np.ones(3)), ShapeError, "it needs rows and columns"),
        (lambda: expand(np.ones((2, 2)), [2]), ShapeError, r"sizes are \[2\]; give one size"),
        (lambda: expand(np.ones((2, 2)), [2, 0]), SettingError, r"sizes\[1\] is 0"),
        (lambda: expand(np.ones((2, 2)), [2, 1.5]), SettingError, r"sizes\[1\] is 1\.5"),
        (lambda: expand(np.ones((2, 2)), 2), SettingError, "sizes is 2; give one whole number"),
        (lambda: expand(np.ones((2, 2)), None), SettingError, "sizes is None; give one whole"),
        (lambda: expand(np.ones((2, 2)), "22"), SettingError, "sizes is '22'; give one whole"),
        (lambda: expand(np.ones((2, 2)), {2, 3}), SettingError, r"sizes is \{2, 3\}; give one"),
        (lambda: sigm(np.ones(2) * 1j), DTypeError, r"x is complex; pass its real part, x\.real"),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error, match=words):
        call()
