"""SciPy as a judge: signal's correlation and convolution, ndimage's boundary modes."""

from typing import Any

import numpy as np
import pytest

import convgrad as cg

signal = pytest.importorskip("scipy.signal")
ndimage = pytest.importorskip("scipy.ndimage")

SIZES = {1: ((11,), (4,)), 2: ((7, 8), (3, 4)), 3: ((5, 4, 6), (2, 3, 3))}
BOUNDARIES = {  # SciPy's name: convgrad's
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "grid-wrap": "circular",
    "constant": "constant",
    "grid-constant": "constant",
}
DTYPES = ("float32", "float64", "complex64", "complex128")


def whole(shape: tuple[int, ...], seed: int, dtype: str) -> np.ndarray:
    """Small whole numbers, of which every sum is exact in any order."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-9, 10, shape).astype(dtype)
    if numbers.dtype.kind == "c":
        numbers += 1j * rng.integers(-9, 10, shape)
    return numbers


def one_channel(function: Any, x: np.ndarray, w: np.ndarray, **settings: Any) -> np.ndarray:
    """A convgrad call on plain images, as SciPy takes them."""
    return function(x[None, None], w[None, None], algorithm="direct", **settings)[0, 0]


def signal_pads(mode: str, kernel: tuple[int, ...], middle: Any) -> list[tuple[int, int]]:
    if mode == "valid":
        return [(0, 0)] * len(kernel)
    if mode == "full":
        return [(k - 1, k - 1) for k in kernel]
    return [(middle(k), k - 1 - middle(k)) for k in kernel]


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", SIZES)
def test_signal_correlate(rank: int, dtype: str, mode: str) -> None:
    size, kernel = SIZES[rank]
    x, w = whole(size, 0, dtype), whole(kernel, 1, dtype)
    pads = signal_pads(mode, kernel, lambda k: k // 2)
    wanted = signal.correlate(x, w, mode, method="direct")
    found = one_channel(cg.conv, x, w.conj(), padding=pads)  # SciPy conjugates the kernel
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", SIZES)
def test_signal_convolve_is_flip(rank: int, dtype: str, mode: str) -> None:
    size, kernel = SIZES[rank]
    x, w = whole(size, 0, dtype), whole(kernel, 1, dtype)
    pads = signal_pads(mode, kernel, lambda k: k // 2)
    wanted = signal.convolve(x, w, mode, method="direct")
    assert np.array_equal(one_channel(cg.conv, x, w, padding=pads, flip=True), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", SIZES)
def test_full_convolution_is_conv_transpose(rank: int, dtype: str) -> None:
    size, kernel = SIZES[rank]
    x, w = whole(size, 0, dtype), whole(kernel, 1, dtype)
    assert np.array_equal(one_channel(cg.conv_transpose, x, w), signal.convolve(x, w, "full"))


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_signal_convolve_named_paddings(mode: str) -> None:
    """An odd kernel's "same" and SciPy's agree; for an even one it is "same_lower"."""
    x, odd, even = whole((9, 8), 0, "float64"), whole((3, 5), 1, "float64"), whole((2, 4), 2, "f8")
    named = {"valid": "valid", "same": "same_lower", "full": [(1, 1), (3, 3)]}[mode]
    wanted = signal.correlate(x, even, mode, method="direct")
    assert np.array_equal(one_channel(cg.conv, x, even, padding=named), wanted)
    if mode == "same":
        wanted = signal.correlate(x, odd, mode, method="direct")
        assert np.array_equal(one_channel(cg.conv, x, odd, padding="same"), wanted)


@pytest.mark.parametrize("method", ["fft", "oaconvolve"])
def test_signal_fft_methods_and_ours(method: str) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((40, 37)), rng.standard_normal((9, 12))
    by_scipy = {"fft": signal.fftconvolve, "oaconvolve": signal.oaconvolve}[method]
    pads = signal_pads("full", w.shape, None)
    found = cg.conv(x[None, None], w[None, None], padding=pads, flip=True, algorithm="fft")
    np.testing.assert_allclose(found[0, 0], by_scipy(x, w, "full"), rtol=0, atol=1e-12)


def boundary(mode: str) -> dict[str, Any]:
    mode = BOUNDARIES[mode]
    return {"padding_mode": mode, "padding_value": 3 if mode == "constant" else 0}


@pytest.mark.parametrize("flip", [False, True], ids=["correlate", "convolve"])
@pytest.mark.parametrize("mode", BOUNDARIES)
@pytest.mark.parametrize(
    ("size", "kernel"),
    [*SIZES.values(), ((3,), (9,)), ((2, 5), (8, 3)), ((1, 4), (4, 4)), ((4, 3), (15, 10))],
    ids=str,
)
def test_ndimage_boundaries(
    size: tuple[int, ...], kernel: tuple[int, ...], mode: str, flip: bool
) -> None:
    """Kernels that reach beyond the image and back are among them."""
    x, w = whole(size, 0, "float64"), whole(kernel, 1, "float64")
    by_scipy = ndimage.convolve if flip else ndimage.correlate
    pads = [(k // 2, k - 1 - k // 2) for k in kernel]
    pads = [(hi, lo) for lo, hi in pads] if flip else pads
    found = one_channel(cg.conv, x, w, padding=pads, flip=flip, **boundary(mode))
    assert np.array_equal(found, by_scipy(x, w, mode=mode, cval=3))


@pytest.mark.parametrize("mode", BOUNDARIES)
def test_weight_gradient_of_a_boundary_by_scipy(mode: str) -> None:
    """dw[k] = Σ_p dy[p]·y_k[p], where y_k is SciPy's answer for the kernel that is 1 at k alone."""
    x, dy = whole((5, 6), 0, "float64"), whole((5, 6), 1, "float64")
    wanted = np.empty((3, 5))
    for tap in np.ndindex(3, 5):
        unit = np.zeros((3, 5))
        unit[tap] = 1
        wanted[tap] = (dy * ndimage.correlate(x, unit, mode=mode, cval=3)).sum()
    found = cg.weight_grad(
        x[None, None], (1, 1, 3, 5), dy[None, None], padding=(1, 2), **boundary(mode)
    )
    assert np.array_equal(np.rint(found[0, 0]), wanted)
    np.testing.assert_allclose(found[0, 0], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", BOUNDARIES)
def test_input_gradient_of_a_boundary_by_scipy(mode: str) -> None:
    """dx[i] = Σ_p dy[p]·(y of the image that is 1 at i alone)[p]; a constant border drops out."""
    w, dy = whole((3, 5), 0, "float64"), whole((4, 6), 1, "float64")
    wanted = np.empty((4, 6))
    for cell in np.ndindex(4, 6):
        unit = np.zeros((4, 6))
        unit[cell] = 1
        wanted[cell] = (dy * ndimage.correlate(unit, w, mode=mode, cval=0)).sum()
    found = cg.input_grad(
        (1, 1, 4, 6), w[None, None], dy[None, None], padding=(1, 2),
        padding_mode=BOUNDARIES[mode], algorithm="direct",
    )  # fmt: skip
    assert np.array_equal(found[0, 0], wanted)
