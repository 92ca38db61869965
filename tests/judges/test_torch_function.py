"""PyTorch's gradcheck and gradgradcheck judge backward, double_backward and jvp themselves.

A torch.autograd.Function is made of convgrad's calls alone: forward conv, its derivative backward,
the derivative of that double_backward; the tangent is jvp.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

import convgrad as cg

torch = pytest.importorskip("torch")

# PyTorch's own forward mode still uses what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
# Each map is linear in each operand, so a long step of differences is exact but for rounding.
SHARP = {"eps": 1e-3, "atol": 1e-8, "rtol": 1e-8}


@dataclass(frozen=True)
class Call:
    """conv or conv_transpose of these shapes, with its settings."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    transposed: bool = False

    def __str__(self) -> str:
        text = ",".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{'transposed ' * self.transposed}{self.x_shape}*{self.w_shape} {text}"

    @property
    def channels(self) -> int:
        """Output channels, the size of b."""
        if not self.transposed:
            return self.w_shape[0]
        last = self.settings.get("layout", "").endswith("C")
        return self.w_shape[-1 if last else 1] * self.settings.get("groups", 1)

    def forward(self, x: Any, w: Any, b: Any) -> Any:
        function = cg.conv_transpose if self.transposed else cg.conv
        return function(x, w, b, **self.settings)

    def backward(self, *operands: Any) -> Any:
        function = cg.conv_transpose_backward if self.transposed else cg.backward
        return function(*operands, **self.settings)

    def double_backward(self, *operands: Any) -> Any:
        function = cg.conv_transpose_double_backward if self.transposed else cg.double_backward
        return function(*operands, **self.settings)


class Convolution(torch.autograd.Function):
    """y of a call, whose derivative is the class below."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Any, w: Any, b: Any) -> Any:
        ctx.call = call
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)
        return call.forward(x.detach(), w.detach(), b.detach())

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return None, *ConvolutionBackward.apply(ctx.call, *ctx.saved_tensors, dy)

    @staticmethod
    def jvp(ctx: Any, _: None, tx: Any, tw: Any, tb: Any) -> Any:
        x, w = (t.detach() for t in ctx.saved_tensors)
        return cg.jvp(x, w, tx, tw, tb, **ctx.call.settings)


class ConvolutionBackward(torch.autograd.Function):
    """dx, dw and db of a call, whose derivative is double_backward."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Any, w: Any, dy: Any) -> Any:
        ctx.call = call
        ctx.save_for_backward(x, w, dy)
        return tuple(call.backward(x.detach(), w.detach(), dy.detach()))

    @staticmethod
    def backward(ctx: Any, ddx: Any, ddw: Any, ddb: Any) -> Any:
        x, w, dy = (t.detach() for t in ctx.saved_tensors)
        ddy, dx, dw = ctx.call.double_backward(x, w, dy, ddx, ddw, ddb)
        return None, dx, dw, ddy


CONVOLUTIONS = (
    Call((2, 2, 6), (3, 2, 3), {"stride": 2, "padding": [(1, 2)]}),
    Call((1, 4, 5), (4, 2, 2), {"groups": 2, "dilation": 2, "flip": True}),
    Call((2, 5), (3, 2, 3), {"padding": "same"}),
    Call((1, 4, 2), (2, 3, 2), {"layout": "channels_last", "padding": 1}),
    Call((1, 2, 4, 4), (2, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    Call((1, 3, 4, 2), (4, 2, 2, 1), {"layout": "NHWC", "groups": 2, "padding": "same_lower"}),
    Call((1, 2, 3, 4), (2, 1, 2, 3), {"groups": 2, "padding": 2, "padding_mode": "reflect"}),
    Call((1, 1, 3, 4), (2, 1, 2, 3), {"padding": 1, "padding_mode": "symmetric"}),
    Call((1, 1, 3, 3), (2, 1, 3, 3), {"padding": (1, 3), "padding_mode": "replicate"}),
    Call((1, 1, 3, 3), (2, 1, 3, 3), {"padding": 4, "padding_mode": "circular", "stride": 2}),
    Call((1, 1, 3, 3), (1, 1, 3, 3),
         {"padding": 1, "padding_mode": "constant", "padding_value": 2.5}),
    Call((1, 2, 3, 2, 3), (2, 2, 2, 2, 2), {"padding": 1, "dilation": (2, 1, 1), "stride": 2}),
    Call((1, 1, 2, 3, 2, 2), (2, 1, 2, 2, 1, 2), {"padding": (0, 1, 0, 1)}),
    Call((1, 2, 5, 5), (2, 2, 3, 3), {"algorithm": "winograd"}),
    Call((1, 2, 5, 4), (2, 2, 2, 3), {"algorithm": "fft", "padding": 1}),
)  # fmt: skip
TRANSPOSED = (
    Call((2, 3, 4), (3, 2, 3), {"stride": 2, "output_padding": 1}, True),
    Call((4, 4), (4, 1, 3), {"groups": 2, "dilation": 2, "padding": 1}, True),
    Call((1, 3, 4), (4, 3, 1), {"groups": 2, "layout": "NWC", "stride": 3}, True),
    Call((1, 2, 3, 3), (2, 2, 3, 2), {"stride": (2, 3), "padding": [(1, 0), (0, 1)]}, True),
    Call((1, 2, 3, 3), (2, 1, 3, 2), {"stride": 2, "padding": "same", "groups": 2}, True),
    Call((1, 2, 3, 2), (2, 1, 2, 3), {"flip": True, "stride": 2}, True),
    Call((1, 2, 2, 2, 2), (2, 1, 2, 3, 2), {"padding": (0, 1, 0), "stride": 2}, True),
)  # fmt: skip
CALLS = (*CONVOLUTIONS, *TRANSPOSED)
by_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)


def leaves(call: Call, dtype: Any) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    shapes = (call.x_shape, call.w_shape, (call.channels,))
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    return [t.requires_grad_() for t in drawn]


@by_dtype
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_backward(call: Call, dtype: Any) -> None:
    def function(*operands: Any) -> Any:
        return Convolution.apply(call, *operands)

    assert torch.autograd.gradcheck(function, leaves(call, dtype), **SHARP)


@by_dtype
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_double_backward(call: Call, dtype: Any) -> None:
    def function(*operands: Any) -> Any:
        return Convolution.apply(call, *operands)

    # Whole Jacobians for real numbers, random projections of them for complex ones.
    fast = dtype.is_complex
    assert torch.autograd.gradgradcheck(function, leaves(call, dtype), **SHARP, fast_mode=fast)


@by_dtype
@pytest.mark.parametrize("call", CONVOLUTIONS, ids=str)
def test_jvp(call: Call, dtype: Any) -> None:
    def function(*operands: Any) -> Any:
        return Convolution.apply(call, *operands)

    assert torch.autograd.gradcheck(
        function, leaves(call, dtype), **SHARP, fast_mode=dtype.is_complex,
        check_forward_ad=True, check_backward_ad=False,
    )  # fmt: skip
