"""The digits that ship with convgrad: 1,797 handwritten 8×8 images of 13 people.

UCI "Optical Recognition of Handwritten Digits" (its test file), E. Alpaydin & C. Kaynak, 1998,
https://doi.org/10.24432/C50P49, CC BY 4.0 (DIGITS_LICENSE.md beside the files).  Each pixel
counts the ink in a 4×4 block of a 32×32 bitmap: 0..16.  tools/make_digits.py made the files.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from convgrad.nn.data.dataset import Dataset, from_bytes
from convgrad.nn.data.idx import parse_idx

CLASSES = tuple("0123456789")
_TEST_PER_CLASS = 36
_TOP = 16


def load_digits() -> Dataset:
    """1,437 training and 360 test images, 36 of each digit, spread over the whole file.

    A digit with n images, in file order, gives its images ⌊i·n/36⌋, i = 0..35, to the test set.
    The 13 writers are on both sides: this is the easier figure.
    """
    images, labels = read_digits()
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[held_out_positions(labels)] = True
    return _split("digits", images, labels, is_test)


def load_digits_by_writer() -> Dataset:
    """1,348 training images and the last quarter in file order, 449 images, as the test set.

    The file goes from writer to writer, so these hands are mostly ones the training never saw:
    this is the harder figure, and the one that says what a stranger's digit would meet.
    """
    images, labels = read_digits()
    is_test = np.arange(len(labels)) >= len(labels) - len(labels) // 4
    return _split("digits:by-writer", images, labels, is_test)


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """All images (1797, 8, 8) uint8 in 0..16 and labels (1797,) uint8, in file order."""
    folder = files("convgrad.nn.data")
    with (folder / "digits-images.idx3-ubyte").open("rb") as stream:
        images = parse_idx(stream, "digits-images.idx3-ubyte", 3)
    with (folder / "digits-labels.idx1-ubyte").open("rb") as stream:
        labels = parse_idx(stream, "digits-labels.idx1-ubyte", 1)
    return images, labels


def held_out_positions(labels: np.ndarray) -> np.ndarray:
    """Where in the file the 360 test images of `load_digits` are, in increasing order."""
    chosen = []
    for digit in range(len(CLASSES)):
        places = np.flatnonzero(labels == digit)
        chosen.append(places[np.arange(_TEST_PER_CLASS) * len(places) // _TEST_PER_CLASS])
    return np.sort(np.concatenate(chosen))


def _split(name: str, images: np.ndarray, labels: np.ndarray, is_test: np.ndarray) -> Dataset:
    images = images[:, None]  # (N, 1, 8, 8)
    train, test = (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
    return from_bytes(name, train, test, CLASSES, _TOP)
