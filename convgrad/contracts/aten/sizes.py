"""The shapes and settings of one call, checked by ATen's rules and reported in ATen's words.

out = ⌊(in + 2·padding − d·(kernel−1) − 1)/stride⌋ + 1
out = (in − 1)·stride − 2·padding + d·(kernel−1) + 1 + output_padding      transposed
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from convgrad.arrays import Array, Kind, common_dtype, common_kind, to_numpy
from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.geometry import Size, check_memory, per_axis, times
from convgrad.settings import integer, ints

Ints = SupportsIndex | Iterable[SupportsIndex]
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
OPTIONAL = ("bias", "ggI", "ggW", "ggb")


@dataclass(frozen=True)
class Sizes:
    """A convolution's sizes and settings, one number for each spatial axis; they fit together."""

    input: Size
    weight: Size
    stride: Size
    padding: Size
    dilation: Size
    transposed: bool
    output_padding: Size
    groups: int

    @property
    def out_channels(self) -> int:
        """Output channels by the weight, which is also the bias's size."""
        return self.weight[1] * self.groups if self.transposed else self.weight[0]

    @property
    def channelless(self) -> bool:
        """No input channels. ATen's output then has none either, whatever the weight says."""
        return self.input[1] == 0

    @property
    def out_size(self) -> Size:
        each = zip(
            self.input[2:], self.weight[2:], self.stride, self.padding, self.dilation,
            self.output_padding, strict=True,
        )  # fmt: skip
        if self.transposed:
            return tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + o for n, k, s, p, d, o in each)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in each)

    @property
    def output(self) -> Size:
        return (self.input[0], 0 if self.channelless else self.out_channels, *self.out_size)

    @property
    def keywords(self) -> dict[str, Any]:
        """The settings as convgrad's own functions name them."""
        shared: dict[str, Any] = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }
        return shared | ({"output_padding": self.output_padding} if self.transposed else {})


def sizes(
    call: str, input_shape: Size, weight_shape: Size, stride: Ints, padding: Ints, dilation: Ints,
    transposed: object, output_padding: Ints, groups: SupportsIndex,
) -> Sizes:  # fmt: skip
    """The sizes of one call; raises ShapeError or SettingError for what ATen refuses."""
    rank = len(weight_shape) - 2
    if rank not in (1, 2, 3):
        raise ShapeError(
            f"{call}: weight is {weight_shape}, with {len(weight_shape)} axes; ATen convolves over "
            "1, 2 or 3 spatial axes, so weight needs 3, 4 or 5"
        )
    if len(input_shape) != len(weight_shape):
        raise ShapeError(
            f"{call}: input is {input_shape} and weight {weight_shape}; both need {rank + 2} axes "
            "(pass one sample with a batch axis, input[None])"
        )
    found = Sizes(
        input_shape,
        weight_shape,
        per_axis(call, "stride", ints(call, "stride", stride), rank),
        per_axis(call, "padding", ints(call, "padding", padding), rank, least=0),
        per_axis(call, "dilation", ints(call, "dilation", dilation), rank),
        truth(call, "transposed", transposed),
        per_axis(call, "output_padding", ints(call, "output_padding", output_padding), rank, 0),
        integer(call, "groups", groups),
    )
    _check_channels(call, found)
    _check_spatial(call, found)
    padded = tuple(n + 2 * p for n, p in zip(found.input[2:], found.padding, strict=True))
    if not found.transposed:
        check_memory(call, "the padded input", (*found.input[:2], *padded), "padding")
    check_memory(call, "the output", found.output, "stride" if found.transposed else "padding")
    return found


def truth(call: str, name: str, value: object) -> bool:
    """A bool, or 0 or 1, which ATen takes too; raises SettingError for anything else."""
    if not isinstance(value, bool | np.bool_ | int | np.integer) or value not in (0, 1):
        raise SettingError(f"{call}: {name} must be True or False, not {value!r}")
    return bool(value)


def _check_channels(call: str, s: Sizes) -> None:
    if s.groups < 1:
        raise SettingError(f"{call}: groups must be at least 1, not {s.groups}")
    first, second, channels = s.weight[0], s.weight[1], s.input[1]
    if first < 1 or first % s.groups:
        raise ShapeError(
            f"{call}: weight is {s.weight} with groups={s.groups}; its first axis needs a multiple "
            f"of {s.groups} and at least that"
        )
    if s.transposed and second < 1:
        raise ShapeError(
            f"{call}: weight is {s.weight}, which has no output channels; transposed weight is "
            "(input channels, output channels/groups, *kernel)"
        )
    needed = first if s.transposed else second * s.groups
    if channels != needed:
        raise ShapeError(
            f"{call}: input is {s.input} and weight {s.weight} with groups={s.groups}, "
            f"transposed={s.transposed}; input needs {needed} channels, not {channels}"
        )


def _check_spatial(call: str, s: Sizes) -> None:
    for name, shape in (("input", s.input), ("weight", s.weight)):
        if min(shape[2:]) < 1:
            raise ShapeError(f"{call}: {name} is {shape}; every spatial size must be at least 1")
    for axis, extra in enumerate(s.output_padding):
        if s.transposed and extra >= max(s.stride[axis], s.dilation[axis]):
            raise SettingError(
                f"{call}: output_padding {extra} on spatial axis {axis} must be smaller than the "
                f"stride {s.stride[axis]} or the dilation {s.dilation[axis]}"
            )
    if min(s.out_size) < 1:
        raise ShapeError(
            f"{call}: input {times(s.input[2:])} with a {times(s.weight[2:])} kernel, "
            f"stride={s.stride}, padding={s.padding}, dilation={s.dilation} gives an output of "
            f"size {s.out_size}; every size must be at least 1: "
            f"pad {'less' if s.transposed else 'more'}, or change the kernel"
        )


def check_no_output_padding(call: str, s: Sizes) -> None:
    """Raise SettingError for a gradient with an output_padding, unless it is transposed."""
    if not s.transposed and any(s.output_padding):
        raise SettingError(
            f"{call}: output_padding={s.output_padding} is for transposed=True only; pass 0"
        )


def check_shape(call: str, name: str, shape: Size, needed: Size, because: str) -> None:
    """Raise ShapeError unless an operand has the one shape that fits."""
    if shape != needed:
        raise ShapeError(f"{call}: {name} is {shape}, but it must be {needed}: {because}")


def check_grad_output(call: str, name: str, shape: Size, s: Sizes) -> None:
    """Raise ShapeError unless the output's gradient has the output's shape."""
    check_shape(
        call, name, shape, s.output,
        f"input {s.input} and weight {s.weight} with stride={s.stride}, padding={s.padding}, "
        f"dilation={s.dilation}, groups={s.groups} give that output",
    )  # fmt: skip


def arrays(
    call: str, integers: bool = False, **operands: Array | None
) -> tuple[dict[str, np.ndarray], Kind]:
    """The operands that were given as NumPy arrays of one dtype, and their kind.

    Only a bias and the gradients of gradients may be None. integers=True takes ATen's integers too.
    """
    given = {
        name: to_numpy(call, name, array)
        for name, array in operands.items()
        if array is not None or name not in OPTIONAL
    }
    kind = common_kind(call, {name: kind for name, (_, kind) in given.items()})
    found = {name: array for name, (array, _) in given.items()}
    dtypes = {array.dtype.newbyteorder("=").name for array in found.values()}
    if not integers or dtypes.isdisjoint(INTEGERS):
        common_dtype(call, found, kind)
    elif len(dtypes) > 1:
        each = ", ".join(f"{name} {array.dtype}" for name, array in found.items())
        raise DTypeError(f"{call}: the operands differ in dtype ({each}); pass all of one")
    return found, kind
