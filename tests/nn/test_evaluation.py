"""Accuracy and the confusion table, worked by hand."""

import numpy as np
import pytest

from convgrad.errors import ShapeError
from convgrad.nn import models
from convgrad.nn.description import model_from_spec
from convgrad.nn.training.checkpoint import Saved
from convgrad.nn.training.classifier import Classifier, classifier
from convgrad.nn.training.evaluation import accuracy, confusion, format_confusion, outputs, percent
from convgrad.nn.training.settings import Settings

TRUTH = np.array([0, 0, 1, 1, 1, 2])
GUESS = np.array([0, 1, 1, 1, 0, 2])


def test_accuracy() -> None:
    assert accuracy(TRUTH, GUESS) == 4 / 6
    with pytest.raises(ShapeError, match="at least one"):
        accuracy(TRUTH[:0], GUESS[:0])
    with pytest.raises(ShapeError, match="the same number"):
        accuracy(TRUTH, GUESS[:5])


def test_confusion_has_the_truth_in_rows() -> None:
    assert confusion(TRUTH, GUESS, 4).tolist() == [
        [1, 1, 0, 0],
        [1, 2, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
    ]


def test_the_table_as_it_is_printed() -> None:
    table = format_confusion(confusion(TRUTH, GUESS, 4), ["cat", "dog", "hippopotamus", "e"])
    assert table.splitlines() == [
        "truth            cat     dog hippopo       e   right",
        "cat                1       1       .       .   50.0 %",
        "dog                1       2       .       .   66.7 %",
        "hippopotamus       .       .       1       .  100.0 %",
        "e                  .       .       .       .       -",
    ]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.98611, "98.6 %"), (1.0, "100.0 %"), (0.0, "0.0 %"), (0.99996, "99.9 %"), (0.0625, "6.3 %")],
)
def test_percent(share, text) -> None:
    assert percent(share) == text


def test_outputs_do_not_depend_on_the_batches() -> None:
    model = model_from_spec(models.named("lenet", (1, 8, 8), 10), dtype="float64")
    x = np.random.default_rng(0).standard_normal((11, 1, 8, 8))
    whole = outputs(model, x, batch_size=100)
    assert whole.shape == (11, 10)
    np.testing.assert_allclose(outputs(model, x, batch_size=4), whole, atol=1e-12)


def judge(loss: str, bias: list[float]) -> Classifier:
    """A classifier whose outputs are `bias`, whatever comes."""
    spec = {"name": "m", "input_shape": [1, 2, 2], "layers": "flatten, linear 3"}
    arrays = {
        "parameters/01_linear.weight": np.zeros((3, 4), np.float32),
        "parameters/01_linear.bias": np.array(bias, np.float32),
        "samples/mean": np.zeros((1, 1, 1), np.float32),
        "samples/std": np.ones((1, 1, 1), np.float32),
    }
    settings = Settings(loss=loss).as_dict()
    return classifier(Saved(arrays, {"settings": settings, "model": spec, "classes": "abc"}))


@pytest.mark.parametrize(
    ("loss", "bias", "shares", "words"),
    [
        ("softmax_cross_entropy", [0, 0, np.log(2)], [0.25, 0.25, 0.5], "softmax probabilities"),
        ("softmax_cross_entropy", [0, 900, -900], [0, 1, 0], "softmax probabilities"),
        ("half_mse", [0.2, 0.6, -0.1], [0.25, 0.75, 0], "not probabilities"),
        ("half_mse", [-1, -1, -1], [1 / 3, 1 / 3, 1 / 3], "not probabilities"),
        ("binary_cross_entropy", [0, 0, 1000], [0.25, 0.25, 0.5], "sigmoids"),
    ],
)
def test_shares(loss, bias, shares, words) -> None:
    found = judge(loss, bias)
    assert found.shares(np.ones((1, 1, 2, 2)))[0] == pytest.approx(shares, abs=1e-6)
    assert words in found.meaning
