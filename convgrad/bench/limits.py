"""What this machine can do at best: multiply-adds in a second, and bytes copied in a second.

    seconds ≥ max(flops / peak, bytes / bandwidth)

holds for the plain sums of a map: the peak is that of a generated loop of independent
multiply-adds in registers, the bandwidth that of a copy with as many bytes read and written as the
map has in operands and result; small operands live in a cache, so it depends on the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from convgrad.bench.case import Case
from convgrad.cpu.jit import compiler
from convgrad.cpu.jit.language import BYTES, Kernel, Lanes
from convgrad.cpu.job import Generator, Job

ELEMENTS = {"float32": "float", "float64": "double"}
SECONDS = 0.02  # of a measurement; the best of RUNS counts
RUNS = 5
SIZES = tuple(1 << exponent for exponent in range(16, 29, 2))  # bytes read and written by a copy
PARTS = 4  # for each thread, so that one that is interrupted doesn't keep the others waiting


@dataclass(frozen=True)
class Limits:
    """Peaks in flops per second by dtype and threads, bandwidth in bytes per second by bytes."""

    threads: int
    peak_of_one: dict[str, float]
    peak: dict[str, float]
    bandwidth: dict[int, float]

    def seconds(self, case: Case) -> tuple[float, str]:
        """The least seconds that plain sums take, and what they wait for: flops or bytes."""
        return self.least(case.flops, case.bytes, case.dtype)

    def least(self, flops: float, bytes_moved: float, dtype: str) -> tuple[float, str]:
        wide = "float64" if dtype == "float64" else "float32"
        computing, moving = flops / self.peak[wide], bytes_moved / self.copy_rate(bytes_moved)
        return (computing, "flops") if computing >= moving else (moving, "bytes")

    def copy_rate(self, bytes_moved: float) -> float:
        """The bandwidth of the largest copy measured that is no larger than this one."""
        return self.bandwidth[
            max((n for n in self.bandwidth if n <= bytes_moved), default=SIZES[0])
        ]


def measured(number: int) -> Limits | None:
    """The limits for so many threads, or None where no kernels can be generated."""
    if compiler.unavailable() is not None:
        return None
    one = {dtype: peak(element, 1) for dtype, element in ELEMENTS.items()}
    every = {dtype: peak(element, number) for dtype, element in ELEMENTS.items()}
    return Limits(number, one, every, {size: copy_bandwidth(size, number) for size in SIZES})


def peak(element: str, number: int) -> float:
    """Flops per second of multiply-adds in registers, on so many of the pool's threads."""
    lanes = compiler.target().lanes(element)
    factors = np.array([0.5, 1.0], {"float": np.float32, "double": np.float64}[element])
    parts = 1 if number == 1 else number * PARTS
    flops = 2 * chains() * lanes.count * parts  # of one turn

    def run(turns: int) -> None:
        job = Job(MULTIPLY_ADDS, element, None, {"turns": turns}, parts, number > 1)
        job.run(x=factors)

    return flops * _turns_per_second(run)


def copy_bandwidth(size: int, number: int) -> float:
    """Bytes read and written in a second by copies of size / 2 bytes, shared among the threads.

    The better of a generated loop of loads and stores, and of the C library's memcpy, which writes
    past the caches what is too large for them.
    """
    element = compiler.target().lanes("float")
    width = element.count * BYTES["float"] * COPIES
    each = max(width, size // 2 // number // width * width)  # bytes of a thread's share
    source, target = (np.ones(number * each, np.uint8) for _ in range(2))

    def run(turns: int) -> None:
        values = {"turns": turns, "count": each // BYTES["float"]}
        Job(COPY, "float", None, values, number, number > 1).run(x=source, y=target)

    generated = _turns_per_second(run)
    with ThreadPoolExecutor(number) as pool:
        shares = [slice(i * each, (i + 1) * each) for i in range(number)]

        def copy_share(share: slice, turns: int) -> None:
            for _ in range(turns):
                np.copyto(target[share], source[share])

        def run_library(turns: int) -> None:
            list(pool.map(copy_share, shares, [turns] * number))

        library = _turns_per_second(run_library)
    return 2 * number * each * max(generated, library)


def _turns_per_second(run: Callable[[int], None]) -> float:
    """The best rate of a few runs, each of enough turns to be measured."""
    run(1)  # compiles the kernel, starts the threads, takes the memory
    turns = 1
    while (took := _seconds(run, turns)) < SECONDS / 4:
        turns *= 4
    turns = max(1, round(turns * SECONDS / took))
    return max(turns / _seconds(run, turns) for _ in range(RUNS))


def _seconds(run: Callable[[int], None], turns: int) -> float:
    began = time.perf_counter()
    run(turns)
    return time.perf_counter() - began


def chains() -> int:
    """Sums that don't wait for each other: as many as registers hold beside the two factors."""
    return compiler.target().registers - 4


COPIES = 4  # registers in a turn of the copy


def write_multiply_adds(lanes: Lanes, shape: Hashable) -> str:
    """sums = sums · ½ + 1, `turns` times: the processor's units for multiply-adds all the time.

    Each sum is a factor of its next multiplication, so that nothing can be taken out of the loop.
    """
    k = Kernel("multiply_adds", ["args: ptr", "part: i64", "scratch: ptr"], lanes)
    args, _, scratch = k.parameters
    turns, x = args.load(0, "i64"), args.load(1, "ptr")
    half, one = k.splat(x.load(0)), k.splat(x.load(1))
    count = chains()
    with k.loop(turns, carry=[one] * count) as (_, sums):
        sums.values = [k.fma(value, half, one) for value in sums.values]
    for i, value in enumerate(sums.values):
        scratch.store(value, i * lanes.count)
    return k.text()


def write_copy(lanes: Lanes, shape: Hashable) -> str:
    """y = x for the part's share of `count` elements, `turns` times."""
    k = Kernel("copy", ["args: ptr", "part: i64", "scratch: ptr"], lanes)
    args, part, _ = k.parameters
    turns, count = args.load(0, "i64"), args.load(1, "i64")
    x, y = (args.load(i, "ptr").at(part * count) for i in (2, 3))
    with k.loop(turns), k.loop(count, step=COPIES * lanes.count) as (i, _):
        values = [x.vector(i + j * lanes.count) for j in range(COPIES)]
        for j, value in enumerate(values):
            y.store(value, i + j * lanes.count)
    return k.text()


MULTIPLY_ADDS = Generator("multiply_adds", write_multiply_adds, ("turns", "x"), lambda level: ())
COPY = Generator("copy", write_copy, ("turns", "count", "x", "y"), lambda level: ())
