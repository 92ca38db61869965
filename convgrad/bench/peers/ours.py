"""convgrad's public functions, called as a user calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import convgrad as cg
from convgrad.bench.case import Case, Operands
from convgrad.bench.peers.library import Library, accepts
from convgrad.bench.timing import Work


@dataclass(frozen=True)
class Settings:
    """The settings of convgrad that a run can vary."""

    precision: str = "standard"
    algorithm: str = "auto"
    layout: str = "channels_first"

    @property
    def last(self) -> bool:
        return self.layout == "channels_last"

    def check(self, case: Case) -> None:
        """Raises ConvError for settings that cannot be, before anything is measured."""
        assert Call(case, self).plan

    def keywords(self, case: Case) -> dict[str, Any]:
        """The keywords of a call."""
        layer = case.layer
        extra = {"output_padding": layer.output_padding} if layer.transposed else {}
        return extra | {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
            "precision": self.precision,
            "algorithm": self.algorithm,
            "layout": self.layout,
        }

    def shape(self, channels_first: tuple[int, ...]) -> tuple[int, ...]:
        first, channels, *size = channels_first
        return (first, *size, channels) if self.last else channels_first

    def laid_out(self, array: np.ndarray) -> np.ndarray:
        """A channels-first array in the layout."""
        return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if self.last else array

    def channels_first(self, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, -1, 1) if self.last else array


@dataclass(frozen=True)
class Call:
    """One case as a call of convgrad."""

    case: Case
    settings: Settings

    @property
    def plan(self) -> cg.Plan:
        """What the call will do."""
        layer = self.case.layer
        return cg.plan(
            self.case.direction,
            self.settings.shape(layer.x_shape),
            self.settings.shape(layer.w_shape),
            dtype=self.case.dtype,
            transposed=layer.transposed,
            **self.settings.keywords(self.case),
        )

    def work(self, operands: Operands) -> Work:
        keywords = self.settings.keywords(self.case)
        x, w, dy = (self.settings.laid_out(a) for a in (operands.x, operands.w, operands.dy))
        direction = self.case.direction
        if self.case.layer.transposed:
            if direction == "forward":
                return lambda: cg.conv_transpose(x, w, **keywords)
            needed = "x" if direction == "input_grad" else "w"
            wanted = {"needs": (needed,), **keywords}
            return lambda: getattr(cg.conv_transpose_backward(x, w, dy, **wanted), f"d{needed}")
        if direction == "forward":
            return lambda: cg.conv(x, w, **keywords)
        if direction == "input_grad":
            return lambda: cg.input_grad(x.shape, w, dy, **keywords)
        return lambda: cg.weight_grad(x, w.shape, dy, **keywords)


def library(settings: Settings) -> Library:
    return Library(
        "convgrad",
        settings.layout,
        accepts,
        lambda case, operands: Call(case, settings).work(operands),
        settings.channels_first,
    )
