"""Checkpoints and saved models: one safetensors file, written whole or not at all.

The arrays are the tensors of the file; everything else stands in its header as one JSON text,
with a SHA-256 digest of both. A new checkpoint is written beside the old one, brought to the
disk, and then takes its name in one step, so whenever the process dies, one whole checkpoint is
there. The one before it is kept as `checkpoint.previous.safetensors`, in case a disk goes bad.

Source of the format: the safetensors specification (8-byte length, JSON header, raw arrays).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convgrad.errors import TrainingError
from convgrad.extras import require

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
MODEL = "model.safetensors"
FORMAT = "convgrad 1"
_DTYPES = {
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
}


@dataclass(frozen=True)
class Saved:
    """What a file holds: named arrays, and what can be said in JSON."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays whose names start with `name/`, without that prefix."""
        prefix = name + "/"
        return {k.removeprefix(prefix): a for k, a in self.arrays.items() if k.startswith(prefix)}


def write(path: Path, saved: Saved, previous: Path | None = None) -> None:
    """Write the file whole or not at all; the file it replaces is kept as `previous`.

    Raises TrainingError if the disk is full or the folder cannot be written; `path` is then
    what it was before.
    """
    content = _pack(saved)
    half_done = path.with_name(path.name + ".part")
    try:
        _write_to_disk(half_done, content)
        if previous is not None:
            _keep_as(path, previous)
        half_done.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        half_done.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot write {path} ({len(content):,} bytes): {error.strerror or error}; "
            "what was there before is untouched. Make room or make the folder writable, then resume"
        ) from error


def read(path: Path) -> Saved:
    """Read a file that `write` made; TrainingError says what is wrong with any other."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror or error}") from error
    return _unpack(content, path)


def read_latest(folder: Path) -> tuple[Saved, str]:
    """The run's checkpoint, and a warning if only the one before it could be read ("" if not)."""
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder of a run; pass what `convgrad train` made")
    latest, previous = folder / CHECKPOINT, folder / PREVIOUS
    if not latest.exists() and not previous.exists():
        raise TrainingError(
            f"{folder} holds no {CHECKPOINT}; pass the folder of a run that `convgrad train` made"
        )
    try:
        return read(latest), ""
    except TrainingError as error:
        if not previous.exists():
            raise
        warning = f"{error}; going on from the checkpoint before it, {PREVIOUS}"
        return read(previous), warning


def read_model(run: Path) -> tuple[Saved, str]:
    """The trained model of a run folder or of one file, and where it was found.

    A folder's finished model comes first; an unfinished run has only its checkpoint.
    """
    if run.is_file():
        return read(run), str(run)
    if (run / MODEL).exists():
        return read(run / MODEL), str(run / MODEL)
    saved, warning = read_latest(run)
    return saved, warning or f"{run / CHECKPOINT}, of a run that has not ended"


def _pack(saved: Saved) -> bytes:
    require("safetensors", extra="app", purpose="writing a checkpoint")
    from safetensors.numpy import save

    arrays = {name: np.array(array, order="C") for name, array in saved.arrays.items()}
    facts = json.dumps(saved.facts, sort_keys=True)
    metadata = {"format": FORMAT, "facts": facts, "sha256": _digest(arrays, facts)}
    return save(arrays, metadata=metadata)


def _unpack(content: bytes, path: Path) -> Saved:
    require("safetensors", extra="app", purpose="reading a checkpoint")
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(content)
    except SafetensorError as error:
        raise TrainingError(
            f"{path} is not a whole safetensors file ({error}); it was cut short or changed. "
            "Use another copy, or train anew"
        ) from error
    metadata = _metadata(content)
    if metadata.get("format") != FORMAT:
        raise TrainingError(
            f"{path} is a safetensors file, but was not written by this version of convgrad "
            f"(format {metadata.get('format')!r}, needed {FORMAT!r}); pass a file of a convgrad run"
        )
    arrays = {name: _array(tensor, path) for name, tensor in tensors}
    facts = metadata.get("facts", "")
    if _digest(arrays, facts) != metadata.get("sha256"):
        raise TrainingError(
            f"{path} was changed after it was written (its SHA-256 digest does not match); "
            "use another copy, or train anew"
        )
    return Saved(arrays, json.loads(facts))


def _metadata(content: bytes) -> dict[str, str]:
    """The `__metadata__` of a safetensors header: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__", {})


def _array(tensor: Mapping[str, Any], path: Path) -> np.ndarray:
    name = _DTYPES.get(tensor["dtype"])
    if name is None:
        raise TrainingError(f"{path} holds a {tensor['dtype']} array; convgrad writes none")
    return np.frombuffer(bytearray(tensor["data"]), name).reshape(tensor["shape"])


def _digest(arrays: Mapping[str, np.ndarray], facts: str) -> str:
    sha = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\0{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _write_to_disk(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _keep_as(path: Path, previous: Path) -> None:
    """Give `path` a second name; `path` itself is there all the while.

    Where the file system has no hard links (FAT), the one before is not kept.
    """
    second = previous.with_name(previous.name + ".part")
    second.unlink(missing_ok=True)
    try:
        second.hardlink_to(path)
    except OSError:
        return
    second.replace(previous)
    second.unlink(missing_ok=True)  # still there if both were names of one file


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
