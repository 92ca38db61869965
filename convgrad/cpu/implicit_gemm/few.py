"""Products of few cells and many weights, as in the last layers of a network or of small batches.

To pack all weights beforehand would be most of the work in memory there. Here all cells are, and
weights some panels at a time, as they are needed. Sums and their order stay the same.
"""

from collections.abc import Callable

import numpy as np

from convgrad.algorithm import Kept
from convgrad.cpu.implicit_gemm.kernels.few import (
    MULTIPLY_FEW,
    PACK_CELLS,
    WEAVE_FEW,
    packed_cells,
)
from convgrad.cpu.implicit_gemm.kernels.multiply import WEAVE, panel_words
from convgrad.cpu.implicit_gemm.kernels.packing import FIELDS as PACKING
from convgrad.cpu.implicit_gemm.products import Product
from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.program import BETWEEN, BIAS, OUT, Given, Program, Step
from convgrad.cpu.tiling import PARTS, Tile


def steps(product: Product, groups: int, source: Given, w: Given) -> tuple[list[Step], int]:
    """The jobs of the product, and the bytes of packed cells between them."""
    cut, multiply, pack = product.cut, product.multiply, product.pack
    words = np.array([pack.values.get(field, 0) for field in PACKING], np.int64)
    lanes = compiler.target().lanes(multiply.element)
    channels, places = (multiply.values[name] for name in ("C", "U"))
    group = packed_cells(
        cut.count, panel_words(lanes, cut.width), channels, cut.block, places, cut.width
    )
    parts = -(-PARTS // groups)
    shares, blocks = min(cut.rows.count, parts), min(cut.count, parts)
    values = multiply.values | {
        "line": 0, "packing": words.ctypes.data, "wg": pack.values["wg"], "panels": cut.count,
        "cg": group, "blocks": blocks, "shares": shares, "beside": cut.beside,
    }  # fmt: skip
    tables = (*multiply.tables, *pack.tables, words)
    generator = WEAVE_FEW if multiply.generator is WEAVE else MULTIPLY_FEW

    def job(generator: Generator, tile: Tile, count: int) -> Job:
        return Job(generator, multiply.element, tile, values, groups * count,
                   multiply.threaded, tables)  # fmt: skip

    one_row = Tile(1, cut.tile.vectors)
    return [
        (job(PACK_CELLS, one_row, blocks), {"x": source, "packed": BETWEEN}),
        (job(generator, cut.tile, shares), {"packed": BETWEEN, "w": w, "y": OUT, "bias": BIAS}),
    ], groups * group * lanes.bytes


class FewCells(Program):
    """The program of these jobs; with weights that stay, the usual one, whose packed copy stays."""

    def __init__(
        self, steps: list[Step], between: int, no_bias: np.ndarray, usual: Callable[[], Program]
    ) -> None:
        super().__init__(steps, between, no_bias)
        self.usual = usual

    def with_weights(self, place: int, w: np.ndarray) -> Kept | None:
        return self.usual().with_weights(place, w)
