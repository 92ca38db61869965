"""The self-test of kernels: what was just compiled computes a small problem before its first use.

The algorithm that asks for it is run on integers, in a geometry like the caller's but smaller, and
must give what `im2col` gives: exactly, or within its bound where it mixes the errors of many
numbers. What has passed goes to the cache on disk, so that what is loaded from there has passed on
this machine. What fails is not used: a warning names it, and its algorithm declines from then on.
"""

import warnings
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from threading import local
from typing import Any, NamedTuple, Protocol

import numpy as np

from convgrad.algorithm import Algorithm, Epilogue, KernelFailed, Problem, Task, now
from convgrad.cpu.jit import cache, compiler
from convgrad.geometry import Geometry
from convgrad.reference import im2col

POSITIONS = 6  # results along each axis of a small problem
CHANNELS = 32  # channels of a small problem
MACS = 20_000_000  # multiply-adds of a problem that is not the last resort
LAST = 100_000_000  # multiply-adds of the last resort, the caller's own problem
ELEMENTS = {  # of the kernels that a dtype uses; every other one: float
    "float64": ("double",), "complex128": ("double",), "float16": ("half", "float"),
    "bfloat16": ("bfloat", "float"),
}  # fmt: skip


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
    name: str
    code: bytes


@dataclass
class UnderTest(local):
    """What this thread tests: None, or its fresh kernels; `asked`: those that were asked for."""

    fresh: dict[Key, Fresh] | None = None
    asked: set[Key] = field(default_factory=set)


trusted: dict[Key, int] = {}
_untested: dict[Key, Fresh] = {}  # asked for where no algorithm runs
_failed: dict[tuple[str, str], str] = {}  # (algorithm, element) → why
_test = UnderTest()


def refusal(algorithm: Algorithm, problem: Problem) -> str | None:
    """Why the algorithm's kernels cannot be used for this dtype, or None."""
    elements = ELEMENTS.get(problem.dtype.name, ("float",))
    found = (_failed.get((algorithm.name, element)) for element in elements)
    return next((why for why in found if why is not None), None)


def obtain(key: Key) -> int:
    """The address of a kernel that is not trusted yet; raises KernelFailed if it computes wrongly.

    Where no algorithm runs there is nothing to test it with: it is made and not kept.
    """
    under_test = _test.fresh
    if under_test is not None:
        _test.asked.add(key)
        if key in under_test:
            return under_test[key].address
    fresh = _untested.get(key) or _made(key)
    if isinstance(fresh, int):
        return fresh
    task = now.task
    if under_test is not None:
        under_test[key] = fresh
    elif task is None:
        _untested[key] = fresh
    else:
        _examine(task, key, fresh)
    return fresh.address


def _made(key: Key) -> Fresh | int:
    """The kernel from the cache, where only tested ones are, or compiled."""
    text = key.generator.text(key.element, key.shape)
    name, code, kept = compiler.object_code(text)
    (address,) = compiler.load_all(code, (key.generator.name,))
    if kept:
        trusted[key] = address
        return address
    return Fresh(address, name, code)


def _examine(task: Task, key: Key, fresh: Fresh) -> None:
    """Run small problems until one has used the kernel; trust it, or raise KernelFailed."""
    algorithm = task.algorithm
    for problem, strides in _problems(task):
        _test.fresh, _test.asked = {key: fresh}, set()
        now.task = Task(algorithm, problem, task.strides)
        try:
            right = _is_right(algorithm, problem, strides)
        finally:
            made, asked = _test.fresh, _test.asked
            _test.fresh, _test.asked, now.task = None, set(), task
        if not right:
            _reject(algorithm, key, sorted({key, *(asked & made.keys())}, key=str))
        for other in asked & made.keys():
            _trust(other, made[other])
        if key in asked:
            return
    trusted[key] = fresh.address  # no problem that is small enough uses it: not kept on disk
    _untested.pop(key, None)


def _trust(key: Key, fresh: Fresh) -> None:
    trusted[key] = fresh.address
    _untested.pop(key, None)
    cache.write(fresh.name, fresh.code)


def _reject(algorithm: Algorithm, key: Key, suspects: list[Key]) -> None:
    names = ", ".join(f"{k.generator.name} ({k.element}, {k.shape})" for k in suspects)
    which = f"its kernel {names}" if len(suspects) == 1 else f"one of its kernels {names}"
    why = f"{which} failed the self-test on this machine"
    _failed[algorithm.name, key.element] = why
    warnings.warn(
        f"convgrad: {algorithm.name} is not used for {key.element}: {why}",
        RuntimeWarning,
        stacklevel=2,
    )
    raise KernelFailed(why)


Strides = tuple[tuple[int, ...], ...] | None


def _problems(task: Task) -> Iterator[tuple[Problem, Strides]]:
    """Problems that may use the same kernels, the smallest first; at last the caller's own."""
    problem, g = task.problem, task.problem.geometry
    few = min(g.groups, 2)
    narrow = _with_channels(g, few, min(g.group_in, CHANNELS), min(g.group_out, CHANNELS))
    full = _with_channels(g, few, g.group_in, g.group_out)
    smaller = dict.fromkeys((
        _shrunk(replace(narrow, batch=min(g.batch, 2))), _shrunk(replace(full, batch=1)),
        _shrunk(replace(g, batch=1)), replace(narrow, batch=1), replace(full, batch=1),
    ))  # fmt: skip
    for strides in (None, task.strides):
        for geometry in smaller:
            one = replace(problem, geometry=geometry)
            if geometry.macs <= MACS and task.algorithm.refuses(one) is None:
                yield one, strides
    if problem.geometry.macs <= LAST:
        yield problem, task.strides


def _with_channels(g: Geometry, groups: int, inputs: int, outputs: int) -> Geometry:
    return replace(g, groups=groups, in_channels=groups * inputs, out_channels=groups * outputs)


def _shrunk(g: Geometry) -> Geometry:
    """The same windows on a smaller image: POSITIONS results along each axis, where that can be."""
    fewer = [
        min(p - POSITIONS, (n - 1) // s) if p > POSITIONS else 0
        for n, p, s in zip(g.in_size, g.out_size, g.stride, strict=True)
    ]
    sizes = tuple(n - s * less for n, s, less in zip(g.in_size, g.stride, fewer, strict=True))
    out = tuple(p - less for p, less in zip(g.out_size, fewer, strict=True))
    return replace(g, in_size=sizes, out_size=out)


def _is_right(algorithm: Algorithm, problem: Problem, strides: Strides) -> bool:
    """Whether the algorithm gives what im2col gives, plainly and with an epilogue."""
    g, dtype = problem.geometry, problem.dtype
    shapes = {
        "forward": (g.x_shape, g.w_shape, g.y_shape),
        "input_grad": (g.w_shape, g.y_shape, g.x_shape),
        "weight_grad": (g.x_shape, g.y_shape, g.w_shape),
    }[problem.direction]
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
    ends = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    first, last = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
    memory = np.zeros(last - first + dtype.itemsize, np.uint8)
    return np.ndarray(shape, dtype, memory, -first, strides)
