"""What PyTorch's own kernels answer, saved for a process in which convgrad takes their place.

python torch_stock.py FILE
"""

import sys
from dataclasses import dataclass

import torch
from torch_samples import OPS, WIDE, Sample, samples

DTYPES = tuple(WIDE)


@dataclass(frozen=True)
class Answer:
    """A sample's y and gradients, as lists [y, dx, dw, db] in three versions.

    own: in the sample's dtype.  wide: of the same numbers in double precision.
    size: Σ|a||b| of each number, from the same convolution of absolute values.
    """

    op: str
    index: int
    tensors: tuple[torch.Tensor, ...]
    settings: dict[str, object]
    dy: torch.Tensor
    own: list[torch.Tensor]
    wide: list[torch.Tensor]
    size: list[torch.Tensor]


def value_and_gradients(sample: Sample, dy: torch.Tensor) -> list[torch.Tensor]:
    """[y, dx, dw, db], without db where the sample has no bias."""
    leaves = [t.detach().requires_grad_() for t in sample.tensors]
    y = sample(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def answer(sample: Sample) -> Answer:
    wide = WIDE[sample.tensors[0].dtype]
    y = sample(*sample.tensors)
    dy = torch.randn(y.shape, dtype=wide).to(y.dtype)
    return Answer(
        sample.op,
        sample.index,
        sample.tensors,
        sample.settings,
        dy,
        value_and_gradients(sample, dy),
        value_and_gradients(sample.over(*(t.to(wide) for t in sample.tensors)), dy.to(wide)),
        value_and_gradients(
            sample.over(*(t.to(wide).abs() for t in sample.tensors)), dy.to(wide).abs()
        ),
    )


def main(path: str) -> None:
    answers = [answer(s) for op in OPS for dtype in DTYPES for s in samples(op, dtype)]
    torch.save([vars(a) for a in answers], path)


if __name__ == "__main__":
    main(sys.argv[1])
