"""Arrays of libraries that convgrad has never heard of: DLPack and `__array_interface__`."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convgrad as cg

X, W, Y = (2, 3, 5, 4), (4, 3, 3, 3), (2, 4, 3, 2)
DTYPES = ("float16", "float32", "float64", "complex64", "complex128")
CPU, CUDA = 1, 2


class OnlyDLPack:
    """An array that can do nothing but hand its memory over."""

    def __init__(self, array: np.ndarray, device: int = CPU) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **request: Any) -> Any:
        return self.array.__dlpack__(**request)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


class OldDLPack(OnlyDLPack):
    """The same by the protocol's first version, which knows no more than a stream."""

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.__dlpack__(stream=stream)


class OfANamespace(OnlyDLPack):
    """An array of a library that follows the array API standard."""

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return SimpleNamespace(
            __name__="otherlib", from_dlpack=lambda a: OfANamespace(np.from_dlpack(a))
        )


class OnlyInterface:
    """An array with nothing but NumPy's description of its memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def whole(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)


def operands(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return whole(X, 0, dtype), whole(W, 1, dtype), whole(Y, 2, dtype)


def by_hand(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """y[n,o,p] = Σ x[n, c, p+k]·w[o,c,k], window by window."""
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("ncpqkl,ockl->nopq", windows, w)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [OnlyDLPack, OldDLPack, OnlyInterface])
def test_unknown_arrays_give_numpy_arrays(kind: Any, dtype: str) -> None:
    x, w, dy = operands(dtype)
    y = cg.conv(kind(x), kind(w), algorithm="direct")
    assert type(y) is np.ndarray
    assert y.dtype == x.dtype
    assert np.array_equal(y, by_hand(x, w))
    for found, wanted in zip(
        cg.backward(kind(x), kind(w), kind(dy)), cg.backward(x, w, dy), strict=True
    ):
        assert type(found) is np.ndarray
        assert np.array_equal(found, wanted)


def test_unknown_arrays_go_together_with_numpys() -> None:
    x, w, _ = operands()
    assert np.array_equal(cg.conv(OnlyDLPack(x), w, algorithm="direct"), by_hand(x, w))


@pytest.mark.parametrize("kind", [OnlyDLPack, OnlyInterface])
def test_strides_are_kept(kind: Any) -> None:
    x, w, _ = operands()
    turned = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    y = cg.conv(kind(np.moveaxis(turned, -1, 1)), kind(w), algorithm="direct")
    assert np.array_equal(y, by_hand(x, w))


def test_an_array_api_array_gives_one_of_its_kind() -> None:
    x, w, dy = operands()
    y = cg.conv(OfANamespace(x), OfANamespace(w), algorithm="direct")
    assert type(y) is OfANamespace
    assert np.array_equal(y.array, by_hand(x, w))
    dx, dw, db = cg.backward(OfANamespace(x), OfANamespace(w), OfANamespace(dy))
    assert {type(g) for g in (dx, dw, db)} == {OfANamespace}


def test_kinds_are_not_mixed() -> None:
    x, w, _ = operands()
    with pytest.raises(cg.ArrayError, match="x is a otherlib array but w is a NumPy array"):
        cg.conv(OfANamespace(x), w)


@pytest.mark.parametrize("kind", [OnlyDLPack, OnlyInterface])
def test_out_is_written_through_the_protocol(kind: Any) -> None:
    x, w, _ = operands()
    y = np.zeros(Y, np.float32)
    out = kind(y)
    if kind is OnlyDLPack and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        with pytest.raises(cg.ArrayError, match="out is read-only"):  # as NumPy 1 imports DLPack
            cg.conv(x, w, out=out, algorithm="direct")
        return
    assert cg.conv(x, w, out=out, algorithm="direct") is out
    assert np.array_equal(y, by_hand(x, w))


def test_read_only_interface_is_read_and_not_written() -> None:
    x, w, _ = operands()
    x.flags.writeable = False
    assert np.array_equal(cg.conv(OnlyInterface(x), w, algorithm="direct"), by_hand(x, w))
    y = np.zeros(Y, np.float32)
    y.flags.writeable = False
    with pytest.raises(cg.ArrayError, match="out is read-only"):
        cg.conv(x, w, out=OnlyInterface(y))
    assert not y.any()


def test_other_devices_are_refused() -> None:
    x, w, _ = operands()
    with pytest.raises(cg.ArrayError, match=r"x is on DLPack device \(2, 0\), not on the CPU"):
        cg.conv(OnlyDLPack(x, CUDA), w)


@pytest.mark.parametrize("shape", [(0, 3, 5, 4), (2, 3, 5, 4)])
def test_integers_are_refused_through_the_protocol(shape: tuple[int, ...]) -> None:
    _, w, _ = operands()
    with pytest.raises(cg.DTypeError, match="x is int64"):
        cg.conv(OnlyDLPack(np.zeros(shape, np.int64)), w)


@pytest.mark.parametrize(
    ("value", "name"),
    [([[1.0]], "list"), (2.0, "float"), (np.float32(2), "float32"), ("x", "str")],
    ids=["list", "float", "numpy scalar", "text"],
)
def test_what_is_no_array_is_refused(value: Any, name: str) -> None:
    x, w, _ = operands()
    with pytest.raises(cg.ArrayError, match=f"x is a {name}, not an array; pass numpy.asarray"):
        cg.conv(value, w)
    with pytest.raises(cg.ArrayError, match=f"w is a {name}, not an array"):
        cg.conv(x, value)


@pytest.mark.parametrize("absent", ["x", "w", "dy"])
def test_an_operand_that_is_none_is_refused(absent: str) -> None:
    given: dict[str, Any] = dict(zip(("x", "w", "dy"), operands(), strict=True))
    given[absent] = None
    with pytest.raises(cg.ArrayError, match=f"{absent} is"):
        cg.backward(**given)


def test_masked_arrays_are_refused() -> None:
    x, w, _ = operands()
    with pytest.raises(cg.ArrayError, match="masked"):
        cg.conv(np.ma.masked_array(x), w)
