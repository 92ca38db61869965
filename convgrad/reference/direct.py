"""direct: the definition, summed product by product.

    y[n,o,p]  = Σ_{k,c}   x[n,c,i] · w[o,c,k]
    dx[n,c,i] = Σ_{k,o}   w[o,c,k] · dy[n,o,p]        where i = s·p + d·k − lo
    dw[o,c,k] = Σ_{n,p}   x[n,c,i] · dy[n,o,p]

Each tap k pairs a slice of x with a slice of dy (`tap_windows`); the loops run over taps and
channels and NumPy multiplies and adds whole slices. Padding is never built: a tap in the padding
is left out. Every number of y and dx is summed in the order (k, c) or (k, o), whatever the batch,
the blocks or the number of threads, so its bits never change.

Work: N·O·P·(C/G)·K products, no BLAS.  Scratch: two blocks.  Error: (n+1)·u·Σ|a||b|.
Source: the loops that define the layer, e.g. Goodfellow, Bengio & Courville 2016, section 9.5.
"""

from math import prod

import numpy as np

from convgrad.algorithm import Algorithm, Epilogue, Problem, plain_sum_bound
from convgrad.geometry import Size, reaching_box, tap_windows
from convgrad.reference.blocks import box_size, boxes, budget, fit, grouped, inside, split_groups

BUDGET = 1 << 20


def refuses(problem: Problem) -> str | None:
    """Nothing: it is the definition."""
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y[n,o,p] = Σ_{k,c} x[n,c,s·p + d·k − lo] · w[o,c,k]."""
    g, wide = problem.geometry, problem.wide
    x, w = grouped(g, x), split_groups(w, g.groups, 0)
    for samples, box in boxes((g.batch, *g.out_size), _block(problem)):
        lead = (samples.stop - samples.start, g.groups, g.group_out)
        y = np.zeros((*lead, *box_size(box)), wide)
        for k, x_at, y_at in tap_windows(g, out_box=box):
            target = y[..., *inside(y_at, box)]
            for c in range(g.group_in):
                weight = w[:, :, c, *k].astype(wide).reshape(w.shape[:2] + (1,) * g.rank)
                target += _product(x[samples, :, c, None, *x_at].astype(wide, copy=False), weight)
        part = out[samples, :, *(slice(*edge) for edge in box)]
        epilogue.store(part, y.reshape(part.shape), bias_axis=1)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx[n,c,i] = Σ_{k,o} w[o,c,k] · dy[n,o,(i + lo − d·k)/s], where that is a position."""
    g, wide = problem.geometry, problem.wide
    dy, w = grouped(g, dy), split_groups(w, g.groups, 0)
    for samples, box in boxes((g.batch, *g.in_size), _block(problem)):
        lead = (samples.stop - samples.start, g.groups, g.group_in)
        dx = np.zeros((*lead, *box_size(box)), wide)
        for k, x_at, y_at in tap_windows(g, out_box=reaching_box(g, box), in_box=box):
            target = dx[..., *inside(x_at, box)]
            for o in range(g.group_out):
                weight = w[:, o, :, *k].astype(wide).reshape(w.shape[0], w.shape[2], *(1,) * g.rank)
                target += _product(dy[samples, :, o, None, *y_at].astype(wide, copy=False), weight)
        part = out[samples, :, *(slice(*edge) for edge in box)]
        epilogue.store(part, dx.reshape(part.shape), bias_axis=1)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw[o,c,k] = Σ_{n,p} x[n,c,s·p + d·k − lo] · dy[n,o,p]."""
    g, wide = problem.geometry, problem.wide
    x, dy = grouped(g, x), grouped(g, dy)
    dw = np.zeros((g.groups, g.group_out, g.group_in, *g.kernel), wide)
    for samples, box in boxes((g.batch, *g.out_size), _block(problem)):
        for k, x_at, y_at in tap_windows(g, out_box=box):
            cells = x[samples, :, :, *x_at].astype(wide, copy=False)
            for o in range(g.group_out):
                grads = dy[samples, :, o, None, *y_at].astype(wide, copy=False)
                products = _product(cells, grads)
                sums = products.reshape(*products.shape[:3], -1).sum(axis=-1)
                dw[:, o, :, *k] += sums.sum(axis=0)
    epilogue.store(out, dw.reshape(out.shape))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a·b; complex ones from real products, whose bits do not depend on where a number lies.

    NumPy's own complex multiplication fuses a product and a sum in some places of an array.
    """
    if a.dtype.kind != "c":
        return a * b
    result = np.empty(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    a_re, a_im, b_re, b_im = np.real(a), np.imag(a), np.real(b), np.imag(b)
    np.subtract(a_re * b_re, a_im * b_im, out=np.real(result))
    np.add(a_re * b_im, a_im * b_re, out=np.imag(result))
    return result


def _block(problem: Problem) -> Size:
    g = problem.geometry
    size = g.in_size if problem.direction == "input_grad" else g.out_size
    spare = budget(problem, BUDGET, _dw_bytes(problem))
    return fit((g.batch, *size), lambda block: _block_bytes(problem, block) <= spare)


def _block_bytes(problem: Problem, block: Size) -> int:
    """Accumulator, one product, and what the epilogue may make of them."""
    g = problem.geometry
    channels = g.out_channels if problem.direction == "forward" else g.in_channels
    widened = channels if problem.wide != problem.dtype else 0
    parts = channels if problem.dtype.kind == "c" else 0
    numbers = 4 * channels + 2 * widened + 2 * parts + g.groups
    return prod(block) * numbers * problem.wide.itemsize


def _dw_bytes(problem: Problem) -> int:
    """The accumulator of dw, and what the epilogue may make of it."""
    if problem.direction != "weight_grad":
        return 0
    return 3 * prod(problem.geometry.w_shape) * problem.wide.itemsize


def scratch(problem: Problem) -> int:
    return _block_bytes(problem, _block(problem)) + _dw_bytes(problem)


def seconds(problem: Problem) -> float:
    """A nanosecond a product, and some microseconds a slice operation."""
    g = problem.geometry
    inner = {"forward": g.group_in, "input_grad": g.group_out, "weight_grad": g.group_out}
    return 1.0e-9 * g.macs + 8e-6 * g.taps * inner[problem.direction]


ALGORITHM = Algorithm(
    "direct", "the definition, product by product", refuses,
    forward, input_grad, weight_grad, scratch, seconds, plain_sum_bound,
)  # fmt: skip
