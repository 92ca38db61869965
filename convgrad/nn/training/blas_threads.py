"""How many threads NumPy's matrix products use.

It matters twice: the products of small networks are too short to share, so that on a busy machine
threads that wait for each other make training many times slower; and the last bits of a float32
product depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from convgrad.extras import require


def blas_threads() -> int | None:
    """The number of threads, or None where NumPy's BLAS is none that can be asked."""
    pools = [p for p in _threadpoolctl().threadpool_info() if p["user_api"] == "blas"]
    own = [p for p in pools if "numpy" in p["filepath"]] or pools
    return max((p["num_threads"] for p in own), default=None)


@contextmanager
def using_blas_threads(count: int) -> Iterator[None]:
    """Within this, matrix products use `count` threads, where the BLAS can be told."""
    with _threadpoolctl().threadpool_limits(count, user_api="blas"):
        yield


def _threadpoolctl() -> ModuleType:
    require("threadpoolctl", extra="app", purpose="setting the threads of matrix products")
    import threadpoolctl

    return threadpoolctl
