"""Schedules against torch.optim.lr_scheduler, by hand, and at their ends."""

from __future__ import annotations

from typing import Any

import pytest

from convgrad.errors import SettingError
from convgrad.nn import schedules
from convgrad.nn.schedules import Constant, Cosine, Exponential, OneCycle, Schedule, Step

Torch = Any
TOTAL = 40


@pytest.fixture(scope="module")
def torch() -> Torch:
    return pytest.importorskip("torch")


CASES = [
    (Step(gamma=0.5, every=7), "StepLR", {"step_size": 7, "gamma": 0.5}),
    (Exponential(final=0.02), "ExponentialLR", {"gamma": 0.02 ** (1 / TOTAL)}),
    (Cosine(), "CosineAnnealingLR", {"T_max": TOTAL}),
    (Cosine(final=0.1), "CosineAnnealingLR", {"T_max": TOTAL, "eta_min": 0.1}),
    (OneCycle(), "OneCycleLR", {"max_lr": 1.0, "total_steps": TOTAL}),
    (
        OneCycle(rise=0.5, start=0.1, final=0.01),
        "OneCycleLR",
        {
            "max_lr": 1.0,
            "total_steps": TOTAL,
            "pct_start": 0.5,
            "div_factor": 10,
            "final_div_factor": 10,
        },
    ),
]


@pytest.mark.parametrize(("ours", "name", "settings"), CASES)
def test_same_factors_as_torch(
    torch: Torch, ours: Schedule, name: str, settings: dict[str, Any]
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = getattr(torch.optim.lr_scheduler, name)(optimizer, **settings)
    for step in range(TOTAL):
        assert ours(step, TOTAL) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        theirs.step()


def test_by_hand() -> None:
    assert [Constant()(step, 3) for step in range(3)] == [1, 1, 1]
    assert [Step()(step, 6) for step in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = [Cosine(warmup=0.5)(step, 8) for step in range(8)]
    assert warm[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warm[6] == pytest.approx(0.5)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_every_schedule_stays_in_bounds_and_keeps_its_last_factor(name: str) -> None:
    schedule = schedules.named(name)
    for total in (1, 2, 3, 10):
        factors = [schedule(step, total) for step in range(total)]
        assert all(0 < factor <= 1 for factor in factors)
        assert schedule(total + 5, total) == factors[-1]


def test_errors() -> None:
    with pytest.raises(SettingError, match="did you mean 'cosine'"):
        schedules.named("cosin")
    with pytest.raises(SettingError, match="unknown setting of the schedule cosine 'warm'"):
        schedules.named("cosine", warm=0.1)
    assert schedules.named("cosine", warmup=0.1) == Cosine(warmup=0.1)
    with pytest.raises(SettingError, match="warmup is 2; it must be from 0 to 1"):
        Cosine(warmup=2)
    with pytest.raises(SettingError, match="every is 0"):
        Step(every=0)
    with pytest.raises(SettingError, match="total_steps ≥ 1"):
        Cosine()(0, 0)
