"""What a run was measured on: processor, instruction set, threads, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import convgrad
from convgrad.cpu.jit import compiler
from convgrad.nn.training.machine import blas, usable_cores

MEASURED = ("numpy", "llvmlite", "torch", "jax", "jaxlib", "scipy")


def machine() -> dict[str, Any]:
    """The machine, as a record keeps it."""
    return {
        "processor": processor(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "instruction_set": instruction_set(),
        "blas": blas(),
    }


def versions() -> dict[str, str]:
    """convgrad, Python, and the packages that take part."""
    own = {"convgrad": convgrad.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in MEASURED}


def instruction_set() -> str:
    """What kernels are generated for, or that none are."""
    if compiler.unavailable() is not None:
        return "none"
    where = compiler.target()
    return f"{where.level} ({where.cpu})"


def version(package: str) -> str:
    """The installed version, read without importing the package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
