"""The gradient check passes right gradients, finds wrong ones, and says what it skipped."""

from __future__ import annotations

import numpy as np
import pytest

from convgrad.errors import SettingError
from convgrad.nn import losses, models
from convgrad.nn.description import model_from_spec, parse
from convgrad.nn.gradient_check import check_gradients
from convgrad.nn.layers import Conv, Flatten, Layer, Linear, MaxPool, ReLU, Sigmoid, Tanh
from convgrad.nn.losses import MSE, SoftmaxCrossEntropy, SumLoss, target_for
from convgrad.nn.network import Model

LABELS = np.array([0, 2, 1, 0])


def images(channels: int = 1, size: int = 8, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.normal(size=(len(LABELS), channels, size, size)).astype(dtype)


EVERY_LAYER = """conv 3 3 padding=1 padding_mode=reflect, tanh, conv_transpose 4 3 2, batchnorm,
avgpool 2, residual(conv 4 3 same bias=false, batchnorm, relu | conv 4 1), dropout 0.3,
maxpool 2, sigmoid, flatten, linear 3"""


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_network_of_every_layer_passes_with_every_loss(name: str) -> None:
    spec = {"input_shape": [1, 6, 6], "layers": parse(EVERY_LAYER)}
    model, loss = model_from_spec(spec), losses.named(name)
    target = target_for(loss, LABELS, 3, "float32")
    report = check_gradients(model, images(size=6), target, loss, entries=12)
    assert report.passed, str(report)
    assert report.worst < 1e-5
    assert report.checked == 90 - report.skipped


def test_every_entry_of_a_smooth_model_to_seven_digits() -> None:
    model = Model([Conv(2, 3), Tanh(), Flatten(), Linear(3)], (1, 5, 5), dtype="float64")
    loss = SoftmaxCrossEntropy()
    report = check_gradients(model, images(size=5, dtype="float64"), LABELS, loss, tolerance=1e-7)
    assert report.passed, str(report)
    assert (report.checked, report.skipped) == (2 * 9 + 2 + 3 * 18 + 3, 0)


@pytest.mark.parametrize("name", models.MODELS)
def test_named_models_pass(name: str) -> None:
    spec = models.named(name, (1, 8, 8), 3)
    loss = losses.named(spec["loss"])
    target = target_for(loss, LABELS, 3, "float32")
    report = check_gradients(model_from_spec(spec), images(), target, loss, entries=3)
    assert report.passed, str(report)


class Twisted(Sigmoid):
    """A sigmoid whose backward is wrong by one part in a thousand."""

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        dx = super().backward(dy)
        return None if dx is None else dx * 1.001


class Forgetful(Linear):
    """A linear layer that loses one entry of its bias gradient."""

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        dx = super().backward(dy, need_input)
        self.grads["bias"][1] = 0
        return dx


@pytest.mark.parametrize(
    ("layers", "wrong"),
    [
        ([Conv(2, 3), Twisted(), Flatten(), Linear(3)], "00_conv."),
        ([Conv(2, 3), ReLU(), MaxPool(2), Twisted(), Flatten(), Linear(3)], "00_conv."),
        ([Flatten(), Forgetful(4), ReLU(), Linear(3)], "01_linear.bias"),
    ],
)
def test_a_wrong_backward_fails_and_is_named(layers: list[Layer], wrong: str) -> None:
    model = Model(layers, (1, 8, 8))
    report = check_gradients(model, images(), LABELS, SoftmaxCrossEntropy())
    assert not report.passed
    assert report.parameter.startswith(wrong)
    assert report.worst > 5e-4
    assert "FAILED" in str(report)
    assert f"at {report.parameter}[" in str(report)


def test_wrong_at_one_entry_is_found_at_its_index() -> None:
    model = Model([Flatten(), Forgetful(3)], (1, 8, 8))
    report = check_gradients(model, images(), LABELS, SoftmaxCrossEntropy())
    assert (report.parameter, report.index, report.analytic) == ("01_linear.bias", (1,), 0.0)


class Corner(ReLU):
    """|x − c| with c where the check stands, in the first `sharp` columns; elsewhere x."""

    sharp = 2

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        if not hasattr(self, "centre"):
            self.centre = x.copy()
            self.centre[:, self.sharp :] -= 1e3
        self._cache = np.where(x > self.centre, 1.0, -1.0)
        return np.abs(x - self.centre)

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        return dy * self._kept()


def test_entries_on_a_corner_are_skipped_and_counted() -> None:
    model = Model([Flatten(), Linear(2), Corner()], (1, 8, 8))
    report = check_gradients(model, images(), None, SumLoss(), entries=10)
    assert report.checked == 0
    assert report.skipped == 12
    assert report.unchecked == ("01_linear.weight", "01_linear.bias")
    assert not report.passed
    assert "12 skipped where the loss has a corner" in str(report)
    assert "no entry could be checked of 01_linear.weight" in str(report)


class HalfCorner(Corner):
    sharp = 1


def test_too_many_skipped_entries_fail_though_the_rest_agrees() -> None:
    model = Model([Flatten(), Linear(2, bias=False), HalfCorner()], (1, 8, 8))
    strict, lenient = (
        check_gradients(model, images(), None, SumLoss(), max_skipped=share) for share in (0.4, 0.6)
    )
    assert (strict.checked, strict.skipped, strict.unchecked) == (64, 64, ())
    assert strict.worst <= strict.tolerance
    assert not strict.passed
    assert lenient.passed


def test_zero_biases_on_a_dark_background_are_no_obstacle() -> None:
    """Zero pixels and zero biases put ReLU exactly on its corner; the check moves off it."""
    x = images()
    x[:, :, :, :4] = 0
    spec = {"input_shape": [1, 8, 8], "layers": "conv 4 3, relu, maxpool 2, flatten, linear 3"}
    report = check_gradients(model_from_spec(spec), x, LABELS, SoftmaxCrossEntropy())
    assert report.passed, str(report)
    assert report.skipped < 0.02 * report.checked


def test_the_model_is_left_as_it_was() -> None:
    model = model_from_spec({"input_shape": [1, 6, 6], "layers": parse(EVERY_LAYER)})
    before = {name: array.copy() for name, array in model.state().items()}
    drawn = model.rng.bit_generator.state
    check_gradients(model, images(size=6), LABELS, SoftmaxCrossEntropy(), entries=1)
    assert model.rng.bit_generator.state == drawn
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_errors() -> None:
    model, x = Model([Flatten(), Linear(3)], (1, 8, 8)), images()
    loss = SoftmaxCrossEntropy()
    with pytest.raises(SettingError, match="has no parameters"):
        check_gradients(Model([Flatten()], (1, 8, 8)), x, None, SumLoss())
    with pytest.raises(SettingError, match="entries is 0"):
        check_gradients(model, x, LABELS, loss, entries=0)
    with pytest.raises(SettingError, match="needs step > 0"):
        check_gradients(model, x, LABELS, loss, step=0)
    with pytest.raises(SettingError, match="the loss is nan already"):
        check_gradients(model, x, np.full((4, 3), np.nan), MSE())
