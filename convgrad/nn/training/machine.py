"""What of this machine and its libraries can change the bits of a training run."""

from __future__ import annotations

import importlib.metadata
import os

import numpy as np

import convgrad
from convgrad.nn.training.blas_threads import blas_threads

THREAD_SETTINGS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)


def usable_cores() -> int:
    """The processor cores this process may use: its affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def numerics() -> dict[str, str]:
    """Versions, BLAS, its threads, and the instruction sets, as a checkpoint records them.

    Where the BLAS cannot be asked for its threads, what decides their number is recorded
    instead: the usable cores and the *_NUM_THREADS environment variables that are set.
    """
    return {
        "convgrad": convgrad.__version__,
        "numpy": np.__version__,
        "the BLAS of numpy": blas(),
        "the number of BLAS threads": threads(),
        "the instruction sets": " ".join(instruction_sets()),
        "the generated kernels": kernels(),
    }


def threads() -> str:
    """The number of BLAS threads, or what decides it."""
    count = blas_threads()
    if count is not None:
        return str(count)
    asked = [f"{name}={os.environ[name]}" for name in THREAD_SETTINGS if name in os.environ]
    return ", ".join([f"{usable_cores()} cores", *asked])


def kernels() -> str:
    """What convgrad's kernels are generated with."""
    try:
        llvm = f"llvmlite {importlib.metadata.version('llvmlite')}"
    except importlib.metadata.PackageNotFoundError:
        return "none: llvmlite is not installed"
    cap = os.environ.get("CONVGRAD_ISA")
    return f"{llvm}, at most {cap}" if cap else llvm


def blas() -> str:
    """NumPy's BLAS by name and version, as NumPy's build record has it."""
    record = np.show_config(mode="dicts")
    assert record is not None
    entry = record.get("Build Dependencies", {}).get("blas", {})
    return f"{entry.get('name', 'unknown')} {entry.get('version', '')}".strip()


def instruction_sets() -> list[str]:
    """The instruction sets beyond the baseline that NumPy found on this processor."""
    record = np.show_config(mode="dicts")
    assert record is not None
    return list(record.get("SIMD Extensions", {}).get("found", []))
