"""What every data set looks like once it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convgrad.errors import DataError

_BATCH = 1024  # images whose values are counted at a time, to bound the scratch memory


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images in two parts: those to learn from and those never to learn from.

    x_train, x_test (N, C, H, W) float32 in 0..1, not normalised.
    y_train, y_test (N,) int64, an index into `classes`.
    mean, std (C, 1, 1) float32 over the training images: x ↦ (x − mean) / std normalises.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width

    def __repr__(self) -> str:
        shape = "×".join(str(size) for size in self.input_shape)
        return (
            f"Dataset({self.name}: {len(self.x_train):,} training and {len(self.x_test):,} "
            f"test images of {shape}, {len(self.classes)} classes)"
        )


def from_bytes(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
    top: int,
) -> Dataset:
    """x = images / top, with mean and std of the training images for each channel.

    train and test are (images (N, C, H, W) uint8 in 0..top, labels (N,)).
    Raises DataError if a part is empty, or the two parts have images of different shapes.
    """
    for part, (images, _) in (("training", train), ("test", test)):
        if len(images) == 0:
            raise DataError(f"{name}: there are no {part} images; at least one is needed")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{name}: training images are {train[0].shape[1:]} and test images are "
            f"{test[0].shape[1:]} (C, H, W); give the files of one data set"
        )
    mean, std = _mean_and_std(train[0], top)
    return Dataset(
        name=name,
        x_train=_scaled(train[0], top),
        y_train=train[1].astype(np.int64),
        x_test=_scaled(test[0], top),
        y_test=test[1].astype(np.int64),
        classes=tuple(classes),
        mean=mean,
        std=std,
    )


def check_pairs(file: str, labels: np.ndarray, images: int, classes: Sequence[str]) -> None:
    """One label for each image, each label the index of a class.

    labels (N,) integers, images: how many there are.  Raises DataError naming `file`.
    """
    if len(labels) != images:
        raise DataError(
            f"{file}: {len(labels):,} labels for {images:,} images; "
            "there must be one label for each image, so take both files from the same set"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        raise DataError(
            f"{file}: label {labels[wrong[0]]} at position {wrong[0]}; "
            f"labels go from 0 to {len(classes) - 1}, so this is another data set's file"
        )


def _scaled(images: np.ndarray, top: int) -> np.ndarray:
    return np.divide(images, top, dtype=np.float32)


def _mean_and_std(images: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """mean = Σ v·n_v / (top·n),  std = √(Σ v²·n_v / n − (Σ v·n_v / n)²) / top.

    n_v is how often the byte v occurs in the channel, so the sums are exact integers and the
    result has the same bits everywhere.  A channel that never varies gets std 1.
    """
    channels = images.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), _BATCH):
        for channel in range(channels):
            values = images[start : start + _BATCH, channel].ravel()
            counts[channel] += np.bincount(values, minlength=256)
    n = counts.sum(axis=1)
    value = np.arange(256)
    total, squares = counts @ value, counts @ value**2
    mean = total / (n * top)
    variance = squares / n - (total / n) ** 2
    std = np.where(variance > 0, np.sqrt(variance) / top, 1.0)
    column = (channels, 1, 1)
    return mean.astype(np.float32).reshape(column), std.astype(np.float32).reshape(column)
