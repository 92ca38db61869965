"""im2col: the convolution as one matrix product (GEMM) over unfolded input.

    cols[(c,k), p] = x[c, s·p + d·k − lo]                       im2col
    y  = W · cols                    W (O, C·K)
    dx = col2im(Wᵀ · dy)             col2im is the adjoint of im2col: it adds the overlaps
    dw = Σ_n dy · colsᵀ

Row (c·KH + kh)·KW + kw of cols holds tap (kh, kw) of channel c, as in Caffe and THNN. Blocks of
output pixels are unfolded one after the other, so the whole matrix is never built.

Work: 2·N·O·P·(C/G)·K in BLAS.  Scratch: a block of cols and its product;
for dx also the sums of the block's samples.
Error: (n+1)·u·Σ|a||b|, in an order that BLAS chooses (and may change with its threads).
Source: Chellapilla, Puri & Simard 2006, High Performance Convolutional Neural Networks.
"""

from math import prod

import numpy as np

from convgrad.algorithm import Algorithm, Epilogue, Problem, plain_sum_bound
from convgrad.geometry import Box, Geometry, Size, tap_windows, whole
from convgrad.reference.blocks import box_size, boxes, fit, inside, split_groups

BUDGET = 4 << 20


def refuses(problem: Problem) -> str | None:
    """Nothing: every geometry unfolds."""
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y = W · cols, block by block of output pixels."""
    g = problem.geometry
    rows = _rows(problem, w)  # (G, O/G, C/G·K)
    for samples, box in boxes((g.batch, *g.out_size), _block(problem)):
        part = out[samples, :, *(slice(*edge) for edge in box)]
        y = rows @ _columns(problem, x[samples], box)  # (G, O/G, n·p)
        y = y.reshape(g.out_channels, part.shape[0], *part.shape[2:])
        epilogue.store(part, y.swapaxes(0, 1), bias_axis=1)
        del y  # before the next block takes its memory


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx = col2im(Wᵀ · dy), in blocks of output pixels, added up for a few samples at a time."""
    g = problem.geometry
    columns = _rows(problem, w).swapaxes(1, 2)  # (G, C/G·K, O/G)
    step, *block = _block(problem)
    for samples, _ in boxes((g.batch,), (step,)):
        n = samples.stop - samples.start
        dx = np.zeros((g.in_channels, n, *g.in_size), problem.wide)
        for _, box in boxes((1, *g.out_size), (1, *block)):
            cols = columns @ _gradients(problem, dy[samples], box)  # (G, C/G·K, n·p)
            fold(g, cols.reshape(g.in_channels, *g.kernel, n, *box_size(box)), box, dx)
            del cols  # before the next block takes its memory
        epilogue.store(out[samples], dx.swapaxes(0, 1), bias_axis=1)
        del dx


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw = Σ dy · colsᵀ, over blocks of output pixels."""
    g = problem.geometry
    dw = np.zeros((g.groups, g.group_out, g.group_in * g.taps), problem.wide)
    for samples, box in boxes((g.batch, *g.out_size), _block(problem)):
        transposed = _columns(problem, x[samples], box).swapaxes(1, 2)  # (G, n·p, C/G·K)
        dw += _gradients(problem, dy[samples], box) @ transposed
        del transposed  # before the next block takes its memory
    epilogue.store(out, dw.reshape(out.shape))


def unfold(g: Geometry, x: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
    """cols[c,k,n,p] = x[n, c, s·p + d·k − lo] for the positions p of `box`; zero in the padding.

    x (n, C, *in) → (C, *K, n, *box).
    """
    shape = (x.shape[1], *g.kernel, x.shape[0], *box_size(box))
    whole = not any(lo or hi for lo, hi in g.pads)
    cols = np.empty(shape, dtype) if whole else np.zeros(shape, dtype)
    for k, x_at, y_at in tap_windows(g, out_box=box):
        cols[:, *k, :, *inside(y_at, box)] = x[:, :, *x_at].swapaxes(0, 1)
    return cols


def fold(g: Geometry, cols: np.ndarray, box: Box, dx: np.ndarray) -> None:
    """dx[c,n,i] += Σ_{k,p: s·p + d·k − lo = i} cols[c,k,n,p]; the adjoint of `unfold`.

    cols (C, *K, n, *box), dx (C, n, *in).
    """
    for k, x_at, y_at in tap_windows(g, out_box=box):
        dx[:, :, *x_at] += cols[:, *k, :, *inside(y_at, box)]


def im2col(g: Geometry, x: np.ndarray) -> np.ndarray:
    """x (N, C, *in) → (N, C·K, P), the whole matrix of each sample."""
    cols = unfold(g, x, whole(g.out_size), x.dtype)  # (C, *K, N, *out)
    rows = g.in_channels * g.taps
    return np.moveaxis(cols, 1 + g.rank, 0).reshape(x.shape[0], rows, g.positions)


def col2im(g: Geometry, cols: np.ndarray) -> np.ndarray:
    """cols (N, C·K, P) → (N, C, *in), overlaps added."""
    split = cols.reshape(cols.shape[0], g.in_channels, *g.kernel, *g.out_size)
    dx = np.zeros((g.in_channels, cols.shape[0], *g.in_size), cols.dtype)
    fold(g, np.moveaxis(split, 0, 1 + g.rank), whole(g.out_size), dx)
    return dx.swapaxes(0, 1)


def _rows(problem: Problem, w: np.ndarray) -> np.ndarray:
    """w as the matrix of each group, (G, O/G, C/G·K)."""
    g = problem.geometry
    return split_groups(w.astype(problem.wide, copy=False), g.groups, 0).reshape(
        g.groups, g.group_out, -1
    )


def _columns(problem: Problem, x: np.ndarray, box: Box) -> np.ndarray:
    """x (n, C, *in) unfolded for the positions of `box`: each group's matrix (G, C/G·K, n·p)."""
    g = problem.geometry
    return unfold(g, x, box, problem.wide).reshape(g.groups, g.group_in * g.taps, -1)


def _gradients(problem: Problem, dy: np.ndarray, box: Box) -> np.ndarray:
    """The positions of `box` out of dy (n, O, *out), as each group's matrix (G, O/G, n·p)."""
    g = problem.geometry
    block = dy[:, :, *(slice(*edge) for edge in box)].swapaxes(0, 1)
    positions = dy.shape[0] * prod(box_size(box))
    return np.ascontiguousarray(block.astype(problem.wide, copy=False)).reshape(
        g.groups, g.group_out, positions
    )


def _block(problem: Problem) -> Size:
    """A block whose columns stay in the cache, and whose scratch is allowed."""
    g, limit = problem.geometry, problem.max_scratch

    def fits(block: Size) -> bool:
        allowed = limit is None or _scratch_of(problem, block) <= limit
        return allowed and _column_bytes(problem, block) <= BUDGET

    return fit((g.batch, *g.out_size), fits)


def _scratch_of(problem: Problem, block: Size) -> int:
    """Beside columns and weights: the block's samples of dx, with the epilogue's copies."""
    g = problem.geometry
    whole_dx = 0
    if problem.direction == "input_grad":
        whole_dx = 3 * block[0] * g.in_channels * prod(g.in_size) * problem.wide.itemsize
    return whole_dx + _column_bytes(problem, block) + _weight_bytes(problem)


def _column_bytes(problem: Problem, block: Size) -> int:
    """A block's columns, its other operand and its product, with the epilogue's copies."""
    g = problem.geometry
    return prod(block) * (g.in_channels * g.taps + 4 * g.out_channels) * problem.wide.itemsize


def _weight_bytes(problem: Problem) -> int:
    """w as a matrix where that is a copy; dw's accumulator, a block's dw and the epilogue's."""
    copies = 3 if problem.direction == "weight_grad" else 1
    return copies * prod(problem.geometry.w_shape) * problem.wide.itemsize


def scratch(problem: Problem) -> int:
    return _scratch_of(problem, _block(problem))


def seconds(problem: Problem) -> float:
    """Plain GEMM speed, the columns written and read, and the slices that fill each block."""
    g = problem.geometry
    columns = g.batch * g.positions * g.in_channels * g.taps
    thin = problem.direction == "input_grad" and g.group_out < 4
    blocks = 1 + columns * problem.wide.itemsize // BUDGET
    moved = columns * (4e-9 if thin else 0.5e-9)
    return problem.flops / 50e9 + moved + 3e-6 * g.taps * blocks


ALGORITHM = Algorithm(
    "im2col", "GEMM over unfolded input", refuses,
    forward, input_grad, weight_grad, scratch, seconds, plain_sum_bound,
)  # fmt: skip
