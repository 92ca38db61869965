"""Calls of PyTorch's convolution functions as rows: a base for each function, and what differs.

A tuple in the place of an array is the shape of one, filled with small integers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

from convgrad.contracts import aten

ARRAYS = ("input", "weight", "bias", "grad_output", "ggI", "ggW", "ggb", "gO")
SETTINGS = {
    "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "transposed": False,
    "output_padding": [0, 0], "groups": 1,
}  # fmt: skip
OF_TORCH_GRAD = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
OF_FOLDING = {"dilation": 1, "padding": 0, "stride": 1}
X, W, Y = (2, 2, 5, 6), (3, 2, 3, 2), (2, 3, 3, 5)
BASES = {
    "convolution": {"input": X, "weight": W, "bias": (3,), **SETTINGS},
    "convolution_backward": {
        "grad_output": Y, "input": X, "weight": W, "bias_sizes": [3], **SETTINGS,
        "output_mask": [True, True, True],
    },
    "convolution_double_backward": {
        "ggI": X, "ggW": W, "ggb": (3,), "gO": Y, "weight": W, "input": X, **SETTINGS,
        "output_mask": [True, True, True],
    },
    "conv1d_input": {
        "input_size": (2, 2, 5), "weight": (3, 2, 3), "grad_output": (2, 3, 3), **OF_TORCH_GRAD,
    },
    "conv1d_weight": {
        "input": (2, 2, 5), "weight_size": (3, 2, 3), "grad_output": (2, 3, 3), **OF_TORCH_GRAD,
    },
    "conv2d_input": {"input_size": X, "weight": W, "grad_output": Y, **OF_TORCH_GRAD},
    "conv2d_weight": {"input": X, "weight_size": W, "grad_output": Y, **OF_TORCH_GRAD},
    "conv3d_input": {
        "input_size": (2, 2, 3, 4, 5), "weight": (3, 2, 2, 3, 1), "grad_output": (2, 3, 2, 2, 5),
        **OF_TORCH_GRAD,
    },
    "conv3d_weight": {
        "input": (2, 2, 3, 4, 5), "weight_size": (3, 2, 2, 3, 1), "grad_output": (2, 3, 2, 2, 5),
        **OF_TORCH_GRAD,
    },
    "unfold": {"input": (2, 3, 5, 6), "kernel_size": (3, 2), **OF_FOLDING},
    "fold": {
        "input": (2, 18, 15), "output_size": (5, 6), "kernel_size": (3, 2), **OF_FOLDING,
    },
}  # fmt: skip
TORCHS = {
    "convolution": torch.ops.aten.convolution,
    "convolution_backward": torch.ops.aten.convolution_backward,
    "convolution_double_backward": torch.ops.aten._convolution_double_backward,
    "conv1d_input": torch.nn.grad.conv1d_input,
    "conv1d_weight": torch.nn.grad.conv1d_weight,
    "conv2d_input": torch.nn.grad.conv2d_input,
    "conv2d_weight": torch.nn.grad.conv2d_weight,
    "conv3d_input": torch.nn.grad.conv3d_input,
    "conv3d_weight": torch.nn.grad.conv3d_weight,
    "unfold": torch.nn.functional.unfold,
    "fold": torch.nn.functional.fold,
}
REFUSALS = (RuntimeError, IndexError, TypeError)  # NotImplementedError is a RuntimeError


def whole_numbers(shape, dtype=np.float64, seed=0, largest=5):
    """Small integers; sums of their products stay exact in every dtype that is tested so."""
    kind = np.dtype(dtype).kind
    rng = np.random.default_rng([seed, *shape])
    array = rng.integers(0 if kind in "ub" else -largest, largest + 1, shape)
    if kind == "c":
        array = array + 1j * rng.integers(-largest, largest + 1, shape)
    return array.astype(dtype)


def arguments(op, changes):
    """The arguments of one call in their order, NumPy arrays among them."""
    changes = dict(changes)
    dtype = changes.pop("dtype", np.float64)
    dtypes = changes.pop("dtypes", {})
    assert changes.keys() <= BASES[op].keys(), changes
    merged = BASES[op] | changes
    return [
        whole_numbers(value, dtypes.get(name, dtype), seed)
        if name in ARRAYS and isinstance(value, tuple)
        else value
        for seed, (name, value) in enumerate(merged.items())
    ]


def ours(op, changes):
    return in_a_tuple(getattr(aten, op)(*arguments(op, changes)))


def torchs(op, changes):
    """PyTorch's results as NumPy arrays; raises one of REFUSALS."""
    return torch_of(TORCHS[op], *arguments(op, changes))


def torch_of(function, *arguments):
    """The results of a function of tensors, called with arrays."""
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    found = in_a_tuple(function(*tensors))
    return tuple(None if t is None else t.numpy() for t in found)


def in_a_tuple(found):
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def agree(found, expected):
    """Equal to the last bit, in dtype and shape too; None where None is expected."""
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            np.testing.assert_array_equal(got, want)


@dataclass(frozen=True)
class Drawn:
    """A drawn convolution, transposed or not: shapes that fit, and its settings."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    @property
    def out_channels(self):
        return self.output[1]

    @property
    def settings(self):
        return {name: getattr(self, name) for name in SETTINGS}


@st.composite
def convolutions(draw, ranks=(1, 2, 3), transposed=(False, True)):
    """Convolutions that PyTorch takes: stride remainders, groups, empty batches, output_padding."""
    rank, groups, turned = (
        draw(st.sampled_from(ranks)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from(transposed)),
    )
    batch = draw(st.integers(0, 3))
    inner, outer = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    axes = []
    for _ in range(rank):
        k, s, d = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        p, extent = draw(st.integers(0, 3)), d * (k - 1) + 1
        if turned:
            extra = draw(st.integers(0, max(s, d) - 1))
            least = max(1, -((extent + extra - 2 * p - 1) // s) + 1)
            n = least + draw(st.integers(0, 2))
            out = (n - 1) * s - 2 * p + extent + extra
        else:
            extra, n = 0, max(1, extent - 2 * p) + draw(st.integers(0, 4))
            out = (n + 2 * p - extent) // s + 1
        axes.append((n, k, out, s, p, d, extra))
    size, kernel, out_size, *settings = zip(*axes, strict=True)
    stride, padding, dilation, output_padding = map(list, settings)
    weight = (inner, outer // groups, *kernel) if turned else (outer, inner // groups, *kernel)
    return Drawn(
        (batch, inner, *size), weight, (batch, outer, *out_size), stride, padding, dilation,
        turned, output_padding, groups,
    )  # fmt: skip


@st.composite
def wild_calls(draw):
    """Calls of `convolution` with at most three things in them changed: most make no sense."""
    drawn = draw(convolutions())
    rank = len(drawn.stride)
    call = {
        "input": drawn.input, "weight": drawn.weight, "bias": (drawn.out_channels,),
        **drawn.settings,
    }  # fmt: skip
    numbers, sizes = st.integers(-1, 4), st.integers(0, 4)
    for name in draw(st.lists(st.sampled_from(list(call)), max_size=3)):
        if name in ("input", "weight"):
            # An empty batch or no channels: PyTorch leaves its checks out, see aten_tables.
            axis = draw(st.integers(0, rank + 1))
            size = max(draw(sizes), 1) if name == "input" and axis < 2 else draw(sizes)
            call[name] = (*call[name][:axis], size, *call[name][axis + 1 :])
        elif name == "bias":
            call[name] = draw(st.sampled_from([None, (1,), (drawn.out_channels, 1), (0,)]))
        elif name == "transposed":
            call[name] = not drawn.transposed
        elif name == "groups":
            call[name] = draw(numbers)
        else:
            length = draw(st.sampled_from([rank, rank, 1, 0, rank + 1]))
            call[name] = draw(st.lists(numbers, min_size=length, max_size=length))
    call["input"] = (max(call["input"][0], 1), *call["input"][1:])
    return call
