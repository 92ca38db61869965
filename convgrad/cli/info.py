"""`convgrad info`: versions and machine, for a bug report or a benchmark's caption."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from pathlib import Path

import convgrad
from convgrad.cli import console
from convgrad.cpu.jit import cache, compiler
from convgrad.nn.training.machine import blas, instruction_sets, threads, usable_cores

CORE = ("numpy", "ml_dtypes", "llvmlite")
OPTIONAL = ("typer", "rich", "matplotlib", "safetensors", "pillow", "scipy", "torch", "jax")


def info() -> None:
    """Show versions, processor, cores, and the packages that are installed."""
    rows = [
        ("convgrad", f"{convgrad.__version__}, {Path(convgrad.__file__).parent}"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", platform.platform()),
        ("processor", processor()),
        ("usable cores", str(usable_cores())),
        ("instruction sets", " ".join(instruction_sets()) or "the baseline of NumPy's build"),
        ("numpy's BLAS", blas()),
        ("BLAS threads", threads()),
        ("threads", str(convgrad.get_num_threads())),
        ("generated kernels", generated()),
        ("console", f"{sys.stdout.encoding}, {shutil.get_terminal_size().columns} columns"),
        *((name, version(name)) for name in CORE + OPTIONAL),
    ]
    console.say(console.columns_of(rows))


def generated() -> str:
    """The instruction set of the kernels and where they are kept, or why there are none."""
    missing = compiler.unavailable()
    if missing is not None:
        return f"none: {missing}"
    count, size = cache.usage()
    where = compiler.target()
    return f"{where.level} ({where.cpu}); {count} kept in {cache.folder()}, {size:,} bytes"


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
