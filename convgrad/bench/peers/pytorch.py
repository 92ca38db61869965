"""PyTorch in its two layouts; tensors share the arrays' memory where the layout is theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from convgrad.bench.case import Case, Operands
from convgrad.bench.peers.library import Library, accepts
from convgrad.bench.timing import Work


def libraries(threads: int) -> list[Library]:
    """channels_first and channels_last, on so many threads."""
    import torch

    torch.set_num_threads(threads)
    return [
        Library("PyTorch", "channels_first", accepts, _work(False), _numpy),
        Library("PyTorch", "channels_last", _refuses_last, _work(True), _numpy),
    ]


def _refuses_last(case: Case) -> str | None:
    return "PyTorch has no channels_last for one spatial axis" if case.layer.rank == 1 else None


def _work(last: bool):
    def work(case: Case, operands: Operands) -> Work:
        return _call(case, *(_tensor(a, last) for a in (operands.x, operands.w, operands.dy)))

    return work


def _call(case: Case, x: Any, w: Any, dy: Any) -> Work:
    import torch

    layer = case.layer
    extra = layer.output_padding or (0,) * layer.rank
    settings = (
        layer.stride, layer.padding, layer.dilation, layer.transposed, extra, layer.groups,
    )  # fmt: skip
    if case.direction == "forward":
        return lambda: torch.convolution(x, w, None, *settings)
    wanted = (case.direction == "input_grad", case.direction == "weight_grad", False)
    which, backward = wanted.index(True), torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, None, *settings, wanted)[which]


def _tensor(array: np.ndarray, last: bool) -> Any:
    import torch

    if array.dtype.name == "bfloat16":  # crosses as the integers that its bits are
        tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats[tensor.ndim]) if last else tensor


def _numpy(tensor: Any) -> np.ndarray:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
