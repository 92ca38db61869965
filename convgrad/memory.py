"""Room for large results: memory of one that is gone is used again.

A system gives a large array fresh pages, and clears them when they are first written, which can
take as long as the convolution itself. What results of 8 MiB and more leave is therefore kept for
the next ones, up to `kept_at_most()` bytes.
"""

import mmap
import os
import weakref
from collections import deque
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from convgrad.errors import SettingError

LARGE = 8 << 20  # bytes: fresh pages of smaller ones cost little, or allocators keep them
WASTE = 1.25  # a block may be larger than what is asked for by this factor
PAGE = 2 << 20  # blocks are whole numbers of the largest pages

# the oldest first; no lock: a result may vanish in any thread, at any moment, and beside a fork
_kept: deque[mmap.mmap] = deque()


def kept_at_most() -> int:
    """CONVGRAD_KEEP_MB in bytes; 1 GiB, if that is not set.

    Raises SettingError where it is no whole number from 0 on.
    """
    text = os.environ.get("CONVGRAD_KEEP_MB", "").strip() or "1024"
    if not text.isdecimal():
        raise SettingError(f"CONVGRAD_KEEP_MB is {text!r}; it must be a whole number of megabytes")
    return int(text) << 20


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array of numbers that are not set, as np.empty gives it; see `kept_at_most` for errors."""
    size = prod(shape) * dtype.itemsize
    if size < LARGE or not kept_at_most():
        return np.empty(shape, dtype)
    block = _take(size)
    owner = np.frombuffer(block, np.uint8)
    weakref.finalize(owner, _give_back, block).atexit = False
    return owner[:size].view(dtype).reshape(shape)


def _take(size: int) -> mmap.mmap:
    """The smallest block that is kept and large enough, or a new one."""
    fits = [block for block in list(_kept) if size <= len(block) <= WASTE * size + PAGE]
    for block in sorted(fits, key=len):
        with suppress(ValueError):  # another thread was faster
            _kept.remove(block)
            return block
    return _new(-(-size // PAGE) * PAGE)


def _new(size: int) -> mmap.mmap:
    """A block that a fork copies, as it does all other memory: mmap's own default shares it."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    """Keep a block, and let the oldest go where that is too much."""
    _kept.append(block)
    with suppress(IndexError):
        while sum(map(len, list(_kept))) > kept_at_most():
            _kept.popleft()
