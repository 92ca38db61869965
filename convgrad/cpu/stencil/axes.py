"""The axes of a problem of few channels: pads, phases and residues, and its taps as strips."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Tap, forward_axes, input_grad_axes
from convgrad.cpu.stencil.shapes import LENGTHS


@dataclass(frozen=True)
class Line:
    """One axis: cell j of phase f of the copy is source cell stride·j + f − pad; result t of
    residue ρ stands at every·t + ρ and meets cell t + shift of a tap's phase."""

    source: int
    pad: int
    stride: int
    phases: int
    every: int
    size: int
    total: int
    residues: tuple[tuple[Tap, ...], ...]

    @property
    def reach(self) -> int:
        return max((tap.shift for taps in self.residues for tap in taps), default=0)


@lru_cache(maxsize=1024)
def lines(problem: Problem) -> tuple[Line, Line, Line]:
    g = problem.geometry
    if problem.direction != "input_grad":
        return tuple(
            Line(a.source, a.pad, a.stride, a.phases, 1, a.size, a.size, (a.taps,))
            for a in forward_axes(g)
        )  # type: ignore[return-value]
    every = input_grad_axes(g)
    made = []
    for axis, size in enumerate((*(1,) * (3 - g.rank), *g.in_size)):
        residues = sorted({axes[axis].first: axes[axis] for axes in every}.items())
        pad = max((a.pad for _, a in residues if a.taps), default=0)
        taps = tuple(
            tuple(
                sorted((Tap(t.k, 0, t.shift + pad - a.pad) for t in a.taps), key=lambda t: t.shift)
            )
            for _, a in residues
        )
        first = residues[0][1]
        made.append(Line(first.source, pad, 1, 1, len(residues), first.size, size, taps))
    return tuple(made)  # type: ignore[return-value]


def channels(problem: Problem) -> tuple[int, int]:
    """Channels that are copied, and channels of the result (of dy, in a weight gradient)."""
    g = problem.geometry
    if problem.direction == "input_grad":
        return g.group_out, g.group_in
    return g.group_in, g.group_out


@lru_cache(maxsize=1024)
def lengths(problem: Problem) -> tuple[int, ...]:
    """The lengths of strips that a depthwise kernel is made with."""
    high = lines(problem)[1]
    found = {len(run) for taps in high.residues for run in runs_of(taps)} or {1}
    own = tuple(sorted(found, reverse=True))
    return own if own in LENGTHS else LENGTHS[-1]


@lru_cache(maxsize=1024)
def strips_of(problem: Problem) -> list[tuple[int, list[tuple[Tap, Tap, Tap]]]]:
    """Every residue's taps as strips: (residue, taps one below the other)."""
    deep, high, wide = lines(problem)
    most, found = lengths(problem)[0], []
    for index, (zs, hs, ws) in enumerate(product(deep.residues, high.residues, wide.residues)):
        strips = [run[i : i + most] for run in runs_of(hs) for i in range(0, len(run), most)]
        for z, strip, w in product(zs, strips, ws):
            found.append((index, [(z, h, w) for h in strip]))
    return found


def runs_of(taps: Sequence[Tap]) -> list[list[Tap]]:
    """Taps of one phase with consecutive shifts."""
    runs: list[list[Tap]] = []
    for tap in sorted(taps, key=lambda t: (t.phase, t.shift)):
        last = runs[-1][-1] if runs else None
        if last and (last.phase, last.shift + 1) == (tap.phase, tap.shift):
            runs[-1].append(tap)
        else:
            runs.append([tap])
    return runs


def elements(strides: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Strides in elements for sample, channel and three axes."""
    n, c, *spatial = (s // item for s in strides)
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)
