"""Geometry: the shapes, pads, taps and adjoint formulas of one convolution, and their errors.

A convolution joins input position i, kernel tap k and output position p of each spatial axis by

    i = s·p + d·k − lo        0 ≤ i < in,  0 ≤ k < K,  0 ≤ p < out

with stride s, dilation d and `lo` padding cells in front. Everything else follows from this line:
the output size out = ⌊(in + lo + hi − d·(K−1) − 1) / s⌋ + 1, the remainder of input rows that no
window reaches, and, read for a fixed i, the output positions that a cell's gradient comes from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from math import prod

from convgrad.errors import SettingError, ShapeError
from convgrad.padding import Padding, Pads, resolve_pads

Size = tuple[int, ...]
Box = tuple[tuple[int, int], ...]  # (start, stop) of each axis
Slices = tuple[slice, ...]
LARGEST = 2**58  # numbers of 16 bytes that an address can reach
CACHED_TAPS = 64  # longer kernels are rare, and their windows take memory


@dataclass(frozen=True)
class Geometry:
    """One convolution's sizes: x (N, C, *in_size), w (O, C/G, *kernel), y (N, O, *out_size).

    `transposed` says that a transposed convolution is served: its caller calls our y `x` and our
    x `y`. Then `out_size` may be smaller than the largest that fits (output_padding ≥ stride).
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    in_size: Size
    kernel: Size
    stride: Size
    pads: Pads
    dilation: Size
    out_size: Size
    layout: str = "channels_first"
    transposed: bool = False

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def group_in(self) -> int:
        """Input channels of one group, C/G."""
        return self.in_channels // self.groups

    @property
    def group_out(self) -> int:
        """Output channels of one group, O/G."""
        return self.out_channels // self.groups

    @property
    def x_shape(self) -> Size:
        return (self.batch, self.in_channels, *self.in_size)

    @property
    def w_shape(self) -> Size:
        return (self.out_channels, self.group_in, *self.kernel)

    @property
    def y_shape(self) -> Size:
        return (self.batch, self.out_channels, *self.out_size)

    @cached_property
    def extent(self) -> Size:
        """Input cells that a window spans, d·(K−1) + 1."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    @cached_property
    def padded_size(self) -> Size:
        return tuple(n + lo + hi for n, (lo, hi) in zip(self.in_size, self.pads, strict=True))

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def positions(self) -> int:
        return prod(self.out_size)

    @property
    def macs(self) -> int:
        """Multiply-adds of one map, pads counted: N·O·P·(C/G)·K."""
        return self.batch * self.out_channels * self.positions * self.group_in * self.taps

    def terms(self, direction: str) -> int:
        """The most products that one number of the result is the sum of."""
        if direction == "forward":
            return self.group_in * self.taps
        if direction == "weight_grad":
            return self.batch * self.positions
        reached = (
            min(k, -(-e // s), p)
            for k, e, s, p in zip(self.kernel, self.extent, self.stride, self.out_size, strict=True)
        )
        return self.group_out * prod(reached)

    def with_pads_laid(self) -> "Geometry":
        """The same convolution on an input that already has its padding cells."""
        return replace(self, in_size=self.padded_size, pads=((0, 0),) * self.rank)

    def one_sample(self) -> "Geometry":
        return replace(self, batch=1)


def tap_windows(
    g: Geometry, out_box: Box | None = None, in_box: Box | None = None
) -> Iterator[tuple[Size, Slices, Slices]]:
    """For each tap k: where x and y meet, as (k, slices of x, slices of y).

    x[slices of x] and y[slices of y] pair the cells with i = s·p + d·k − lo, padding left out.
    Both are restricted to `out_box` and `in_box`; a tap that meets only padding is not listed.
    """
    axes = [
        (_axis_windows if k <= CACHED_TAPS else _axis_windows.__wrapped__)(
            s, d, lo, k, *p_range, *i_range
        )
        for s, d, (lo, _), k, p_range, i_range in zip(
            g.stride,
            g.dilation,
            g.pads,
            g.kernel,
            out_box or whole(g.out_size),
            in_box or whole(g.in_size),
            strict=True,
        )
    ]
    for tap in product(*axes):
        k, x_slices, y_slices = zip(*tap, strict=True)
        yield k, x_slices, y_slices


@lru_cache(maxsize=256)
def _axis_windows(
    s: int, d: int, lo: int, taps: int, p_start: int, p_stop: int, i_start: int, i_stop: int
) -> tuple[tuple[int, slice, slice], ...]:
    """One axis of `tap_windows`, for positions p_start … p_stop and cells i_start … i_stop."""
    windows = []
    for k in range(taps):
        shift = d * k - lo
        first = max(p_start, -((shift - i_start) // s))
        last = min(p_stop - 1, (i_stop - 1 - shift) // s)
        if first <= last:
            x_slice = slice(s * first + shift, s * last + shift + 1, s)
            windows.append((k, x_slice, slice(first, last + 1)))
    return tuple(windows)


def whole(size: Size) -> Box:
    """The box that leaves nothing out."""
    return tuple((0, n) for n in size)


def reaching_box(g: Geometry, in_box: Box) -> Box:
    """The output positions whose windows touch `in_box` (an empty range where none does)."""
    box = []
    for axis, (start, stop) in enumerate(in_box):
        s, lo = g.stride[axis], g.pads[axis][0]
        first = max(0, -((g.extent[axis] - 1 - lo - start) // s))
        last = min(g.out_size[axis] - 1, (stop - 1 + lo) // s)
        box.append((first, max(first, last + 1)))
    return tuple(box)


def conv_geometry(
    call: str,
    x_shape: Size,
    w_shape: Size,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
    layout: str = "channels_first",
) -> Geometry:
    """The geometry of conv(x, w) for channels-first, batched shapes.

    Raises ShapeError or SettingError, in the caller's words, for anything that does not fit.
    """
    rank = len(w_shape) - 2
    kernel, in_size = w_shape[2:], x_shape[2:]
    stride = per_axis(call, "stride", stride, rank)
    dilation = per_axis(call, "dilation", dilation, rank)
    groups = _at_least(call, "groups", groups, 1)
    _check_sizes(call, "x", "input", in_size)
    _check_sizes(call, "w", "kernel", kernel)
    _check_channels(call, x_shape[1], w_shape, groups)
    pads = resolve_pads(call, padding, in_size, kernel, stride, dilation)
    out_size = []
    for axis, n in enumerate(in_size):
        lo, hi = pads[axis]
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        if extent > n + lo + hi:
            raise ShapeError(
                f"{call}: the kernel {times(kernel)} with dilation {times(dilation)} spans "
                f"{extent} cells on spatial axis {axis}, but the input {times(in_size)} with "
                f"padding {pads_text(pads)} has {n + lo + hi} there; "
                f"pad by at least {extent - n - lo - hi} more, or use a smaller kernel"
            )
        out_size.append((n + lo + hi - extent) // stride[axis] + 1)
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(in_size, pads))
    check_memory(call, "the padded input", (*x_shape[:2], *padded), "padding")
    check_memory(call, "the output", (x_shape[0], w_shape[0], *out_size), "padding")
    return Geometry(
        x_shape[0], x_shape[1], w_shape[0], groups, in_size, kernel, stride, pads, dilation,
        tuple(out_size), layout,
    )  # fmt: skip


def transposed_geometry(
    call: str,
    x_shape: Size,
    w_shape: Size,
    stride: int | Sequence[int],
    padding: Padding,
    output_padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
    layout: str = "channels_first",
) -> Geometry:
    """The geometry of the convolution whose input gradient is conv_transpose(x, w).

    x (N, C, *in), w (C, O/G, *kernel) → y (N, O, *out) with
    out = (in − 1)·s − lo − hi + d·(K−1) + 1 + output_padding; with padding "same" out = in·s.
    """
    rank = len(w_shape) - 2
    kernel, in_size = w_shape[2:], x_shape[2:]
    stride = per_axis(call, "stride", stride, rank)
    dilation = per_axis(call, "dilation", dilation, rank)
    extra = per_axis(call, "output_padding", output_padding, rank, least=0)
    groups = _at_least(call, "groups", groups, 1)
    _check_sizes(call, "x", "input", in_size)
    _check_sizes(call, "w", "kernel", kernel)
    _check_transposed_channels(call, x_shape[1], w_shape, groups)
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        if any(extra):
            raise SettingError(
                f'{call}: padding="{padding}" fixes the output at input·stride, so '
                f"output_padding={extra} cannot be met; pass output_padding=0"
            )
        out_size = tuple(n * s for n, s in zip(in_size, stride, strict=True))
        pads = resolve_pads(call, padding, out_size, kernel, stride, dilation)
    else:
        for axis in range(rank):
            if extra[axis] >= max(stride[axis], dilation[axis]):
                raise SettingError(
                    f"{call}: output_padding {extra[axis]} on spatial axis {axis} must be smaller "
                    f"than the stride {stride[axis]} or the dilation {dilation[axis]}"
                )
        pads = resolve_pads(call, padding, in_size, kernel, stride, dilation)
        out_size = tuple(
            (n - 1) * s - lo - hi + e + o
            for n, s, (lo, hi), e, o in zip(in_size, stride, pads, extent, extra, strict=True)
        )
    for axis, n in enumerate(out_size):
        if n < 1:
            raise ShapeError(
                f"{call}: x {times(in_size)} with a {times(kernel)} kernel, stride {times(stride)} "
                f"and padding {pads_text(pads)} gives an output of {n} on spatial axis {axis}; "
                "at least 1 is needed: use less padding"
            )
    check_memory(call, "the output", (x_shape[0], w_shape[1] * groups, *out_size), "stride")
    return Geometry(
        x_shape[0], w_shape[1] * groups, x_shape[1], groups, out_size, kernel, stride, pads,
        dilation, in_size, layout, transposed=True,
    )  # fmt: skip


def per_axis(
    call: str, name: str, value: int | Sequence[int], rank: int, least: int = 1
) -> tuple[int, ...]:
    """An int for all axes, or one int for each, as a tuple of `rank` ints ≥ `least`."""
    values = (value,) if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values *= rank
    if len(values) != rank:
        raise SettingError(
            f"{call}: {name}={value!r} has {len(values)} numbers for {rank} spatial axes; "
            f"pass one int or {rank} of them"
        )
    return tuple(_at_least(call, name, v, least) for v in values)


def _at_least(call: str, name: str, number: int, least: int) -> int:
    if number < least:
        raise SettingError(f"{call}: {name} must be at least {least}, not {number}")
    return number


def _check_sizes(call: str, operand: str, what: str, size: Size) -> None:
    if min(size) < 1:
        raise ShapeError(
            f"{call}: {operand} has {what} size {times(size)}; every spatial size must be at "
            "least 1 (only the batch and the input channels may be 0)"
        )


def check_memory(call: str, what: str, shape: Size, setting: str) -> None:
    """Raise ShapeError where no memory could hold an array of this shape (an empty one neither)."""
    if prod(max(n, 1) for n in shape) >= LARGEST:
        raise ShapeError(
            f"{call}: {what}, {shape}, would be larger than any memory; "
            f"pass smaller sizes or a smaller {setting}"
        )


def _check_channels(call: str, channels: int, w_shape: Size, groups: int) -> None:
    out_channels, group_in = w_shape[:2]
    if out_channels < 1:
        raise ShapeError(f"{call}: w has 0 output channels; at least 1 is needed")
    if channels % groups:
        raise ShapeError(
            f"{call}: x has {channels} channels, which groups={groups} does not divide"
        )
    if out_channels % groups:
        raise ShapeError(
            f"{call}: w has {out_channels} output channels, which groups={groups} does not divide"
        )
    if group_in * groups != channels:
        fits = f"; groups={channels // group_in} would fit" if _fits(channels, group_in) else ""
        raise ShapeError(
            f"{call}: x has {channels} channels in groups={groups}, so w needs "
            f"{channels // groups} input channels, but has {group_in}{fits}"
        )


def _fits(channels: int, group_in: int) -> bool:
    return group_in > 0 and channels > 0 and channels % group_in == 0


def _check_transposed_channels(call: str, channels: int, w_shape: Size, groups: int) -> None:
    if channels < 1:
        raise ShapeError(f"{call}: x has 0 channels; at least 1 is needed")
    if w_shape[0] != channels:
        raise ShapeError(
            f"{call}: x has {channels} channels, but w is for {w_shape[0]}; a transposed "
            "convolution's w is (input channels, output channels / groups, *kernel)"
        )
    if channels % groups:
        raise ShapeError(
            f"{call}: x has {channels} channels, which groups={groups} does not divide"
        )


def times(size: Size) -> str:
    """A size in words: (3, 3) → 3×3."""
    return "×".join(str(n) for n in size)


def pads_text(pads: Pads) -> str:
    """Pads in words, as short as is true: one number, one for each axis, or (lo, hi) pairs."""
    if any(lo != hi for lo, hi in pads):
        return str(list(pads))
    each = [lo for lo, _ in pads]
    return str(each[0]) if len(set(each)) == 1 else times(tuple(each))


def axis_text(values: Size) -> str:
    """A setting in words: 2 where all axes agree, else 2×1."""
    return str(values[0]) if len(set(values)) == 1 else times(values)
