"""The folder of a run: made new, never overwritten, and held by one process at a time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from convgrad.errors import TrainingError

LOCK = "run.lock"


def new_folder(out: Path | None, runs: Path = Path("runs")) -> Path:
    """Make the folder of a new run: `out`, or runs/<date-time>, with -2, -3 … if that is taken."""
    if out is not None:
        return _chosen_folder(out)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        folder = runs / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_write(folder, error) from error
    raise TrainingError(f"{runs / stamp} and 999 folders after it exist; choose --out")


def _chosen_folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = any(entry.name != LOCK for entry in out.iterdir())
    except OSError as error:
        raise _cannot_write(out, error) from error
    if taken:
        raise TrainingError(
            f"{out} is not empty, and a run is never overwritten; choose another --out, "
            f"or continue the run in it with --resume"
        )
    return out


def _cannot_write(path: Path, error: OSError) -> TrainingError:
    reason = error.strerror or str(error)
    return TrainingError(f"cannot make the folder {path}: {reason}; choose another --out")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the system lets go when the process ends, however it ends.

    Raises TrainingError if another process holds it.
    """
    try:
        handle = (folder / LOCK).open("a+", encoding="ascii")
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(f"cannot write in {folder}: {reason}") from error
    with handle:
        if not _hold(handle, folder):
            raise TrainingError(
                f"{folder} is in use by another process{_holder(handle)}; wait until it ends, "
                "or stop it, and try again"
            )
        _write_holder(handle)
        yield


def _hold(handle: IO[str], folder: Path) -> bool:
    try:
        return _try_lock(handle)
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be locked: {error.strerror or error}; use a folder on a local disk"
        ) from error


def _write_holder(handle: IO[str]) -> None:
    handle.seek(0)
    handle.truncate()
    handle.write(f" {os.getpid()} {time.time():.0f}\n")
    handle.flush()


def _holder(handle: IO[str]) -> str:
    try:
        handle.seek(1)  # the first byte is what Windows locks
        words = handle.read().split()
    except OSError:
        return ""
    return f" (number {words[0]})" if words else ""


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: IO[str]) -> bool:
        handle.seek(0)
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: IO[str]) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
