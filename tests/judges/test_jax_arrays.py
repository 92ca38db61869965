"""JAX's arrays as operands: results in kind; tracers and lost precision are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import convgrad as cg

jax = pytest.importorskip("jax")

NARROW = ("float16", "bfloat16", "float32", "complex64")
WIDE = ("float64", "complex128")
SETTINGS: dict[str, Any] = {"padding": 1, "groups": 2, "algorithm": "direct"}
X, W, Y = (2, 4, 5, 6), (6, 2, 3, 3), (2, 6, 5, 6)


@contextmanager
def x64(enabled: bool) -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", enabled)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def whole(shape: tuple[int, ...], seed: int, dtype: str) -> Any:
    """−1, 0 and 1: every sum of their products here is exact in every dtype."""
    drawn = np.random.default_rng(seed).integers(-1, 2, shape)
    return jax.numpy.asarray(drawn).astype(dtype)


def operands(dtype: str) -> tuple[Any, Any, Any]:
    x, w, dy = (whole(shape, seed, dtype) for seed, shape in enumerate((X, W, Y)))
    return x, w, dy


def by_jax(x: Any, w: Any, dy: Any) -> list[Any]:
    def convolution(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (1, 1), [(1, 1), (1, 1)], feature_group_count=2)

    y, vjp = jax.vjp(convolution, x, w)
    return [y, *vjp(dy), dy.sum(axis=(0, 2, 3))]


@pytest.mark.parametrize("dtype", NARROW + WIDE)
def test_results_are_jax_arrays_of_the_same_dtype(dtype: str) -> None:
    with x64(dtype in WIDE):
        x, w, dy = operands(dtype)
        found = [cg.conv(x, w, **SETTINGS), *cg.backward(x, w, dy, **SETTINGS)]
        for ours, theirs in zip(found, by_jax(x, w, dy), strict=True):
            assert isinstance(ours, jax.Array)
            assert ours.dtype == theirs.dtype == np.dtype(x.dtype)
            assert ours.devices() == x.devices()
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize("dtype", NARROW)
def test_x64_makes_no_narrow_array_wider(dtype: str) -> None:
    with x64(True):
        x, w, dy = operands(dtype)
        assert cg.conv(x, w, **SETTINGS).dtype == x.dtype
        assert cg.weight_grad(x, W, dy, **SETTINGS).dtype == x.dtype


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
def test_going_back_never_loses_precision(dtype: str) -> None:
    """A wide array outlives the setting that allowed it; its result would be cut to 32 bits."""
    with x64(True):
        x, w, _ = operands(dtype)
    with x64(False), pytest.raises(cg.DTypeError, match=f"{dtype} result.*jax_enable_x64"):
        cg.conv(x, w, **SETTINGS)


def test_operands_are_read_only_and_stay_as_they_are() -> None:
    x, w, dy = operands("float32")
    assert not np.asarray(x).flags.writeable
    kept = [np.array(a) for a in (x, w, dy)]
    cg.backward(x, w, dy, **SETTINGS)
    assert all(np.array_equal(np.asarray(a), k) for a, k in zip((x, w, dy), kept, strict=True))


def test_out_cannot_be_a_jax_array() -> None:
    x, w, _ = operands("float32")
    with pytest.raises(cg.ArrayError, match="out is read-only"):
        cg.conv(x, w, **SETTINGS, out=jax.numpy.zeros(Y, "float32"))


@pytest.mark.parametrize("transform", ["jit", "grad", "vmap", "eval_shape"])
def test_tracers_are_refused(transform: str) -> None:
    x, w, _ = operands("float32")

    def function(x: Any) -> Any:
        return cg.conv(x, w, **SETTINGS).sum()

    with pytest.raises(cg.ArrayError, match="x is being traced by JAX"):
        {
            "jit": lambda: jax.jit(function)(x),
            "grad": lambda: jax.grad(function)(x),
            "vmap": lambda: jax.vmap(function)(x[None]),
            "eval_shape": lambda: jax.eval_shape(function, x),
        }[transform]()


def test_pure_callback_is_the_way_through_jit() -> None:
    """What the refusal of a tracer recommends."""
    x, w, dy = operands("float32")

    @jax.jit
    def function(x: Any, w: Any) -> Any:
        shape = jax.ShapeDtypeStruct(Y, "float32")
        return jax.pure_callback(lambda x, w: cg.conv(x, w, **SETTINGS), shape, x, w)

    assert np.array_equal(np.asarray(function(x, w)), np.asarray(by_jax(x, w, dy)[0]))


def test_other_dtypes_are_refused() -> None:
    x, w, _ = operands("int32")
    with pytest.raises(cg.DTypeError, match="x is int32"):
        cg.conv(x, w, **SETTINGS)


def test_mixed_kinds_are_refused() -> None:
    x, w, _ = operands("float32")
    with pytest.raises(cg.ArrayError, match="x is a JAX array but w is a NumPy array"):
        cg.conv(x, np.asarray(w), **SETTINGS)


def test_torch_and_jax_are_refused_together() -> None:
    torch = pytest.importorskip("torch")
    x, w, _ = operands("float32")
    with pytest.raises(cg.ArrayError, match="x is a PyTorch array but w is a JAX array"):
        cg.conv(torch.from_numpy(np.array(x)), w, **SETTINGS)
