"""How in1 and in2 lie in one call of the maps: modes, axes, batch axes, and which one is x.

On each convolved axis SciPy's full convolution is y[q] = Σ_{i+j=q} in1[i]·in2[j], and a mode is the
part start ≤ q < start + out of it:

    full     start 0                          out n1 + n2 − 1
    same     start ⌊(n2−1)/2⌋                 out n1
    valid    start min(n1, n2) − 1            out |n1 − n2| + 1

correlate2d turns in2 before, and its "same" starts at ⌊n2/2⌋. One operand becomes the maps' x and
the other w, of k cells on an axis: then lo = k − 1 − start cells of padding lie in front of x and
hi = start + out − n behind it; a negative number crops x. Where padding is zero the smaller operand
is w, whichever the caller named first, since the work of plain sums is one step for each of its
cells; any other boundary surrounds in1, which then is x.

Batch axes, those that are not convolved, broadcast. One call of the maps does them all:

    size 1 in w                      samples, N
    the same size in both            groups, G
    size 1 in x, not in w            output channels of a group, O

so that x is (N, G, *n), w (G·O, 1, *k) and y (N, G·O, *out), and the gradient of an operand that
was broadcast is summed over its samples or kernels by the maps themselves.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convgrad.errors import SettingError, ShapeError
from convgrad.settings import ints

Size = tuple[int, ...]
MODES = ("full", "same", "valid")


@dataclass(frozen=True)
class Layout:
    """The shapes of in1, in2 and y, and the views of them that the maps take."""

    shapes: tuple[Size, Size]  # in1, in2
    y_shape: Size
    axes: Size  # convolved
    samples: Size
    groups: Size
    kernels: Size
    swapped: bool  # in2 is x, in1 is w
    crop: tuple[slice, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def channels(self) -> int:
        """Groups of the maps, each of one input channel."""
        return prod(self._user_x[a] for a in self.groups)

    @property
    def _user_x(self) -> Size:
        return self.shapes[self.swapped]

    @property
    def _user_w(self) -> Size:
        return self.shapes[not self.swapped]

    @property
    def _x_order(self) -> Size:
        return self.samples + self.groups + self.kernels + self.axes

    @property
    def _w_order(self) -> Size:
        return self.groups + self.kernels + self.samples + self.axes

    def x(self, array: np.ndarray) -> np.ndarray:
        """The operand that is x, (N, G, *n) without what no position reaches."""
        return _lay(array, self._x_order, (-1, self.channels), len(self.axes))[..., *self.crop]

    def w(self, array: np.ndarray) -> np.ndarray:
        """The operand that is w, (G·O, 1, *k)."""
        return _lay(array, self._w_order, (-1, 1), len(self.axes))

    def dy(self, array: np.ndarray) -> np.ndarray:
        """A gradient of y, (N, G·O, *out)."""
        samples = prod(self.y_shape[a] for a in self.samples)
        return _lay(array, self._x_order, (samples, -1), len(self.axes))

    def y_back(self, y: np.ndarray) -> np.ndarray:
        """(N, G·O, *out) as SciPy's caller has it."""
        return _back(y, self._x_order, self.y_shape)

    def x_back(self, dx: np.ndarray) -> np.ndarray:
        """A gradient of x as its operand lies; zero in cells that no position reaches."""
        whole = tuple(self._user_x[a] for a in self.axes)
        if dx.shape[2:] != whole:
            cropped, dx = dx, np.zeros((*dx.shape[:2], *whole), dx.dtype)
            dx[..., *self.crop] = cropped
        return _back(dx, self._x_order, self._user_x)

    def w_back(self, dw: np.ndarray) -> np.ndarray:
        """A gradient of w as its operand lies."""
        return _back(dw, self._w_order, self._user_w)


def _lay(array: np.ndarray, order: Size, lead: Size, rank: int) -> np.ndarray:
    moved = array.transpose(order)
    return moved.reshape(lead + moved.shape[moved.ndim - rank :])


def _back(array: np.ndarray, order: Size, shape: Size) -> np.ndarray:
    moved = array.reshape([shape[axis] for axis in order])
    return moved.transpose([order.index(axis) for axis in range(len(shape))])


def convolved_axes(call: str, axes: object, rank: int) -> Size:
    """`axes` as sorted numbers ≥ 0; None means all."""
    if axes is None:
        return tuple(range(rank))
    given = ints(call, "axes", axes)
    given = (given,) if isinstance(given, int) else given
    if not given:
        raise SettingError(f"{call}: axes={axes!r} names no axis; leave it out for all axes")
    if rank == 0:
        raise SettingError(
            f"{call}: axes={axes!r}, but in1 and in2 are numbers, which have no axes; leave it out"
        )
    if any(not -rank <= axis < rank for axis in given):
        raise SettingError(f"{call}: axes={axes!r} must lie in {-rank} … {rank - 1}")
    found = {axis % rank for axis in given}
    if len(found) < len(given):
        raise SettingError(f"{call}: axes={axes!r} names an axis twice")
    return tuple(sorted(found))


@lru_cache(maxsize=1024)
def layout_of(
    call: str, shapes: tuple[Size, Size], mode: str, axes: Size, surrounded: bool, late: bool
) -> Layout:
    """The layout of a call whose shapes have the same number of axes.

    surrounded: a boundary other than zeros lies around in1, which must be x then. late: "same"
    starts at ⌊n2/2⌋. Raises ShapeError where the batch axes do not broadcast, or where "valid"
    finds neither operand inside the other.
    """
    batch = tuple(a for a in range(len(shapes[0])) if a not in axes)
    for axis in batch:
        n1, n2 = (shape[axis] for shape in shapes)
        if n1 != n2 and 1 not in (n1, n2):
            raise ShapeError(
                f"{call}: in1 is {shapes[0]} and in2 {shapes[1]}; axis {axis}, which is not in "
                f"axes={axes}, has sizes {n1} and {n2}: they must agree, or one of them be 1"
            )
    sizes = [tuple(shape[a] for a in axes) for shape in shapes]
    windows = _windows(call, shapes, mode, sizes, late)
    swapped = not surrounded and prod(sizes[0]) < prod(sizes[1])
    x, w = shapes[swapped], shapes[not swapped]
    pads, crop = [], []
    for (start, out), n, k in zip(windows, sizes[swapped], sizes[not swapped], strict=True):
        lo, hi = k - 1 - start, start + out - n
        pads.append((max(lo, 0), max(hi, 0)))
        crop.append(slice(max(-lo, 0), n - max(-hi, 0)))
    together = tuple(n2 if n1 == 1 else n1 for n1, n2 in zip(*shapes, strict=True))
    samples = tuple(a for a in batch if w[a] == 1)
    groups = tuple(a for a in batch if w[a] != 1 and x[a] == w[a])
    kernels = tuple(a for a in batch if w[a] != 1 and x[a] == 1)
    return Layout(
        shapes, _with(together, axes, tuple(out for _, out in windows)), axes,
        samples, groups, kernels, swapped, tuple(crop), tuple(pads),
    )  # fmt: skip


def _with(shape: Size, axes: Size, sizes: Size) -> Size:
    """`shape` with other sizes on `axes`."""
    new = dict(zip(axes, sizes, strict=True))
    return tuple(new.get(axis, n) for axis, n in enumerate(shape))


def _windows(
    call: str, shapes: tuple[Size, Size], mode: str, sizes: list[Size], late: bool
) -> list[tuple[int, int]]:
    """(start, out) of the mode on each convolved axis."""
    pairs = list(zip(*sizes, strict=True))
    if mode == "full":
        return [(0, n1 + n2 - 1) for n1, n2 in pairs]
    if mode == "same":
        return [((n2 if late else n2 - 1) // 2, n1) for n1, n2 in pairs]
    if not (all(n1 >= n2 for n1, n2 in pairs) or all(n2 >= n1 for n1, n2 in pairs)):
        raise ShapeError(
            f"{call}: in1 is {shapes[0]} and in2 {shapes[1]}; mode='valid' needs one of them at "
            "least as large as the other on every convolved axis; use 'same' or 'full'"
        )
    return [(min(n1, n2) - 1, abs(n1 - n2) + 1) for n1, n2 in pairs]
