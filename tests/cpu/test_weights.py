"""The weight gradient's ways of laying out its work, each run on integers with tolerance zero."""

import numpy as np
import pytest
from engine_cases import check, dense, problem_of

from convgrad.cpu.correlation import forward_axes
from convgrad.cpu.implicit_gemm.weights import split, tile_for
from convgrad.cpu.tiling import HEIGHTS

FEW, MANY = 12, 40  # channels
# a case, whether lanes are input channels, and the taps in a panel of rows
LAYOUTS = {
    "fewer input channels": (dense(3, FEW, MANY, (9, 13), (1, 1)), True, 1),
    "fewer output channels": (dense(3, MANY, FEW, (9, 13), (1, 1)), False, 1),
    "fewer input channels, groups": (dense(2, 24, 80, (9, 13), (1, 1), groups=2), True, 1),
    "one tap and a stride": (dense(3, FEW, MANY, (9, 13), (1, 1), stride=2), False, 1),
    "one tap and padding": (dense(3, FEW, MANY, (9, 13), (1, 1), pad=1), False, 1),
    "patches": (dense(2, 3, MANY, (24, 32), (8, 8), stride=8), False, 64),
    "patches of volumes": (dense(2, 2, 9, (6, 8, 8), (3, 2, 2), stride=2), False, 12),
    "few channels, padding": (dense(2, 3, MANY, (23, 30), (7, 7), stride=2, pad=3), False, 49),
    "few channels, padding, stride 1": (dense(2, 4, FEW, (9, 30), (3, 3), pad=1), False, 9),
    "few channels, padding, stride 3": (dense(2, 3, 9, (40,), (5,), stride=3, pad=2), False, 5),
    "a tap's own panels": (dense(2, 5, 9, (9, 30), (3, 3), pad=1), False, 1),
}  # fmt: skip
each_layout = pytest.mark.parametrize("name", LAYOUTS)


@each_layout
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_each_layout_is_exact(name, dtype):
    case, turned, mixed = LAYOUTS[name]
    problem = problem_of("weight_grad", case, dtype)
    cut = split(problem, forward_axes(problem.geometry))
    assert (cut.turned, cut.mixed) == (turned, mixed)
    assert check(case, dtype, ("weight_grad",)) == 1


def test_large_weights_keep_output_channels_in_the_lanes():
    """Shares of a large gradient each read the rows again, which should be the fewer channels."""
    case = dense(1, 1024, 2048, (7, 7), (1, 1))
    problem = problem_of("weight_grad", case, np.float32)
    assert not split(problem, forward_axes(problem.geometry)).turned


@pytest.mark.parametrize("level", HEIGHTS)
@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_a_tile_has_a_height_that_leaves_registers_for_the_operands(level, lanes):
    heights = HEIGHTS[level]
    for rows in (1, 2, 3, 5, 6, 7, 14, 24, 64, 147, 513):
        for outputs in (1, 7, 8, 21, 24, 48, 64, 1000):
            tile, cut = tile_for(rows, outputs, lanes, heights)
            most = heights.get(tile.vectors, max(heights.values()))
            assert 1 <= tile.height <= most
            assert cut.tall * tile.height + cut.low * (tile.height - 1) == rows


def test_a_tile_wastes_few_lanes():
    """24 outputs fill three registers of eight; two tiles of two would leave a register empty."""
    tile, _ = tile_for(96, 24, 8, HEIGHTS["avx2"])
    assert (tile.height, tile.vectors) == (4, 3)
