"""What was measured while training, step by step and epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from convgrad.nn.training import batches


@dataclass
class History:
    """What was measured: per step the loss and how many were right, per epoch the held-out share.

    `seconds` is the time spent in training steps; it differs from run to run, all else does not.
    """

    samples: int
    batch_size: int
    losses: list[float] = field(default_factory=list)
    correct: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        return batches.steps_per_epoch(self.samples, self.batch_size)

    @property
    def epochs_done(self) -> int:
        return len(self.losses) // self.steps_per_epoch

    def seen_in(self, epoch: int) -> int:
        """How many samples of epoch `epoch` have been trained on."""
        steps = len(self._part(self.losses, epoch))
        return min(steps * self.batch_size, self.samples)

    def loss_of(self, epoch: int) -> float:
        """The mean loss of an epoch so far, each batch weighted by its size."""
        values = self._part(self.losses, epoch)
        sizes = np.full(len(values), self.batch_size)
        if len(values) == self.steps_per_epoch:
            sizes[-1] = self.samples - self.batch_size * (len(values) - 1)
        return float(np.average(values, weights=sizes))

    def accuracy_of(self, epoch: int) -> float:
        """The share of an epoch's training samples that were right when their batch came."""
        return sum(self._part(self.correct, epoch)) / self.seen_in(epoch)

    def epoch_losses(self) -> list[float]:
        return [self.loss_of(epoch) for epoch in range(self.epochs_done)]

    def epoch_accuracies(self) -> list[float]:
        return [self.accuracy_of(epoch) for epoch in range(self.epochs_done)]

    def _part(self, values: list, epoch: int) -> list:
        return values[epoch * self.steps_per_epoch : (epoch + 1) * self.steps_per_epoch]
