"""rot180: gradients as convolutions, with the kernel turned by 180°.

One primitive, the valid correlation v[n,o,q] = Σ_{c,t} a[n,c, step·q + spacing·t] · b[o,c,t],
gives all three maps:

    y  = correlate(pad(x), w)                          taps spaced by d, positions by s
    dx = correlate(full(stuff(dy)), rot180(w))         dy with s−1 zeros between its cells and
                                                       d·(K−1) around: full convolution
    dw = correlate(pad(x), dy)                         taps spaced by s, positions by d;
                                                       samples and channels change places

Work: dx multiplies the stuffed zeros too, s·s times more than it need for stride s.
Scratch: the padded or stuffed operand of a block of samples.  Error: (n+1)·u·Σ|a||b|.
Source: Bouvrie 2006, Notes on Convolutional Neural Networks; DeepLearnToolbox's cnnbp.
"""

from math import prod

import numpy as np

from convgrad.algorithm import Algorithm, Epilogue, Problem, plain_sum_bound
from convgrad.geometry import Geometry, Size
from convgrad.reference.blocks import grouped, sample_blocks, sample_scratch, split_groups

BUDGET = 32 << 20


def refuses(problem: Problem) -> str | None:
    """Nothing: stride and dilation only space the taps."""
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y = valid correlation of padded x with w."""
    g = problem.geometry
    w = split_groups(w.astype(problem.wide, copy=False), g.groups, 0)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        a = grouped(g, _padded(g, x[samples], problem.wide))
        y = _correlate(a, w, g.dilation, g.stride, g.out_size)
        epilogue.store(out[samples], y.reshape(out[samples].shape), bias_axis=1)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx = full convolution of stuffed dy with w, that is: correlation with rot180(w)."""
    g = problem.geometry
    turned = np.flip(w.astype(problem.wide, copy=False), axis=tuple(range(2, w.ndim)))
    turned = split_groups(turned, g.groups, 0).swapaxes(1, 2)  # (G, C/G, O/G, *K)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        a = grouped(g, _stuffed(g, dy[samples], problem.wide))
        dx = _correlate(a, turned, g.dilation, (1,) * g.rank, g.in_size)
        epilogue.store(out[samples], dx.reshape(out[samples].shape), bias_axis=1)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw = valid correlation of padded x with dy, summed over the samples."""
    g = problem.geometry
    dw = np.zeros((g.group_in, g.groups, g.group_out, *g.kernel), problem.wide)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        a = grouped(g, _padded(g, x[samples], problem.wide))  # (n, G, C/G, *padded)
        b = grouped(g, dy[samples].astype(problem.wide, copy=False))  # (n, G, O/G, *out)
        a, b = np.moveaxis(a, 0, 2).swapaxes(0, 1), np.moveaxis(b, 0, 2)
        dw += _correlate(a, b, g.stride, g.dilation, g.kernel)
    epilogue.store(out, np.moveaxis(dw, 0, 2).reshape(out.shape))


def _correlate(a: np.ndarray, b: np.ndarray, spacing: Size, step: Size, size: Size) -> np.ndarray:
    """v[n,g,o,q] = Σ_{c,t} a[n,g,c, step·q + spacing·t] · b[g,o,c,t].

    a (N, G, C, *cells), b (G, O, C, *taps) → (N, G, O, *size).
    """
    v = np.zeros((a.shape[0], *b.shape[:2], prod(size)), a.dtype)
    for tap in np.ndindex(b.shape[3:]):
        cells = tuple(
            slice(d * t, d * t + s * (q - 1) + 1, s)
            for d, t, s, q in zip(spacing, tap, step, size, strict=True)
        )
        window = a[:, :, :, *cells].reshape(*a.shape[:3], -1)  # (N, G, C, Q)
        v += b[:, :, :, *tap] @ window
    return v.reshape(*v.shape[:3], *size)


def _padded(g: Geometry, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """x (n, C, *in) with its zeros around → (n, C, *padded)."""
    cells = np.zeros((*x.shape[:2], *g.padded_size), dtype)
    inner = tuple(slice(lo, lo + n) for (lo, _), n in zip(g.pads, g.in_size, strict=True))
    cells[:, :, *inner] = x
    return cells


def _stuffed(g: Geometry, dy: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """dy with s−1 zeros between its cells, laid so that cell i + d·k lies under input i, tap K−1−k.

    Position p lands at s·p + d·(K−1) − lo; positions that fall outside met only padding.
    """
    cells = np.zeros(
        (*dy.shape[:2], *(n + e - 1 for n, e in zip(g.in_size, g.extent, strict=True))), dtype
    )
    put, take = [], []
    for axis, size in enumerate(cells.shape[2:]):
        s, shift = g.stride[axis], g.extent[axis] - 1 - g.pads[axis][0]
        first = max(0, -(shift // s))
        last = min(g.out_size[axis] - 1, (size - 1 - shift) // s)
        if first > last:
            return cells
        put.append(slice(s * first + shift, s * last + shift + 1, s))
        take.append(slice(first, last + 1))
    cells[:, :, *put] = dy[:, :, *take]
    return cells


def _sample_bytes(problem: Problem) -> int:
    """The spread-out operand, one tap's window of it, the sum, a product and the epilogue's."""
    g, item = problem.geometry, problem.wide.itemsize
    padded, covered = prod(g.padded_size), prod(g.in_size)
    if problem.direction == "forward":
        numbers = g.in_channels * (padded + g.positions) + 4 * g.out_channels * g.positions
    elif problem.direction == "input_grad":
        stuffed = prod([n + e - 1 for n, e in zip(g.in_size, g.extent, strict=True)])
        numbers = g.out_channels * (stuffed + covered) + 4 * g.in_channels * covered
    else:
        numbers = g.in_channels * (padded + g.taps) + 2 * g.out_channels * g.positions
    return numbers * item


def _weight_bytes(problem: Problem) -> int:
    """w in the wide dtype; dw's sum, one block's, a product and the epilogue's."""
    copies = 6 if problem.direction == "weight_grad" else 2
    return copies * prod(problem.geometry.w_shape) * problem.wide.itemsize


def scratch(problem: Problem) -> int:
    return sample_scratch(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem))


def seconds(problem: Problem) -> float:
    """A matrix product for each tap: half of GEMM's speed at best, and the stuffed zeros' work."""
    g = problem.geometry
    if problem.direction == "weight_grad":
        return problem.flops / 30e9 + g.positions * (10e-6 + 1.8e-6 * g.in_channels)
    wasted = float(prod(g.stride)) if problem.direction == "input_grad" else 1.0
    each = 2e-9 if min(g.group_in, g.group_out) < 4 else 2 / 28e9
    return wasted * each * g.macs + 20e-6 * g.taps


ALGORITHM = Algorithm(
    "rot180", "full correlation with the turned kernel", refuses,
    forward, input_grad, weight_grad, scratch, seconds, plain_sum_bound,
)  # fmt: skip
