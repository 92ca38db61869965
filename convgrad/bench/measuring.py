"""The rows of a run: each case with its reference, its limit and its race."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convgrad.bench import checking, definition, race
from convgrad.bench.case import Case, Operands, drawn
from convgrad.bench.limits import Limits
from convgrad.bench.peers import ours
from convgrad.bench.peers.library import Library
from convgrad.bench.results import Row
from convgrad.bench.timing import Work


@dataclass(frozen=True)
class Bench:
    """What the cases of a run have in common.

    budget: seconds of timing for each library in each case.
    """

    settings: ours.Settings
    peers: Sequence[Library]
    limits: Limits | None
    budget: float

    def rows(self, cases: Sequence[Case]) -> Iterator[Row]:
        """Each case's row; operands are drawn once for the cases of a layer that follow on."""
        last: tuple[object, ...] = ()
        operands: Operands | None = None
        for case in cases:
            if operands is None or (case.layer, case.dtype) != last:
                operands, last = drawn(case.layer, case.dtype), (case.layer, case.dtype)
            yield self.row(case, operands)

    def row(self, case: Case, operands: Operands) -> Row:
        """The case's row, with times if convgrad's result is right before and after."""
        reference = definition.result(case.layer, case.direction, operands.exact)
        libraries = (ours.library(self.settings), *self.peers)
        entries = [_entry(library, case, operands, reference) for library in libraries]
        me, *others = race.run(entries, case.dtype, self.budget)
        row = replace(self._described(case), error=me.error, first=me.first)
        if me.left_out is not None:
            return replace(row, wrong=me.left_out)
        return replace(row, seconds=me.seconds, beside=tuple(others))

    def _described(self, case: Case) -> Row:
        """The row without times."""
        layer, plan = case.layer, ours.Call(case, self.settings).plan
        limit, bound = self.limits.seconds(case) if self.limits else (None, None)
        return Row(
            layer.name, layer.network, layer.layer_class, case.direction, case.dtype,
            layer.x_shape, layer.w_shape, layer.y_shape, case.flops, case.bytes,
            plan.algorithm, plan.scratch, limit=limit, bound=bound,
        )  # fmt: skip


def _entry(library: Library, case: Case, operands: Operands, reference: np.ndarray) -> race.Entry:
    def prepare() -> Work:
        work = library.work(case, operands)
        checking.poison(case.result_shape, case.dtype)
        return work

    def error(result: Any) -> float:
        return checking.error(library.numpy(result), reference)

    return race.Entry(library.name, library.variant, prepare, error, library.refuses(case))
