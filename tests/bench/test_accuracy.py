"""Errors against float64: the figures by hand, and what is compared."""

import numpy as np
import pytest

from convgrad.bench import accuracy
from convgrad.bench.case import Case
from convgrad.shapes import Layer

SMALL = Layer("small", "n", 1, 4, 4, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))


def test_figures_by_hand():
    reference = np.array([4.0, -2.0, 0.0])
    result = np.array([4.5, -2.0, 0.0], np.float32)
    sums = np.array([5.0, 2.0, 0.0])
    of_sum, largest, of_max, most = accuracy.deviation(result, reference, sums)
    assert of_sum == pytest.approx(np.sqrt(0.01 / 2))  # where nothing was summed, nothing can err
    assert largest == pytest.approx(0.1)
    assert of_max == pytest.approx(np.sqrt(0.25 / 3) / 4)
    assert most == pytest.approx(0.125)


def test_every_algorithm_is_compared():
    case = Case(SMALL, "forward", "float32")
    ((same, findings),) = accuracy.findings([case], [])
    assert same == case
    who = {(finding.who, finding.settings) for finding in findings}
    assert {("auto", "strict"), ("auto", "standard"), ("auto", "fast")} <= who
    assert ("direct", "strict, standard, fast") in who
    assert ("fft", "standard, fast") in who
    assert {("winograd", "standard"), ("winograd", "fast")} <= who
    for finding in findings:
        assert 0 < finding.rms_of_sum <= finding.max_of_sum < 1e-5
        assert 0 < finding.rms_of_max <= finding.max_of_max < 1e-5


def test_one_algorithm_can_be_asked_for():
    case = Case(SMALL, "weight_grad", "float32")
    ((_, findings),) = accuracy.findings([case], [], "winograd")
    assert {(f.who, f.settings) for f in findings} == {
        ("winograd", "standard"),
        ("winograd", "fast"),
    }
    exact, rough = findings
    assert exact.rms_of_max < rough.rms_of_max  # F(2,3), then F(4,3)
