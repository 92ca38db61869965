"""Drawn convolutions for the core's tests, and an oracle that shares no code with convgrad."""

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from hypothesis import strategies as st


@dataclass(frozen=True)
class Case:
    """A convolution's sizes and settings, and a seed for its numbers."""

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    in_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    seed: int = 0

    @property
    def rank(self):
        return len(self.kernel)

    @property
    def out_size(self):
        return tuple(
            (n + lo + hi - d * (k - 1) - 1) // s + 1
            for n, k, s, d, (lo, hi) in zip(
                self.in_size, self.kernel, self.stride, self.dilation, self.pads, strict=True
            )
        )

    @property
    def x_shape(self):
        return (self.batch, self.in_channels, *self.in_size)

    @property
    def w_shape(self):
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def y_shape(self):
        return (self.batch, self.out_channels, *self.out_size)

    @property
    def settings(self):
        return {
            "stride": self.stride,
            "padding": self.pads,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def integers(self, dtype=np.float64, largest=3, step=1):
        """x, w, b, dy with integer values up to `largest`, w and dy multiples of `step`."""
        rng = np.random.default_rng(self.seed)
        shapes = (self.x_shape, self.w_shape, (self.out_channels,), self.y_shape)
        x, w, b, dy = (rng.integers(-largest, largest + 1, s).astype(dtype) for s in shapes)
        return x, w * dtype(step), b, dy * dtype(step)

    def normals(self, dtype=np.float64):
        rng = np.random.default_rng(self.seed)
        shapes = (self.x_shape, self.w_shape, (self.out_channels,), self.y_shape)
        arrays = [rng.standard_normal(s) for s in shapes]
        if np.dtype(dtype).kind == "c":
            arrays = [a + 1j * rng.standard_normal(a.shape) for a in arrays]
        return [a.astype(dtype) for a in arrays]


@st.composite
def cases(draw, ranks=(1, 2, 3), largest_batch=3, three_taps=False):
    """Odd sizes, stride remainders, asymmetric pads, groups, one-pixel outputs, empty batches."""
    rank = draw(st.sampled_from(ranks))
    groups = draw(st.integers(1, 3))
    small = {1: 9, 2: 6, 3: 3, 4: 2}[rank]
    kernels = st.sampled_from((1, 3, 3)) if three_taps else st.integers(1, 4 if rank < 3 else 3)
    axes = []
    for _ in range(rank):
        k = draw(kernels)
        s = 1 if three_taps else draw(st.integers(1, 3))
        apart = st.sampled_from((1, 1, 1, 2, 3)) if three_taps else st.integers(1, 3)
        d = min(draw(apart), 3 if rank < 3 else 2)
        lo, hi = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        least = max(1, d * (k - 1) + 1 - lo - hi)
        axes.append((least + draw(st.integers(0, small)), k, s, d, (lo, hi)))
    in_size, kernel, stride, dilation, pads = zip(*axes, strict=True)
    return Case(
        draw(st.integers(0, largest_batch)),
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        groups, in_size, kernel, stride, dilation, pads,
        draw(st.integers(0, 2**32 - 1)),
    )  # fmt: skip


def oracle(case: Case, x, w, b, dy):
    """y, dx, dw, db by the definition: one Python step for each tap and position."""
    y = np.zeros(case.y_shape, x.dtype) + b.reshape(-1, *(1,) * case.rank)
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    per_in, per_out = case.in_channels // case.groups, case.out_channels // case.groups
    for p, k in product(product(*map(range, case.out_size)), product(*map(range, case.kernel))):
        i = tuple(
            s * pp + d * kk - lo
            for s, pp, d, kk, (lo, _) in zip(
                case.stride, p, case.dilation, k, case.pads, strict=True
            )
        )
        if any(not 0 <= ii < n for ii, n in zip(i, case.in_size, strict=True)):
            continue
        for g in range(case.groups):
            ins = slice(g * per_in, (g + 1) * per_in)
            outs = slice(g * per_out, (g + 1) * per_out)
            cells, taps, grads = x[:, ins, *i], w[outs, :, *k], dy[:, outs, *p]
            y[:, outs, *p] += cells @ taps.T
            dx[:, ins, *i] += grads @ taps.conj()
            dw[outs, :, *k] += grads.T @ cells.conj()
    return y, dx, dw, dy.sum(axis=(0, *range(2, dy.ndim)))


def magnitude_sums(case: Case, x, w, dy):
    """Σ|a||b| for every number of y, dx and dw."""
    zero = np.zeros(case.out_channels)
    y, dx, dw, _ = oracle(case, np.abs(x), np.abs(w), zero, np.abs(dy))
    return y, dx, dw


def taps_of(case: Case) -> int:
    return prod(case.kernel)


def batch_of(case: Case, batch: int) -> Case:
    return replace(case, batch=batch)
