"""The engine's bits depend neither on the number of threads nor on the rest of the batch."""

import numpy as np
import pytest
from core.cases import Case

import convgrad as cg

CASES = {
    "correlate, outer": Case(3, 16, 24, 1, (15, 17), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    "stride, inner": Case(4, 3, 20, 1, (31, 30), (5, 3), (2, 2), (1, 1), ((2, 1), (1, 1)), 2),
    "pointwise": Case(2, 40, 30, 1, (21, 20), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), 3),
    "depthwise": Case(2, 12, 12, 12, (40, 41), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 4),
    "volumes": Case(2, 8, 16, 2, (7, 8, 9), (3, 1, 2), (1, 2, 1), (1, 1, 2), ((1, 1),) * 3, 5),
}


@pytest.fixture
def restored_threads():
    before = cg.get_num_threads()
    yield
    cg.set_num_threads(before)


def results(case, x, w, dy):
    how = {**case.settings, "algorithm": "implicit_gemm"}
    return (
        cg.conv(x, w, **how),
        cg.input_grad(x.shape, w, dy, **how),
        cg.weight_grad(x, w.shape, dy, **how),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "float16"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("restored_threads")
def test_any_number_of_threads_gives_the_same_bits(name, dtype):
    case = CASES[name]
    x, w, _, dy = case.normals(np.dtype(dtype))
    found = []
    for threads in (1, 2, 3, 5):
        cg.set_num_threads(threads)
        assert cg.get_num_threads() == threads
        found.append([r.tobytes() for r in results(case, x, w, dy)])
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_a_sample_has_the_same_bits_in_any_batch(name, dtype):
    case = CASES[name]
    x, w, _, dy = case.normals(np.dtype(dtype))
    y, dx, _ = results(case, x, w, dy)
    for n in range(case.batch):
        one = slice(n, n + 1)
        alone_y, alone_dx, _ = results(case, x[one].copy(), w, dy[one].copy())
        assert alone_y.tobytes() == y[one].tobytes()
        assert alone_dx.tobytes() == dx[one].tobytes()
