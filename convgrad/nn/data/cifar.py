"""CIFAR-10, the binary version and the pickled one.

Binary: records of 1 label byte and 3·32·32 bytes (red, green, blue planes, row by row).
Pickled: a dict with b"data" (N, 3072) uint8 in the same order and b"labels", N integers.
Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from convgrad.errors import DataError
from convgrad.nn.data.dataset import Dataset, check_pairs, from_bytes
from convgrad.nn.data.files import existing_folder, listing
from convgrad.nn.data.plain_pickle import PlainArray, read_plain_pickle

_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6)) + ("test_batch",)
_SUBFOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")

Batch = tuple[np.ndarray, np.ndarray]  # images (N, 3072) uint8, labels (N,)


def load_cifar10(where: str) -> Dataset:
    """CIFAR-10 from the folder of its six batches, or the folder above; binary goes first.

    The pickled batches are read without running anything that they name.
    Raises DataError naming the file that is missing, cut short or of the wrong kind.
    """
    paths, read = _find(existing_folder("cifar10", where))
    batches = [read(path) for path in paths]
    _check_equal_lengths(paths, batches)
    for path, (images, labels) in zip(paths, batches, strict=True):
        check_pairs(str(path), labels, len(images), _CLASSES)
    train = tuple(np.concatenate(parts) for parts in zip(*batches[:-1], strict=True))
    images, labels = batches[-1]
    return from_bytes(
        "cifar10",
        (train[0].reshape(-1, *_SHAPE), train[1]),
        (images.reshape(-1, *_SHAPE), labels),
        _CLASSES,
        top=255,
    )


def read_binary_batch(path: Path) -> Batch:
    """The records of a .bin file.  Raises DataError if its length is not a number of records."""
    data = np.fromfile(path, dtype=np.uint8)
    record = 1 + _PIXELS
    if len(data) == 0:
        raise DataError(f"{path}: the file is empty; fetch it again")
    if len(data) % record:
        raise DataError(
            f"{path}: {len(data):,} bytes are not a whole number of records of {record:,} bytes "
            f"(the original has {10_000 * record:,}); it was cut short or is another file"
        )
    records = data.reshape(-1, record)
    return records[:, 1:], records[:, 0]


def read_pickled_batch(path: Path) -> Batch:
    """The dict of a pickled batch.  Raises DataError if it is no such dict."""
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise _not_a_batch(path, f"it holds a {type(content).__name__}")
    fields = {k.decode("latin-1") if isinstance(k, bytes) else k: v for k, v in content.items()}
    if "data" not in fields or "labels" not in fields:
        named = ", ".join(key for key in fields if isinstance(key, str))
        raise _not_a_batch(path, f"its entries are {named or 'none'}")
    images = _array(path, "data", fields["data"])
    labels = _array(path, "labels", fields["labels"])
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != _PIXELS:
        raise _not_a_batch(path, f"its 'data' is {images.dtype} of shape {images.shape}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise _not_a_batch(path, f"its 'labels' are {labels.dtype} of shape {labels.shape}")
    return images, labels


def _array(path: Path, key: str, value: object) -> np.ndarray:
    if isinstance(value, PlainArray):
        return value.to_numpy(f"{path}: {key!r}")
    if isinstance(value, list) and all(type(item) is int for item in value):
        try:
            return np.array(value, dtype=np.int64)
        except OverflowError as error:
            raise _not_a_batch(path, f"a number in its {key!r} is far too large") from error
    raise _not_a_batch(path, f"its {key!r} is a {type(value).__name__} with other things in it")


def _not_a_batch(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: not a batch of CIFAR-10: {found}; needed is a dict with 'data' "
        f"(N, {_PIXELS}) uint8 and 'labels' (N integers)"
    )


def _check_equal_lengths(paths: list[Path], batches: list[Batch]) -> None:
    """A file cut at the end of a record is only seen beside the others."""
    counts = [len(images) for images, _ in batches]
    for path, count in zip(paths, counts, strict=True):
        if count < max(counts):
            raise DataError(
                f"{path}: cut short: {count:,} images, where the fullest batch has "
                f"{max(counts):,} (all six are of one length); fetch it again"
            )


def _find(folder: Path) -> tuple[list[Path], Callable[[Path], Batch]]:
    """The six batches and the function that reads one."""
    places = (folder, *(folder / sub for sub in _SUBFOLDERS))
    best: tuple[Path, list[str]] = folder, []
    for place in places:
        for suffix, read in ((".bin", read_binary_batch), ("", read_pickled_batch)):
            names = [name + suffix for name in _BATCHES]
            found = [name for name in names if (place / name).is_file()]
            if len(found) == len(names):
                return [place / name for name in names], read
            if len(found) > len(best[1]):
                best = place, found
    raise _missing(*best)


def _missing(folder: Path, found: list[str]) -> DataError:
    suffix = ".bin" if found and found[0].endswith(".bin") else ""
    missing = [name + suffix for name in _BATCHES if name + suffix not in found]
    archive = next(folder.glob("cifar-10-*.tar.gz"), None)
    unpack = f' First unpack the archive: tar -xf "{archive}" -C "{folder}"' if archive else ""
    return DataError(
        f"cifar10: missing in {folder}: {', '.join(missing)}. Needed are data_batch_1 to "
        f"data_batch_5 and test_batch, all with .bin (the binary version) or all without "
        f"(the Python version). The folder holds: {listing(folder)}.{unpack}"
    )
