"""Library: something that computes the maps, and how it is called as a user would call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convgrad.bench.case import Case, Operands
from convgrad.bench.timing import Work


@dataclass(frozen=True)
class Library:
    """A library in one of its variants (a layout, a function).

    refuses   why a case is nothing for it, as a sentence, or None
    work      work(case, operands) → a call without arguments that computes and gives the result as
              the library has it, in memory that the library took itself; operands are laid out
              beforehand
    numpy     such a result as an array of the layer's shape, channels first
    """

    name: str
    variant: str
    refuses: Callable[[Case], str | None]
    work: Callable[[Case, Operands], Work]
    numpy: Callable[[Any], np.ndarray]


def accepts(case: Case) -> None:
    """A library that refuses nothing."""
