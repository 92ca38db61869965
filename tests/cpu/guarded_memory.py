"""Arrays flush against pages that nobody may touch; run as a script, the engine on such arrays.

    guarded_memory.py touch START|END     read one element too far, and die
    guarded_memory.py ENGINE LOG COUNT    COUNT drawn geometries; LOG holds the one that is run

ENGINE is a key of ENGINES.

The bytes between an array's elements, and from it to the other guard, keep a pattern.
"""

import ctypes
import mmap
import os
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from core.cases import cases
from engine_cases import (
    FEW_CASES,
    KERNEL_CASES,
    WINOGRAD_CASES,
    expected,
    noting,
    operands,
    problem_of,
    run,
    shape_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import just, one_of

import convgrad as cg
from convgrad.algorithm import DIRECTIONS, Epilogue
from convgrad.cpu import trial
from convgrad.cpu.implicit_gemm import algorithm as implicit_gemm
from convgrad.cpu.jit import threads
from convgrad.cpu.overlap_save import algorithm as overlap_save
from convgrad.cpu.stencil import algorithm as stencil
from convgrad.cpu.winograd import algorithm as winograd

PATTERN = 0xFF  # NaN in every float dtype
PAGE = mmap.PAGESIZE
ENGINES = {
    "implicit_gemm": implicit_gemm, "stencil": stencil, "winograd": winograd,
    "overlap_save": overlap_save,
}  # fmt: skip
ROUNDED = (winograd, overlap_save)
TURNS = 3  # of a case that was not drawn; in the last all arrays are plain
STYLES = ("plain", "last", "reversed", "every second", "broadcast")


class Region:
    """`size` bytes, the last (or the first) of them beside a page without access."""

    def __init__(self, size: int, at_end: bool) -> None:
        room = max(1, -(-size // PAGE)) * PAGE
        self.memory = mmap.mmap(-1, room + 2 * PAGE)
        everything = np.frombuffer(self.memory, np.uint8)
        address = everything.ctypes.data
        for guard in (address, address + PAGE + room):
            if ctypes.CDLL(None, use_errno=True).mprotect(
                ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0
            ):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        self.inside = everything[PAGE : PAGE + room]
        self.inside.fill(PATTERN)
        self.bytes = self.inside[room - size :] if at_end else self.inside[:size]


class Guarded:
    """An array of a shape and style at a guard, and whether anything beside it was written."""

    def __init__(self, shape, dtype, style: str, at_end: bool) -> None:
        dtype = np.dtype(dtype)
        rank = len(shape)
        base = tuple(shape)
        if style == "last" and rank > 1:
            base = (shape[0], *shape[2:], shape[1])
        elif style == "every second":
            base = (*shape[:-1], 2 * shape[-1] - 1)
        elif style == "broadcast" and rank > 1:
            base = (shape[0], 1, *shape[2:])
        self.region = Region(prod(base) * dtype.itemsize, at_end)
        array = self.region.bytes.view(dtype).reshape(base)
        if style == "last" and rank > 1:
            array = np.moveaxis(array, -1, 1)
        elif style == "reversed":
            array = array[(slice(None, None, -1),) * rank]
        elif style == "every second":
            array = array[..., ::2]
        self.array = array
        self.view = np.broadcast_to(array, shape)

    def fill(self, values: np.ndarray) -> np.ndarray:
        """The values (of the first channel only, where all channels are one) in the array."""
        self.array[...] = values[:, : self.array.shape[1]] if values.ndim > 1 else values
        return self.view

    def untouched_beside(self) -> bool:
        self.array[...] = np.frombuffer(bytes([PATTERN]) * self.array.itemsize, self.array.dtype)[0]
        return bool((self.region.inside == PATTERN).all())


def guarded_empty(at_end: bool):
    """np.empty on guarded memory, for what the engine takes for itself."""

    def empty(shape, dtype=float):
        size = prod(shape) if isinstance(shape, tuple) else int(shape)
        dtype = np.dtype(dtype)
        return Region(size * dtype.itemsize, at_end).bytes.view(dtype).reshape(shape)

    return empty


def guarded_scratch(problem, at_end: bool, engine) -> Region:
    """What the engine says that a thread needs, whole cache lines of it."""
    size = -(-engine.thread_scratch(problem) // 64) * 64
    region = Region(size, at_end)
    own = SimpleNamespace(address=region.bytes.ctypes.data, kept=0)
    threads._current.own.scratch = own
    threads.KEPT = -1  # what jobs leave one another comes from np.empty
    return region


def check(
    case, dtype, direction: str, styles, at_end: bool, full: bool, engine, precision: str
) -> bool:
    """One map on guarded memory, exact (some once rounded), nothing written beside it."""
    x, w, b, dy = case.integers(dtype)
    x, w, dy, b = (
        Guarded(a.shape, dtype, style, at_end).fill(a)
        for a, style in zip((x, w, dy, b), (*styles, "plain"), strict=False)
    )
    problem = problem_of(direction, case, dtype, precision)
    if engine.refuses(problem) is not None:
        return False
    scratch = guarded_scratch(problem, at_end, engine)
    want = expected(case, x, w, dy)[direction]
    shape = shape_of(direction, case)
    result = Guarded(shape, dtype, STYLES[sum(map(STYLES.index, styles)) % 4], at_end)
    old = np.arange(prod(shape)).reshape(shape) % 5 - 2
    result.array[...] = old
    epilogue = Epilogue()
    if full:
        epilogue = Epilogue(2.0, True, b if direction == "forward" else None)
        want = 2 * want + old
        if direction == "forward":
            want = want + b.reshape(-1, *(1,) * case.rank)
    ordinary, np.empty = np.empty, guarded_empty(at_end)
    try:
        assert run(
            direction, case, *operands(direction, x, w, dy), result.array, epilogue, engine,
            precision,
        )  # fmt: skip
    finally:
        np.empty = ordinary
    got = np.round(result.array) if engine in ROUNDED else result.array
    np.testing.assert_array_equal(got, want.astype(dtype))  # a half type: rounded once
    assert result.untouched_beside(), "something beside the result was written"
    del scratch
    return True


def run_all(engine, log: Path, count: int) -> None:
    cg.set_num_threads(1)
    # A self-test would run a problem of its own in the scratch that is guarded for another.
    trial._examine = lambda _, fresh: trial.trusted.update(
        {key: one.address for key, one in fresh.items()}
    )
    file, ran = os.open(log, os.O_WRONLY | os.O_CREAT), 0

    dtypes = [np.float32, np.float64]
    if engine is implicit_gemm:
        dtypes.append(np.float16)

    def every_way(case, turn) -> None:
        nonlocal ran
        if case.batch == 0:
            return
        rng = np.random.default_rng((case.seed, turn))
        for number, direction in enumerate(DIRECTIONS * 2 * len(dtypes)):
            dtype = dtypes[number // 3 % len(dtypes)]
            at_end = number < 3 * len(dtypes)
            styles = [STYLES[i * (turn < TURNS - 1)] for i in rng.integers(0, len(STYLES), 3)]
            full = bool(rng.integers(0, 2))
            precision = "fast" if rng.integers(0, 4) == 0 else "standard"
            line = f"{direction} {dtype.__name__} {styles} {at_end=} {full=} {precision} {case}"
            os.pwrite(file, line.ljust(1000).encode(), 0)
            ran += check(case, dtype, direction, styles, at_end, full, engine, precision)

    draw = one_of(cases(three_taps=True), cases()) if engine is winograd else cases()
    drawn = given(draw, just(0))(every_way)
    calm = [HealthCheck.too_slow, HealthCheck.differing_executors]
    with noting() as seen:
        settings(
            max_examples=count, derandomize=True, database=None, deadline=None,
            suppress_health_check=calm,
        )(drawn)()  # fmt: skip
        for case in WINOGRAD_CASES if engine is winograd else (*KERNEL_CASES, *FEW_CASES):
            for turn in range(TURNS):
                every_way(case, turn)
    print(ran, *sorted(seen.names))


def touch(at_end: bool) -> None:
    array = Guarded((3, 5), np.float32, "plain", at_end).array
    beyond = array.ctypes.data + (array.nbytes if at_end else -4)
    print("about to touch", flush=True)
    ctypes.c_float.from_address(beyond).value  # noqa: B018


if __name__ == "__main__":
    if sys.argv[1] == "touch":
        touch(sys.argv[2] == "END")
    else:
        run_all(ENGINES[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]))
