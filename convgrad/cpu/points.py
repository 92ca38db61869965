"""A map with one result for each output channel: its kernel covers the whole input.

    y[n,o] = Σ_j w[o,j]·x[n,j]    dx[n,j] = Σ_o dy[n,o]·w[o,j]    dw[o,j] = Σ_n dy[n,o]·x[n,j]

with j = (c,k): products of matrices, as in a fully connected layer. The operand that is larger in
most networks, w, is the one whose panels are packed as they are needed; samples are rows.
"""

from dataclasses import dataclass, replace

import numpy as np

from convgrad.algorithm import Bound, Problem, Strides


@dataclass(frozen=True)
class Matrices:
    """A map as out[m,q] = Σ_r left[m,r]·right[r,q]: a 1×1 map of one sample, right's cells being q.

    problem: that map; strides: of right, left and out, as its x, w and y. Forward, right is the
    map's second operand, otherwise its first.
    """

    problem: Problem
    strides: tuple[Strides, Strides, Strides]


def covers(problem: Problem) -> bool:
    """Whether each result meets every cell of its sample, each cell at its own tap."""
    g = problem.geometry
    return (
        g.groups == 1 and g.positions == 1 and g.kernel == g.in_size and g.macs > 0
        and all(d == 1 or k == 1 for d, k in zip(g.dilation, g.kernel, strict=True))
        and not any(map(any, g.pads))
    )  # fmt: skip


def flat(problem: Problem) -> Problem:
    """The forward map that the product of matrices is."""
    g, inner = problem.geometry, problem.geometry.in_channels * problem.geometry.taps
    rows, sums, cells = {
        "forward": (g.batch, inner, g.out_channels),
        "input_grad": (g.batch, g.out_channels, inner),
        "weight_grad": (g.out_channels, g.batch, inner),
    }[problem.direction]
    one = (1,)
    line = replace(
        g, batch=1, in_channels=sums, out_channels=rows, in_size=(cells,), kernel=one, stride=one,
        pads=((0, 0),), dilation=one, out_size=(cells,), layout="channels_first",
    )  # fmt: skip
    return replace(problem, direction="forward", geometry=line)


def matrices(problem: Problem, first: Strides, second: Strides, out: Strides) -> Matrices | None:
    """The map as a product of matrices, for operands and a result that are some; or None."""
    if not covers(problem):
        return None
    if problem.direction == "input_grad":
        x, w, y = out, first, second
    elif problem.direction == "weight_grad":
        x, w, y = first, out, second
    else:
        x, w, y = first, second, out
    g = problem.geometry
    sizes = (g.in_channels, *g.kernel)
    order = sorted((i for i, n in enumerate(sizes) if n > 1), key=lambda i: -x[1 + i])
    along_x, along_w = (_run([(sizes[i], each[1 + i]) for i in order]) for each in (x, w))
    if along_x is None or along_w is None:
        return None
    samples, channels = y[:2]
    strides = {
        "forward": ((0, along_w, w[0]), (x[0], along_x, 0), (0, samples, channels)),
        "input_grad": ((0, w[0], along_w), (samples, channels, 0), (0, x[0], along_x)),
        "weight_grad": ((0, x[0], along_x), (channels, samples, 0), (0, w[0], along_w)),
    }
    return Matrices(flat(problem), strides[problem.direction])


def _run(axes: list[tuple[int, int]]) -> int | None:
    """The step from one number to the next, where all axes (size, stride) are one run."""
    for (_, outer), (n, inner) in zip(axes, axes[1:]):
        if outer != n * inner:
            return None
    return axes[-1][1] if axes else 0


class Biased:
    """A product of matrices into a result to which its bias, of channels, was added before.

    The kernels add a bias for each row, and here rows are samples.
    """

    def __init__(self, bound: Bound, rank: int) -> None:
        self.bound, self.rank = bound, rank

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        if bias is not None:
            column = bias.reshape(-1, *(1,) * self.rank)
            if accumulate:
                out += column
            else:
                out[...] = column
            accumulate = True
        self.bound.run(first, second, out, None, scale, accumulate)
