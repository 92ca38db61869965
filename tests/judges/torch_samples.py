"""PyTorch's own OpInfo samples of its six convolutions, the same numbers in every process."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

DIMENSIONS = (1, 2, 3)
OPS = tuple(f"conv{d}d" for d in DIMENSIONS) + tuple(f"conv_transpose{d}d" for d in DIMENSIONS)
WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.float64: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
}


@dataclass(frozen=True)
class Sample:
    """One call of a torch.nn.functional convolution: its tensors x, w and maybe b, its settings."""

    op: str
    index: int
    tensors: tuple[torch.Tensor, ...]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        dtype = str(self.tensors[0].dtype).removeprefix("torch.")
        return f"{self.op}[{self.index}] {dtype} {self.settings}"

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        return getattr(torch.nn.functional, self.op)(*tensors, **self.settings)

    def over(self, *tensors: torch.Tensor) -> "Sample":
        return replace(self, tensors=tensors)


@cache
def opinfo(op: str) -> Any:
    """PyTorch's own description of an operator."""
    (found,) = [info for info in op_db if info.name == f"nn.functional.{op}"]
    return found


def samples(op: str, dtype: torch.dtype, requires_grad: bool = False) -> Iterator[Sample]:
    """All OpInfo samples of `op`; drawn from a fixed seed, so that processes agree on them."""
    torch.manual_seed(0)
    for index, drawn in enumerate(opinfo(op).sample_inputs("cpu", dtype, requires_grad)):
        tensors = (drawn.input, *(a for a in drawn.args if a is not None))
        yield Sample(op, index, tensors, dict(drawn.kwargs))
