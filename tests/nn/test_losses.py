"""Losses against PyTorch in float64, by hand, and far out where naive formulas overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convgrad.errors import ConvError, DTypeError, SettingError, ShapeError
from convgrad.nn import losses
from convgrad.nn.losses import (
    MSE,
    BinaryCrossEntropy,
    MeanLoss,
    SoftmaxCrossEntropy,
    SumLoss,
    one_hot,
    target_for,
)

Torch = Any
RNG = np.random.default_rng(11)
OUTPUT = RNG.normal(size=(5, 4)) * 3
VALUES = RNG.uniform(size=(5, 4))
LABELS = np.array([0, 3, 1, 1, 2])


@pytest.fixture(scope="module")
def torch() -> Torch:
    return pytest.importorskip("torch")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_against_torch(torch: Torch, name: str) -> None:
    calls = torch.nn.functional
    formulas = {
        "sum": lambda y: y.sum(),
        "mean": lambda y: y.mean(),
        "mse": lambda y: calls.mse_loss(y, torch.tensor(VALUES)),
        "half_mse": lambda y: 0.5 * ((y - torch.tensor(VALUES)) ** 2).sum() / len(y),
        "softmax_cross_entropy": lambda y: calls.cross_entropy(y, torch.tensor(LABELS)),
        "binary_cross_entropy": lambda y: calls.binary_cross_entropy_with_logits(
            y, torch.tensor(VALUES)
        ),
    }
    loss = losses.named(name)
    target = {"labels": LABELS, "values": VALUES, "nothing": None}[loss.takes]
    y = torch.tensor(OUTPUT, requires_grad=True)
    expected = formulas[name](y)
    expected.backward()
    value, dy = loss.value_and_grad(OUTPUT, target)
    assert isinstance(value, float)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(dy, y.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_gradient_has_the_outputs_dtype(name: str) -> None:
    loss = losses.named(name)
    target = target_for(loss, LABELS, 4, "float64")
    _, dy = loss.value_and_grad(OUTPUT.astype(np.float32), target)
    assert dy.dtype == np.float32


def test_mse_by_hand_in_both_forms() -> None:
    y, t = np.array([[1.0, 4.0], [2.0, 0.0]]), np.array([[0.0, 2.0], [2.0, 3.0]])
    value, dy = MSE().value_and_grad(y, t)  # e = 1, 2, 0, −3: Σe² = 14
    assert value == 14 / 4
    np.testing.assert_array_equal(dy, [[0.5, 1.0], [0.0, -1.5]])
    value, dy = MSE("half_sum_per_sample").value_and_grad(y, t)
    assert value == 14 / 4
    np.testing.assert_array_equal(dy, [[0.5, 1.0], [0.0, -1.5]])
    value, _ = MSE("half_sum_per_sample").value_and_grad(y.reshape(1, 4), t.reshape(1, 4))
    assert value == 7.0


def test_cross_entropies_stay_finite_far_out() -> None:
    far = np.array([[1e4, -1e4], [-1e4, 1e4]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, dy = SoftmaxCrossEntropy().value_and_grad(far, np.array([0, 0]))
        assert value == 1e4
        np.testing.assert_array_equal(dy, [[0, 0], [-0.5, 0.5]])
        value, dy = BinaryCrossEntropy().value_and_grad(far, np.array([[1.0, 0.0], [1.0, 0.0]]))
        assert value == 5e3
        np.testing.assert_array_equal(dy, [[0, 0], [-0.25, 0.25]])


def test_sum_and_mean_need_no_target() -> None:
    y = np.array([[1.0, 2.0], [3.0, 6.0]])
    value, dy = SumLoss().value_and_grad(y)
    assert value == 12
    np.testing.assert_array_equal(dy, np.ones((2, 2)))
    value, dy = MeanLoss().value_and_grad(y)
    assert value == 3
    np.testing.assert_array_equal(dy, np.full((2, 2), 0.25))


def test_one_hot_and_target_for() -> None:
    np.testing.assert_array_equal(one_hot(np.array([1, 0]), 3), [[0, 1, 0], [1, 0, 0]])
    assert one_hot(np.array([1]), 2, "float64").dtype == np.float64
    assert target_for(SumLoss(), LABELS, 4, "float32") is None
    assert target_for(SoftmaxCrossEntropy(), LABELS, 4, "float32") is LABELS
    np.testing.assert_array_equal(target_for(MSE(), LABELS, 4, "float32"), one_hot(LABELS, 4))


@pytest.mark.parametrize(
    ("loss", "output", "target", "error", "message"),
    [
        (MSE(), OUTPUT, LABELS, ShapeError, r"target has shape \(5,\), but the output \(5, 4\)"),
        (MSE(), OUTPUT, None, ShapeError, "needs a target"),
        (MSE(), OUTPUT[:0], VALUES[:0], ShapeError, "is empty"),
        (MeanLoss(), OUTPUT[:0], None, ShapeError, "is empty"),
        (BinaryCrossEntropy(), OUTPUT, VALUES + 1, SettingError, "from 0 to 1"),
        (SoftmaxCrossEntropy(), OUTPUT, LABELS[:3], ShapeError, r"labels of shape \(5,\)"),
        (SoftmaxCrossEntropy(), OUTPUT, None, ShapeError, "got none"),
        (SoftmaxCrossEntropy(), OUTPUT, LABELS + 0.5, DTypeError, "labels are float64"),
        (SoftmaxCrossEntropy(), OUTPUT, LABELS + 1, ShapeError, "go from 1 to 4, but 4 classes"),
        (SoftmaxCrossEntropy(), OUTPUT, LABELS - 1, ShapeError, "go from -1 to 2"),
        (SoftmaxCrossEntropy(), OUTPUT[None], LABELS, ShapeError, "end the model with flatten"),
    ],
)
def test_what_does_not_fit_is_refused(
    loss: Any, output: Any, target: Any, error: type[ConvError], message: str
) -> None:
    with pytest.raises(error, match=message):
        loss.value_and_grad(output, target)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingError, match=r"unknown loss 'mes': did you mean 'mse'\?"):
        losses.named("mes")
    with pytest.raises(SettingError, match="reduction is 'sum'"):
        MSE("sum")  # pyright: ignore[reportArgumentType]
