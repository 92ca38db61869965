"""`convgrad info`: versions and machine, for a bug report or a benchmark's caption."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import convgrad
from convgrad.bench import limits
from convgrad.bench.machine import instruction_set, processor, version
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
        *generated(),
        ("console", f"{sys.stdout.encoding}, {shutil.get_terminal_size().columns} columns"),
        *((name, version(name)) for name in CORE + OPTIONAL),
    ]
    console.say(console.columns_of(rows))


def generated() -> list[tuple[str, str]]:
    """What kernels are generated for, what the machine can do, and the cache; or why none are."""
    missing = compiler.unavailable()
    if missing is not None:
        return [("generated kernels", f"none: {missing}")]
    number = convgrad.get_num_threads()
    able = limits.measured(number)
    assert able is not None
    count, size = cache.usage()
    rows = [("generated kernels", f"for {instruction_set()}")]
    for dtype, peak in able.peak.items():
        one = f"{able.peak_of_one[dtype] / 1e9:.0f} on one thread"
        rows.append((f"peak {dtype}", f"{peak / 1e9:.0f} GFLOP/s on {number} threads, {one}"))
    rates = ", ".join(
        f"{rate / 1e9:.0f} GB/s for {_binary(size)}" for size, rate in able.bandwidth.items()
    )
    return [
        *rows,
        ("copy bandwidth", f"{rates} read and written"),
        ("kernel cache", f"{cache.folder()}: {count} kernels, {size:,} bytes"),
    ]


def _binary(size: int) -> str:
    """A power of two of bytes: 64 KiB, 1 MiB."""
    return f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"
