"""Which samples stand in which step, and how they are shifted: pure functions of seed and step.

No generator is carried from step to step, so a resumed run sees the batches that the
uninterrupted one would have seen, wherever it was cut.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from convgrad.errors import TrainingError

_ORDER, _SHIFT, _HOLD_OUT = 1, 2, 3  # one independent random stream for each purpose


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """⌈samples / batch_size⌉: the last batch of an epoch may be smaller."""
    return -(-samples // batch_size)


@lru_cache(maxsize=2)
def epoch_order(samples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of epoch `epoch`, from (seed, epoch) alone; read-only."""
    order = np.random.default_rng([seed, _ORDER, epoch]).permutation(samples)
    order.flags.writeable = False
    return order


def batch_of(order: np.ndarray, batch_size: int, batch: int) -> np.ndarray:
    """The sample numbers of batch `batch` (from 0) of an epoch with this order."""
    return order[batch * batch_size : (batch + 1) * batch_size]


def shifted(x: np.ndarray, most: int, seed: int, step: int) -> np.ndarray:
    """Each image moved by its own random (rows, columns) in −most … most, zeros moving in.

    x (N, C, H, W) → the same shape. The shifts come from (seed, step) alone.
    """
    if most == 0:
        return x
    rng = np.random.default_rng([seed, _SHIFT, step])
    rows, columns = rng.integers(0, 2 * most + 1, size=(2, len(x)))
    padded = np.pad(x, ((0, 0), (0, 0), (most, most), (most, most)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, x.shape[2:], axis=(2, 3))
    return windows[np.arange(len(x)), :, rows, columns]  # (N, C, H, W)


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out): sample numbers, with ⌊share·count⌉ of each class held out."""
    rng = np.random.default_rng([seed, _HOLD_OUT])
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(share * len(members))]] = True
    if held.all():
        raise TrainingError(
            f"--validation {share} leaves no sample to train on; hold out a smaller share"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)
