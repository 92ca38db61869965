"""contracts.aten takes and refuses what PyTorch takes and refuses, and what it takes is right."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")

from aten_calls import (  # noqa: E402
    BASES,
    REFUSALS,
    TORCHS,
    agree,
    arguments,
    ours,
    torch_of,
    torchs,
    wild_calls,
)
from aten_tables import ACCEPTED, MEANINGLESS, REFUSED, UNSAFE  # noqa: E402

from convgrad.contracts import aten  # noqa: E402
from convgrad.errors import ArrayError, ConvError, ShapeError  # noqa: E402


def rows(table):
    return [pytest.param(op, name, id=f"{op}: {name}") for op in table for name in table[op]]


@pytest.mark.parametrize(("op", "name"), rows(ACCEPTED))
def test_what_pytorch_takes_gives_its_numbers(op, name):
    changes = ACCEPTED[op][name]
    agree(ours(op, changes), torchs(op, changes))


@pytest.mark.parametrize(("op", "name"), rows(REFUSED))
def test_what_pytorch_refuses_is_refused(op, name):
    with pytest.raises(REFUSALS):
        torchs(op, REFUSED[op][name])
    with pytest.raises(ConvError, match=f"^{op}: "):
        ours(op, REFUSED[op][name])


@pytest.mark.parametrize(("op", "name"), rows(MEANINGLESS))
def test_what_pytorch_takes_without_meaning_is_refused(op, name):
    assert torchs(op, MEANINGLESS[op][name])
    with pytest.raises(ConvError, match=f"^{op}: "):
        ours(op, MEANINGLESS[op][name])


@pytest.mark.parametrize(("op", "name"), rows(UNSAFE))
def test_what_pytorch_reads_beyond_is_refused(op, name):
    with pytest.raises(ShapeError, match=f"^{op}: grad_output is "):
        ours(op, UNSAFE[op][name])


def test_every_function_is_in_the_tables():
    assert BASES.keys() == TORCHS.keys() == ACCEPTED.keys()
    assert set(aten.__all__) == {"CONTRACT", *BASES}
    signatures = {signature.name: signature.function for signature in aten.CONTRACT.signatures}
    assert signatures == {op: getattr(aten, op) for op in BASES if op not in ("unfold", "fold")}


def test_wild_calls_are_taken_and_refused_as_by_pytorch():
    """Whatever the numbers, both refuse or both give the same."""
    seen = Counter()

    @settings(max_examples=300)
    @given(wild_calls())
    def check(call):
        try:
            expected = torchs("convolution", call)
        except REFUSALS:
            seen["refused"] += 1
            with pytest.raises(ConvError, match=r"^convolution: "):
                ours("convolution", call)
        else:
            seen["taken"] += 1
            agree(ours("convolution", call), expected)

    check()
    assert min(seen["refused"], seen["taken"]) > 100, seen


MESSAGES = [
    ("convolution", {"bias": (2,)}, "bias is (2,), but it must be (3,): weight is (3, 2, 3, 2)"),
    ("convolution", {"input": (2, 5, 6)}, "both need 4 axes (pass one sample with a batch axis"),
    ("convolution", {"input": (2, 4, 5, 6)}, "input needs 2 channels, not 4"),
    ("convolution", {"stride": [1, 1, 1]}, "has 3 numbers for 2 spatial axes; pass one int or 2"),
    ("convolution", {"padding": [-1, 0]}, "padding must be at least 0, not -1"),
    ("convolution", {"weight": (3, 2, 7, 2)}, "gives an output of size (-1, 5); every size must"),
    ("convolution", {"dtypes": {"bias": np.int8}}, "(input float64, weight float64, bias int8)"),
    ("convolution", {"dilation": [2, 2], "dtype": np.int8}, "pass int64 operands, or float64"),
    ("convolution_backward", {"grad_output": (2, 3, 3, 6)}, "but it must be (2, 3, 3, 5): input"),
    ("convolution_backward", {"output_mask": [True]}, "output_mask=[True] must be three bools"),
    ("convolution_backward", {"output_padding": [1, 0]}, "is for transposed=True only; pass 0"),
    ("convolution_backward", {"bias_sizes": [4]}, "bias_sizes is (4,), but it must be (3,)"),
    ("convolution_double_backward", {"ggb": (1,)}, "ggb is (1,), but it must be (3,)"),
    ("conv2d_input", {"weight": (3, 2, 3)}, "weight is (3, 2, 3), but a 2-D kernel has 4 axes"),
    ("unfold", {"kernel_size": (3,)}, "kernel_size=(3,) must be one int or two"),
    ("unfold", {"kernel_size": 9}, "a 9×9 kernel with dilation=(1, 1) does not fit into input 5×6"),
    ("fold", {"input": (2, 18, 14)}, "needs (…, a multiple of 6, 15)"),
    (
        "convolution",
        {"padding": [10**9, 10**9]},
        "the padded input, (2, 2, 2000000005, 2000000006),",
    ),
    ("convolution", {"padding": [122_500_000] * 2}, "the output, (2, 3, 245000003, "),
    (
        "convolution",
        {"padding": [10**30, 1], "input": (0, 2, 5, 6)},
        "larger than any memory; pass",
    ),
    ("convolution_backward", {"padding": [10**30, 1]}, "the padded input, (2, 2, 2000"),
    ("convolution_double_backward", {"padding": [10**30, 1]}, "the padded input, (2, 2, 2000"),
    ("conv2d_weight", {"padding": 10**30, "stride": 10**30}, "the padded input, (2, 2, 2000"),
    ("conv2d_input", {"input_size": (2, 2, 10**30, 6)}, "the padded input, (2, 2, 1000"),
    ("unfold", {"padding": 10**9}, "the padded input, (2, 3, 2000000005, 2000000006), would"),
    ("unfold", {"padding": 2**26}, "the columns, (2, 18, "),
    ("fold", {"padding": 10**9, "stride": 10**9, "input": (2, 18, 9)}, "the padded image, (2, 3, "),
]


@pytest.mark.parametrize(("op", "changes", "part"), MESSAGES, ids=[m[2] for m in MESSAGES])
def test_messages_say_what_came_and_what_was_needed(op, changes, part):
    with pytest.raises(ConvError) as caught:
        ours(op, changes)
    assert str(caught.value).startswith(f"{op}: ")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "padding", "words"),
    [(float, 0, "the output, "), (int, 0, "the output, "), (int, 2 * 10**9, "the uncut output, ")],
    ids=["float", "int", "int-padded"],
)
def test_a_transposed_output_that_no_memory_holds_is_refused(dtype, padding, words):
    x, w = np.ones((1, 1, 5, 5), dtype), np.ones((1, 1, 3, 3), dtype)
    with pytest.raises(ShapeError, match=f"^convolution: {words}.* larger than any memory"):
        aten.convolution(x, w, None, [10**9], [padding], [1], True, [0], 1)


def test_a_list_is_no_operand():
    x, w, b, *rest = arguments("convolution", {})
    with pytest.raises(ArrayError, match=r"convolution: input is a list, .*asarray\(input\)$"):
        aten.convolution(x.tolist(), w, b, *rest)


def test_one_int_stands_for_all_axes():
    """PyTorch's kernels want lists; torch.nn.functional takes an int, and so does this."""
    x, w, b, *_ = arguments("convolution", {})
    y = aten.convolution(x, w, b, 2, 1, 1, False, 0, 1)
    agree((y,), torch_of(torch.nn.functional.conv2d, x, w, b, 2, 1))


@pytest.mark.parametrize(
    "shapes", [((0, 3, 3, 5), (0, 2, 5, 6), 2), ((2, 0, 3, 5), (2, 0, 5, 6), 0)]
)
def test_grad_bias_of_nothing_without_bias_sizes_is_zero(shapes):
    """PyTorch's process ends here: its assertion wants bias_sizes for an empty input."""
    dy, x, channels = shapes
    call = {"grad_output": dy, "input": x, "weight": (3, channels, 3, 2), "bias_sizes": None}
    *_, db = ours("convolution_backward", call)
    agree((db,), (np.zeros(3),))
