"""What every test runs under: poisoned np.empty, and Hypothesis profiles."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.register_profile("search", settings.get_profile("suite"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

_empty = np.empty


def _poisoned(*args, **kwargs):
    array = _empty(*args, **kwargs)
    if array.dtype.kind in "fcV" and array.size:
        array.fill(np.nan)
    return array


@pytest.fixture(autouse=True)
def poisoned_empty(monkeypatch):
    """np.empty gives NaN, so that a number that was never written is seen."""
    monkeypatch.setattr(np, "empty", _poisoned)


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)
