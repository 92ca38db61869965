"""Generated kernels, and jobs: a kernel with its arguments and its parts."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from convgrad.cpu import trial
from convgrad.cpu.jit import compiler, threads


@dataclass(frozen=True)
class Generator:
    """How a kernel is made: write(lanes, shape) gives the IR of a function called `name`.

    shape: what is compiled in beside the element type (a register tile, taps, …), hashable.
    fields: the names of the 64-bit words that it reads as its arguments, in order; see
        `kernels.frame` for what the usual names mean.
    shapes(level): every shape that it may be made in for an instruction set.
    """

    name: str
    write: Callable[..., str]
    fields: tuple[str, ...]
    shapes: Callable[[str], Iterable[Hashable]]

    def text(self, element: str, shape: Hashable) -> str:
        """The kernel for this machine, as LLVM IR."""
        return self.write(compiler.target().lanes(element), shape)


def kernels(keys: Sequence[trial.Key]) -> list[int]:
    """The addresses of generated kernels, made and tested together when first needed."""
    found = [trial.trusted.get(key) for key in keys]
    addresses = [address for address in found if address is not None]
    return addresses if len(addresses) == len(keys) else trial.obtain(keys)


@dataclass(frozen=True, eq=False)
class Job:
    """A kernel with its arguments, and how many parts it has; tables are kept for their memory."""

    generator: Generator
    element: str
    shape: Hashable
    values: dict[str, int]
    parts: int
    threaded: bool
    tables: tuple[np.ndarray, ...] = ()

    @property
    def key(self) -> trial.Key:
        return trial.Key(self.generator, self.element, self.shape)

    def run(self, scale: float = 1.0, **arrays: np.ndarray | int) -> None:
        """Fill in the addresses of the arrays (or numbers as they are), and run all parts."""
        fields = self.generator.fields
        words = dict(self.values)
        for name, value in arrays.items():
            words[name] = value if isinstance(value, int) else value.ctypes.data
        args = np.array([words.get(field, 0) for field in fields], np.int64)
        if "scale" in fields:
            args.view(np.float64)[fields.index("scale")] = scale
        (function,) = kernels([self.key])
        threads.run(function, args.ctypes.data, self.parts, self.threaded)
