"""fft: the three maps as products of spectra.

With X, W, D the spectra of padded x, of w with d−1 zeros between its taps and of dy with s−1
zeros between its cells, all on a grid that padded x fits into,

    y  = ifft(X · W~)[::s]        V~(f) = V(−f), the spectrum of the turned array
    dx = ifft(D · W)              cropped to the input
    dw = ifft(Σ_n X · D~)[::d]    cropped to the kernel

summed over the channels (or samples) that the map sums over. The grid wraps around only into
numbers that no map reads. Spectra are complex128 for every dtype, so that float32 results carry
little more than their last rounding; what is left is relative to the largest numbers, not to each.
One NaN or infinity spreads to every number that shares a grid with it.

Work: O(L log L) for each channel and (C/G)·O·L products, whatever the kernel's size.
Scratch: the spectra of w and of a block of samples.  Error: ~log₂(L)·2⁻⁵³, relative to norms.
Source: Mathieu, Henaff & LeCun 2014, Fast Training of Convolutional Networks through FFTs.
"""

from functools import lru_cache
from itertools import product
from math import ceil, log2, prod, sqrt

import numpy as np

from convgrad.algorithm import UNIT_ROUNDOFF, Algorithm, Epilogue, ErrorBound, Problem
from convgrad.geometry import Geometry, Size
from convgrad.reference.blocks import sample_blocks, sample_scratch, split_groups

BUDGET = 64 << 20


def refuses(problem: Problem) -> str | None:
    if problem.precision == "strict":
        return 'a product of spectra is no plain sum, which precision="strict" asks for'
    return None


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y = ifft(Σ_c X · W~), every s-th position."""
    g = problem.geometry
    kernel = _w_spectrum(g, w, turned=True)  # (F, G, C/G, O/G)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        spectrum = _spectrum(g, x[samples], _x_offset(g), (1,) * g.rank)  # (F, G, n, C/G)
        y = _inverse(g, spectrum @ kernel, problem)  # (n, G, O/G, *grid)
        at = _every(g.stride, g.out_size)
        epilogue.store(out[samples], y[..., *at].reshape(out[samples].shape), bias_axis=1)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx = ifft(Σ_o D · W), without the padding."""
    g = problem.geometry
    kernel = _w_spectrum(g, w, turned=False).swapaxes(2, 3)  # (F, G, O/G, C/G)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        spectrum = _spectrum(g, dy[samples], (0,) * g.rank, g.stride)  # (F, G, n, O/G)
        dx = _inverse(g, spectrum @ kernel, problem)
        at = tuple(slice(lo, lo + n) for (lo, _), n in zip(g.pads, g.in_size, strict=True))
        epilogue.store(out[samples], dx[..., *at].reshape(out[samples].shape), bias_axis=1)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw = ifft(Σ_n X · D~), every d-th position of the kernel's extent."""
    g = problem.geometry
    total = np.zeros((_frequencies(g, problem), g.groups, g.group_out, g.group_in), complex)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        spectrum = _spectrum(g, x[samples], _x_offset(g), (1,) * g.rank)  # (F, G, n, C/G)
        turned = _spectrum(g, dy[samples], (0,) * g.rank, g.stride, turned=True)  # (F, G, n, O/G)
        total += turned.swapaxes(2, 3) @ spectrum
    dw = _inverse(g, total, problem)  # (O/G, G, C/G, *grid)
    at = _every(g.dilation, g.kernel)
    epilogue.store(out, dw[..., *at].swapaxes(0, 1).reshape(out.shape))


def _w_spectrum(g: Geometry, w: np.ndarray, turned: bool) -> np.ndarray:
    """W or W~, (F, G, C/G, O/G)."""
    w = split_groups(w, g.groups, 0)  # (G, O/G, C/G, *K)
    flat = w.swapaxes(1, 2).reshape(g.group_in * g.groups, g.group_out, *g.kernel)
    spectrum = _spectrum(g, flat.swapaxes(0, 1), (0,) * g.rank, g.dilation, turned)
    return spectrum.swapaxes(2, 3)


def _spectrum(
    g: Geometry, cells: np.ndarray, offset: Size, spacing: Size, turned: bool = False
) -> np.ndarray:
    """The spectrum of cells (n, C, *size), laid out on the grid from `offset`, `spacing` apart.

    → (F, G, n, C/G), with F the grid's frequencies (half of them for real cells).
    """
    grid = grid_size(g)
    laid = np.zeros((*cells.shape[:2], *grid), complex if _complex(cells) else float)
    at = tuple(
        slice(o, o + d * (n - 1) + 1, d)
        for o, d, n in zip(offset, spacing, cells.shape[2:], strict=True)
    )
    laid[:, :, *at] = cells
    axes = tuple(range(2, laid.ndim))
    if laid.dtype.kind != "c":
        spectrum = np.fft.rfftn(laid, axes=axes)
        spectrum = spectrum.conj() if turned else spectrum
    elif turned:
        spectrum = np.fft.ifftn(laid, axes=axes, norm="forward")
    else:
        spectrum = np.fft.fftn(laid, axes=axes)
    flat = spectrum.reshape(cells.shape[0], g.groups, -1, prod(spectrum.shape[2:]))
    return np.ascontiguousarray(flat.transpose(3, 1, 0, 2))


def _inverse(g: Geometry, spectrum: np.ndarray, problem: Problem) -> np.ndarray:
    """(F, G, n, C) → (n, G, C, *grid), in complex128 or float64 cast to the wide dtype."""
    grid = grid_size(g)
    last = grid[-1] if problem.dtype.kind == "c" else grid[-1] // 2 + 1
    shaped = spectrum.transpose(2, 1, 3, 0).reshape(
        spectrum.shape[2], spectrum.shape[1], spectrum.shape[3], *grid[:-1], last
    )
    axes = tuple(range(3, shaped.ndim))
    if problem.dtype.kind == "c":
        return np.fft.ifftn(shaped, axes=axes).astype(problem.wide, copy=False)
    return np.fft.irfftn(shaped, s=grid, axes=axes).astype(problem.wide, copy=False)


def _complex(cells: np.ndarray) -> bool:
    return cells.dtype.kind == "c"


def _x_offset(g: Geometry) -> Size:
    return tuple(lo for lo, _ in g.pads)


def _every(step: Size, size: Size) -> tuple[slice, ...]:
    return tuple(slice(0, s * (n - 1) + 1, s) for s, n in zip(step, size, strict=True))


@lru_cache(maxsize=1024)
def grid_size(g: Geometry) -> Size:
    """The smallest sizes made of the factors 2, 3, 5 and 7 that padded x fits into."""
    return tuple(_fast_length(n) for n in g.padded_size)


@lru_cache(maxsize=1024)
def _fast_length(n: int) -> int:
    odd = (3**a * 5**b * 7**c for a, b, c in product(range(21), range(14), range(12)))
    return min(m << ceil(log2(n / m)) if m < n else m for m in odd if m < 2 * n)


def _frequencies(g: Geometry, problem: Problem) -> int:
    *lead, last = grid_size(g)
    return prod(lead) * (last if problem.dtype.kind == "c" else last // 2 + 1)


def _sample_bytes(problem: Problem) -> int:
    """Spectra of a sample's operand and result, each beside the copy it is made from."""
    g = problem.geometry
    return 16 * 3 * (g.in_channels + g.out_channels) * _frequencies(g, problem)


def _weight_bytes(problem: Problem) -> int:
    """The spectrum of w or dw, beside the copies it is made from."""
    g = problem.geometry
    return 16 * 4 * g.out_channels * g.group_in * _frequencies(g, problem)


def scratch(problem: Problem) -> int:
    return sample_scratch(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem))


def seconds(problem: Problem) -> float:
    """Transforms, products at each frequency, and the passes over memory between them."""
    g = problem.geometry
    points = _frequencies(g, problem)
    arrays = g.batch * (g.in_channels + g.out_channels) + g.out_channels * g.group_in
    transforms = arrays * points * (8e-9 + 1.2e-9 * log2(points + 1))
    products = points * (0.03e-6 * g.groups + 2e-9 * g.batch * g.out_channels * g.group_in)
    return 60e-6 + transforms + products


def error(problem: Problem) -> ErrorBound:
    """8·log₂(L)·2⁻⁵³·‖a‖₂·‖b‖₂ over the grid, and the result's own rounding.

    Source: Higham 2002, section 24.1, for each of the three transforms, with room to spare.
    """
    g = problem.geometry
    points = prod(grid_size(g))
    summed, sizes = {
        "forward": (g.group_in, (prod(g.in_size), g.taps)),
        "input_grad": (g.group_out, (g.positions, g.taps)),
        "weight_grad": (g.batch, (prod(g.in_size), g.positions)),
    }[problem.direction]
    norms = summed * sqrt(sizes[0] * sizes[1])
    terms = max(g.terms(problem.direction), 1)
    summing = 8 * log2(points + 1) + summed
    factor = summing * 2.0**-53 * norms / terms + UNIT_ROUNDOFF[problem.dtype.name]
    return ErrorBound(factor, "largest")


ALGORITHM = Algorithm(
    "fft", "products of spectra", refuses,
    forward, input_grad, weight_grad, scratch, seconds, error,
)  # fmt: skip
