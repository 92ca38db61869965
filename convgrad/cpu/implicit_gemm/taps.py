"""What a product reads and gives: bands and phases of results, and the taps that they meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from convgrad.algorithm import Problem
from convgrad.cpu.correlation import Axes, forward_axes, input_grad_axes, shifts_of
from convgrad.cpu.implicit_gemm.kernels.panels import PIECE

Bands = list[list[Axes]]  # for each residue of planes and rows: its phases, the residues of columns


@dataclass(frozen=True)
class Taps:
    """What the phases of a product read: places of the source, and which of them each tap meets.

    places: (U, 3), where result 0 meets the source on each axis; slots: for the taps of all phases
    one after the other, which place they meet; starts: where each phase's taps begin, and the end;
    kernel: for each tap its index in the kernel, on three axes.
    """

    places: np.ndarray
    slots: np.ndarray
    starts: np.ndarray
    kernel: tuple[tuple[int, int, int], ...]

    @property
    def aligned(self) -> bool:
        """Whether every phase meets every place, in order."""
        every = np.arange(len(self.places))
        return all(
            np.array_equal(self.slots[a:b], every) for a, b in zip(self.starts, self.starts[1:])
        )


def bands_of(problem: Problem) -> Bands:
    """A map's results: one, or the input gradient's for each residue of the strides."""
    if problem.direction == "forward":
        return [[forward_axes(problem.geometry)]]
    every = input_grad_axes(problem.geometry)
    return [list(phases) for _, phases in groupby(every, key=lambda axes: axes[:2])]


def taps_of(bands: Bands) -> Taps:
    """The taps of all phases; places are numbered as the phase with the most taps meets them."""
    phases = [axes for band in bands for axes in band]
    shifts = [[tuple(map(int, shift)) for shift in shifts_of(axes)] for axes in phases]
    numbers = {shift: 0 for each in sorted(shifts, key=len, reverse=True) for shift in each}
    numbers = {shift: number for number, shift in enumerate(numbers)}
    kernel = [
        (z.k, r.k, c.k)
        for axes in phases
        for z in axes[0].taps for r in axes[1].taps for c in axes[2].taps
    ]  # fmt: skip
    return Taps(
        np.array(list(numbers), np.int64).reshape(-1, 3),
        np.array([numbers[shift] for each in shifts for shift in each], np.int64),
        np.cumsum([0, *map(len, shifts)], dtype=np.int64),
        tuple(kernel),
    )


def band_table(bands: Bands, spatial: Sequence[int]) -> np.ndarray:
    """For each band: where it begins in the result, its planes, rows, and columns of all phases."""
    return np.array(
        [
            (
                sum(axis.first * s for axis, s in zip(phases[0], spatial, strict=True)),
                phases[0][0].size, phases[0][1].size, sum(axes[2].size for axes in phases),
            )
            for phases in bands
        ],
        np.int64,
    )  # fmt: skip


def piece_lists(taps: Taps) -> np.ndarray:
    """For each phase how many pieces its sum has, and for each (first tap, its place, number)."""
    starts = taps.starts.tolist()
    lists = np.zeros(len(starts) - 1 + PIECE * len(taps.slots), np.int64)
    for phase, (begin, end) in enumerate(pairwise(starts)):
        slots = taps.slots[begin:end]
        firsts = [t for t in range(len(slots)) if t == 0 or slots[t] != slots[t - 1] + 1]
        at = begin * PIECE + phase
        lists[at] = len(firsts)
        for i, (t, after) in enumerate(pairwise([*firsts, len(slots)])):
            lists[at + 1 + i * PIECE : at + 1 + (i + 1) * PIECE] = t, slots[t], after - t
    return lists
