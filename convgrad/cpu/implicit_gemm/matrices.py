"""Maps that are products of matrices, and of few rows: w stays where it is.

Where the kernel covers the whole input there is one result for each output channel; with j = (c,k)

    y[n,o] = Σ_j w[o,j]·x[n,j]    dx[n,j] = Σ_o dy[n,o]·w[o,j]    dw[o,j] = Σ_n dy[n,o]·x[n,j]

as in a fully connected layer. A 1×1 map of one small image is one, too, with its cells for n. Here
w is the operand whose panels are packed as they are needed, and samples or cells are the rows.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from convgrad.algorithm import Bound, Problem, Strides

FEW = 256  # cells of an image that are rows
LARGE = 1 << 16  # weights from which that pays


@dataclass(frozen=True)
class Matrices:
    """A map as out[m,q] = Σ_r left[m,r]·right[r,q]: a 1×1 map of one sample, right's cells being q.

    problem: that map; strides: of right, left and out, as its x, w and y. Forward, right is the
    map's second operand, otherwise its first.
    """

    problem: Problem
    strides: tuple[Strides, Strides, Strides]


def suits(problem: Problem) -> bool:
    """Whether the map is such a product, if its operands lie in memory as it needs them."""
    return covers(problem) or _is_small(problem)


def covers(problem: Problem) -> bool:
    """Whether each result meets every cell of its sample, each cell at its own tap."""
    g = problem.geometry
    return (
        g.groups == 1 and g.positions == 1 and g.kernel == g.in_size and g.macs > 0
        and all(d == 1 or k == 1 for d, k in zip(g.dilation, g.kernel, strict=True))
        and not any(map(any, g.pads))
    )  # fmt: skip


def _is_small(problem: Problem) -> bool:
    """A 1×1 map of one image of few cells."""
    g = problem.geometry
    return (
        problem.direction != "weight_grad" and g.groups == 1 and g.batch == 1 and g.taps == 1
        and 1 < g.positions <= FEW and g.positions == prod(g.in_size)
        and not any(map(any, g.pads)) and prod(g.w_shape) >= LARGE
    )  # fmt: skip


def flat(problem: Problem) -> Problem:
    """The forward map that the product of matrices is."""
    g, inner = problem.geometry, problem.geometry.in_channels * problem.geometry.taps
    few = g.batch if covers(problem) else g.positions
    rows, sums, cells = {
        "forward": (few, inner, g.out_channels),
        "input_grad": (few, g.out_channels, inner),
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
    if not suits(problem):
        return None
    if problem.direction == "input_grad":
        x, w, y = out, first, second
    elif problem.direction == "weight_grad":
        x, w, y = first, out, second
    else:
        x, w, y = first, second, out
    g = problem.geometry
    if covers(problem):
        sizes = (g.in_channels, *g.kernel)
        order = sorted((i for i, n in enumerate(sizes) if n > 1), key=lambda i: -x[1 + i])
        along_x, along_w = (_run([(sizes[i], each[1 + i]) for i in order]) for each in (x, w))
        x_row, y_row = x[0], y[0]
    else:
        along_x, along_w = x[1], w[1]
        x_row, y_row = (_run(list(zip(g.in_size, each[2:], strict=True))) for each in (x, y))
    if along_x is None or along_w is None or x_row is None or y_row is None:
        return None
    strides = {
        "forward": ((0, along_w, w[0]), (x_row, along_x, 0), (0, y_row, y[1])),
        "input_grad": ((0, w[0], along_w), (y_row, y[1], 0), (0, x_row, along_x)),
        "weight_grad": ((0, x_row, along_x), (y[1], y_row, 0), (0, w[0], along_w)),
    }
    return Matrices(flat(problem), strides[problem.direction])


def _run(axes: list[tuple[int, int]]) -> int | None:
    """The step from one number to the next, where all axes (size, stride) are one run."""
    axes = [(n, stride) for n, stride in axes if n > 1]
    for (_, outer), (n, inner) in zip(axes, axes[1:]):
        if outer != n * inner:
            return None
    return axes[-1][1] if axes else 0


class Biased(Bound):
    """A product of matrices into a result to which its bias, of channels, was added before.

    The kernels add a bias for each row, and here rows are samples or cells. plain: the same map
    otherwise, where a scaled sum must be rounded once with its bias, in whatever batch.
    """

    def __init__(self, bound: Bound, rank: int, plain: Bound | None) -> None:
        self.bound, self.rank, self.plain = bound, rank, plain

    def run(
        self, first: np.ndarray, second: np.ndarray, out: np.ndarray,
        bias: np.ndarray | None = None, scale: float = 1.0, accumulate: bool = False,
    ) -> None:  # fmt: skip
        if bias is None:
            self.bound.run(first, second, out, None, scale, accumulate)
        elif self.plain is not None and (accumulate or scale != 1):
            self.plain.run(first, second, out, bias, scale, accumulate)
        else:
            column = bias.reshape(-1, *(1,) * self.rank)
            if accumulate:
                out += column
            else:
                out[...] = column
            self.bound.run(first, second, out, None, scale, True)
