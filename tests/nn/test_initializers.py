"""Initialisers: the spread of the numbers against the formulas and PyTorch's bounds."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from convgrad.errors import SettingError
from convgrad.nn import initializers
from convgrad.nn.layers import Conv, ConvTranspose, Linear

UNIFORM = {
    "he_uniform": lambda fan_in, fan_out: sqrt(6 / fan_in),
    "xavier_uniform": lambda fan_in, fan_out: sqrt(6 / (fan_in + fan_out)),
    "toolbox": lambda fan_in, fan_out: sqrt(6 / (fan_in + fan_out)),
}
NORMAL = {
    "he_normal": lambda fan_in, fan_out: sqrt(2 / fan_in),
    "xavier_normal": lambda fan_in, fan_out: sqrt(2 / (fan_in + fan_out)),
}
IN, OUT, K = 40, 60, 5
FANS = IN * K * K, OUT * K * K


def conv_weight(name: str) -> np.ndarray:
    layer = Conv(OUT, K, initializer=name)
    layer.build((IN, 8, 8), np.random.default_rng(0), np.dtype("float64"))
    np.testing.assert_array_equal(layer.params["bias"], np.zeros(OUT))
    return layer.params["weight"]


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_fills_its_bounds(name: str) -> None:
    weight, bound = conv_weight(name), UNIFORM[name](*FANS)
    assert 0.999 * bound < np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / sqrt(3), rel=0.01)
    assert abs(weight.mean()) < 0.01 * bound


@pytest.mark.parametrize("name", NORMAL)
def test_normal_has_its_spread(name: str) -> None:
    weight, spread = conv_weight(name), NORMAL[name](*FANS)
    assert weight.std() == pytest.approx(spread, rel=0.01)
    assert abs(weight.mean()) < 0.02 * spread
    assert np.abs(weight).max() > 3.5 * spread


def test_every_initializer_is_tested() -> None:
    assert {*UNIFORM, *NORMAL, "zeros"} == initializers.INITIALIZERS.keys()
    assert not conv_weight("zeros").any()


def test_bounds_are_those_of_torch() -> None:
    init = pytest.importorskip("torch.nn.init")
    weight = pytest.importorskip("torch").empty(OUT, IN, K, K)
    assert init.xavier_uniform_(weight).abs().max().item() == pytest.approx(
        np.abs(conv_weight("xavier_uniform")).max(), rel=1e-3
    )
    init.kaiming_uniform_(weight, nonlinearity="relu")
    assert weight.abs().max().item() == pytest.approx(
        np.abs(conv_weight("he_uniform")).max(), rel=1e-3
    )
    init.kaiming_normal_(weight, nonlinearity="relu")
    assert weight.std().item() == pytest.approx(conv_weight("he_normal").std(), rel=0.02)


def test_fans_of_linear_transposed_and_grouped() -> None:
    rng, dtype = np.random.default_rng(0), np.dtype("float64")
    linear = Linear(300)
    linear.build((200,), rng, dtype)
    assert np.abs(linear.params["weight"]).max() == pytest.approx(sqrt(6 / 200), rel=1e-3)
    transposed = ConvTranspose(30, 4)
    transposed.build((50, 6, 6), rng, dtype)
    assert np.abs(transposed.params["weight"]).max() == pytest.approx(sqrt(6 / 800), rel=1e-3)
    grouped = Conv(64, 5, groups=8)
    grouped.build((64, 8, 8), rng, dtype)
    assert np.abs(grouped.params["weight"]).max() == pytest.approx(sqrt(6 / 200), rel=1e-2)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingError, match="unknown initializer 'glorot'"):
        initializers.named("glorot")
