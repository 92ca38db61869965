"""Functions of one number, applied to every entry: Sigmoid, Tanh, ReLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convgrad.nn.layers.base import Layer


@dataclass(eq=False)
class Sigmoid(Layer):
    """y = 1/(1 + e^−x), written with e^−|x| so that nothing overflows."""

    kind: ClassVar[str] = "sigmoid"

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        y = sigmoid(x)
        self._cache = y if training else None
        return y

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = dy · y·(1 − y)."""
        y = self._kept()
        return dy * (y * (1 - y))


@dataclass(eq=False)
class Tanh(Layer):
    """y = tanh x."""

    kind: ClassVar[str] = "tanh"

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        y = np.tanh(x)
        self._cache = y if training else None
        return y

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = dy · (1 − y²)."""
        y = self._kept()
        return dy * (1 - y * y)


@dataclass(eq=False)
class ReLU(Layer):
    """y = max(x, 0); its derivative at 0 is taken as 0."""

    kind: ClassVar[str] = "relu"

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._cache = x > 0 if training else None
        return np.maximum(x, 0)

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = dy where x > 0, and 0 elsewhere."""
        return np.where(self._kept(), dy, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1/(1 + e^−x) for x ≥ 0 and e^x/(1 + e^x) for x < 0: the same number, no overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)
