"""JAX as a judge: conv_general_dilated, its vjp, jvp and second order, in double precision."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import convgrad as cg

jax = pytest.importorskip("jax")

NAMES = {"valid": "VALID", "same": "SAME", "same_lower": "SAME_LOWER"}
AXES = {1: "W", 2: "HW", 3: "DHW", 4: "ABDE"}


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@dataclass(frozen=True)
class Case:
    """A convolution; shapes are channels-first, x (N, C, *in) and w (O, C/G, *kernel)."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    stride: tuple[int, ...] | int = 1
    padding: Any = 0
    dilation: tuple[int, ...] | int = 1
    groups: int = 1

    @property
    def rank(self) -> int:
        return len(self.x_shape) - 2

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "stride": self.stride, "padding": self.padding,
            "dilation": self.dilation, "groups": self.groups,
        }  # fmt: skip

    def each(self, value: Any) -> tuple[Any, ...]:
        return (value,) * self.rank if isinstance(value, int) else tuple(value)

    @property
    def pads(self) -> Any:
        """The padding as JAX takes it."""
        if isinstance(self.padding, str):
            return NAMES[self.padding]
        return [(p, p) if isinstance(p, int) else p for p in self.each(self.padding)]

    def __str__(self) -> str:
        return f"{self.x_shape}*{self.w_shape} {self.settings}".replace(" ", "")


CASES = (
    Case((2, 3, 9), (4, 3, 3)),
    Case((2, 3, 10), (4, 3, 4), 3, [(2, 1)], 2),
    Case((1, 4, 12), (6, 2, 3), 2, "same", 1, 2),
    Case((2, 4, 11), (4, 1, 4), 3, "same_lower", 2, 4),
    Case((2, 2, 7), (3, 2, 7), 1, "valid"),
    Case((1, 2, 5), (2, 2, 4), 4, [(0, 6)]),
    Case((2, 3, 6, 7), (4, 3, 3, 3), 1, 1),
    Case((2, 3, 8, 7), (2, 3, 3, 2), (2, 3), [(1, 2), (0, 3)], (2, 1)),
    Case((1, 4, 7, 8), (8, 1, 3, 3), 2, "same", 1, 4),
    Case((2, 4, 8, 8), (4, 2, 4, 4), (3, 2), "same", (1, 2), 2),
    Case((2, 4, 8, 8), (4, 2, 4, 4), (3, 2), "same_lower", (1, 2), 2),
    Case((1, 3, 9, 5), (2, 3, 1, 5), (4, 1), "valid"),
    Case((2, 2, 5, 5), (3, 2, 2, 2), 3, "valid"),
    Case((3, 6, 4, 4), (9, 2, 1, 1), 1, 0, 1, 3),
    Case((1, 1, 3, 3), (1, 1, 5, 5), 1, [(4, 3), (2, 5)]),
    Case((1, 1, 2, 2), (1, 1, 3, 3), 1, "same", 4),
    Case((0, 2, 5, 5), (3, 2, 3, 3), 1, 1),
    Case((2, 2, 5, 4, 6), (3, 2, 3, 2, 3), (2, 1, 2), [(1, 0), (0, 1), (2, 2)]),
    Case((1, 4, 4, 5, 4), (4, 2, 2, 3, 2), 1, "same", (2, 1, 2), 2),
    Case((1, 2, 6, 5, 7), (2, 1, 3, 3, 4), (2, 3, 2), "same_lower", 1, 2),
    Case((1, 2, 4, 3, 4, 3), (3, 2, 2, 2, 3, 1), (1, 2, 1, 1), [(0, 1), (1, 1), (1, 0), (0, 0)]),
    Case((2, 2, 4, 3, 3, 4), (2, 1, 3, 2, 2, 3), (2, 1, 1, 2), "same", 1, 2),
)
LAYOUTS = ("channels_first", "channels_last")
parametrize_cases = pytest.mark.parametrize("case", CASES, ids=str)


def draw(shape: tuple[int, ...], seed: int, layout: str = "channels_first") -> np.ndarray:
    array = np.random.default_rng(seed).standard_normal(shape)
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


def by_jax(case: Case, layout: str) -> Any:
    """y = f(x, w) in JAX."""
    axes = AXES[case.rank]
    image, kernel = ("NC" + axes, "OI" + axes)
    if layout == "channels_last":
        image, kernel = ("N" + axes + "C", "O" + axes + "I")

    def convolution(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, case.each(case.stride), case.pads,
            rhs_dilation=case.each(case.dilation), feature_group_count=case.groups,
            dimension_numbers=(image, kernel, image),
        )  # fmt: skip

    return convolution


def agree(found: Any, wanted: Any) -> None:
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    scale = max(1.0, np.abs(wanted).max(initial=0))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize(
    ("case", "layout"),
    [(case, LAYOUTS[0]) for case in CASES] + [(case, LAYOUTS[1]) for case in CASES[1::2]],
    ids=str,
)
def test_value_and_vjp(case: Case, layout: str) -> None:
    x, w = draw(case.x_shape, 0, layout), draw(case.w_shape, 1, layout)
    y, vjp = jax.vjp(by_jax(case, layout), x, w)
    agree(cg.conv(x, w, layout=layout, **case.settings), y)
    dy = draw(y.shape, 2)
    dx, dw = vjp(jax.numpy.asarray(dy))
    agree(cg.input_grad(x.shape, w, dy, layout=layout, **case.settings), dx)
    agree(cg.weight_grad(x, w.shape, dy, layout=layout, **case.settings), dw)


@parametrize_cases
def test_second_order_and_forward_mode(case: Case) -> None:
    layout = LAYOUTS[CASES.index(case) % 2]
    x, w = draw(case.x_shape, 0, layout), draw(case.w_shape, 1, layout)
    ddx, ddw = draw(case.x_shape, 3, layout), draw(case.w_shape, 4, layout)
    function = by_jax(case, layout)
    y, ty = jax.jvp(function, (x, w), (ddx, ddw))
    agree(cg.jvp(x, w, ddx, ddw, layout=layout, **case.settings), ty)

    def gradients(x: Any, w: Any, dy: Any) -> Any:
        return jax.vjp(function, x, w)[1](dy)

    dy = draw(y.shape, 2)
    _, vjp = jax.vjp(gradients, x, w, jax.numpy.asarray(dy))
    dx, dw, ddy = vjp((jax.numpy.asarray(ddx), jax.numpy.asarray(ddw)))
    found = cg.double_backward(x, w, dy, ddx, ddw, layout=layout, **case.settings)
    for ours, theirs in zip(found, (ddy, dx, dw), strict=True):
        agree(ours, theirs)


@parametrize_cases
def test_each_algorithm(case: Case) -> None:
    x, w = draw(case.x_shape, 0), draw(case.w_shape, 1)
    y, vjp = jax.vjp(by_jax(case, "channels_first"), x, w)
    dy = draw(y.shape, 2)
    wanted = vjp(jax.numpy.asarray(dy))
    for algorithm in ("direct", "im2col", "rot180", "fft"):
        agree(cg.conv(x, w, algorithm=algorithm, **case.settings), y)
        grads = cg.backward(x, w, dy, needs=("x", "w"), algorithm=algorithm, **case.settings)
        for ours, theirs in zip(grads[:2], wanted, strict=True):
            agree(ours, theirs)


@pytest.mark.parametrize("padding", ["same", "valid", [(1, 2), (2, 0)]], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize(("layout", "kernel"), list(zip(LAYOUTS, [(3, 3), (2, 4)], strict=True)))
def test_transposed(layout: str, kernel: tuple[int, int], stride: int, padding: Any) -> None:
    x, w = draw((2, 3, 4, 5), 0, layout), draw((3, 2, *kernel), 1, layout)
    last = layout == "channels_last"
    names = ("NHWC", "OHWI", "NHWC") if last else ("NCHW", "OIHW", "NCHW")
    pads = NAMES[padding] if isinstance(padding, str) else outer_pads(kernel, padding)

    def transposed(x: Any, w: Any) -> Any:
        return jax.lax.conv_transpose(
            x, w, (stride, stride), pads, dimension_numbers=names, transpose_kernel=True
        )

    y, vjp = jax.vjp(transposed, x, w)
    if padding == "valid":  # JAX pads a stride beyond the kernel with zeros, which are no gradient
        extra = tuple(max(stride - k, 0) for k in kernel)
    else:
        extra = (0, 0)
    settings: dict[str, Any] = {"padding": padding, "output_padding": extra, "layout": layout}
    agree(cg.conv_transpose(x, w, None, stride, **settings), y)
    dy = draw(y.shape, 2)
    found = cg.conv_transpose_backward(x, w, dy, stride, needs=("x", "w"), **settings)
    for ours, theirs in zip(found[:2], vjp(jax.numpy.asarray(dy)), strict=True):
        agree(ours, theirs)


def outer_pads(kernel: tuple[int, int], pads: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """JAX pads the stretched input by K − 1 − pad where convgrad crops the output by pad."""
    return [(k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel, pads, strict=True)]


@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_complex_gradients_are_the_conjugates_of_jaxs(case: Case) -> None:
    """JAX's vjp never conjugates: convgrad's dx(dy) is conj(vjp(conj(dy)))."""
    x = draw(case.x_shape, 0) + 1j * draw(case.x_shape, 5)
    w = draw(case.w_shape, 1) + 1j * draw(case.w_shape, 6)
    y, vjp = jax.vjp(by_jax(case, "channels_first"), x, w)
    agree(cg.conv(x, w, **case.settings), y)
    dy = draw(y.shape, 2) + 1j * draw(y.shape, 7)
    grads = cg.backward(x, w, dy, needs=("x", "w"), **case.settings)
    for ours, theirs in zip(grads[:2], vjp(jax.numpy.asarray(dy.conj())), strict=True):
        agree(ours, np.conj(theirs))
