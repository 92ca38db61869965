"""Run as a script: exact comparisons at the level of CONVGRAD_ISA; prints what was run, as JSON."""

import json
from itertools import product

import numpy as np
from core.cases import cases
from engine_cases import KERNEL_CASES, check, dense, noting
from hypothesis import HealthCheck, given, settings

from convgrad.cpu.jit import compiler

# Every number of rows up to two panels; then three, among them height − 1.
ROWS = (*range(1, 18), 27, 29, 40)


def row_cases():
    """Rows of forward, of input_grad and of both weight gradients, in each number."""
    for rows in ROWS:
        yield dense(2, 3, rows, (5, 6), (2, 3), pad=1)
        yield dense(1, rows, 2, (6, 5), (3, 2), stride=2, pad=1)
        yield dense(1, rows, 33, (3, 70), (1, 1))
        yield dense(1, 33, rows, (210,), (1,))
        yield dense(1, rows, 40, (3, 9), (2, 3), stride=2, pad=1)
    # Blocks of samples, rows and planes; pieces of a long sum; shares of channels.
    yield dense(5, 2, 3, (40, 40), (3, 3), pad=1)
    yield dense(9, 8, 16, (17, 17), (3, 3), pad=1)
    yield dense(1, 96, 6, (60, 50), (3, 3), stride=2, pad=1)
    yield dense(1, 64, 3, (12, 16, 16), (3, 1, 3), pad=1)
    yield dense(1, 150, 70, (4, 4), (3, 3), pad=1)
    yield dense(1, 140, 4, (6, 6), (2, 2))
    yield dense(2, 96, 40, (50, 50), (1, 1))
    yield dense(1, 600, 16, (4, 4, 4), (3, 3, 3))
    # Taps that meet only padding; many samples in a unit; one long row.
    yield dense(1, 40, 16, (30, 30), (3, 3), pad=12, dilation=12)
    yield dense(40, 16, 16, (3, 3), (3, 3), pad=1)
    yield dense(1, 16, 20, (4000,), (3,), pad=1)


def main() -> None:
    calm = [HealthCheck.too_slow, HealthCheck.differing_executors]

    @settings(
        max_examples=100, derandomize=True, database=None, deadline=None,
        suppress_health_check=calm,
    )  # fmt: skip
    @given(cases())
    def drawn(case):
        for dtype in (np.float32, np.float64):
            check(case, dtype)

    with noting() as seen:
        for case, dtype in product((*row_cases(), *KERNEL_CASES), (np.float32, np.float64)):
            assert check(case, dtype) == 3, case
        drawn()
    print(
        json.dumps(
            {
                "level": compiler.target().level,
                "kernels": sorted(seen.kernels),
                "most": seen.most,
                "low": seen.low_panels,
            }
        )
    )


if __name__ == "__main__":
    main()
