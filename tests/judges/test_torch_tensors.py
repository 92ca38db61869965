"""PyTorch's CPU tensors as operands: every dtype and stride, results in kind, refusals by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import convgrad as cg
from convgrad.arrays import to_numpy

torch = pytest.importorskip("torch")

# PyTorch's own forward mode still uses what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip
X, W, Y = (2, 4, 6, 5), (6, 2, 3, 3), (2, 6, 6, 5)
SETTINGS: dict[str, Any] = {"padding": 1, "groups": 2}
PLAIN: dict[str, Any] = {**SETTINGS, "algorithm": "direct"}
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def whole(shape: tuple[int, ...], seed: int, dtype: Any = torch.float32) -> Any:
    """−1, 0 and 1: every sum of their products here is exact in every dtype, bfloat16 too."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-1, 2, shape, generator=generator).to(dtype)
    if dtype.is_complex:
        drawn = drawn + 1j * torch.randint(-1, 2, shape, generator=generator)
    return drawn


def operands(dtype: Any = torch.float32) -> tuple[Any, Any, Any, Any]:
    """x, w, b, dy."""
    shapes = (X, W, W[:1], Y)
    x, w, b, dy = (whole(shape, seed, dtype) for seed, shape in enumerate(shapes))
    return x, w, b, dy


def by_torch(x: Any, w: Any, b: Any, dy: Any) -> list[Any]:
    """[y, dx, dw, db] by PyTorch in double precision, rounded to x's dtype (exactly, here)."""
    wide = torch.complex128 if x.is_complex() else torch.float64
    leaves = [t.clone().to(wide).requires_grad_() for t in (x, w, b)]
    y = torch.nn.functional.conv2d(*leaves, padding=1, groups=2)
    return [t.detach().to(x.dtype) for t in (y, *torch.autograd.grad(y, leaves, dy.to(wide)))]


def by_convgrad(x: Any, w: Any, b: Any, dy: Any, **how: Any) -> list[Any]:
    return [cg.conv(x, w, b, **PLAIN, **how), *cg.backward(x, w, dy, **PLAIN, **how)]


def same(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted):
        assert type(ours) is torch.Tensor
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert not ours.requires_grad
        assert torch.equal(ours, theirs)


@by_dtype
def test_values_and_gradients(dtype: Any) -> None:
    given = operands(dtype)
    kept = [t.clone() for t in given]
    same(by_convgrad(*given), by_torch(*given))
    assert all(torch.equal(t, k) for t, k in zip(given, kept)), "an operand was written to"


@by_dtype
@pytest.mark.parametrize(
    "lay",
    [
        lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t,
        lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2) if t.ndim == 4 else t,
        lambda t: torch.stack([t, t + 1], dim=-1)[..., 0],
        lambda t: torch.cat([t + 1, t], dim=0)[len(t) :],
        lambda t: t.flip(0).flip(0),
    ],
    ids=["channels_last", "transposed", "every second cell", "offset", "contiguous"],
)
def test_strided_memory_is_used_as_it_lies(dtype: Any, lay: Callable[[Any], Any]) -> None:
    given = operands(dtype)
    laid = [lay(t) for t in given]
    for tensor in laid:
        array, _ = to_numpy("conv", "x", tensor)
        assert array.__array_interface__["data"][0] == tensor.data_ptr()
        assert array.strides == tuple(s * tensor.element_size() for s in tensor.stride())
    same(by_convgrad(*laid), by_torch(*given))


def test_broadcast_tensors_are_read() -> None:
    x, w, b, dy = operands()
    spread = [t[:1, :1].expand(t.shape) if t.ndim == 4 else t[:1].expand(t.shape) for t in (x, dy)]
    same(by_convgrad(spread[0], w, b, spread[1]), by_torch(spread[0], w, b, spread[1]))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_conjugate_and_negative_views(dtype: Any) -> None:
    x, w, b, dy = operands(dtype)
    lazy = [t.conj() for t in (x, w, b, dy)]
    assert all(t.is_conj() for t in lazy)
    same(by_convgrad(*lazy), by_torch(*(t.resolve_conj() for t in lazy)))
    negative = [t.conj().imag for t in (x, w, b, dy)]
    assert all(t.is_neg() for t in negative)
    same(by_convgrad(*negative), by_torch(*(t.resolve_neg() for t in negative)))
    real = [t.real for t in (x, w, b, dy)]
    same(by_convgrad(*real), by_torch(*(t.clone() for t in real)))


def every_call() -> dict[str, Callable[[Any, Any, Any, Any], Any]]:
    """Each public function, given x, w, b, dy of a 2-D convolution (of its transpose: dy, w)."""
    return {
        "conv": lambda x, w, b, dy: cg.conv(x, w, b, **SETTINGS),
        "input_grad": lambda x, w, b, dy: cg.input_grad(x.shape, w, dy, **SETTINGS),
        "weight_grad": lambda x, w, b, dy: cg.weight_grad(x, w.shape, dy, **SETTINGS),
        "weight_grad per sample": lambda x, w, b, dy: cg.weight_grad(
            x, w.shape, dy, **SETTINGS, per_sample=True
        ),
        "bias_grad": lambda x, w, b, dy: cg.bias_grad(dy),
        "backward": lambda x, w, b, dy: cg.backward(x, w, dy, **SETTINGS),
        "double_backward": lambda x, w, b, dy: cg.double_backward(x, w, dy, x, w, b, **SETTINGS),
        "jvp": lambda x, w, b, dy: cg.jvp(x, w, x, w, b, **SETTINGS),
        "conv_transpose": lambda x, w, b, dy: cg.conv_transpose(dy, w, **SETTINGS),
        "conv_transpose_backward": lambda x, w, b, dy: cg.conv_transpose_backward(
            dy, w, x, **SETTINGS
        ),
        "conv_transpose_double_backward": lambda x, w, b, dy: cg.conv_transpose_double_backward(
            dy, w, x, dy, w, **SETTINGS
        ),
        "plan": lambda x, w, b, dy: cg.plan(
            "forward", x.shape, w.shape, **SETTINGS, dtype=str(x.dtype).removeprefix("torch.")
        )(x, w, b),
        "im2col": lambda x, w, b, dy: cg.im2col(x, (3, 3), padding=1),
        "col2im": lambda x, w, b, dy: cg.col2im(cg.im2col(x, (3, 3)), x.shape, (3, 3)),
    }


@by_dtype
@pytest.mark.parametrize("call", every_call())
def test_every_function_answers_in_kind(call: str, dtype: Any) -> None:
    """The same numbers as for NumPy arrays, as tensors of the same dtype."""
    given = operands(dtype)
    found, wanted = every_call()[call](*given), every_call()[call](*map(as_numpy, given))
    found, wanted = (r if isinstance(r, tuple) else (r,) for r in (found, wanted))
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted):
        assert type(ours) is torch.Tensor
        assert ours.dtype == dtype
        assert isinstance(theirs, np.ndarray)
        assert np.array_equal(as_numpy(ours), theirs)


def as_numpy(tensor: Any) -> np.ndarray:
    import ml_dtypes

    if tensor.dtype == torch.bfloat16:
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy()


def test_unneeded_gradients_stay_none() -> None:
    x, w, _, dy = operands()
    dx, dw, db = cg.backward(x, w, dy, needs=("w",), **SETTINGS)
    assert dx is None
    assert db is None
    assert type(dw) is torch.Tensor


def test_empty_batch() -> None:
    x, w, b, dy = operands()
    y, dx, dw, db = by_convgrad(x[:0], w, b, dy[:0])
    assert y.shape == (0, *Y[1:])
    assert dx.shape == (0, *X[1:])
    assert torch.equal(dw, torch.zeros(W))
    assert torch.equal(db, torch.zeros(W[0]))


@by_dtype
@pytest.mark.parametrize("lay", ["contiguous", "channels_last", "inside a larger tensor"])
def test_out_is_written_in_place(dtype: Any, lay: str) -> None:
    x, w, b, dy = operands(dtype)
    y, dx, dw, _ = by_torch(x, w, b, dy)
    for wanted, call in (
        (y, lambda out: cg.conv(x, w, b, **PLAIN, out=out)),
        (dx, lambda out: cg.input_grad(X, w, dy, **PLAIN, out=out)),
        (dw, lambda out: cg.weight_grad(x, W, dy, **PLAIN, out=out)),
    ):
        whole_, out = memory(wanted.shape, dtype, lay)
        before = whole_.clone()
        pointer = out.data_ptr()
        assert call(out) is out
        assert out.data_ptr() == pointer
        assert torch.equal(out, wanted)
        out.fill_(7)
        assert torch.equal(whole_, before), "memory beside out was written to"


def memory(shape: tuple[int, ...], dtype: Any, lay: str) -> tuple[Any, Any]:
    """A tensor full of sevens and the part of it that serves as `out`."""
    if lay == "inside a larger tensor":
        whole_ = torch.full([n + 2 for n in shape], 7, dtype=dtype)
        return whole_, whole_[tuple(slice(1, -1) for _ in shape)]
    whole_ = torch.full(shape, 7, dtype=dtype)
    if lay == "channels_last":
        whole_ = whole_.to(memory_format=torch.channels_last)
    return whole_, whole_


@by_dtype
def test_scale_and_accumulate_into_a_tensor(dtype: Any) -> None:
    x, w, b, dy = operands(dtype)
    _, dx, dw, db = by_torch(x, w, b, dy)
    more: dict[str, Any] = {"scale": 0.5, "accumulate": True}
    for wanted, call in (
        (dx, lambda out: cg.input_grad(X, w, dy, **PLAIN, **more, out=out)),
        (dw, lambda out: cg.weight_grad(x, W, dy, **PLAIN, **more, out=out)),
        (db, lambda out: cg.bias_grad(dy, **more, out=out)),
    ):
        out = torch.ones(wanted.shape, dtype=dtype)
        assert call(out) is out
        assert torch.equal(out, wanted / 2 + 1)


@pytest.mark.parametrize("view", ["conjugate", "negative"])
def test_out_that_is_a_lazy_view_is_refused(view: str) -> None:
    """Its numbers are not what lies in memory: a result written to a copy would be lost."""
    base = torch.zeros(Y, dtype=torch.complex64)
    out = base.conj() if view == "conjugate" else base.conj().imag
    x, w, b, _ = operands(out.dtype)
    with pytest.raises(cg.ArrayError, match="out"):
        cg.conv(x, w, b, **PLAIN, out=out)
    assert torch.equal(base, torch.zeros_like(base))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y: y.double(), "out is float64, but the operands are float32"),
        (lambda y: y[:1], r"out is \(1, 6, 6, 5\), but the result is \(2, 6, 6, 5\)"),
        (lambda y: y[:1].expand(Y), "share memory"),
        (lambda y: y.requires_grad_(), "out requires grad"),
        (lambda y: y.to("meta"), "out is on meta"),
    ],
    ids=["dtype", "shape", "expanded", "requires grad", "meta"],
)
def test_out_that_cannot_be_written_is_refused(spoil: Callable[[Any], Any], message: str) -> None:
    x, w, _, _ = operands()
    with pytest.raises(cg.ConvError, match=message):
        cg.conv(x, w, **SETTINGS, out=spoil(torch.zeros(Y)))


def test_out_that_overlaps_an_operand_is_refused() -> None:
    memory_ = whole((3, 4, 6, 5), 0)
    w = whole((4, 2, 3, 3), 1)
    with pytest.raises(cg.ArrayError, match="out overlaps x"):
        cg.conv(memory_[:2], w, **SETTINGS, out=memory_[1:])


@pytest.mark.parametrize("which", ["x", "w", "b"])
def test_requires_grad_is_refused_with_the_way_out(which: str) -> None:
    given = dict(zip("xwb", operands()))
    given[which].requires_grad_()
    for context in (torch.enable_grad(), torch.no_grad()):
        with context, pytest.raises(cg.ArrayError, match=rf"{which} requires grad.*detach"):
            cg.conv(**given, **SETTINGS)
    given[which] = given[which].detach()
    assert type(cg.conv(**given, **SETTINGS)) is torch.Tensor


def test_a_dual_tensor_is_refused() -> None:
    """Forward-mode tangents would be lost in silence, as gradients would."""
    x, w, _, _ = operands()
    forward_ad = torch.autograd.forward_ad
    with forward_ad.dual_level(), pytest.raises(cg.ArrayError, match="x"):
        cg.conv(forward_ad.make_dual(x, torch.ones_like(x)), w, **SETTINGS)


@pytest.mark.parametrize("transform", ["vmap", "jvp", "grad"])
def test_tensors_inside_a_torch_func_transform_are_refused(transform: str) -> None:
    x, w, _, _ = operands()

    def function(x: Any) -> Any:
        return cg.conv(x, w, **SETTINGS).sum()

    with pytest.raises(cg.ArrayError, match="x"):
        {
            "vmap": lambda: torch.func.vmap(function)(x[None]),
            "jvp": lambda: torch.func.jvp(function, (x,), (x,)),
            "grad": lambda: torch.func.grad(function)(x),
        }[transform]()


def test_a_fake_tensor_is_refused() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, w, _, _ = operands()
    with FakeTensorMode() as mode, pytest.raises(cg.ArrayError, match="x"):
        cg.conv(mode.from_tensor(x), mode.from_tensor(w), **SETTINGS)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.to("meta"), cg.ArrayError, "x is on meta"),
        (lambda t: t.to_sparse(), cg.ArrayError, r"x is torch.sparse_coo; pass x.to_dense\(\)"),
        (lambda t: t.to(torch.int32), cg.DTypeError, "x is int32"),
        (lambda t: t.to(torch.bool), cg.DTypeError, "x is bool"),
        (lambda t: t.to(torch.float8_e4m3fn), cg.DTypeError, "x is torch.float8_e4m3fn"),
        (lambda t: t.double(), cg.DTypeError, "x is float64 but w is float32"),
        (lambda t: t.bfloat16(), cg.DTypeError, "x is bfloat16 but w is float32"),
        (lambda t: t.numpy(), cg.ArrayError, "x is a NumPy array but w is a PyTorch array"),
    ],
    ids=["meta", "sparse", "int32", "bool", "float8", "float64", "bfloat16", "NumPy"],
)
def test_refused_operands(change: Callable[[Any], Any], error: type, message: str) -> None:
    x, w, _, _ = operands()
    with pytest.raises(error, match=message):
        cg.conv(change(x), w, **SETTINGS)
