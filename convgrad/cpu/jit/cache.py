"""Compiled kernels on disk, so that a process need not compile what another one did.

A file holds a digest and the object code it is the digest of. Its name is a digest of the kernel's
text (or of what that follows from), the target and the versions of LLVM, so that nothing is ever
overwritten with something else.
What is in the folder is run: it is used only if this user owns it and no one else can write there.
A cache that cannot be used costs time and a warning, never a result.
"""

import os
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

MOST_BYTES = 64 << 20  # a kernel takes some ten kilobytes
SUFFIX = ".kernel"
PART = SUFFIX + ".part"  # of a file that is being written


def folder() -> Path:
    """CONVGRAD_CACHE_DIR, or the platform's folder for caches."""
    asked = os.environ.get("CONVGRAD_CACHE_DIR")
    if asked:
        return Path(asked)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "convgrad"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "convgrad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convgrad"


def key(*parts: str) -> str:
    """The name under which something made from these texts is kept."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    return digest.hexdigest()[:40]


def read(name: str) -> bytes | None:
    """The code kept under this name, or None if there is none that can be trusted."""
    try:
        path = folder() / (name + SUFFIX)
        with path.open("rb") as file:
            own = _mine(path.parent, path.parent.stat()) and _mine(path, os.fstat(file.fileno()))
            if not own:
                return None
            content = file.read()
    except (OSError, RuntimeError):  # Path.home() raises RuntimeError where there is none
        return None
    digest, code = content[:32], content[32:]
    return code if sha256(code).digest() == digest else None


def write(name: str, code: bytes) -> None:
    """Keep the code under this name: whole or not at all, whoever else writes at the same time."""
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _mine(place, place.stat()):
            return
        _make_room(place, len(code) + 32)
        handle, temporary = tempfile.mkstemp(dir=place, suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(sha256(code).digest() + code)
            Path(temporary).replace(place / (name + SUFFIX))
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError) as error:  # the names of files differ from kernel to kernel
        why = getattr(error, "strerror", None) or error
        _warn(
            f"kernels cannot be kept in the cache folder ({why}); CONVGRAD_CACHE_DIR names another"
        )


def clear() -> tuple[int, int]:
    """Delete every kernel; how many there were, and their bytes."""
    files = _kept(folder())
    for _, _, path in files:
        path.unlink(missing_ok=True)
    return len(files), sum(size for _, size, _ in files)


def usage() -> tuple[int, int]:
    """How many kernels are kept, and their bytes."""
    files = _kept(folder())
    return len(files), sum(size for _, size, _ in files)


def _kept(place: Path) -> list[tuple[float, int, Path]]:
    """Time, bytes and path of each file, the oldest first."""
    files = []
    with suppress(OSError):
        for path in place.iterdir():
            if path.name.endswith((SUFFIX, PART)):
                with suppress(FileNotFoundError):  # another process deletes, too
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
    return sorted(files)


def _make_room(place: Path, needed: int) -> None:
    """Delete the kernels that were made first, until there is room under the cap."""
    files = _kept(place)
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total + needed <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size


def _mine(path: Path, status: os.stat_result) -> bool:
    """Whether this user owns it and no one else may write; true where users are no numbers."""
    if not hasattr(os, "getuid"):
        return True
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    own = status.st_uid == os.getuid() and not others
    if not own:
        _warn(
            f"{path} is another user's or can be written by others, so it is not used for kernels"
        )
    return own


@cache
def _warn(message: str) -> None:
    warnings.warn(f"convgrad: {message}", RuntimeWarning, stacklevel=2)
