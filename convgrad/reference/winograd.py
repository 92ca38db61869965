"""winograd: minimal filtering F(m, 3), tile by tile; fewer multiplications for 3-tap kernels.

On each axis, m positions share a tile of t = m + 2 input cells. With small matrices A, B, G,

    Σ_r  (G w)_r · (Bᵀ x)_r · (A dy)_r

is the trilinear form of the tile, so its three contractions are the three maps:

    y  = Aᵀ [ Σ_c (G w) ⊙ (Bᵀ x) ]        tiles of m positions
    dx = B  [ Σ_o (G w) ⊙ (A dy) ]        tiles of t cells, overlaps added
    dw = Gᵀ [ Σ_{n,tiles} (Bᵀ x) ⊙ (A dy) ]

An axis with one tap takes part with the identity. precision="standard" uses m = 2, "fast" m = 4.
A and B hold integers; G holds integers over `divisors`, divided last, so that integer data stay
exact: always for m = 2, and for m = 4 where w (or, for dw, x or dy) is a multiple of 576.
NaN and infinity spread inside their tile.

Work: (t/m)^rank products instead of 3^rank: 2.25× fewer for m = 2 in 2-D, 4× for m = 4.
Scratch: transformed w and a block of transformed samples.
Error: that of a plain sum times the growth ‖Aᵀ‖·‖G‖·‖Bᵀ‖ of the transforms.
Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, Fast Algorithms
for Convolutional Neural Networks.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from convgrad.algorithm import UNIT_ROUNDOFF, Algorithm, Epilogue, ErrorBound, Problem
from convgrad.geometry import Geometry, Size
from convgrad.reference.blocks import sample_blocks, sample_scratch

BUDGET = 32 << 20


@dataclass(frozen=True, eq=False)
class Filtering:
    """F(m, r) on one axis: y = Aᵀ[(G w / divisors) ⊙ (Bᵀ x)]."""

    at: np.ndarray  # (m, t)
    bt: np.ndarray  # (t, t)
    g: np.ndarray  # (t, r), before the division by `divisors`
    divisors: np.ndarray  # (t,)

    @property
    def tile(self) -> int:
        return len(self.bt)

    @property
    def step(self) -> int:
        return len(self.at)

    def growth(self, direction: str) -> float:
        """The largest Σ of |Aᵀ|·|G|·|Bᵀ| that one number of the result takes part in."""
        at, bt = np.abs(self.at), np.abs(self.bt)
        g = np.abs(self.g) / self.divisors[:, None]
        y, x, w = at.sum(axis=0), bt.sum(axis=1), g.sum(axis=1)
        sums = {"forward": at @ (x * w), "input_grad": bt.T @ (y * w), "weight_grad": g.T @ (x * y)}
        return float(sums[direction].max())


IDENTITY = Filtering(np.eye(1), np.eye(1), np.eye(1), np.ones(1))
F23 = Filtering(
    at=np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    bt=np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    g=np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]]),
    divisors=np.array([1, 2, 2, 1]),
)
F43 = Filtering(
    at=np.array(
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    ),
    bt=np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    g=np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]]),
    divisors=np.array([4, 6, 6, 24, 24, 1]),
)


def refuses(problem: Problem) -> str | None:
    g = problem.geometry
    if problem.precision == "strict":
        return 'it adds before it multiplies, which precision="strict" excludes'
    if any(k not in (1, 3) for k in g.kernel) or 3 not in g.kernel:
        return f"the kernel must have 3 taps (or 1) on each axis, not {g.kernel}"
    if any(s != 1 for s in g.stride):
        return f"the stride must be 1, not {g.stride}"
    if any(d != 1 for d, k in zip(g.dilation, g.kernel, strict=True) if k == 3):
        return f"the dilation must be 1, not {g.dilation}"
    return None


def filterings(problem: Problem) -> tuple[Filtering, ...]:
    three = F43 if problem.precision == "fast" else F23
    return tuple(three if k == 3 else IDENTITY for k in problem.geometry.kernel)


def forward(
    problem: Problem, x: np.ndarray, w: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """y = Aᵀ[Σ_c (G w) ⊙ (Bᵀ x)]."""
    g, axes = problem.geometry, filterings(problem)
    kernel = _transformed_w(problem, w, axes)  # (R, G, O/G, C/G)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        tiles = _transformed_x(problem, x[samples], axes)  # (R, G, C/G, n·T)
        y = _untransformed(kernel @ tiles, g.out_channels, [f.at for f in axes], axes, g)
        y = _joined(y, [f.step for f in axes], g.out_size)  # (O, n, *out)
        epilogue.store(out[samples], y.swapaxes(0, 1), bias_axis=1)


def input_grad(
    problem: Problem, w: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dx = B[Σ_o (G w) ⊙ (A dy)], the tiles' overlaps added."""
    g, axes = problem.geometry, filterings(problem)
    kernel = _transformed_w(problem, w, axes).swapaxes(2, 3)  # (R, G, C/G, O/G)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        tiles = _transformed_dy(problem, dy[samples], axes)  # (R, G, O/G, n·T)
        dx = _untransformed(kernel @ tiles, g.in_channels, [f.bt.T for f in axes], axes, g)
        dx = _overlapped(dx, [f.step for f in axes], g)  # (C, n, *in)
        epilogue.store(out[samples], dx.swapaxes(0, 1), bias_axis=1)


def weight_grad(
    problem: Problem, x: np.ndarray, dy: np.ndarray, out: np.ndarray, epilogue: Epilogue
) -> None:
    """dw = Gᵀ[Σ_{n,tiles} (Bᵀ x) ⊙ (A dy)]."""
    g, axes = problem.geometry, filterings(problem)
    total = np.zeros((_points(axes), g.groups, g.group_out, g.group_in), problem.wide)
    for samples in sample_blocks(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem)):
        cells = _transformed_x(problem, x[samples], axes)  # (R, G, C/G, n·T)
        total += _transformed_dy(problem, dy[samples], axes) @ cells.swapaxes(2, 3)
    dw = total.reshape(*(f.tile for f in axes), g.out_channels, g.group_in)
    for axis, f in enumerate(axes):
        dw = _divided(dw, f, axis)
        dw = _apply(f.g.T, dw, axis)
    epilogue.store(out, np.moveaxis(dw, (-2, -1), (0, 1)))


def _transformed_w(problem: Problem, w: np.ndarray, axes: tuple[Filtering, ...]) -> np.ndarray:
    """G w, (R, G, O/G, C/G)."""
    g = problem.geometry
    kernel = np.moveaxis(w.astype(problem.wide, copy=False), (0, 1), (-2, -1))  # (*K, O, C/G)
    for axis, f in enumerate(axes):
        kernel = _divided(_apply(f.g, kernel, axis), f, axis)
    return kernel.reshape(_points(axes), g.groups, g.group_out, g.group_in)


def _transformed_x(problem: Problem, x: np.ndarray, axes: tuple[Filtering, ...]) -> np.ndarray:
    """Bᵀ x of each tile, (R, G, C/G, n·T)."""
    g, counts = problem.geometry, _tiles(problem.geometry, axes)
    size = [count * f.step + f.tile - f.step for count, f in zip(counts, axes, strict=True)]
    cells = np.zeros((g.in_channels, x.shape[0], *size), problem.wide)
    keep = [
        slice(0, max(0, min(n, length - lo)))
        for n, length, (lo, _) in zip(g.in_size, size, g.pads, strict=True)
    ]
    put = [slice(lo, lo + cut.stop) for cut, (lo, _) in zip(keep, g.pads, strict=True)]
    cells[:, :, *put] = x[:, :, *keep].swapaxes(0, 1)
    tiles = np.lib.stride_tricks.sliding_window_view(
        cells, [f.tile for f in axes], axis=tuple(range(2, cells.ndim))
    )[:, :, *(slice(None, None, f.step) for f in axes)]  # (C, n, *T, *t)
    return _transformed(tiles, [f.bt for f in axes], g, g.in_channels)


def _transformed_dy(problem: Problem, dy: np.ndarray, axes: tuple[Filtering, ...]) -> np.ndarray:
    """A dy of each tile, (R, G, O/G, n·T)."""
    g, counts = problem.geometry, _tiles(problem.geometry, axes)
    cells = np.zeros(
        (g.out_channels, dy.shape[0], *(c * f.step for c, f in zip(counts, axes, strict=True))),
        problem.wide,
    )
    cells[:, :, *(slice(0, p) for p in g.out_size)] = dy.swapaxes(0, 1)
    split = [n for c, f in zip(counts, axes, strict=True) for n in (c, f.step)]
    tiles = cells.reshape(*cells.shape[:2], *split)
    tiles = np.moveaxis(tiles, range(3, tiles.ndim, 2), range(2 + g.rank, tiles.ndim))
    return _transformed(tiles, [f.at.T for f in axes], g, g.out_channels)


def _transformed(
    tiles: np.ndarray, matrices: list[np.ndarray], g: Geometry, channels: int
) -> np.ndarray:
    """(C, n, *T, *t) → (R, G, C/G, n·T), each tile axis multiplied by its matrix."""
    tiles = np.moveaxis(tiles, range(2 + g.rank, tiles.ndim), range(g.rank))  # (*t, C, n, *T)
    for axis, matrix in enumerate(matrices):
        tiles = _apply(matrix, tiles, axis)
    points = prod(tiles.shape[: g.rank])
    return np.ascontiguousarray(tiles).reshape(points, g.groups, channels // g.groups, -1)


def _untransformed(
    sums: np.ndarray,
    channels: int,
    matrices: list[np.ndarray],
    axes: tuple[Filtering, ...],
    g: Geometry,
) -> np.ndarray:
    """(R, G, C/G, n·T) → (*m, C, n, *T), each tile axis multiplied by its matrix."""
    tiles = sums.reshape(*(f.tile for f in axes), channels, -1, *_tiles(g, axes))
    for axis, matrix in enumerate(matrices):
        tiles = _apply(matrix, tiles, axis)
    return tiles


def _joined(tiles: np.ndarray, steps: list[int], size: Size) -> np.ndarray:
    """(*m, C, n, *T) → (C, n, *size): tiles laid side by side."""
    rank = len(size)
    order = [rank, rank + 1]
    for axis in range(rank):
        order += [rank + 2 + axis, axis]
    counts = tiles.shape[rank + 2 :]
    whole = tiles.transpose(order).reshape(
        *tiles.shape[rank : rank + 2], *(c * m for c, m in zip(counts, steps, strict=True))
    )
    return whole[:, :, *(slice(0, n) for n in size)]


def _overlapped(tiles: np.ndarray, steps: list[int], g: Geometry) -> np.ndarray:
    """(*t, C, n, *T) → (C, n, *in): tiles laid `steps` apart and added, padding cut off."""
    rank, counts = g.rank, tiles.shape[g.rank + 2 :]
    size = [
        max(s * (c - 1) + t, lo + n)
        for s, c, t, (lo, _), n in zip(steps, counts, tiles.shape, g.pads, g.in_size, strict=False)
    ]
    whole = np.zeros((*tiles.shape[rank : rank + 2], *size), tiles.dtype)
    for cell in np.ndindex(tiles.shape[:rank]):
        at = [slice(r, r + s * (c - 1) + 1, s) for r, s, c in zip(cell, steps, counts, strict=True)]
        whole[:, :, *at] += tiles[cell]
    return whole[:, :, *(slice(lo, lo + n) for (lo, _), n in zip(g.pads, g.in_size, strict=True))]


def _apply(matrix: np.ndarray, a: np.ndarray, axis: int) -> np.ndarray:
    """matrix (i, j) times axis j of a; multiplications by 0, 1 and −1 are left out."""
    source = np.moveaxis(a, axis, 0)
    result = np.zeros((len(matrix), *source.shape[1:]), a.dtype)
    for row, line in zip(result, matrix, strict=True):
        for factor, cells in zip(line, source, strict=True):
            if factor == 1:
                row += cells
            elif factor == -1:
                row -= cells
            elif factor:
                row += cells * float(factor)
    return np.moveaxis(result, 0, axis)


def _divided(a: np.ndarray, f: Filtering, axis: int) -> np.ndarray:
    shape = [1] * a.ndim
    shape[axis] = -1
    return a / f.divisors.astype(a.dtype).reshape(shape)


def _tiles(g: Geometry, axes: tuple[Filtering, ...]) -> Size:
    return tuple(-(-n // f.step) for n, f in zip(g.out_size, axes, strict=True))


def _points(axes: tuple[Filtering, ...]) -> int:
    return prod([f.tile for f in axes])


def _sample_bytes(problem: Problem) -> int:
    """Transformed operand and product of a sample, each beside what it is made from."""
    g, axes = problem.geometry, filterings(problem)
    numbers = prod(_tiles(g, axes)) * _points(axes)
    return 3 * numbers * (g.in_channels + g.out_channels) * problem.wide.itemsize


def _weight_bytes(problem: Problem) -> int:
    """Transformed w (or dw), beside what it is made from."""
    g = problem.geometry
    numbers = _points(filterings(problem)) * g.out_channels * g.group_in
    return 4 * numbers * problem.wide.itemsize


def scratch(problem: Problem) -> int:
    return sample_scratch(problem, BUDGET, _weight_bytes(problem), _sample_bytes(problem))


def seconds(problem: Problem) -> float:
    """GEMMs over fewer products, and the transforms' passes over memory."""
    g, axes = problem.geometry, filterings(problem)
    points = prod(_tiles(g, axes)) * _points(axes) * g.batch
    passes = sum(f.tile for f in axes)
    weights = _points(axes) * g.out_channels * g.group_in
    products = points * g.out_channels * g.group_in * 2 / 55e9
    moved = (points * (g.in_channels + g.out_channels) + weights) * passes
    return products + moved * 0.5e-9 + 20e-6 * passes


def error(problem: Problem) -> ErrorBound:
    """(n+1)·u of the sums over tiles and channels, times the growth of the transforms.

    Source: Barabasz, Anderson, Soodhalter & Gregg 2020, Error Analysis and Improving the Accuracy
    of Winograd Convolution for DNNs, theorem 1.
    """
    g, axes = problem.geometry, filterings(problem)
    summed = {
        "forward": g.group_in,
        "input_grad": g.group_out * 3**g.rank,  # a cell lies in up to three tiles on each axis
        "weight_grad": g.batch * prod(_tiles(g, axes)),
    }[problem.direction]
    growth = summed * float(prod([f.growth(problem.direction) for f in axes]))
    u = UNIT_ROUNDOFF[problem.wide.name] * (4 if problem.dtype.kind == "c" else 1)
    rounding = UNIT_ROUNDOFF[problem.dtype.name] if problem.wide != problem.dtype else 0.0
    steps = summed + 1 + sum(2 * f.tile for f in axes)
    return ErrorBound(growth * steps * u / max(g.terms(problem.direction), 1) + rounding, "largest")


ALGORITHM = Algorithm(
    "winograd", "minimal filtering of 3-tap kernels", refuses,
    forward, input_grad, weight_grad, scratch, seconds, error,
)  # fmt: skip
