"""Layer: a convolution's sizes and settings by name, and the class of layers it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

CLASSES = (
    "3×3", "1×1", "strided", "depthwise", "grouped", "dilated", "first", "1-D", "3-D",
    "transposed", "other",
)  # fmt: skip
FEW_CHANNELS = 4  # of an image, so that the layer that reads them is a network's first


@dataclass(frozen=True)
class Layer:
    """A convolution layer: x (N, C, *in), w (O, C/G, *kernel), y (N, O, *out).

    Of a transposed layer w is (C, O/G, *kernel). `count` says how often the layer stands in its
    network; padding is the same on both sides of an axis.
    """

    name: str
    network: str
    batch: int
    in_channels: int
    out_channels: int
    in_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    count: int = 1

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def out_size(self) -> tuple[int, ...]:
        """⌊(in + 2·pad − d·(K−1) − 1) / s⌋ + 1, or (in−1)·s − 2·pad + d·(K−1) + 1 + extra."""
        reaches = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel)]
        axes = zip(self.in_size, reaches, self.stride, self.padding)
        if self.transposed:
            extra = self.output_padding or (0,) * self.rank
            return tuple((n - 1) * s - 2 * p + r + e for (n, r, s, p), e in zip(axes, extra))
        return tuple((n + 2 * p - r) // s + 1 for n, r, s, p in axes)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.in_size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        if self.transposed:
            return (self.in_channels, self.out_channels // self.groups, *self.kernel)
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.out_size)

    @property
    def macs(self) -> int:
        """Multiplications of the plain sums, those with padding counted; the same for each map."""
        positions = self.in_size if self.transposed else self.out_size
        return (
            self.batch
            * self.in_channels
            * self.out_channels
            // self.groups
            * prod((*positions, *self.kernel))
        )

    @property
    def elements(self) -> int:
        """Numbers in x, w and y."""
        return prod(self.x_shape) + prod(self.w_shape) + prod(self.y_shape)

    @property
    def layer_class(self) -> str:
        """One of CLASSES: the first that holds, from the rarest trait to the plainest."""
        traits = {
            "transposed": self.transposed,
            "1-D": self.rank == 1,
            "3-D": self.rank == 3,
            "depthwise": self.groups == self.in_channels and self.groups > 1,
            "grouped": self.groups > 1,
            "first": self.in_channels <= FEW_CHANNELS,
            "dilated": max(self.dilation) > 1,
            "strided": max(self.stride) > 1,
            "1×1": set(self.kernel) == {1},
            "3×3": set(self.kernel) == {3},
        }
        return next((name for name, holds in traits.items() if holds), "other")
