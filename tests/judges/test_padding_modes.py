"""PyTorch's autograd judges the padding modes: values, gradients and second order of each."""

from typing import Any

import numpy as np
import pytest

import convgrad as cg

torch = pytest.importorskip("torch")

NUMPYS = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}
MODES = ("zeros", "constant", *NUMPYS)
DTYPES = (torch.float64, torch.complex128)
# x, w, padding, stride, dilation, groups
GEOMETRIES = (
    ((2, 3, 7), (4, 3, 3), [(1, 2)], 1, 1, 1),
    ((1, 2, 4), (2, 1, 3), [(3, 3)], 2, 1, 2),
    ((2, 2, 3), (3, 2, 5), [(7, 4)], 1, 2, 1),  # pads wider than the input
    ((2, 3, 5, 6), (2, 3, 3, 3), 1, 1, 1, 1),
    ((1, 4, 6, 5), (4, 2, 2, 3), [(0, 2), (3, 1)], (2, 3), 1, 2),
    ((2, 2, 4, 5), (2, 2, 3, 3), "same", 1, 2, 1),
    ((1, 2, 5, 4), (2, 1, 4, 3), "same_lower", 2, 1, 2),
    ((1, 1, 2, 1), (1, 1, 3, 4), [(3, 2), (4, 3)], 1, 1, 1),  # one column wide
    ((1, 2, 4, 3, 4), (2, 2, 3, 2, 3), [(1, 2), (0, 1), (2, 0)], (1, 2, 1), 1, 1),
)
by_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
by_mode = pytest.mark.parametrize("mode", MODES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def draw(shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def pad_value(mode: str, dtype: Any) -> complex:
    if mode != "constant":
        return 0
    return 0.75 - 2.5j if dtype.is_complex else -1.25


def plain_pads(geometry: Any) -> list[tuple[int, int]]:
    """The padding in numbers; "same" by the rule of TensorFlow, JAX and ONNX, ⌈in/s⌉ positions."""
    x_shape, w_shape, padding, stride, dilation, _ = geometry
    rank = len(x_shape) - 2
    if isinstance(padding, int):
        return [(padding, padding)] * rank
    if not isinstance(padding, str):
        return padding
    pads = []
    for n, k in zip(x_shape[2:], w_shape[2:], strict=True):
        positions = (n + stride - 1) // stride
        total = max((positions - 1) * stride + dilation * (k - 1) + 1 - n, 0)
        less, more = total // 2, (total + 1) // 2
        pads.append((less, more) if padding == "same" else (more, less))
    return pads


def padded(x: Any, mode: str, pads: list[tuple[int, int]], value: complex) -> Any:
    """x with its border, by NumPy's pad applied to the index of each cell."""
    for axis, (lo, hi) in enumerate(pads, start=2):
        if mode in NUMPYS:
            index = np.pad(np.arange(x.shape[axis]), (lo, hi), mode=NUMPYS[mode])
            x = x.index_select(axis, torch.from_numpy(index))
        else:
            border = [torch.full_like(x.narrow(axis, 0, 1), value)]
            x = torch.cat(border * lo + [x] + border * hi, axis)
    return x


def by_torch(geometry: Any, mode: str, x: Any, w: Any, flip: bool = False) -> Any:
    _, w_shape, _, stride, dilation, groups = geometry
    rank = len(w_shape) - 2
    convolution = getattr(torch.nn.functional, f"conv{rank}d")
    w = w.flip(tuple(range(2, rank + 2))) if flip else w
    x = padded(x, mode, plain_pads(geometry), pad_value(mode, x.dtype))
    return convolution(x, w, None, stride, 0, dilation, groups)


def settings_of(geometry: Any, mode: str) -> dict[str, Any]:
    _, _, padding, stride, dilation, groups = geometry
    return {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "padding_mode": mode,
    }  # fmt: skip


def agree(found: Any, wanted: Any) -> None:
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    scale = max(1.0, wanted.abs().max().item())
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("flip", [False, True], ids=["correlation", "flip"])
@by_dtype
@by_mode
@by_geometry
def test_value_and_gradients(geometry: Any, mode: str, dtype: Any, flip: bool) -> None:
    x, w = draw(geometry[0], 0, dtype), draw(geometry[1], 1, dtype)
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = by_torch(geometry, mode, *leaves, flip=flip)
    dy = draw(tuple(y.shape), 2, dtype)
    dx, dw = torch.autograd.grad(y, leaves, dy)
    settings = settings_of(geometry, mode) | {"flip": flip}
    value = {"padding_value": pad_value(mode, dtype)}
    agree(cg.conv(x, w, **settings, **value), y)
    agree(cg.input_grad(x.shape, w, dy, **settings), dx)
    agree(cg.weight_grad(x, w.shape, dy, **settings, **value), dw)


@by_dtype
@by_mode
@by_geometry
def test_second_order(geometry: Any, mode: str, dtype: Any) -> None:
    x, w = draw(geometry[0], 0, dtype), draw(geometry[1], 1, dtype)
    ddx, ddw = draw(geometry[0], 3, dtype), draw(geometry[1], 4, dtype)
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = by_torch(geometry, mode, *leaves)
    dy = draw(tuple(y.shape), 2, dtype).requires_grad_()
    grads = torch.autograd.grad(y, leaves, dy, create_graph=True)
    wanted = torch.autograd.grad(grads, (dy, *leaves), (ddx, ddw))
    found = cg.double_backward(
        x, w, dy.detach(), ddx, ddw, **settings_of(geometry, mode),
        padding_value=pad_value(mode, dtype),
    )  # fmt: skip
    for ours, theirs in zip(found, wanted, strict=True):
        agree(ours, theirs)


@by_dtype
@by_mode
@by_geometry
def test_forward_mode(geometry: Any, mode: str, dtype: Any) -> None:
    """The tangent along (tx, tw): the value is linear in x − border and in w, so differences do."""
    x, w = draw(geometry[0], 0, dtype), draw(geometry[1], 1, dtype)
    tx, tw = draw(geometry[0], 3, dtype), draw(geometry[1], 4, dtype)
    wanted = by_torch(geometry, mode, x + tx, w) - by_torch(geometry, mode, x, w)
    wanted = wanted + by_torch(geometry, mode, x, tw)
    found = cg.jvp(
        x, w, tx, tw, **settings_of(geometry, mode), padding_value=pad_value(mode, dtype)
    )
    agree(found, wanted)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pytorchs_own_pad(rank: int, mode: str) -> None:
    """F.pad with its own gradient, where PyTorch has the mode at all: pads within the input."""
    x = draw((2, 2, 5, 4, 6)[: rank + 2], 0, torch.float64).requires_grad_()
    w = draw((3, 2, 2, 3, 2)[: rank + 2], 1, torch.float64).requires_grad_()
    pads = [(2, 1), (1, 3), (0, 2)][:rank]
    flat = [cells for pair in reversed(pads) for cells in pair]
    border = torch.nn.functional.pad(x, flat, mode=mode)
    y = getattr(torch.nn.functional, f"conv{rank}d")(border, w)
    dy = draw(tuple(y.shape), 2, torch.float64)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    settings: dict[str, Any] = {"padding": pads, "padding_mode": mode}
    x, w = x.detach(), w.detach()
    agree(cg.conv(x, w, **settings), y)
    found = cg.backward(x, w, dy, needs=("x", "w"), **settings)
    agree(found.dx, dx)
    agree(found.dw, dw)
