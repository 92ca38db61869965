"""Contract and Signature: a calling convention as data, so that any function of it can be called.

A Case is a convolution with its operands as convgrad has them. A Signature knows how a function of
its convention wants them, and how to read what comes back: `call` takes a function and a case, lays
the operands out, calls, and returns the results as convgrad has them, by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Results = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A convolution and its operands: x (N, C, *in), w (O, C/G, *kernel), b (O), dy (N, O, *out).

    transposed=True means x (N, C, *in), w (C, O/G, *kernel) of a transposed convolution. ddx, ddw
    and ddb, shaped as x, w and b, are there where a double backward is asked for.
    """

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    ddx: np.ndarray | None = None
    ddw: np.ndarray | None = None
    ddb: np.ndarray | None = None

    @property
    def rank(self) -> int:
        return self.w.ndim - 2

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.w.shape[2:]

    @property
    def padding(self) -> tuple[int, ...] | None:
        """One pad for each axis, or None where the two sides of an axis differ."""
        return None if any(lo != hi for lo, hi in self.pads) else tuple(lo for lo, _ in self.pads)


@dataclass(frozen=True)
class Signature:
    """How one function is called, and what it gives.

    function    convgrad's own function of this signature
    gives       names of the results among y, dx, dw, db, ddy, in no particular order
    refuses     why the convention cannot express a case, as a sentence, or None
    call        call(function, case) → the results in convgrad's layout, by the names in `gives`
    """

    function: Callable[..., Any]
    gives: tuple[str, ...]
    refuses: Callable[[Case], str | None]
    call: Callable[[Callable[..., Any], Case], Results]

    @property
    def name(self) -> str:
        return self.function.__name__


@dataclass(frozen=True)
class Contract:
    """A system's calling convention: the functions that make it up, and where it comes from."""

    name: str
    summary: str
    source: str
    signatures: tuple[Signature, ...]
