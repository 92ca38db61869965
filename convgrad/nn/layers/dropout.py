"""Dropout: some entries of a training batch are left out, by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convgrad.errors import SettingError
from convgrad.nn.layers.base import Layer, check_number


@dataclass(eq=False)
class Dropout(Layer):
    """y = x·m/(1 − rate) with m = 0 by chance `rate`, else 1; y = x when not training.

    m is drawn from the model's generator, one float32 for each entry whatever the dtype, so
    that the same state of the generator gives the same mask.
    Source: Srivastava et al. 2014 (the inverted form).
    """

    rate: float = 0.5

    kind: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        if check_number(self.kind, "rate", self.rate, 0, 1) == 1:
            raise SettingError("dropout: rate is 1, which leaves nothing; it must be below 1")

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        if not training:
            self._cache = None
            return x
        if self.rng is None:
            raise SettingError("dropout: it has no generator yet; call build, or put it in a Model")
        kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        self._cache = kept.astype(x.dtype) / (1 - self.rate)
        return x * self._cache

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx = dy·m/(1 − rate)."""
        return dy * self._kept()
