"""aten::convolution, its backward and its double backward, on convgrad's three maps."""
# ruff: noqa: A002 (the arguments have ATen's names)

from collections.abc import Callable, Iterable, Sequence
from typing import SupportsIndex

import numpy as np

from convgrad.api import (
    backward,
    conv,
    conv_transpose,
    conv_transpose_backward,
    conv_transpose_double_backward,
    double_backward,
)
from convgrad.arrays import Array
from convgrad.contracts.aten import integers
from convgrad.contracts.aten.sizes import (
    INTEGERS,
    Ints,
    arrays,
    check_grad_output,
    check_no_output_padding,
    check_shape,
    sizes,
    truth,
)
from convgrad.errors import SettingError
from convgrad.geometry import Size
from convgrad.settings import shape_of


def convolution(
    input: Array, weight: Array, bias: Array | None, stride: Ints, padding: Ints, dilation: Ints,
    transposed: bool, output_padding: Ints, groups: SupportsIndex,
) -> Array:  # fmt: skip
    """y[n,o,p] = Σ_{c,k} input[n,c, s·p + d·k − padding] · weight[o,c,k] + bias[o].

    input (N, C, *in), weight (O, C/G, *kernel), bias (O) → (N, O, *out), 1 to 3 spatial axes;
    transposed: weight (C, O/G, *kernel), and input takes the place of y in the formula.
    C = 0 gives (N, 0, *out). Integers (uint8, int8, int16, int32, int64) are summed exactly,
    modulo 2^bits. Settings are ints for each axis, or one for all; output_padding counts only
    where transposed=True.
    Raises ShapeError, DTypeError, SettingError or ArrayError for what ATen refuses.
    """
    call = "convolution"
    given, kind = arrays(call, integers=True, input=input, weight=weight, bias=bias)
    x, w, b = given["input"], given["weight"], given.get("bias")
    s = sizes(call, x.shape, w.shape, stride, padding, dilation, transposed, output_padding, groups)
    if b is not None:
        check_shape(call, "bias", b.shape, (s.out_channels,), f"weight is {s.weight}")
    if x.dtype.name in INTEGERS:
        integers.check(call, x.dtype, s)
        y = integers.convolution(x, w, b, s)
    else:
        y = (conv_transpose if s.transposed else conv)(x, w, b, **s.keywords)
    return kind.restore(y[:, :0] if s.channelless else y)


def convolution_backward(
    grad_output: Array, input: Array, weight: Array, bias_sizes: Sequence[SupportsIndex] | None,
    stride: Ints, padding: Ints, dilation: Ints, transposed: bool, output_padding: Ints,
    groups: SupportsIndex, output_mask: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """(grad_input, grad_weight, grad_bias) of `convolution`, None where output_mask is False.

        grad_input  = Σ_{o,k,p: s·p + d·k − padding = i} conj(weight[o,c,k]) · grad_output[n,o,p]
        grad_weight = Σ_{n,p} conj(input[n,c, s·p + d·k − padding]) · grad_output[n,o,p]
        grad_bias   = Σ_{n,p} grad_output[n,o,p]

    grad_output (N, O, *out), (N, 0, *out) where C = 0. bias_sizes is [O] or None; it is not looked
    at where no grad_bias is asked for. Integer operands have no gradients.
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    call = "convolution_backward"
    given, kind = arrays(call, grad_output=grad_output, input=input, weight=weight)
    dy, x, w = given.values()
    s = sizes(call, x.shape, w.shape, stride, padding, dilation, transposed, output_padding, groups)
    check_no_output_padding(call, s)
    check_grad_output(call, "grad_output", dy.shape, s)
    mask = three_flags(call, output_mask)
    if mask[2] and bias_sizes is not None:
        bias_shape = shape_of(call, "bias_sizes", bias_sizes)
        check_shape(call, "bias_sizes", bias_shape, (s.out_channels,), f"weight is {s.weight}")
    if s.channelless:
        results = _zeros(dy.dtype, s.input, s.weight, (s.out_channels,))
    else:
        needs = [name for name, wanted in zip("xwb", mask, strict=True) if wanted]
        function = conv_transpose_backward if s.transposed else backward
        results = function(x, w, dy, needs=needs, **s.keywords)
    return _masked(kind.restore, results, mask)


def convolution_double_backward(
    ggI: Array | None, ggW: Array | None, ggb: Array | None, gO: Array, weight: Array, input: Array,
    stride: Ints, padding: Ints, dilation: Ints, transposed: bool, output_padding: Ints,
    groups: SupportsIndex, output_mask: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """(ggO, gI, gW): the gradients of `convolution_backward`, for gradients ggI, ggW, ggb of its.

        ggO = conv(ggI, weight) + conv(input, ggW) + ggb
        gI  = convolution_backward's grad_input of (gO, ggW)
        gW  = convolution_backward's grad_weight of (gO, ggI)

    ggI, ggW, ggb are shaped as input, weight, bias, or None for zero. A result is None where
    output_mask is False, and where all its terms are zero because None stands for them.
    Raises ShapeError, DTypeError, SettingError or ArrayError.
    """
    call = "convolution_double_backward"
    given, kind = arrays(call, ggI=ggI, ggW=ggW, ggb=ggb, gO=gO, weight=weight, input=input)
    dy, w, x = given["gO"], given["weight"], given["input"]
    s = sizes(call, x.shape, w.shape, stride, padding, dilation, transposed, output_padding, groups)
    check_no_output_padding(call, s)
    check_grad_output(call, "gO", dy.shape, s)
    for name, like, shape in (
        ("ggI", "input", s.input), ("ggW", "weight", s.weight), ("ggb", "bias", (s.out_channels,)),
    ):  # fmt: skip
        if name in given:
            check_shape(
                call, name, given[name].shape, shape, f"it is the gradient of {like}'s gradient"
            )
    terms = (len(given) > 3, "ggW" in given, "ggI" in given)
    mask = tuple(w and t for w, t in zip(three_flags(call, output_mask), terms, strict=True))
    if s.channelless:
        results = _zeros(dy.dtype, s.output, s.input, s.weight)
    else:
        needs = [name for name, wanted in zip(("dy", "x", "w"), mask, strict=True) if wanted]
        function = conv_transpose_double_backward if s.transposed else double_backward
        second = (given.get("ggI"), given.get("ggW"), given.get("ggb"))
        results = function(x, w, dy, *second, needs=needs, **s.keywords)
    return _masked(kind.restore, results, mask)


def three_flags(call: str, output_mask: object) -> tuple[bool, bool, bool]:
    """output_mask as three bools; raises SettingError for anything else."""
    flags = output_mask if isinstance(output_mask, Iterable) else ()
    mask = tuple(truth(call, "output_mask", flag) for flag in flags)
    if len(mask) != 3:
        raise SettingError(
            f"{call}: output_mask={output_mask!r} must be three bools, one for each result"
        )
    return mask


def _zeros(dtype: np.dtype, *shapes: Size) -> list[np.ndarray]:
    """Results of sums over nothing."""
    return [np.zeros(shape, dtype.newbyteorder("=")) for shape in shapes]


def _masked(
    restore: Callable[[np.ndarray], Array], results: Sequence[np.ndarray], mask: Sequence[bool]
) -> tuple[Array | None, Array | None, Array | None]:
    first, second, third = (
        restore(result) if wanted else None for result, wanted in zip(results, mask, strict=True)
    )
    return first, second, third
