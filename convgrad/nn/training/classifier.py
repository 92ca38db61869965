"""A trained model as it is used: pictures in, how sure it is of each class out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convgrad.nn.description import model_from_spec
from convgrad.nn.network import Model
from convgrad.nn.training.checkpoint import Saved
from convgrad.nn.training.evaluation import outputs


@dataclass(frozen=True)
class Classifier:
    """A model, how its input is normalised, and what its outputs mean."""

    model: Model
    loss: str
    mean: np.ndarray
    std: np.ndarray
    classes: tuple[str, ...]

    def shares(self, x: np.ndarray) -> np.ndarray:
        """How much each class gets, adding up to 1.  x (N, C, H, W) in 0..1 → (N, classes)."""
        scores = outputs(self.model, (x - self.mean) / self.std)
        if self.loss == "softmax_cross_entropy":
            grown = np.exp(scores - scores.max(axis=1, keepdims=True))
        elif self.loss == "binary_cross_entropy":
            grown = 0.5 * (1 + np.tanh(scores / 2))  # the sigmoid, without overflow
        else:
            grown = np.maximum(scores, 0)
        total = grown.sum(axis=1, keepdims=True)
        even = np.full_like(grown, 1 / grown.shape[1])
        return np.divide(grown, total, out=even, where=total > 0)

    @property
    def meaning(self) -> str:
        """What the shares are, in words."""
        if self.loss == "softmax_cross_entropy":
            return "softmax probabilities"
        if self.loss == "binary_cross_entropy":
            return "sigmoids of the outputs, divided by their sum; not calibrated probabilities"
        return "outputs divided by their sum; not probabilities"


def classifier(saved: Saved) -> Classifier:
    """The classifier in a saved model or a checkpoint."""
    settings = saved.facts["settings"]
    model = model_from_spec(
        saved.facts["model"],
        dtype=settings["dtype"],
        algorithm=settings["algorithm"],
        precision=settings["precision"],
    )
    model.load(saved.group("parameters") | saved.group("buffers"))
    normalisation = saved.group("samples")
    return Classifier(
        model=model,
        loss=settings["loss"],
        mean=normalisation["mean"],
        std=normalisation["std"],
        classes=tuple(saved.facts["classes"]),
    )
