"""Depthwise weight gradients over planes where they lie: who may, and the job."""

from functools import lru_cache
from math import prod

from convgrad.algorithm import Problem, Strides
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Job
from convgrad.cpu.stencil.axes import elements, lines
from convgrad.cpu.stencil.in_place import (
    able_in_place,
    block_rows,
    is_narrow,
    register_tables,
    residues,
)
from convgrad.cpu.stencil.jobs import SMALL
from convgrad.cpu.stencil.kernels.plane_sums import PLANE_SUMS
from convgrad.cpu.stencil.layout import PART
from convgrad.cpu.stencil.shapes import Planes
from convgrad.cpu.tiling import ELEMENTS

SUMS_BYTES = 64 << 10  # of the sums of a run of channels
PIECES = 16  # of the samples, at most
FEW = 8  # registers of a plane of dy, below which its sums are too often loaded and stored


def sums_in_place(problem: Problem, x: Strides, dy: Strides) -> bool:
    """A kernel whose sums stay in registers, rows of consecutive columns, planes and no volumes."""
    item = problem.dtype.itemsize
    return _able(problem) and not is_narrow(problem) and x[-1] == item == dy[-1]


@lru_cache(maxsize=1024)
def _able(problem: Problem) -> bool:
    return (
        problem.direction == "weight_grad"
        and able_in_place(problem)
        and compiler.target().registers > 16  # nine sums, and rows that stay
        and lines(problem)[0].size == 1
        and _registers(problem) >= FEW
        and _shape(problem).keeps
    )


def _shape(problem: Problem) -> Planes:
    _, high, wide = lines(problem)
    return Planes(residues(high), residues(wide), wide.stride, 1)


def _lanes(problem: Problem) -> int:
    return compiler.target().lanes(ELEMENTS[problem.dtype.name]).count


def _registers(problem: Problem) -> int:
    """Of a plane of dy."""
    _, high, wide = lines(problem)
    return high.size * -(-wide.size // _lanes(problem))


def _zeros(problem: Problem) -> int:
    """Elements of a row of zeros, whole registers."""
    lanes = _lanes(problem)
    return -(-lines(problem)[2].source // lanes) * lanes


def _most_channels(problem: Problem) -> int:
    return max(1, SUMS_BYTES // (problem.geometry.taps * _lanes(problem) * problem.dtype.itemsize))


def sums_bytes(problem: Problem) -> int:
    """Scratch of one thread: a row of zeros, and the sums of a run of channels."""
    if not _able(problem):
        return 0
    sums = _most_channels(problem) * problem.geometry.taps * _lanes(problem)
    return (_zeros(problem) + sums) * problem.dtype.itemsize


@lru_cache(maxsize=1024)
def plane_sums(problem: Problem, x: Strides, dy: Strides) -> Job:
    """The job of dw for arrays with these strides in bytes."""
    g, item = problem.geometry, problem.dtype.itemsize
    _, high, wide = lines(problem)
    shape = _shape(problem)
    xn, xc, _, xh, _ = elements(x, item)
    yn, yc, _, yh, _ = elements(dy, item)
    columns, masks = register_tables(wide, _lanes(problem), shape, problem.dtype, once=True)
    numbers = (prod(g.x_shape) + prod(g.y_shape)) * item
    parts = max(1, round((2 * g.macs * item / 4 / 50e9 + numbers / 8e9) / PART))
    pieces = min(g.batch, parts, PIECES)
    runs = min(g.groups, -(-parts // pieces))
    runs = max(runs, -(-g.groups // _most_channels(problem)))
    values = {
        "columns": columns.ctypes.data, "masks": masks.ctypes.data, "N": g.batch, "C": g.groups,
        "xn": xn, "xc": xc, "xh": xh, "H": high.source, "ph": high.pad,
        "pw": wide.pad, "yn": yn, "yc": yc, "yh": yh, "OH": high.size,
        "BR": block_rows(problem, shape, len(columns)),
        "runs": runs, "pieces": pieces, "ncolumns": len(columns), "zeros": _zeros(problem),
        "dws": prod(g.w_shape),
    }  # fmt: skip
    return Job(
        PLANE_SUMS, ELEMENTS[problem.dtype.name], shape, values, runs * pieces, g.macs > SMALL,
        (columns, masks),
    )  # fmt: skip
