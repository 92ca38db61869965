"""Convolutions that reach every generated kernel, run on the engine without what stands above it.

Operands and results are canonical views; `expected` is written in NumPy and shares no code with
convgrad. `Seen` notes which kernels, tiles, shares and pieces were run.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
from core.cases import Case

import convgrad
from convgrad.algorithm import DIRECTIONS, Epilogue, Problem
from convgrad.cpu import job, program
from convgrad.cpu.implicit_gemm import algorithm as implicit_gemm
from convgrad.cpu.jit import compiler
from convgrad.cpu.tiling import Tile
from convgrad.geometry import conv_geometry

ROOT = Path(convgrad.__file__).parents[1]
TESTS = Path(__file__).parents[1]
PLAIN = Epilogue()


def problem_of(direction: str, case: Case, dtype, precision="standard") -> Problem:
    geometry = conv_geometry("test", case.x_shape, case.w_shape, **case.settings)
    return Problem(direction, geometry, np.dtype(dtype), precision)


def run(
    direction, case, first, second, out, epilogue=PLAIN, engine=implicit_gemm, precision="standard"
):
    """The engine's own function, or False where it declines the problem."""
    problem = problem_of(direction, case, out.dtype, precision)
    if engine.refuses(problem) is not None:
        return False
    engine.ALGORITHM.run(problem, first, second, out, epilogue)
    return True


def operands(direction, x, w, dy):
    return {"forward": (x, w), "input_grad": (w, dy), "weight_grad": (x, dy)}[direction]


def expected(case: Case, x, w, dy):
    """y, dx, dw by slices: each tap of each group is one matrix product."""
    inner = [slice(lo, lo + n) for n, (lo, _) in zip(case.in_size, case.pads, strict=True)]
    around = [n + lo + hi for n, (lo, hi) in zip(case.in_size, case.pads, strict=True)]
    laid = np.zeros((case.batch, case.in_channels, *around))
    laid[:, :, *inner] = x
    y, dx, dw = np.zeros(case.y_shape), np.zeros_like(laid), np.zeros(case.w_shape)
    per_in, per_out = case.in_channels // case.groups, case.out_channels // case.groups
    for k in product(*map(range, case.kernel)):
        reach = [
            slice(d * kk, d * kk + s * (n - 1) + 1, s)
            for kk, d, s, n in zip(k, case.dilation, case.stride, case.out_size, strict=True)
        ]
        for g in range(case.groups):
            ins = slice(g * per_in, (g + 1) * per_in)
            outs = slice(g * per_out, (g + 1) * per_out)
            cells, taps, grads = laid[:, ins, *reach], w[outs, :, *k], dy[:, outs]
            y[:, outs] += np.einsum("oc,nc...->no...", taps, cells)
            dx[:, ins, *reach] += np.einsum("oc,no...->nc...", taps, grads)
            a, b = (m.reshape(*m.shape[:2], prod(case.out_size)) for m in (grads, cells))
            dw[outs, :, *k] += np.matmul(a, b.swapaxes(1, 2)).sum(0)
    return dict(zip(DIRECTIONS, (y, dx[:, :, *inner], dw), strict=True))


def shape_of(direction, case):
    return dict(zip(DIRECTIONS, (case.y_shape, case.x_shape, case.w_shape), strict=True))[direction]


def check(case: Case, dtype, directions=DIRECTIONS, engine=implicit_gemm):
    """Integers, tolerance zero, each direction that the engine takes; how many it took."""
    x, w, _, dy = case.integers(dtype)
    want, taken = expected(case, x, w, dy), 0
    for direction in directions:
        out = np.full(shape_of(direction, case), np.nan, dtype)
        if run(direction, case, *operands(direction, x, w, dy), out, engine=engine):
            np.testing.assert_array_equal(out, want[direction], err_msg=f"{direction} of {case}")
            taken += 1
    return taken


def dense(batch, inputs, outputs, in_size, kernel, stride=1, pad=0, dilation=1, groups=1, seed=5):
    rank = len(in_size)
    return Case(
        batch, inputs, outputs, groups, in_size, kernel, (stride,) * rank, (dilation,) * rank,
        ((pad, pad),) * rank, seed,
    )  # fmt: skip


# One for each kernel and way through it: 1×1 maps long enough for `pointwise` (whole chunks and a
# rest), `outer` (8 input channels and more output channels than a register has lanes), `inner`.
KERNEL_CASES = (
    dense(2, 5, 7, (14, 14), (1, 1)),
    dense(1, 3, 17, (773,), (1,)),
    dense(1, 16, 6, (6, 5, 9), (1, 1, 1), groups=2),
    dense(2, 9, 33, (7, 6), (3, 3), pad=1),
    dense(1, 8, 16, (9, 8), (3, 2), stride=2, pad=1),
    dense(2, 16, 32, (11,), (3,), stride=3, pad=2, dilation=2),
    dense(1, 20, 40, (4, 5, 4), (2, 1, 3), pad=1, groups=2),
    dense(3, 3, 5, (9, 7), (3, 3), stride=3, pad=1),
    dense(1, 12, 12, (8, 9), (3, 3), stride=2, pad=1, groups=12),
    dense(2, 2, 3, (45,), (7,), pad=3),
    dense(4, 512, 7, (2003,), (1,)),  # a line: blocks follow one another in a part
    dense(1, 9, 20, (23, 22, 5), (2, 2, 3), stride=3, pad=1),  # bands of unequal sizes
    dense(2, 8, 12, (10, 12), (1, 1), stride=2),  # bands without taps
    dense(2, 5, 7, (19, 70), (4, 11), stride=4, pad=3),  # taps of a row side by side
    dense(1, 3, 9, (4, 9, 41), (2, 3, 7), stride=2, pad=3),
    dense(2, 20, 300, (5, 6), (3, 3), pad=1),  # few cells, many weights
    dense(3, 200, 150, (5, 4), (4, 4), stride=2, pad=1),
    dense(1, 160, 260, (9,), (1,), stride=2, groups=2),
)


# For Winograd: many tiles and few, several blocks, shares and pieces, groups, depth, and dilation:
# sub-images of many tiles and of one, and residues without a cell; strides, kernels of several
# parts, of one axis and longer than their image, and chunks of the channels.
WINOGRAD_CASES = (
    dense(1, 1, 1, (1, 1), (3, 3), pad=1),
    dense(1, 20, 131, (9, 8), (3, 3), pad=1),
    dense(2, 131, 20, (7, 6), (3, 3), pad=1),
    dense(2, 17, 33, (30, 27), (3, 3), pad=2),
    dense(1, 70, 35, (40, 61), (3, 3)),
    dense(2, 9, 17, (4, 9, 8), (3, 3, 3), pad=1),
    dense(1, 3, 5, (5, 8, 10), (2, 3, 3), pad=1),
    dense(3, 16, 32, (12, 11), (3, 3), pad=1, groups=2),
    dense(2, 17, 33, (30, 27), (3, 3), pad=2, dilation=2),
    dense(1, 130, 40, (41, 44), (3, 3), pad=5, dilation=4, groups=2),
    dense(1, 20, 131, (9, 8), (3, 3), pad=3, dilation=3),
    dense(1, 3, 5, (2, 1), (3, 3), pad=12, dilation=12),
    Case(1, 5, 7, 1, (12, 30), (3, 3), (1, 1), (1, 3), ((1, 2), (4, 0)), 5),
    Case(2, 5, 7, 1, (9, 14, 15), (2, 3, 3), (1, 1, 1), (5, 2, 3), ((2, 2),) * 3, 5),
    dense(2, 17, 33, (30, 27), (3, 3), stride=2, pad=1),
    dense(2, 17, 33, (18, 31), (4, 4), stride=2, pad=1, groups=1),
    dense(1, 20, 131, (9, 8), (5, 5), stride=2, pad=2),
    dense(1, 20, 34, (19, 18), (7, 7), stride=3, pad=3, groups=2),
    dense(2, 9, 17, (13, 12), (5, 5), pad=2),
    dense(1, 9, 17, (6, 5), (6, 7), pad=6),
    dense(2, 9, 17, (3, 4), (3, 3), stride=2, pad=4),
    dense(1, 300, 270, (6, 7), (3, 3), stride=2, pad=1),
    dense(6, 600, 20, (9, 16), (5, 4), pad=2),
    dense(2, 18, 35, (90,), (3,), pad=1, groups=1),
    dense(2, 18, 35, (90,), (2,), dilation=16),
    dense(2, 18, 35, (81,), (5,), stride=2, pad=2),
    dense(2, 9, 17, (11, 12), (1, 3), stride=2, pad=1),
    dense(2, 9, 17, (11, 12), (7, 1), pad=3),
    dense(1, 9, 17, (7, 11, 12), (3, 3, 3), stride=2, pad=1),
    Case(1, 9, 7, 1, (8, 14, 15), (2, 4, 3), (3, 2, 1), (1, 1, 2), ((2, 1),) * 3, 5),
    dense(1, 9, 17, (2, 2), (3, 3), pad=1),
)

MOST = (
    "shares", "units", "blocks", "nb", "turns", "samples", "B", "phases", "line", "along", "skips",
    "cshares", "oshares", "pieces", "nn", "nz", "nr", "nc",
)  # fmt: skip

# One for each way through the stencils: depthwise of every strip and stride, rows of several
# registers, blocks of rows and planes; groups; few inputs or outputs; columns apart in memory.
FEW_CASES = (
    dense(2, 20, 20, (7, 7), (3, 3), pad=1, groups=20),
    dense(1, 6, 6, (15, 30), (5, 5), pad=2, groups=6),
    dense(1, 5, 5, (14, 17), (7, 7), pad=3, groups=5),
    dense(2, 6, 6, (13, 21), (3, 3), stride=2, pad=1, groups=6),
    dense(1, 3, 3, (12, 40), (5, 5), stride=2, pad=2, groups=3),
    dense(1, 3, 3, (20, 19), (7, 7), stride=2, pad=3, groups=3),
    dense(1, 4, 4, (33, 31), (13, 9), pad=4, groups=4),
    dense(1, 3, 3, (20, 20), (3, 3), stride=3, pad=2, dilation=2, groups=3),
    dense(2, 4, 4, (150,), (41,), pad=20, groups=4),
    dense(1, 2, 2, (90, 130), (3, 3), pad=1, groups=2),
    dense(1, 3, 3, (9, 40, 40), (3, 3, 3), pad=1, groups=3),
    dense(2, 16, 16, (9, 10), (3, 3), pad=1, groups=4),
    dense(2, 12, 24, (14, 11), (3, 3), stride=2, pad=1, groups=4),
    dense(1, 6, 18, (8, 9), (3, 2), groups=6),
    dense(1, 40, 20, (70,), (16,), pad=8, groups=4),
    dense(3, 1, 6, (28, 28), (5, 5)),
    dense(1, 3, 64, (30, 31), (7, 7), stride=2, pad=3),
    dense(1, 32, 3, (25, 60), (3, 3), pad=1),
    dense(
        2, 150, 150, (9, 8), (3, 3), stride=2, pad=1, groups=150
    ),  # more than are brought at once
    dense(1, 37, 37, (60, 41), (7, 7), pad=3, groups=37),  # blocks of rows
    dense(3, 19, 19, (3, 2), (3, 5), pad=2, groups=19),
    dense(1, 8, 8, (40, 39), (31, 9), stride=2, pad=15, groups=8),
    dense(2, 3, 3, (11, 33), (3, 3), pad=1, groups=3),
    dense(2, 32, 48, (14, 13), (3, 3), pad=1, groups=2),  # dense, with channels abreast
    dense(1, 40, 48, (7, 9), (3, 3), stride=2, pad=1, groups=2),
    dense(1, 16, 17, (28, 28), (3, 2), stride=3, pad=2),
    dense(1, 3, 60, (25, 26), (4, 4), stride=4),
    dense(1, 64, 2, (6000,), (5,), pad=3),  # a line in parts: forward, and dx
    dense(1, 2, 40, (18001,), (5,), stride=2, pad=2),
    dense(1, 1, 1, (2, 90001), (2, 3), pad=1),
)


class Seen:
    """What was run: (kernel, element, height, vectors), and the greatest shares and pieces."""

    def __init__(self) -> None:
        self.kernels: set[tuple[str, str, int, int]] = set()
        self.most: dict[str, int] = {}
        self.low_panels = 0

    def note(self, one: job.Job) -> None:
        size = (one.shape.height, one.shape.vectors) if isinstance(one.shape, Tile) else (0, 0)
        self.kernels.add((one.generator.name, one.element, *size))
        for name in MOST:
            self.most[name] = max(self.most.get(name, 0), one.values.get(name, 0))
        self.low_panels += one.values.get("low", 0) > 0 and one.values.get("tall", 0) > 0

    @property
    def names(self) -> set[str]:
        return {kernel for kernel, *_ in self.kernels}


@contextmanager
def noting() -> Iterator[Seen]:
    """Notes every job that is run inside."""
    seen, alone, together = Seen(), job.Job.run, program.Program.run

    def noted(one: job.Job, *args, **arrays):
        seen.note(one)
        return alone(one, *args, **arrays)

    def all_noted(several: program.Program, *args, **kwargs):
        for one in several.jobs:
            seen.note(one)
        return together(several, *args, **kwargs)

    job.Job.run, program.Program.run = noted, all_noted
    try:
        yield seen
    finally:
        job.Job.run, program.Program.run = alone, together


def levels() -> tuple[str, ...]:
    """The instruction sets of this machine, the best first."""
    from llvmlite import binding

    host = binding.get_host_cpu_features()
    family = compiler.LEVELS["x86" if host.get("sse2", False) else "arm"]
    return tuple(
        level for level in family if all(host.get(name, False) for name in compiler.NEEDED[level])
    )


def child(script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A script of this folder (or -c and a text) in a process of its own."""
    command = [script, *args] if script == "-c" else [str(TESTS / "cpu" / script), *args]
    path = os.pathsep.join([str(ROOT), str(TESTS), str(TESTS / "cpu")])
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *command],
        env=os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"} | env,
        capture_output=True, encoding="utf-8", check=False, timeout=300,
    )  # fmt: skip
