"""PyTorch judges convgrad: its OpInfo samples, run on contracts.aten in a process of its own.

python torch_engine.py gradients REPORT      gradcheck and gradgradcheck
python torch_engine.py values REPORT FILE    against what torch_stock.py saved in FILE

REPORT is JSON: how often each check ran, by op and dtype, and a sentence for each failure.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError
from torch.testing._internal.common_utils import noncontiguous_like
from torch_kernels import Kernels, register
from torch_samples import OPS, Sample, opinfo, samples
from torch_stock import value_and_gradients

import convgrad as cg

# The full mode of gradcheck calls the kernels for every row and column of the Jacobians. Above
# this many calls, and for complex numbers, the fast mode checks random projections of them.
MOST_CALLS = 2600
# Each map is linear in each operand, so a long step of differences is exact but for rounding.
SHARP = {"eps": 1e-3, "atol": 1e-8, "rtol": 1e-8}
DOUBLE = (torch.float64, torch.complex128)
UNIT = {
    torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24,
    torch.float64: 2.0**-53, torch.complex64: 2.0**-24, torch.complex128: 2.0**-53,
}  # fmt: skip
MASKS = tuple(product((False, True), repeat=3))


@dataclass
class Report:
    """What ran, by op and dtype, and what went wrong."""

    ran: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, sample: Sample, what: str, number: int = 1) -> None:
        key = f"{sample.op} {str(sample.tensors[0].dtype).removeprefix('torch.')}"
        self.ran.setdefault(key, Counter())[what] += number

    @contextmanager
    def checking(self, sample: Sample, what: str, kernels: Kernels) -> Iterator[None]:
        """Count one check and the kernel calls in it; a failure is noted, and the rest goes on."""
        kernels.calls.clear()
        try:
            yield
        except (RuntimeError, AssertionError, cg.ConvError) as error:
            self.failures.append(f"{what} of {sample.name}: {type(error).__name__}: {error}")
        self.count(sample, what)
        for name, calls in kernels.calls.items():
            self.count(sample, f"{what}: {name} calls", calls)


def check_gradients(kernels: Kernels, report: Report, sample: Sample) -> None:
    """Both orders, backward, forward and batched, against differences of convgrad's forward."""
    inputs, outputs = sum(t.numel() for t in sample.tensors), sample(*sample.tensors).numel()
    fast = sample.tensors[0].is_complex() or 18 * inputs + 6 * outputs > MOST_CALLS
    mode = "fast" if fast else "full"
    with report.checking(sample, f"{mode} gradcheck", kernels):
        gradcheck(sample, sample.tensors, **SHARP, fast_mode=fast, check_batched_grad=True)
    with report.checking(sample, f"{mode} gradgradcheck", kernels):
        gradgradcheck(sample, sample.tensors, **SHARP, fast_mode=fast)
    if not sample.tensors[0].is_complex():
        with report.checking(sample, "forward-mode gradcheck", kernels):
            gradcheck(sample, sample.tensors, **SHARP, fast_mode=True, check_forward_ad=True)
        with report.checking(sample, "gradgradcheck of strided dy", kernels):
            gradgradcheck(
                sample, sample.tensors, **SHARP, fast_mode=True, gen_non_contig_grad_outputs=True
            )


def check_double_backward_is_ours(kernels: Kernels, report: Report, sample: Sample) -> None:
    """The third pass alone, PyTorch's formula for the derivative of convolution_backward."""
    y = sample(*sample.tensors)
    dy = torch.ones_like(y, requires_grad=True)
    grads = torch.autograd.grad(y, sample.tensors, dy, create_graph=True)
    with report.checking(sample, "double backward", kernels):
        torch.autograd.grad(grads, (dy, *sample.tensors[:2]), [torch.ones_like(g) for g in grads])


def check_spoiled_kernels_fail(kernels: Kernels, report: Report, sample: Sample) -> None:
    """An error of one in a million in the backward kernel must be seen, or the judge is blind."""
    kernels.spoil = 1 + 1e-6
    for check in (gradcheck, gradgradcheck):
        try:
            check(sample, sample.tensors, **SHARP, fast_mode=True)
        except GradcheckError:
            report.count(sample, "spoiled kernels found out")
        else:
            report.failures.append(f"{check.__name__} accepts spoiled kernels")
    kernels.spoil = 1.0


def run_gradients(kernels: Kernels, report: Report) -> None:
    for op in OPS:
        for dtype in DOUBLE:
            for sample in samples(op, dtype, requires_grad=True):
                check_gradients(kernels, report, sample)
                check_double_backward_is_ours(kernels, report, sample)
        check_spoiled_kernels_fail(kernels, report, next(samples(op, torch.float64, True)))


@dataclass(frozen=True)
class Answer:
    """One of torch_stock.py's answers."""

    op: str
    index: int
    tensors: tuple[torch.Tensor, ...]
    settings: dict[str, object]
    dy: torch.Tensor
    own: list[torch.Tensor]
    wide: list[torch.Tensor]
    size: list[torch.Tensor]

    @property
    def sample(self) -> Sample:
        return Sample(self.op, self.index, self.tensors, self.settings)

    def judge(self, found: list[torch.Tensor]) -> None:
        """Raise AssertionError unless y, dx, dw, db are right to the last bits of their dtype."""
        dtype = self.dy.dtype
        sums = UNIT[dtype] if dtype in DOUBLE else 2.0**-24
        assert len(found) == len(self.own)
        for name, got, own, wide, size in zip(
            ("y", "dx", "dw", "db"), found, self.own, self.wide, self.size
        ):
            assert (got.dtype, got.shape) == (own.dtype, own.shape), name
            error = (got.to(wide.dtype) - wide).abs()
            bound = 1.01 * UNIT[dtype] * wide.abs() + 16 * sums * size.max()
            worst = (error / bound).max().item()
            assert worst <= 1, f"{name} is off by {worst:.3g} times its bound"


def strided(kind: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in other memory."""
    if kind == "channels last" and tensor.ndim >= 3:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if kind == "with gaps":
        return noncontiguous_like(tensor)
    return tensor


def check_values(kernels: Kernels, report: Report, answer: Answer) -> None:
    """y and the gradients, through PyTorch and from convgrad's own functions."""
    sample = answer.sample
    for kind in ("contiguous", "channels last", "with gaps"):
        other = sample.over(*(strided(kind, t) for t in sample.tensors))
        dy = strided(kind, answer.dy)
        with report.checking(sample, f"values, {kind}", kernels):
            answer.judge(value_and_gradients(other, dy))
        with report.checking(sample, f"convgrad alone, {kind}", kernels):
            answer.judge(convgrad_alone(other, dy))


def convgrad_alone(sample: Sample, dy: torch.Tensor) -> list[torch.Tensor]:
    """[y, dx, dw, db] by calls that PyTorch has no part in; unbatched and "same" as they come."""
    transposed = sample.op.startswith("conv_transpose")
    backward = cg.conv_transpose_backward if transposed else cg.backward
    x, w, *_ = sample.tensors
    needs = ("x", "w", "b")[: len(sample.tensors)]
    grads = backward(x, w, dy, **sample.settings, needs=needs)
    return [forward_alone(sample), *grads[: len(needs)]]


def forward_alone(sample: Sample) -> torch.Tensor:
    """y by convgrad's own function."""
    forward = cg.conv_transpose if sample.op.startswith("conv_transpose") else cg.conv
    return forward(*sample.tensors, **sample.settings)


def check_output_masks(kernels: Kernels, report: Report, answer: Answer) -> None:
    """convolution_backward for all eight masks: None exactly where it was not asked for."""
    spatial, rank = answer.settings, answer.dy.ndim - 2
    if answer.tensors[0].ndim != answer.tensors[1].ndim or isinstance(spatial.get("padding"), str):
        return  # PyTorch itself batches these and turns "same" into numbers above the kernels
    each = [
        [spatial[name]] if isinstance(spatial.get(name), int) else list(spatial.get(name, [least]))
        for name, least in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
    ]
    stride, padding, dilation, extra = (v * rank if len(v) == 1 else v for v in each)
    x, w, *_ = answer.tensors
    transposed = answer.op.startswith("conv_transpose")
    whole = [*answer.wide[1:3], answer.dy.sum(dim=(0, *range(2, 2 + rank)))]
    for mask in MASKS:
        with report.checking(answer.sample, "output mask", kernels):
            grads = torch.ops.aten.convolution_backward(
                answer.dy, x, w, [len(whole[2])], stride, padding, dilation, transposed, extra,
                spatial.get("groups", 1), mask,
            )  # fmt: skip
            assert [g is not None for g in grads] == list(mask)
            for got, want in zip(grads, whole):
                torch.testing.assert_close(got, want if got is not None else None)


def check_refusals(report: Report, op: str) -> None:
    """PyTorch's samples of wrong use: an error, from PyTorch or from the kernels.

    Integers too, from convgrad's own functions; the kernels take them, as PyTorch's do.
    """
    for sample in samples(op, torch.int64):
        must_raise(report, sample, "integers", forward_alone)
    if opinfo(op).error_inputs_func is None:
        return
    for index, wrong in enumerate(opinfo(op).error_inputs("cpu")):
        drawn = wrong.sample_input
        sample = Sample(op, index, (drawn.input, *drawn.args), drawn.kwargs)
        must_raise(report, sample, "wrong use", lambda s: s(*s.tensors))


def must_raise(
    report: Report, sample: Sample, what: str, function: Callable[[Sample], torch.Tensor]
) -> None:
    try:
        function(sample)
    except (RuntimeError, cg.ConvError) as error:
        by = "convgrad" if isinstance(error, cg.ConvError) else "PyTorch"
        report.count(sample, f"{what} refused by {by}")
    else:
        shapes = [tuple(t.shape) for t in sample.tensors]
        report.failures.append(f"{what} accepted: {sample.name} {shapes}")


def run_values(kernels: Kernels, report: Report, path: str) -> None:
    for saved in torch.load(path, weights_only=False):
        answer = Answer(**saved)
        check_values(kernels, report, answer)
        if answer.dy.dtype in DOUBLE:
            check_output_masks(kernels, report, answer)
    for op in OPS:
        check_refusals(report, op)


def main(job: str, report_path: str, *paths: str) -> None:
    kernels, report = Kernels(), Report()
    library = register(kernels)
    run = {"gradients": run_gradients, "values": run_values}[job]
    run(kernels, report, *paths)
    del library
    Path(report_path).write_text(json.dumps(vars(report), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
