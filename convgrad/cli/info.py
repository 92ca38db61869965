"""`convgrad info`: versions and machine, for a bug report or a benchmark's caption."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import convgrad
from convgrad.bench.machine import processor, version
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
