"""contracts.aten registered as PyTorch's CPU kernels aten::convolution and convolution_backward.

PyTorch's derivative formulas stay above these kernels: the derivative of convolution is
convolution_backward, and the derivative of that one is made of both again.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from convgrad.contracts import aten


@dataclass
class Kernels:
    """The two kernels with a count of their calls; `spoil` makes the backward wrong on purpose."""

    calls: Counter[str] = field(default_factory=Counter)
    spoil: float = 1.0

    def convolution(self, *arguments: Any) -> torch.Tensor:
        self.calls["forward"] += 1
        return aten.convolution(*map(detached, arguments))

    def convolution_backward(self, *arguments: Any) -> tuple[torch.Tensor | None, ...]:
        self.calls["backward"] += 1
        grads = aten.convolution_backward(*map(detached, arguments))
        return tuple(None if g is None else g * self.spoil for g in grads)


def detached(argument: Any) -> Any:
    """A tensor beneath autograd; anything else as it is."""
    return argument.detach() if isinstance(argument, torch.Tensor) else argument


def register(kernels: Kernels) -> torch.library.Library:
    """Put the kernels in PyTorch's place, for as long as the result is kept."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution", kernels.convolution, "CPU")
    library.impl("convolution_backward", kernels.convolution_backward, "CPU")
    return library
