"""contracts.scipy_signal against SciPy itself, and its gradients against PyTorch, JAX and SciPy.

Numbers are whole and small, or whole and as wide as their dtype, so that nothing is rounded: the
tolerance is zero wherever the method is direct or the dtype an integer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from core.cases import cases, oracle
from hypothesis import example, given, settings
from hypothesis import strategies as st

import convgrad.contracts.scipy_signal as ours
from convgrad.contracts.scipy_signal import maps
from convgrad.contracts.signature import Case
from convgrad.errors import ArrayError, ConvError, DTypeError, SettingError, ShapeError

signal = pytest.importorskip("scipy.signal")

NAMES = ("convolve", "correlate")
PLANAR = ("convolve2d", "correlate2d")
MODES = ("full", "same", "valid")
BOUNDARIES = ("fill", "pad", "wrap", "circular", "symm", "symmetric")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float32", "float64", "complex64", "complex128")


@dataclass(frozen=True)
class Call:
    """A function's name, its settings, and operands to be drawn from a seed."""

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    settings: dict[str, Any]
    dtypes: tuple[str, str] = ("float64", "float64")
    wide: bool = False
    seed: int = 0

    @property
    def operands(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        return [whole(rng, s, d, self.wide) for s, d in zip(self.shapes, self.dtypes, strict=True)]

    def by(self, module: Any, *operands: np.ndarray, **more: Any) -> np.ndarray:
        return getattr(module, self.name)(*(operands or self.operands), **self.settings, **more)

    def backward(self, dy: Any, **more: Any) -> ours.Gradients:
        function = getattr(ours, self.name + "_backward")
        return function(dy, *self.operands, **self.settings, **more)


def whole(rng: np.random.Generator, shape: Any, dtype: Any, wide: bool = False) -> np.ndarray:
    """Whole numbers: small, or for integers any that the dtype holds."""
    dtype = np.dtype(dtype)
    if wide and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    numbers = rng.integers(0 if dtype.kind in "bu" else -5, 2 if dtype.kind == "b" else 6, shape)
    if dtype.kind == "c":
        numbers = numbers + 1j * rng.integers(-5, 6, shape)
    return numbers.astype(dtype)


@st.composite
def calls(draw: Any, dtypes: tuple[str, ...] = FLOATS, largest: int = 9) -> Call:
    """Any of the four functions; either operand may be the larger one, on some axes or on all."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))
    sizes = st.tuples(*[st.integers(1, {1: largest, 2: 6, 3: 4}[rank])] * rank)
    shapes = (draw(sizes), draw(sizes))
    name = draw(st.sampled_from(NAMES + PLANAR if rank == 2 else NAMES))
    settings: dict[str, Any] = {"mode": draw(st.sampled_from(MODES))}
    if name in PLANAR:
        settings["boundary"] = draw(st.sampled_from(BOUNDARIES))
        settings["fillvalue"] = draw(st.sampled_from((3, 0)))
    pair = (draw(st.sampled_from(dtypes)), draw(st.sampled_from(dtypes)))
    seed = draw(st.integers(0, 2**32 - 1))
    return Call(name, shapes, settings, pair, draw(st.booleans()), seed)


def plainly(call: Call) -> dict[str, str]:
    """The keyword that asks for plain sums, which convolve2d and correlate2d take unasked."""
    return {} if call.name in PLANAR else {"method": "direct"}


def same(got: Any, wanted: Any) -> None:
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted, strict=True)


@settings(max_examples=500)
@given(calls(INTEGERS + FLOATS))
def test_values_are_scipys(call: Call) -> None:
    dtype = np.result_type(*call.dtypes)
    wide = call.wide and dtype.kind in "iu"
    call = replace(call, wide=wide)
    try:
        wanted = call.by(signal, **plainly(call))
    except ValueError:
        with pytest.raises(ShapeError, match="mode='valid' needs"):
            call.by(ours, **plainly(call))
        return
    same(call.by(ours, **plainly(call)), wanted)


@settings(max_examples=60)
@given(calls(INTEGERS), st.sampled_from(("auto", "fft")))
def test_integers_are_exact_by_any_method(call: Call, method: str) -> None:
    """SciPy's own FFT rounds wide integers; its direct sums wrap around, and so do these."""
    call = replace(call, dtypes=(call.dtypes[0],) * 2)
    try:
        wanted = call.by(signal, **plainly(call))
    except ValueError:
        return
    same(call.by(ours, method=method), wanted)


@pytest.mark.parametrize("method", ["auto", "fft"])
def test_many_wide_integers_are_exact(method: str) -> None:
    """So many that float64 could not hold one sum of products, nor FFT round it."""
    rng = np.random.default_rng(0)
    in1, in2 = (whole(rng, n, "int64", wide=True) for n in (3000, 700))
    same(ours.convolve(in1, in2, "same", method), signal.convolve(in1, in2, "same", "direct"))
    image, kernel = (whole(rng, (n, n), "uint8", wide=True) for n in (60, 21))
    image, kernel = image.astype(np.int32), kernel.astype(np.int32)
    got = ours.correlate(image, kernel, "valid", method)
    same(got, signal.correlate(image, kernel, "valid", "direct"))


@settings(max_examples=80)
@given(calls(), st.sampled_from(("auto", "fft")))
def test_methods_differ_by_rounding_alone(call: Call, method: str) -> None:
    """SciPy's direct sums of small whole numbers are exact, and at most 2·5·5·36 in size."""
    try:
        wanted = call.by(signal, **plainly(call))
    except ValueError:
        return
    got = call.by(ours, method=method)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1800 * np.finfo(got.dtype).eps)


@st.composite
def batched(draw: Any) -> Call:
    """in1 and in2 with one to two convolved axes among up to four, broadcast in any way."""
    rank = draw(st.integers(2, 4))
    convolved = draw(st.sets(st.integers(0, rank - 1), min_size=1, max_size=min(2, rank - 1)))
    shapes: list[list[int]] = [[], []]
    for axis in range(rank):
        pair = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
        if axis not in convolved:
            n = draw(st.integers(0, 3))
            pair = draw(st.sampled_from(([n, n], [n, 1], [1, n])))
        for shape, n in zip(shapes, pair, strict=True):
            shape.append(n)
    signs = draw(st.lists(st.booleans(), min_size=rank, max_size=rank))
    axes = tuple(a - rank if signs[a] else a for a in draw(st.permutations(sorted(convolved))))
    planar = len(convolved) == 2 and draw(st.booleans())
    chosen: dict[str, Any] = {"mode": draw(st.sampled_from(MODES)), "axes": axes}
    if planar:
        chosen["boundary"] = draw(st.sampled_from(("fill", "wrap", "symm")))
        chosen["fillvalue"] = 2
    name = draw(st.sampled_from(PLANAR if planar else NAMES))
    kinds = st.sampled_from(("float64", "complex128"))
    pair = (draw(kinds), draw(kinds))
    shape1, shape2 = map(tuple, shapes)
    return Call(name, (shape1, shape2), chosen, pair, False, draw(st.integers(0, 2**32 - 1)))


def one_by_one(call: Call) -> np.ndarray:
    """SciPy's function on each pair of slices along the batch axes."""
    in1, in2 = call.operands
    axes = tuple(sorted(a % in1.ndim for a in call.settings["axes"]))
    last = tuple(range(-len(axes), 0))
    in1, in2 = np.moveaxis(in1, axes, last), np.moveaxis(in2, axes, last)
    lead = np.broadcast_shapes(in1.shape[: -len(axes)], in2.shape[: -len(axes)])
    chosen = {k: v for k, v in call.settings.items() if k != "axes"} | plainly(call)
    sizes1, sizes2 = in1.shape[-len(axes) :], in2.shape[-len(axes) :]
    function = getattr(signal, call.name)
    empty = function(np.zeros(sizes1), np.zeros(sizes2), **chosen)
    y = np.zeros(lead + empty.shape, np.result_type(in1, in2))
    in1, in2 = np.broadcast_to(in1, lead + sizes1), np.broadcast_to(in2, lead + sizes2)
    for at in np.ndindex(*lead):
        y[at] = function(in1[at], in2[at], **chosen)
    return np.moveaxis(y, last, axes)


@settings(max_examples=250)
@given(batched())
@example(Call("correlate", ((3, 1, 4), (1, 2, 2)), {"mode": "same", "axes": (-1,)}))
@example(Call("convolve", ((2, 3), (2, 5)), {"mode": "same", "axes": (1,)}))
def test_batch_axes_broadcast(call: Call) -> None:
    try:
        wanted = one_by_one(call)
    except ValueError:
        with pytest.raises(ShapeError, match="mode='valid' needs"):
            call.by(ours)
        return
    same(call.by(ours, **plainly(call)), wanted)


@pytest.mark.parametrize("mode", ["full", "valid"])
def test_axes_are_those_of_fftconvolve(mode: str) -> None:
    rng = np.random.default_rng(1)
    in1, in2 = rng.standard_normal((2, 3, 9, 8)), rng.standard_normal((1, 3, 4, 3))
    wanted = signal.fftconvolve(in1, in2, mode, axes=(-2, -1))
    for method in ("auto", "direct", "fft"):
        got = ours.convolve(in1, in2, mode, method, axes=(3, -2))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-13)


def test_a_batch_is_one_call_of_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    for name in ("plan", "input_grad", "weight_grad"):
        own = getattr(maps, name)
        monkeypatch.setattr(
            maps, name, lambda *a, _own=own, **k: counted.append(_own) or _own(*a, **k)
        )
    images, kernels = np.ones((5, 4, 1, 8, 8)), np.ones((1, 4, 3, 3, 3))
    y = ours.convolve(images, kernels, "same", axes=(-2, -1))
    ours.convolve_backward(y, images, kernels, "same", axes=(-2, -1))
    assert y.shape == (5, 4, 3, 8, 8)
    assert len(counted) == 3


def slopes(call: Call, dy: np.ndarray, forward: Any) -> list[np.ndarray]:
    """∂L/∂Re + i·∂L/∂Im of L = Re Σ conj(dy)·y for each number, by differences.

    y is affine in each operand, so that a central difference of step 1 is exact.
    """
    found = []
    operands = call.operands
    for which, operand in enumerate(operands):
        slope = np.zeros(operand.shape, operand.dtype)
        for at in np.ndindex(*operand.shape):
            for unit in (1, 1j) if operand.dtype.kind == "c" else (1,):
                losses = []
                for step in (unit, -unit):
                    moved = [o.copy() for o in operands]
                    moved[which][at] += step
                    losses.append(np.sum(np.conj(dy) * forward(*moved)).real)
                slope[at] += unit * ((losses[0] - losses[1]) / 2)
        found.append(slope)
    return found


@settings(max_examples=120)
@given(calls(("float64", "complex128"), largest=5))
def test_gradients_are_scipys_slopes(call: Call) -> None:
    """The forward is SciPy's own; complex operands beside real ones are among them."""
    forward = getattr(signal, call.name)
    try:
        y = call.by(signal, **plainly(call))
    except ValueError:
        return
    dy = whole(np.random.default_rng(call.seed ^ 1), y.shape, y.dtype)
    wanted = slopes(call, dy, lambda *o: forward(*o, **call.settings, **plainly(call)))
    for got, want in zip(call.backward(dy, **plainly(call)), wanted, strict=True):
        same(got, want)


@settings(max_examples=60)
@given(batched())
def test_gradients_of_what_is_broadcast_are_sums(call: Call) -> None:
    """Re⟨dy, y⟩ changes by Re⟨din, t⟩ where an operand changes by t; in whole numbers exactly."""
    try:
        y = call.by(ours, **plainly(call))
    except ShapeError:
        return
    rng = np.random.default_rng(call.seed ^ 1)
    dy = whole(rng, y.shape, y.dtype)
    in1, in2 = call.operands
    found = call.backward(dy, **plainly(call))
    for i, (operand, grad) in enumerate(zip((in1, in2), found, strict=True)):
        assert grad.shape == operand.shape
        assert grad.dtype == operand.dtype
        t = whole(rng, operand.shape, operand.dtype)
        moved = call.by(ours, *((in1 + t, in2) if i == 0 else (in1, in2 + t)), **plainly(call))
        assert np.sum(dy.conj() * (moved - y)).real == np.sum(grad.conj() * t).real


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_pytorchs(name: str, mode: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    call = Call(name, ((6, 7), (2, 4)), {"mode": mode}, (dtype, dtype))
    leaves = [torch.from_numpy(o).requires_grad_() for o in call.operands]
    in2 = leaves[1].conj() if name == "correlate" else leaves[1].flip((0, 1))
    pads = {"full": (1, 1, 3, 3), "valid": (0, 0, 0, 0), "same": (1, 0, 2, 1)}[mode]
    padded = torch.nn.functional.pad(leaves[0], pads[2:] + pads[:2])
    y = torch.nn.functional.conv2d(padded[None, None], in2[None, None])[0, 0]
    same(call.by(ours, method="direct"), y.resolve_conj().detach().numpy())
    dy = whole(np.random.default_rng(1), tuple(y.shape), dtype)
    y.backward(torch.from_numpy(dy))
    for got, leaf in zip(call.backward(dy, method="direct"), leaves, strict=True):
        assert leaf.grad is not None
        same(got, leaf.grad.resolve_conj().numpy())


@contextmanager
def double_precision(jax: Any) -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES + PLANAR)
def test_gradients_are_the_conjugates_of_jaxs(name: str, mode: str, dtype: str) -> None:
    jax = pytest.importorskip("jax")
    import jax.scipy.signal as theirs

    small, large = (2, 3), (5, 6)
    with double_precision(jax):
        for shapes in ((large, small), (small, large)):
            call = Call(name, shapes, {"mode": mode}, (dtype, dtype))
            forward = getattr(theirs, name)
            y, vjp = jax.vjp(lambda *o, f=forward: f(*o, mode=mode), *call.operands)
            dy = whole(np.random.default_rng(2), y.shape, dtype)
            wanted = vjp(jax.numpy.asarray(dy.conj()))
            for got, want in zip(call.backward(dy), wanted, strict=True):
                np.testing.assert_allclose(got, np.conj(want), rtol=0, atol=1e-11)


def test_needs() -> None:
    in1, in2, dy = [1.0, 2, 3], [4.0, 5], [1.0, 1, 1]
    both = ours.convolve_backward(dy, in1, in2, "same")
    assert both.din1.tolist() == [9, 9, 4]
    assert both.din2.tolist() == [6, 3]
    for name in ("in1", "in2"):
        alone = ours.convolve_backward(dy, in1, in2, "same", needs=(name,))
        assert [g is None for g in alone] == [name != "in1", name != "in2"]
        same(getattr(alone, "d" + name), getattr(both, "d" + name))


@pytest.mark.parametrize(
    ("dtypes", "dy", "wanted"),
    [
        (("float32", "float64"), "float64", ("float32", "float64")),
        (("float32", "float32"), "float64", ("float32", "float32")),
        (("uint8", "float32"), "float32", ("float32", "float32")),
        (("uint8", "int16"), "int64", ("float64", "float64")),
        (("bool", "float64"), "float64", ("float64", "float64")),
        (("float16", "float16"), "float16", ("float16", "float16")),
        (("complex64", "float32"), "complex64", ("complex64", "float32")),
        (("complex64", "uint8"), "complex64", ("complex64", "float32")),
        (("float64", "complex128"), "float64", ("float64", "complex128")),
    ],
    ids=str,
)
def test_dtypes_of_gradients(dtypes: tuple[str, str], dy: str, wanted: tuple[str, str]) -> None:
    """Each in its operand's dtype, and equal to what float64 gives for the same numbers."""
    call = Call("correlate", ((6,), (4,)), {"mode": "full"}, dtypes)
    grad = whole(np.random.default_rng(1), 9, dy)
    found = call.backward(grad)
    assert [g.dtype.name for g in found] == list(wanted)
    wide = [o.astype(complex if o.dtype.kind == "c" else float) for o in call.operands]
    for got, want in zip(found, ours.correlate_backward(grad, *wide), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


DTYPES = ("bool", "float16", *INTEGERS, *FLOATS)


@pytest.mark.parametrize("name", NAMES + PLANAR)
def test_dtypes_promote_as_scipys(name: str) -> None:
    """SciPy's sums of two and more axes know no bool and no float16; here they are computed."""
    for pair in np.ndindex(len(DTYPES), len(DTYPES)):
        dtypes = tuple(DTYPES[i] for i in pair)
        for shapes in (((5,), (2,)), ((4, 3), (2, 2))):
            if name in PLANAR and len(shapes[0]) == 1:
                continue
            call = Call(name, shapes, {"mode": "full"}, dtypes)
            got = call.by(ours, **plainly(call))
            assert got.dtype == np.result_type(*dtypes)
            if len(shapes[0]) == 1 or not {"bool", "float16"}.issuperset({got.dtype.name}):
                same(got, call.by(signal, **plainly(call)))


def test_bool_is_any_product() -> None:
    rng = np.random.default_rng(5)
    in1, in2 = rng.random((9, 8)) < 0.2, rng.random((3, 4)) < 0.3
    counted = signal.convolve(in1.astype(int), in2.astype(int), "same")
    for method in ("auto", "direct", "fft"):
        same(ours.convolve(in1, in2, "same", method), counted > 0)


def test_half_precision_is_rounded_once() -> None:
    rng = np.random.default_rng(6)
    in1, in2 = rng.standard_normal((20, 20)), rng.standard_normal((5, 5))
    in1, in2 = in1.astype(np.float16), in2.astype(np.float16)
    wide = signal.convolve2d(in1.astype(float), in2.astype(float))
    for method in ("direct", "fft"):
        got = ours.convolve(in1, in2, "full", method)
        np.testing.assert_allclose(got, wide, rtol=2**-11, atol=1e-5)


def test_lists_numbers_and_scalars() -> None:
    same(ours.convolve([1, 2, 3], [0, 1, 0.5]), signal.convolve([1, 2, 3], [0, 1, 0.5]))
    for pair in ((2, 3), (2.5, 3), (True, True), (2j, 3j), (np.uint8(200), np.uint8(2))):
        for name in NAMES:
            got, wanted = getattr(ours, name)(*pair), getattr(signal, name)(*pair)
            assert (got, type(got)) == (wanted, type(wanted))
    assert ours.correlate_backward(1 + 1j, 2j, 3j) == (-3 + 3j, 2 + 2j)
    with pytest.raises(
        SettingError, match="axes=0, but in1 and in2 are numbers, which have no axes"
    ):
        ours.convolve(2, 3, axes=0)


@pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning")
@pytest.mark.parametrize("shapes", [((0,), (3,)), ((3,), (0,)), ((0,), (0,)), ((0, 3), (2, 2))])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_empty_arrays(name: str, mode: str, shapes: Any) -> None:
    call = Call(name, shapes, {"mode": mode})
    try:
        wanted = call.by(signal)
    except ValueError:
        with pytest.raises(ShapeError):
            call.by(ours)
        return
    same(call.by(ours), wanted)
    assert [g.tolist() for g in call.backward(wanted)] == [
        np.zeros(shape).tolist() for shape in shapes
    ]


@pytest.mark.parametrize(
    "shapes",
    [((0, 3), (2, 2)), ((2, 2), (0, 3)), ((0, 3), (1, 1)), ((0, 3), (0, 2)), ((1, 3), (0, 0))],
    ids=str,
)
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PLANAR)
def test_empty_images(name: str, mode: str, boundary: str, shapes: Any) -> None:
    settings = {"mode": mode, "boundary": boundary, "fillvalue": 5 - 2j}
    call = Call(name, shapes, settings, ("complex128", "complex128"))
    if boundary != "fill" and mode == "full" and shapes == ((0, 3), (2, 2)):
        with pytest.raises(ShapeError, match="at least one cell"):  # SciPy is killed here
            call.by(ours)
        return
    try:
        wanted = call.by(signal)
    except ValueError:
        with pytest.raises(ShapeError):
            call.by(ours)
        return
    same(call.by(ours), wanted)
    dy = whole(np.random.default_rng(1), wanted.shape, "complex128")
    found = slopes(call, dy, lambda *o: getattr(signal, name)(*o, **call.settings))
    for got, want in zip(call.backward(dy), found, strict=True):
        same(got, want)


@pytest.mark.parametrize(
    "fill", [1, -2, 1.5, True, [3], np.float64(-2.5), np.array([[4]])], ids=str
)
@pytest.mark.parametrize("dtype", ["int64", "float32", "complex128"])
def test_fillvalues_are_scipys(dtype: str, fill: Any) -> None:
    settings = {"mode": "full", "boundary": "fill", "fillvalue": fill}
    call = Call("convolve2d", ((3, 4), (2, 3)), settings, (dtype, dtype))
    number = np.asarray(fill).item()  # SciPy takes few arrays, but every number
    same(call.by(ours), replace(call, settings={**settings, "fillvalue": number}).by(signal))


def test_complex_fill() -> None:
    settings = {"mode": "same", "boundary": "fill", "fillvalue": 2 - 1j}
    for name in PLANAR:
        call = Call(name, ((4, 3), (2, 3)), settings, ("complex128", "complex128"))
        wanted = call.by(signal)
        same(call.by(ours), wanted)
        dy = whole(np.random.default_rng(3), wanted.shape, "complex128")
        found = slopes(call, dy, lambda *o, n=name: getattr(signal, n)(*o, **settings))
        for got, want in zip(call.backward(dy), found, strict=True):
            same(got, want)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_direct_keeps_nan_and_infinity_where_they_belong(mode: str, odd: float, which: int) -> None:
    """np.convolve never multiplies padding; SciPy does, where "same" has a smaller in1."""
    rng = np.random.default_rng(7)
    for n1, n2 in ((30, 4), (4, 30), (200, 70)):
        in1, in2 = (rng.integers(1, 6, n).astype(float) for n in (n1, n2))
        (in1, in2)[which][1] = odd
        start, out = {
            "full": (0, n1 + n2 - 1),
            "same": ((n2 - 1) // 2, n1),
            "valid": (min(n1, n2) - 1, abs(n1 - n2) + 1),
        }[mode]
        wanted = np.convolve(in1, in2)[start : start + out]
        same(ours.convolve(in1, in2, mode, "direct"), wanted)


def test_fft_warns_of_a_nan() -> None:
    with pytest.warns(RuntimeWarning, match="convolve: FFT spreads a NaN") as seen:
        y = ours.convolve([np.nan, 1, 2], [1.0, 2], method="fft")
    assert np.isnan(y).all()
    assert seen[0].filename == __file__


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (SettingError, "convolve: mode='middle'", lambda o: o.convolve([1], [1], "middle")),
        (SettingError, "correlate: mode must be", lambda o: o.correlate([1], [1], 2)),
        (SettingError, "method='slow'", lambda o: o.convolve([1], [1], method="slow")),
        (SettingError, "boundary='reflect'",
         lambda o: o.convolve2d([[1]], [[1]], "full", "reflect")),
        (SettingError, "fillvalue=300 is no uint8", lambda o: _filled(o, 300, "uint8")),
        (SettingError, "fillvalue=-1 is no uint8", lambda o: _filled(o, -1, "uint8")),
        (SettingError, "fillvalue=nan is no int64", lambda o: _filled(o, np.nan, "int64")),
        (SettingError, "fillvalue=2j is no float64", lambda o: _filled(o, 2j, "float64")),
        (SettingError, "must be one number", lambda o: _filled(o, [1, 2], "float64")),
        (SettingError, "must be one number", lambda o: _filled(o, None, "float64")),
        (SettingError, "must be one number", lambda o: _filled(o, "a", "float64")),
        (SettingError, "must be one number, not .*2", lambda o: _filled(o, [[1], [1, 2]], "int8")),
        (SettingError, "names no axis", lambda o: o.convolve([1], [1], axes=())),
        (SettingError, "must lie in -1 … 0", lambda o: o.convolve([1], [1], axes=1)),
        (SettingError, "names an axis twice", lambda o: o.convolve([[1]], [[1]], axes=(1, -1))),
        (SettingError, "two axes of an image", lambda o: o.convolve2d([[1]], [[1]], axes=1)),
        (ShapeError, "same number of axes", lambda o: o.convolve([[1, 2]], [1, 2])),
        (ShapeError, "both need 2 axes", lambda o: o.correlate2d([1], [1])),
        (ShapeError, "axis 0, which is not in",
         lambda o: o.convolve(_ones(2, 3), _ones(3, 3), axes=1)),
        (ShapeError, "mode='valid' needs", lambda o: o.convolve(_ones(2, 5), _ones(3, 3), "valid")),
        (ShapeError, "dy is .3,.*is .4,.",
         lambda o: o.convolve_backward([1, 2, 3], [1, 2, 3], [1, 2])),
        (DTypeError, "in1 is object", lambda o: o.convolve([1, 2**70], [1])),
        (DTypeError, "in2 is datetime64", lambda o: o.convolve([1.0], np.zeros(1, "M8[D]"))),
        (DTypeError, "in1 is str", lambda o: o.convolve(["a"], [1])),
        (DTypeError, "dy is complex128", lambda o: o.convolve_backward([1j], [1.0], [2.0])),
        (DTypeError, "no gradient", lambda o: o.convolve_backward([1.0], [True], [True])),
        (ArrayError, "in1 is no array", lambda o: o.convolve([[1], [2, 3]], [[1]])),
        (ArrayError, "in1 is a dict", lambda o: o.convolve({}, [1])),
        (ArrayError, "masked", lambda o: o.convolve(np.ma.array([1.0]), [1.0])),
        (SettingError, "needs='x'", lambda o: o.correlate_backward([1], [1], [1], needs="x")),
    ],
)  # fmt: skip
def test_refusals(error: type[ConvError], match: str, call: Any) -> None:
    with pytest.raises(error, match=match):
        call(ours)


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape)


def _filled(module: Any, fillvalue: Any, dtype: str) -> Any:
    return module.convolve2d(np.ones((1, 2), dtype), np.ones((1, 2), dtype), fillvalue=fillvalue)


SIGNATURES = {signature.name: signature for signature in ours.CONTRACT.signatures}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_contract_needs_only_scipys_convention(name: str) -> None:
    """Drawn convolutions through the Signature; the forward ones with SciPy's own function too."""
    signature = SIGNATURES[name]

    @settings(max_examples=25)
    @given(cases(ranks=(2,) if "2d" in name else (1, 2, 3)), st.sampled_from(MODES))
    def check(drawn: Any, mode: str) -> None:
        late = int(name.startswith("correlate2d"))
        pads = {
            "full": [(k - 1, k - 1) for k in drawn.kernel],
            "same": [((k - late) // 2, (k + late - 1) // 2) for k in drawn.kernel],
            "valid": [(0, 0)] * drawn.rank,
        }[mode]
        ones = (1,) * drawn.rank
        size = tuple(max(n, k) for n, k in zip(drawn.in_size, drawn.kernel, strict=True))
        drawn = replace(drawn, stride=ones, dilation=ones, pads=tuple(pads), in_size=size)
        x, w, b, dy = drawn.integers()
        case = Case(x, w, b, dy, ones, drawn.pads, ones, drawn.groups)
        assert signature.refuses(case) is None
        wanted = dict(zip(("y", "dx", "dw", "db"), oracle(drawn, x, w, b, dy), strict=True))
        functions = [signature.function]
        functions += [getattr(signal, name)] if hasattr(signal, name) else []
        for function in functions:
            found = signature.call(function, case)
            assert set(found) == set(signature.gives)
            for key, got in found.items():
                np.testing.assert_array_equal(got, wanted[key], err_msg=key)

    check()


def test_the_contract_says_what_it_cannot_express() -> None:
    x, w = np.ones((1, 1, 5)), np.ones((1, 1, 2))
    plain = Case(x, w, np.ones(1), np.ones((1, 1, 4)), (1,), ((0, 0),), (1,), 1)
    refuses = SIGNATURES["convolve"].refuses
    assert refuses(plain) is None
    assert "stride" in str(refuses(replace(plain, stride=(2,))))
    assert "dilation" in str(refuses(replace(plain, dilation=(2,))))
    assert "padding" in str(refuses(replace(plain, pads=((2, 2),))))
    assert "transposed" in str(refuses(replace(plain, transposed=True)))
    assert "two axes" in str(SIGNATURES["convolve2d"].refuses(plain))
