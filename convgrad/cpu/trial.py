"""The self-test of kernels: what was just compiled computes a small problem before its first use.

The algorithm that asks for them is run on integers, in a geometry like the caller's but smaller
that uses the same kernels and no others, and must give what `im2col` gives: exactly, or within its
bound where it mixes the errors of many numbers. What has passed goes to the cache on disk, so that
what is loaded from there has passed on this machine. What fails is not used: a warning names it,
and its algorithm declines from then on.
"""

import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from threading import local
from typing import Any, NamedTuple, Protocol

import numpy as np

from convgrad.algorithm import Algorithm, Epilogue, KernelFailed, Problem, Task, now
from convgrad.cpu.jit import compiler, modules, threads
from convgrad.cpu.sources import DIGEST
from convgrad.errors import SettingError
from convgrad.geometry import Geometry
from convgrad.reference import im2col

POSITIONS = (6, 12, 24, 1 << 62)  # results along each axis of a small problem
CHANNELS = 32  # channels of a small problem
MACS = 20_000_000  # multiply-adds of a problem that is not the last resort
SPAN = 1 << 28  # bytes of memory that an array of a test may span, whatever the caller's strides
LAST = 4_000_000_000  # operations of the last resort, the caller's own problem
ELEMENTS = {  # of the kernels that a dtype uses; every other one: float
    "float64": ("double",), "complex128": ("double",), "float16": ("half", "float"),
    "bfloat16": ("bfloat", "float"),
}  # fmt: skip


Strides = tuple[tuple[int, ...], ...] | None


class Source(Protocol):
    """What a kernel is made from: see `job.Generator`."""

    @property
    def name(self) -> str: ...

    def text(self, element: str, shape: Any) -> str: ...


class Key(NamedTuple):
    """A kernel: who makes it, its element type, and its shape."""

    generator: Source
    element: str
    shape: Hashable


class Fresh(NamedTuple):
    """A kernel that was compiled and has passed no test yet."""

    address: int
    module: modules.Made


class _OtherKernels(Exception):
    """A small problem asks for kernels that are not to be tested."""


@dataclass
class UnderTest(local):
    """What this thread tests: None, or its fresh kernels; `asked`: those that were asked for.

    others: whether a problem may have kernels made that are not among them.
    """

    fresh: dict[Key, Fresh] | None = None
    asked: set[Key] = field(default_factory=set)
    others: bool = False


trusted: dict[Key, int] = {}
_untested: dict[Key, Fresh] = {}  # asked for where no algorithm runs
_failed: dict[tuple[str, str], str] = {}  # (algorithm, element) → why
_test = UnderTest()


def refusal(algorithm: Algorithm, problem: Problem) -> str | None:
    """Why the algorithm's kernels cannot be used for this dtype, or None."""
    elements = ELEMENTS.get(problem.dtype.name, ("float",))
    found = (_failed.get((algorithm.name, element)) for element in elements)
    return next((why for why in found if why is not None), None)


def obtain(keys: Sequence[Key]) -> list[int]:
    """The addresses of kernels, not all trusted yet; raises KernelFailed if one computes wrongly.

    Where no algorithm runs there is nothing to test them with: they are made and not kept.
    """
    under_test, task = _test.fresh, now.task
    known = dict(_untested) if under_test is None else under_test
    unknown = dict.fromkeys(key for key in keys if key not in trusted and key not in known)
    if under_test is not None:
        if unknown and not _test.others:
            raise _OtherKernels
        _test.asked |= {key for key in keys if key not in trusted}
    known |= _made(list(unknown))
    fresh = {key: known[key] for key in keys if key in known}
    if under_test is None and task is None:
        _untested.update(fresh)
    elif under_test is None and fresh and task is not None:
        _examine(task, fresh)
    return [fresh[key].address if key in fresh else trusted[key] for key in keys]


def _made(keys: list[Key]) -> dict[Key, Fresh]:
    """Those that were not in the cache, where only tested ones are, and so are compiled."""
    fresh, many = {}, 1
    with suppress(SettingError):  # raised again as the map is run
        many = threads.get_num_threads()
    for key, one in zip(keys, modules.made([_module(key) for key in keys], many), strict=True):
        (address,) = compiler.load_all(one.codes, (key.generator.name,))
        if one.kept:
            trusted[key] = address
        else:
            fresh[key] = Fresh(address, one)
    return fresh


def _module(key: Key) -> modules.Module:
    def write() -> str:
        return key.generator.text(key.element, key.shape)

    if DIGEST is None:
        return modules.Module((write(),), write)
    return modules.Module((DIGEST, key.generator.name, key.element, repr(key.shape)), write)


def _examine(task: Task, fresh: dict[Key, Fresh]) -> None:
    """Run small problems until all of the kernels were used; trust them, or raise KernelFailed.

    First of all problems that use no other kernels, so that none are compiled for a test alone.
    """
    left = dict(fresh)
    for others in (False, True):
        for problem, strides in _problems(task):
            for key, one in _tried(task, problem, strides, left, others).items():
                _trust(key, one)
                left.pop(key, None)
            if not left:
                return
    for key, one in left.items():
        trusted[key] = one.address  # no problem that is small enough uses it: not kept on disk
        _untested.pop(key, None)


def _trust(key: Key, fresh: Fresh) -> None:
    trusted[key] = fresh.address
    _untested.pop(key, None)
    modules.keep(fresh.module)


def _tried(
    task: Task, problem: Problem, strides: Strides, left: dict[Key, Fresh], others: bool
) -> dict[Key, Fresh]:
    """The kernels that a problem uses, all right; raises KernelFailed if its result is wrong."""
    algorithm, made = task.algorithm, dict(left)
    _test.fresh, _test.asked, _test.others = made, set(), others
    now.task = Task(algorithm, problem, task.strides)
    try:
        right = _is_right(algorithm, problem, strides)
    except _OtherKernels:
        return {}
    finally:
        asked = _test.asked & made.keys()
        _test.fresh, _test.asked, now.task = None, set(), task
    if not right:
        _reject(algorithm, sorted(asked or left, key=str))
    return {key: made[key] for key in asked}


def _reject(algorithm: Algorithm, suspects: list[Key]) -> None:
    names = ", ".join(f"{k.generator.name} ({k.element}, {k.shape})" for k in suspects)
    which = f"its kernel {names}" if len(suspects) == 1 else f"one of its kernels {names}"
    why = f"{which} failed the self-test on this machine"
    for key in suspects:
        _failed[algorithm.name, key.element] = why
    warnings.warn(
        f"convgrad: {algorithm.name} is not used for {suspects[0].element}: {why}",
        RuntimeWarning,
        stacklevel=2,
    )
    raise KernelFailed(why)


def _problems(task: Task) -> Iterator[tuple[Problem, Strides]]:
    """Problems that may use the same kernels, the smallest first; at last the caller's own."""
    problem, g = task.problem, task.problem.geometry
    channels = {
        (min(g.groups, groups), min(g.group_in, inputs), min(g.group_out, outputs))
        for groups in (2, g.groups)
        for inputs in (CHANNELS, g.group_in) for outputs in (CHANNELS, g.group_out)
    }  # fmt: skip
    smaller = {
        _shrunk(replace(_with_channels(g, *most), batch=batch), results)
        for most in channels for results in POSITIONS for batch in (1, min(g.batch, 2))
    }  # fmt: skip
    for strides in (None, task.strides):
        for geometry in sorted(smaller, key=lambda small: small.macs):
            one = replace(problem, geometry=geometry)
            small = geometry.macs <= MACS and _is_near(one, strides)
            if small and task.algorithm.refuses(one) is None:
                yield one, strides
    if problem.flops <= LAST and _is_near(problem, task.strides):
        yield problem, task.strides


def _shapes(problem: Problem) -> tuple[tuple[int, ...], ...]:
    """Those of both operands and of the result."""
    g = problem.geometry
    return {
        "forward": (g.x_shape, g.w_shape, g.y_shape),
        "input_grad": (g.w_shape, g.y_shape, g.x_shape),
        "weight_grad": (g.x_shape, g.y_shape, g.w_shape),
    }[problem.direction]


def _is_near(problem: Problem, strides: Strides) -> bool:
    """Whether arrays with these strides span little memory."""
    if strides is None:
        return True
    spans = [_ends(*each) for each in zip(_shapes(problem), strides, strict=False)]
    return all(last - first <= SPAN for first, last in spans)


def _ends(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Bytes from an array's first number to its lowest and to its highest one."""
    ends = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)


def _with_channels(g: Geometry, groups: int, inputs: int, outputs: int) -> Geometry:
    return replace(g, groups=groups, in_channels=groups * inputs, out_channels=groups * outputs)


def _shrunk(g: Geometry, results: int) -> Geometry:
    """The same windows on a smaller image: so many results along each axis, where that can be."""
    fewer = [
        min(p - results, (n - 1) // s) if p > results else 0
        for n, p, s in zip(g.in_size, g.out_size, g.stride, strict=True)
    ]
    sizes = tuple(n - s * less for n, s, less in zip(g.in_size, g.stride, fewer, strict=True))
    out = tuple(p - less for p, less in zip(g.out_size, fewer, strict=True))
    return replace(g, in_size=sizes, out_size=out)


def _is_right(algorithm: Algorithm, problem: Problem, strides: Strides) -> bool:
    """Whether the algorithm gives what im2col gives, plainly and with an epilogue."""
    g, dtype, shapes = problem.geometry, problem.dtype, _shapes(problem)
    rng = np.random.default_rng(len(shapes))
    a, b, out, want = (
        _array(shape, dtype, g.layout, like)
        for shape, like in zip((*shapes, shapes[2]), (*(strides or (None,) * 3), None), strict=True)
    )
    for array in (a, b):
        array[...] = rng.integers(-1, 2, array.shape)
    bias = None
    if problem.direction != "weight_grad":
        bias = rng.integers(-1, 2, shapes[2][1]).astype(dtype)
    mixing, right = algorithm.error(problem).scale == "largest", True
    bound = algorithm.error(problem).factor * g.terms(problem.direction) if mixing else 0
    with np.errstate(all="ignore"):
        for epilogue in (Epilogue(), Epilogue(2.0, True, bias)):
            out[...] = want[...] = 1
            algorithm.run(problem, a, b, out, epilogue)
            im2col.ALGORITHM.run(problem, a, b, want, epilogue)
            right = right and bool((abs(out - want) <= bound * epilogue.scale).all())
    return right


def _array(
    shape: tuple[int, ...], dtype: np.dtype[Any], layout: str, strides: tuple[int, ...] | None
) -> np.ndarray:
    """Zeros of this shape, as its layout has them in memory, or with these strides."""
    if strides is None:
        if layout == "channels_last":
            return np.moveaxis(np.zeros((shape[0], *shape[2:], shape[1]), dtype), -1, 1)
        return np.zeros(shape, dtype)
    if not prod(shape):
        return np.zeros(shape, dtype)
    first, last = _ends(shape, strides)
    memory = np.zeros(last - first + dtype.itemsize, np.uint8)
    return np.ndarray(shape, dtype, memory, -first, strides)
