"""The reference: the three maps of a layer in float64, from their definition.

    y[n,o,p] = Σ_{c,k} x[n, c, s·p + d·k − pad] · w[o,c,k]

Sums run tap by tap over shifted views of the padded x, each a matrix product of NumPy. Where each
group has one channel and the taps are many, they are products of spectra. Nothing here calls
convgrad's maps or a peer. A transposed layer is the same form with x and y in each other's place.
Error: that of float64 sums, relative to the largest number of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from convgrad.bench.case import Operands
from convgrad.shapes import Layer

MANY_TAPS = 100


def result(layer: Layer, direction: str, operands: Operands) -> np.ndarray:
    """The map's result for operands that are float64 already."""
    x, w, dy = operands.x, operands.w, operands.dy
    if layer.transposed:
        form = Form(layer, layer.in_size, layer.out_size)
        x, dy = dy, x
        direction = {"forward": "input_grad", "input_grad": "forward"}.get(direction, direction)
    else:
        form = Form(layer, layer.out_size, layer.in_size)
    if direction == "forward":
        return form.forward(x, w)
    if direction == "input_grad":
        return form.input_grad(w, dy)
    return form.weight_grad(x, dy)


@dataclass(frozen=True)
class Form:
    """The trilinear form of a layer: positions p of y, cells i of x."""

    layer: Layer
    positions: tuple[int, ...]
    cells: tuple[int, ...]

    @property
    def spectral(self) -> bool:
        layer = self.layer
        plain = set(layer.stride) == {1} and set(layer.dilation) == {1} and not layer.transposed
        single = layer.groups == layer.in_channels == layer.out_channels
        return plain and single and prod(layer.kernel) > MANY_TAPS

    def forward(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        padded = self.padded(x)
        if self.spectral:
            return self.product(padded, w[:, 0], self.positions, conjugate=True)
        groups = self.layer.groups
        y = np.zeros((x.shape[0], groups, w.shape[0] // groups, prod(self.positions)))
        weights = w.reshape(groups, -1, w.shape[1], *self.layer.kernel)  # (G, O/G, C/G, *K)
        for tap, window in self.windows():
            y += _times(weights[(..., *tap)], self.grouped(padded[window]))
        return y.reshape(x.shape[0], w.shape[0], *self.positions)

    def input_grad(self, w: np.ndarray, dy: np.ndarray) -> np.ndarray:
        groups, batch = self.layer.groups, dy.shape[0]
        padded = np.zeros((batch, groups * w.shape[1], *self.padded_size))
        if self.spectral:
            padded = self.product(dy, w[:, 0], self.padded_size)
            return padded[self.inside]
        weights = w.reshape(groups, -1, w.shape[1], *self.layer.kernel)
        dy = self.grouped(dy)
        for tap, window in self.windows():
            part = _times(weights[(..., *tap)].swapaxes(1, 2), dy)
            padded[window] += part.reshape(padded[window].shape)
        return padded[self.inside]

    def weight_grad(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        padded, groups = self.padded(x), self.layer.groups
        channels = dy.shape[1], x.shape[1] // groups
        if self.spectral:
            dw = self.product(padded, dy, self.layer.kernel, conjugate=True)
            return dw.sum(0).reshape(*channels, *self.layer.kernel)
        dw = np.empty((*channels, *self.layer.kernel))
        dy = self.grouped(dy)
        for tap, window in self.windows():
            cells = self.grouped(padded[window]).swapaxes(-1, -2)  # (N, G, P, C/G)
            dw[(..., *tap)] = np.matmul(dy, cells).sum(0).reshape(channels)
        return dw

    @property
    def padded_size(self) -> tuple[int, ...]:
        return tuple(n + 2 * pad for n, pad in zip(self.cells, self.layer.padding))

    @property
    def inside(self) -> tuple[slice, ...]:
        """Where the cells of x stand in the padded x."""
        axes = zip(self.cells, self.layer.padding)
        return (slice(None), slice(None), *(slice(pad, pad + n) for n, pad in axes))

    def padded(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in self.layer.padding)])

    def windows(self):
        """Each tap, and where in the padded x it meets the positions of y."""
        layer = self.layer
        for tap in product(*map(range, layer.kernel)):
            axes = zip(tap, layer.dilation, layer.stride, self.positions)
            spans = (slice(d * k, d * k + s * (p - 1) + 1, s) for k, d, s, p in axes)
            yield tap, (slice(None), slice(None), *spans)

    def grouped(self, a: np.ndarray) -> np.ndarray:
        """(N, C, *size) → (N, G, C/G, P)."""
        groups = self.layer.groups
        return a.reshape(a.shape[0], groups, a.shape[1] // groups, prod(a.shape[2:]))

    def product(
        self, a: np.ndarray, b: np.ndarray, size: tuple[int, ...], conjugate: bool = False
    ) -> np.ndarray:
        """Correlation (conjugate) or convolution of a with b, its first `size` numbers."""
        axes = tuple(range(-self.layer.rank, 0))
        spectra = [np.fft.rfftn(array, self.padded_size, axes) for array in (a, b)]
        spectrum = spectra[0] * (spectra[1].conj() if conjugate else spectra[1])
        whole = np.fft.irfftn(spectrum, self.padded_size, axes)
        return whole[(..., *(slice(n) for n in size))]


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (G, rows, r) times b (N, G, r, P); a product of single numbers is no matrix product."""
    return a * b if a.shape[1:] == (1, 1) else np.matmul(a, b)
