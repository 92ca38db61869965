"""IDX files, the format of MNIST and Fashion-MNIST.

    00 00 type rank | rank sizes, 4 bytes each, high byte first | the numbers, last index fastest

type 08 is the unsigned byte.  Images have rank 3 (N, H, W), labels rank 1 (N,).
Source: LeCun, Cortes & Burges, the MNIST database (the format's description there).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from convgrad.errors import DataError
from convgrad.nn.data.dataset import Dataset, check_pairs, from_bytes
from convgrad.nn.data.files import existing_folder, first_file, listing

_TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
_KINDS = {1: "labels", 3: "images"}
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20

_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_SUBFOLDERS = {"mnist": ("raw", "MNIST/raw"), "fashion-mnist": ("raw", "FashionMNIST/raw")}
_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}


class Readable(Protocol):
    """An open binary file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes: ...


def load_idx_folder(name: str, where: str) -> Dataset:
    """The data set "mnist" or "fashion-mnist" from the four original files in a folder.

    Each file with or without .gz, named train-images-idx3-ubyte or train-images.idx3-ubyte,
    in the folder itself, in raw/, or in MNIST/raw or FashionMNIST/raw as torchvision keeps them.
    Raises DataError naming the file that is missing, cut short or of the wrong kind.
    """
    paths = _find(name, existing_folder(name, where))
    arrays = [read_idx(path, rank) for path, rank in zip(paths, (3, 1, 3, 1), strict=True)]
    for images, labels, path in zip(arrays[::2], arrays[1::2], paths[1::2], strict=True):
        check_pairs(str(path), labels, len(images), _CLASSES[name])
    train = arrays[0][:, None], arrays[1]  # (N, 1, H, W), (N,)
    test = arrays[2][:, None], arrays[3]
    return from_bytes(name, train, test, _CLASSES[name], top=255)


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The unsigned bytes of one IDX file, gzip or plain whatever its name says.

    Raises DataError if the file is not IDX, has another rank or type, or another length.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP
            raw.seek(0)
            if not zipped:
                return parse_idx(raw, str(path), rank)
            with gzip.open(raw, "rb") as unzipped:
                return parse_idx(unzipped, str(path), rank)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: broken gzip file ({error}); it was cut short or damaged on its way, "
            "so fetch it again"
        ) from error


def parse_idx(stream: Readable, file: str, rank: int) -> np.ndarray:
    """The array (uint8, `rank` axes) of an open IDX file; `file` names it in errors."""
    magic = stream.read(4)
    if not magic:
        raise DataError(f"{file}: the file is empty; fetch it again")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise DataError(
            f"{file}: not an IDX file: it starts with {magic.hex(' ')}, where "
            f"00 00 08 {rank:02x} is needed for {_KINDS[rank]}"
        )
    if magic[2] != 0x08:
        raise DataError(
            f"{file}: holds {_TYPES[magic[2]]} (type {magic[2]:02x}); "
            "the originals hold unsigned bytes (type 08)"
        )
    if magic[3] != rank:
        found = _KINDS.get(magic[3], "something else")
        raise DataError(
            f"{file}: holds {found} (rank {magic[3]}), where {_KINDS[rank]} (rank {rank}) are "
            "needed; perhaps two files have each other's names"
        )
    return _body(stream, file, rank)


def _body(stream: Readable, file: str, rank: int) -> np.ndarray:
    header = stream.read(4 * rank)
    if len(header) < 4 * rank:
        raise DataError(
            f"{file}: cut short in its header: {4 + len(header)} bytes, "
            f"where the header alone has {4 + 4 * rank}; fetch the file again"
        )
    sizes = struct.unpack(f">{rank}I", header)
    needed = math.prod(sizes)
    if needed == 0:
        raise DataError(f"{file}: its sizes are {sizes}, so it holds nothing; fetch it again")
    data = _read_up_to(stream, needed + 1)
    if len(data) != needed:
        state, had = ("cut short", f"{len(data):,}") if len(data) < needed else ("too long", "more")
        raise DataError(
            f"{file}: {state}: its header says {' × '.join(map(str, sizes))} = {needed:,} bytes, "
            f"and there are {had}; fetch the file again"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(sizes)


def _read_up_to(stream: Readable, limit: int) -> bytearray:
    """At most `limit` bytes, in chunks: a false header must not allocate what is not there."""
    data = bytearray()
    while len(data) < limit and (chunk := stream.read(min(_CHUNK, limit - len(data)))):
        data += chunk
    return data


def _find(name: str, folder: Path) -> list[Path]:
    """The four files, all in one place."""
    for place in (folder, *(folder / sub for sub in _SUBFOLDERS[name])):
        found = [first_file(place, _names(stem)) for stem in _FILES]
        missing = [f"{stem}-ubyte" for stem, path in zip(_FILES, found, strict=True) if not path]
        if not missing:
            return [path for path in found if path]
        if len(missing) < len(_FILES):
            raise _missing(name, place, missing)
    raise _missing(name, folder, [f"{stem}-ubyte" for stem in _FILES])


def _names(stem: str) -> tuple[str, ...]:
    dashed, dotted = f"{stem}-ubyte", f"{stem.replace('-idx', '.idx')}-ubyte"
    return dashed, f"{dashed}.gz", dotted, f"{dotted}.gz"


def _missing(name: str, folder: Path, missing: list[str]) -> DataError:
    return DataError(
        f"{name}: missing in {folder}: {', '.join(missing)}. "
        f"Needed are {', '.join(f'{stem}-ubyte' for stem in _FILES)}, each with or without .gz "
        f"(train-images.idx3-ubyte is fine too). The folder holds: {listing(folder)}"
    )
