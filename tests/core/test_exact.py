"""Integers, tolerance zero: every algorithm against PyTorch in float64 and against the definition.

Sums of integers below 2^p are exact in any order, so one wrong product shows as a difference.
"""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

import convgrad as cg
from convgrad.choose import TABLE

from .cases import cases, magnitude_sums, oracle

ALGORITHMS = [a.name for a in TABLE["cpu"]]
SPECTRA = ("fft", "overlap_save")  # exact after rounding


def results(case, x, w, b, dy, **how):
    y = cg.conv(x, w, b, **case.settings, **how)
    return (y, *cg.backward(x, w, dy, **case.settings, **how))


def accepts(case, algorithm, precision, dtype="float64"):
    try:
        cg.plan(
            "forward", case.x_shape, case.w_shape, **case.settings,
            algorithm=algorithm, precision=precision, dtype=dtype,
        )  # fmt: skip
    except cg.AlgorithmError:
        return False
    return True


def assert_exact(case, expected, arrays, **how):
    got = results(case, *arrays, **how)
    if how["algorithm"] in (*SPECTRA, "tiled_winograd", "auto"):  # auto may choose these
        got = [np.round(g) for g in got]
    for name, g, e in zip(("y", "dx", "dw", "db"), got, expected, strict=True):
        assert g.dtype == arrays[0].dtype
        np.testing.assert_array_equal(g, e, err_msg=f"{name} of {how}", strict=True)


def by_torch(case, x, w, b, dy):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    conv = getattr(torch.nn.functional, f"conv{case.rank}d")
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    sides = [n for pair in reversed(case.pads) for n in pair]
    y = conv(torch.nn.functional.pad(tx, sides), tw, tb, case.stride, 0, case.dilation, case.groups)
    y.backward(torch.tensor(dy))
    return [t.detach().numpy() for t in (y, tx.grad, tw.grad, tb.grad)]


def check_all(case, judge, precision="standard"):
    """All algorithms that accept, and the choice of "auto"; w and dy exact for F(4,3) if "fast"."""
    arrays = case.integers(step=24**case.rank if precision == "fast" else 1)
    expected = judge(case, *arrays)
    for algorithm in (*ALGORITHMS, "auto"):
        if algorithm == "auto" or accepts(case, algorithm, precision):
            assert_exact(case, expected, arrays, algorithm=algorithm, precision=precision)


@settings(max_examples=2000)
@given(cases())
def test_every_algorithm_agrees_with_pytorch(case):
    check_all(case, by_torch)


@pytest.mark.parametrize("precision", ["standard", "fast"])
@settings(max_examples=300)
@given(case=cases(three_taps=True))
def test_three_tap_kernels_agree_with_pytorch(precision, case):
    check_all(case, by_torch, precision)


@settings(max_examples=200)
@given(cases(ranks=(1, 2, 4)))
def test_every_algorithm_agrees_with_the_definition(case):
    check_all(case, oracle)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(np.float16, 11), (ml_dtypes.bfloat16, 8), (np.float32, 24)],
    ids=["float16", "bfloat16", "float32"],
)
@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_narrow_dtypes_are_exact_while_their_sums_fit(dtype, bits, algorithm):
    checked = 0
    tiled = algorithm == "tiled_winograd"

    @settings(max_examples={"tiled_winograd": 150, "overlap_save": 400}.get(algorithm, 60))
    @given(cases(ranks=(2,) if tiled else (1, 2), three_taps="winograd" in algorithm))
    def check(case):
        nonlocal checked
        x, w, b, dy = case.integers(largest=1)
        fits = all(np.max(s, initial=0) + 1 <= 2**bits for s in magnitude_sums(case, x, w, dy))
        if not fits or np.abs(dy).sum() > 2**bits or not accepts(case, algorithm, "standard"):
            return
        expected = [e.astype(dtype) for e in oracle(case, x, w, b, dy)]
        arrays = [a.astype(dtype) for a in (x, w, b, dy)]
        if tiled or algorithm in SPECTRA:
            got = results(case, *arrays, algorithm=algorithm)
            got = [np.round(g.astype(np.float64)).astype(dtype) for g in got]
        else:
            got = results(case, *arrays, algorithm=algorithm)
        for g, e in zip(got, expected, strict=True):
            assert g.dtype == dtype
            np.testing.assert_array_equal(g.astype(np.float64), e.astype(np.float64))
        checked += 1

    check()
    assert checked >= 20


@settings(max_examples=150)
@given(cases(ranks=(1, 2)))
def test_complex_gradients_conjugate_the_other_operand(case):
    x, w, b, dy = (np.round(a) for a in case.normals(np.complex128))
    expected = oracle(case, x, w, b, dy)
    for algorithm in ALGORITHMS:
        if accepts(case, algorithm, "standard", "complex128"):
            assert_exact(case, expected, (x, w, b, dy), algorithm=algorithm, precision="standard")
