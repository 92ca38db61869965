"""Finding the files of a data set, and saying what is missing in words that help."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from convgrad.errors import DataError

_SHOWN = 12  # names that a listing shows before it says how many more there are


def existing_folder(name: str, where: str) -> Path:
    """The folder that a person wrote, "~" included.  Raises DataError if there is none."""
    try:
        folder = Path(where).expanduser()
    except RuntimeError as error:
        raise DataError(f"{name}: {where}: {error}; write the folder's full path") from error
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise DataError(
            f"{name}: {folder} is a file; give the folder that holds it: {name}:{folder.parent}"
        )
    parent = folder.absolute().parent
    seen = f"; {parent} holds: {listing(parent)}" if parent.is_dir() else ""
    raise DataError(f"{name}: there is no folder {folder}{seen}")


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that is a file in `folder`."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def listing(folder: Path) -> str:
    """The names in a folder, in order; folders end in a separator."""
    try:
        names = sorted(e.name + (os.sep if e.is_dir() else "") for e in os.scandir(folder))
    except OSError as error:
        return f"(it cannot be listed: {error.strerror})"
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
