"""How many threads NumPy's matrix products use.

NumPy has no call for this, but OpenBLAS, which its wheels carry, has. It matters twice: the
products of small networks are too short to share, so that on a busy machine threads that wait
for each other make training many times slower; and the last bits of a float32 product depend
on the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

GETTERS = (
    "scipy_openblas_get_num_threads64_",
    "scipy_openblas_get_num_threads",
    "openblas_get_num_threads64_",
    "openblas_get_num_threads",
)
SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def blas_threads() -> int | None:
    """The number of threads, or None where NumPy's BLAS is none that can be asked."""
    get = _function(GETTERS)
    return None if get is None else int(get())


@contextmanager
def using_blas_threads(count: int) -> Iterator[None]:
    """Within this, NumPy's products use `count` threads, where its BLAS can be told."""
    before, tell = blas_threads(), _function(SETTERS)
    if before is None or tell is None:
        yield
        return
    tell(count)
    try:
        yield
    finally:
        tell(before)


@cache
def _function(names: tuple[str, ...]) -> Callable[..., int] | None:
    for library in _openblas():
        for name in names:
            if hasattr(library, name):
                return getattr(library, name)
    return None


@cache
def _openblas() -> tuple[ctypes.CDLL, ...]:
    """The OpenBLAS libraries of NumPy's wheel, or those loaded into this process (Linux)."""
    package = Path(np.__file__).parent
    paths = [*package.with_name("numpy.libs").glob("*openblas*")]
    paths += package.joinpath(".dylibs").glob("*openblas*")
    return tuple(ctypes.CDLL(str(path)) for path in paths or _loaded_openblas())


def _loaded_openblas() -> list[Path]:
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return sorted({Path(line.split()[-1]) for line in maps.splitlines() if "openblas" in line})
