"""Work cut into blocks, so that an algorithm's scratch stays within its budget."""

from collections.abc import Callable, Iterator
from itertools import product
from math import prod

import numpy as np

from convgrad.algorithm import Problem
from convgrad.geometry import Box, Geometry, Size


def fit(shape: Size, fits: Callable[[Size], bool]) -> Size:
    """The largest block of index space `shape` that fits; leading axes are cut first.

    Where even a block of one point does not fit, that block is returned.
    """
    points = prod(shape)
    block = shape
    while points > 1 and not fits(block):
        points = (points + 1) // 2
        block = _block(shape, points)
    return block


def _block(shape: Size, points: int) -> Size:
    block: list[int] = []
    for size in reversed(shape):
        length = max(1, min(size, points))
        points //= length
        block.append(length)
    return tuple(reversed(block))


def boxes(shape: Size, block: Size) -> Iterator[tuple[slice, Box]]:
    """Index space `shape` (batch first) in blocks: (samples, (start, stop) of the other axes)."""
    axes = [
        [(start, min(start + step, size)) for start in range(0, size, max(step, 1))]
        for size, step in zip(shape, block, strict=True)
    ]
    for (first, last), *box in product(*axes):
        yield slice(first, last), tuple(box)


def budget(problem: Problem, usual: int, fixed: int) -> int:
    """Bytes that blocks may take: the usual amount, or what max_scratch leaves beside `fixed`."""
    return usual if problem.max_scratch is None else min(usual, problem.max_scratch - fixed)


def sample_blocks(problem: Problem, usual: int, fixed: int, each: int) -> Iterator[slice]:
    """Samples a few at a time: `fixed` bytes of scratch, and `each` bytes a sample."""
    count = _sample_count(problem, usual, fixed, each)
    batch = problem.geometry.batch
    return (slice(n, min(n + count, batch)) for n in range(0, batch, count))


def sample_scratch(problem: Problem, usual: int, fixed: int, each: int) -> int:
    """The bytes that `sample_blocks` of the same arguments lets an algorithm take."""
    return fixed + each * _sample_count(problem, usual, fixed, each)


def _sample_count(problem: Problem, usual: int, fixed: int, each: int) -> int:
    spare = budget(problem, usual, fixed)
    return max(1, min(problem.geometry.batch, spare // max(each, 1)))


def box_size(box: Box) -> Size:
    return tuple(stop - start for start, stop in box)


def inside(slices: tuple[slice, ...], box: Box) -> tuple[slice, ...]:
    """Slices of a whole axis, as slices of the part that `box` keeps."""
    return tuple(
        slice(cut.start - start, cut.stop - start, cut.step)
        for cut, (start, _) in zip(slices, box, strict=True)
    )


def split_groups(a: np.ndarray, groups: int, axis: int) -> np.ndarray:
    """The channel axis as (groups, channels of a group); a view."""
    shape = a.shape
    return a.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def grouped(g: Geometry, x: np.ndarray) -> np.ndarray:
    """x (N, C, …) → (N, G, C/G, …), a view for any strides."""
    return split_groups(x, g.groups, 1)
