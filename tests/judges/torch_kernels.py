"""convgrad registered as PyTorch's CPU kernels aten::convolution and convolution_backward.

PyTorch's derivative formulas stay above these kernels: the derivative of convolution is
convolution_backward, and the derivative of that one is made of both again.
"""

from collections import Counter
from dataclasses import dataclass, field

import torch

import convgrad as cg

Ints = list[int]


@dataclass
class Kernels:
    """The two kernels with a count of their calls; `spoil` makes the backward wrong on purpose."""

    calls: Counter[str] = field(default_factory=Counter)
    spoil: float = 1.0

    def convolution(
        self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, stride: Ints,
        padding: Ints, dilation: Ints, transposed: bool, output_padding: Ints, groups: int,
    ) -> torch.Tensor:  # fmt: skip
        self.calls["forward"] += 1
        x, w = x.detach(), w.detach()
        b = None if b is None else b.detach()
        if transposed:
            return cg.conv_transpose(x, w, b, stride, padding, output_padding, groups, dilation)
        return cg.conv(x, w, b, stride, padding, dilation, groups)

    def convolution_backward(
        self, dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor, bias_sizes: Ints | None,
        stride: Ints, padding: Ints, dilation: Ints, transposed: bool, output_padding: Ints,
        groups: int, output_mask: list[bool],
    ) -> tuple[torch.Tensor | None, ...]:  # fmt: skip
        self.calls["backward"] += 1
        dy, x, w = dy.detach(), x.detach(), w.detach()
        needs = [name for name, needed in zip("xwb", output_mask, strict=True) if needed]
        if transposed:
            grads = cg.conv_transpose_backward(
                x, w, dy, stride, padding, output_padding, groups, dilation, needs=needs
            )
        else:
            grads = cg.backward(x, w, dy, stride, padding, dilation, groups, needs=needs)
        return tuple(None if g is None else g * self.spoil for g in grads)


def register(kernels: Kernels) -> torch.library.Library:
    """Put the kernels in PyTorch's place, for as long as the result is kept."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution", kernels.convolution, "CPU")
    library.impl("convolution_backward", kernels.convolution_backward, "CPU")
    return library
