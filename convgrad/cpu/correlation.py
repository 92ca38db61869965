"""A map as correlations over three axes: what to read, which taps meet, where to write.

    result[n, m, t] = Σ_{r, τ} weights[m, r, τ] · source[n, r, s·t + shift(τ)]      per axis

The forward map is one of them: m the output channels, r the input channels. The input gradient is
one for each residue ρ of the stride: the cells i = s·t + ρ of dx are met by the taps with
(ρ + lo − d·k) divisible by s, at position p = t + (ρ + lo − d·k)/s of dy. So nothing is ever
stuffed with zeros, and a tap that meets nothing costs nothing.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from convgrad.geometry import Geometry, Size


@dataclass(frozen=True)
class Tap:
    """One axis of a tap: kernel index k meets source cell s·t + phase + s·shift − pad."""

    k: int
    phase: int
    shift: int

    def offset(self, axis: "Axis") -> int:
        """The source cell of result t = 0, counted from the source's first cell."""
        return self.phase + axis.stride * self.shift - axis.pad


@dataclass(frozen=True)
class Axis:
    """One axis of a correlation: result t = 0 … size−1 stands at first + every·t of its array."""

    source: int
    size: int
    stride: int
    pad: int
    phases: int
    taps: tuple[Tap, ...]
    first: int = 0
    every: int = 1

    @property
    def reach(self) -> int:
        """Cells of one phase that a result needs beyond its own."""
        return max((tap.shift for tap in self.taps), default=0)


Axes = tuple[Axis, Axis, Axis]


def lifted(size: Size, fill: int) -> tuple[int, int, int]:
    """Sizes of up to three axes as three."""
    a, b, c = (fill,) * (3 - len(size)) + tuple(size)
    return a, b, c


def forward_axes(g: Geometry) -> Axes:
    """The one correlation that is the forward map."""
    axes = []
    for n, out, k, s, d, (lo, _) in _lifted_axes(g):
        phases = min(s, d * (k - 1) + 1)
        taps = tuple(Tap(i, *_phase(d * i, s)) for i in range(k))
        axes.append(Axis(n, out, s, lo, phases, taps))
    return tuple(axes)  # type: ignore[return-value]


def input_grad_axes(g: Geometry) -> list[Axes]:
    """The correlations over dy that make up dx, one for each residue of the strides."""
    each = []
    for n, out, k, s, d, (lo, _) in _lifted_axes(g):
        residues = []
        for rho in range(min(s, n)):
            shifts = [(i, (rho + lo - d * i) // s) for i in range(k) if (rho + lo - d * i) % s == 0]
            least = min((shift for _, shift in shifts), default=0)
            taps = tuple(Tap(i, 0, shift - least) for i, shift in shifts)
            residues.append(Axis(out, -(-(n - rho) // s), 1, -least, 1, taps, rho, s))
        each.append(residues)
    return list(product(*each))


def shifts_of(axes: Axes) -> np.ndarray:
    """For each tap where result 0 meets the source, on three axes: (taps, 3)."""
    deep, high, wide = axes
    shifts = [
        (z.offset(deep), r.offset(high), c.offset(wide))
        for z in deep.taps for r in high.taps for c in wide.taps
    ]  # fmt: skip
    return np.array(shifts, np.int64).reshape(-1, 3)


def line_axes(cells: int) -> Axes:
    """The correlation of a 1×1 map whose cells lie in one run."""
    one, tap = Axis(1, 1, 1, 0, 1, (Tap(0, 0, 0),)), Tap(0, 0, 0)
    return one, one, Axis(cells, cells, 1, 0, 1, (tap,))


def _phase(offset: int, stride: int) -> tuple[int, int]:
    shift, phase = divmod(offset, stride)
    return phase, shift


def _lifted_axes(g: Geometry) -> list[tuple[int, int, int, int, int, tuple[int, int]]]:
    short = 3 - g.rank
    none = [(1, 1, 1, 1, 1, (0, 0))] * short
    return none + list(
        zip(g.in_size, g.out_size, g.kernel, g.stride, g.dilation, g.pads, strict=True)
    )
