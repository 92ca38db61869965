"""One call's sizes, every check of the original with what it failed to notice, and the buffers.

oH = ⌊(H + 2·padH − kH)/dH⌋ + 1        oW = ⌊(W + 2·padW − kW)/dW⌋ + 1
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convgrad.arrays import Array, to_numpy
from convgrad.contracts.blas import check_apart, check_writable, real_dtype
from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.geometry import check_memory
from convgrad.settings import integer
from convgrad.unfolding import col2im, im2col

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A call's sizes, in the original's names: planes are channels, batch is None for 3-D input."""

    call: str
    batch: int | None
    planes: int
    height: int
    width: int
    kW: int
    kH: int
    dW: int
    dH: int
    padW: int
    padH: int

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.padH - self.kH) // self.dH + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.padW - self.kW) // self.dW + 1

    @property
    def samples(self) -> int:
        return 1 if self.batch is None else self.batch

    @property
    def rows(self) -> int:
        """Rows of the columns: I·kH·kW."""
        return self.planes * self.kH * self.kW

    @property
    def pixels(self) -> int:
        """Columns of the columns: oH·oW."""
        return self.out_height * self.out_width

    @property
    def columns_shape(self) -> Shape:
        """The whole batch's columns."""
        return self.of_batch(self.rows, self.pixels)

    @property
    def input_shape(self) -> Shape:
        return self.of_batch(self.planes, self.height, self.width)

    def output_shape(self, out_planes: int) -> Shape:
        return self.of_batch(out_planes, self.out_height, self.out_width)

    def of_batch(self, *shape: int) -> Shape:
        """The shape with the batch in front, where the input has one."""
        return shape if self.batch is None else (self.batch, *shape)

    def unfold(self, image: np.ndarray) -> np.ndarray:
        """A sample's columns (I·kH·kW, oH·oW)."""
        return im2col(image, (self.kH, self.kW), (self.dH, self.dW), (self.padH, self.padW))

    def fold(self, columns: np.ndarray) -> np.ndarray:
        """A sample's columns added up where they overlap, (I, H, W)."""
        shape = (self.planes, self.height, self.width)
        kernel, stride = (self.kH, self.kW), (self.dH, self.dW)
        return col2im(columns, shape, kernel, stride, (self.padH, self.padW))

    def check_weight(self, name: str, shape: Shape) -> int:
        """The output planes of a 4-D or 2-D weight; raises ShapeError unless it fits the input."""
        if len(shape) not in (2, 4) or 0 in shape:
            raise ShapeError(
                f"{self.call}: {name} is {shape}; pass (O, I, kH, kW), or its 2-D view "
                "(O, I·kH·kW), with no size of 0"
            )
        taps = self.kH * self.kW
        if len(shape) == 4 and shape[2:] != (self.kH, self.kW):
            kH, kW = shape[2:]
            raise ShapeError(
                f"{self.call}: {name} is {shape}, whose kernel is kH={kH}, kW={kW}, but "
                f"kW={self.kW}, kH={self.kH} came; pass kW={kW}, kH={kH} (the width comes first)"
            )
        if len(shape) == 2 and shape[1] % taps:
            raise ShapeError(
                f"{self.call}: {name} is {shape}, but a kernel of kW={self.kW}, kH={self.kH} needs "
                f"rows of I·kH·kW numbers, a multiple of {taps}; pass the kernel of this {name}"
            )
        planes = shape[1] if len(shape) == 4 else shape[1] // taps
        if planes != self.planes:
            raise ShapeError(
                f"{self.call}: {name} is {shape}, for {planes} input planes, but input "
                f"{self.input_shape} has {self.planes}; pass an input with {planes} planes"
            )
        return shape[0]

    def check_bias(self, name: str, shape: Shape, out_planes: int) -> None:
        if shape != (out_planes,):
            raise ShapeError(
                f"{self.call}: {name} is {shape}, but {out_planes} output planes need "
                f"({out_planes},), one number for each"
            )

    def check_grad_output(self, shape: Shape, out_planes: int | None) -> None:
        """Raise ShapeError unless this is the shape of the layer's output."""
        axes = len(self.input_shape)
        if len(shape) != axes:
            raise ShapeError(
                f"{self.call}: grad_output is {shape}, with {len(shape)} axes, but input "
                f"{self.input_shape} has {axes}; pass the gradient of its output, with {axes} axes"
            )
        need = self.output_shape(shape[-3] if out_planes is None else out_planes)
        names = ("batch", "planes", "height", "width")[-axes:]
        for name, came, wanted in zip(names, shape, need, strict=True):
            if came != wanted:
                raise ShapeError(
                    f"{self.call}: grad_output is {shape}, but the output is {need}: {name} is "
                    f"{came}, not {wanted}; pass the gradient of this layer's own output, and the "
                    "kernel, stride and padding of its forward"
                )
        if 0 in shape:
            raise ShapeError(
                f"{self.call}: grad_output is {shape}, with no planes; pass at least 1"
            )


def layer_of(
    call: str, input_shape: Shape,
    kW: object, kH: object, dW: object, dH: object, padW: object, padH: object,
) -> Layer:  # fmt: skip
    """The layer of one call; raises ShapeError or SettingError unless there is an output."""
    kW, kH = (at_least(call, n, v, 1, "kernel") for n, v in (("kW", kW), ("kH", kH)))
    dW, dH = (at_least(call, n, v, 1, "stride") for n, v in (("dW", dW), ("dH", dH)))
    padW, padH = (at_least(call, n, v, 0, "padding") for n, v in (("padW", padW), ("padH", padH)))
    if len(input_shape) not in (3, 4) or 0 in input_shape:
        raise ShapeError(
            f"{call}: input is {input_shape}; pass (I, H, W) or (N, I, H, W), with no size of 0"
        )
    *lead, planes, height, width = input_shape
    high, wide = height + 2 * padH, width + 2 * padW
    if high < kH or wide < kW:
        raise ShapeError(
            f"{call}: input is {height}×{width}, {high}×{wide} with padH={padH} and padW={padW}, "
            f"smaller than the kernel kH={kH} × kW={kW}; pass more padding or a smaller kernel"
        )
    batch = lead[0] if lead else None
    layer = Layer(call, batch, planes, height, width, kW, kH, dW, dH, padW, padH)
    check_memory(call, "the padded input", (planes, high, wide), "padding")
    check_memory(call, "the columns", (layer.rows, layer.pixels), "padding")
    return layer


def at_least(call: str, name: str, value: object, least: int, what: str) -> int:
    """The int, which is the layer's `what`; raises SettingError unless it is `least` or more."""
    number = integer(call, name, value)
    if number < least:
        raise SettingError(f"{call}: {name}, the {what}, is {number}; pass {least} or more")
    return number


def operands(call: str, **arrays: Array | None) -> tuple[dict[str, np.ndarray], np.dtype[Any]]:
    """The arrays that are read, as they lie, and their one dtype; only the bias may be None."""
    found = {
        name: to_numpy(call, name, array)[0]
        for name, array in arrays.items()
        if array is not None or name != "bias"
    }
    return found, real_dtype(call, found)


@dataclass
class Buffers:
    """What one call writes: the caller's arrays, checked before anything runs, or new ones."""

    layer: Layer
    dtype: np.dtype[Any]
    read: dict[str, np.ndarray]
    written: dict[str, np.ndarray]

    def take(self, name: str, value: Array | None, *shapes: Shape) -> np.ndarray:
        """The caller's buffer, of one of the shapes; a new one of the first shape for None."""
        if value is None:
            check_memory(self.layer.call, name, shapes[0], "padding")
            return np.empty(shapes[0], self.dtype)
        array = to_numpy(self.layer.call, name, value)[0]
        if array.shape not in shapes:
            raise ShapeError(
                f"{self.layer.call}: {name} is {array.shape}, but must be "
                f"{' or '.join(map(str, shapes))}; pass such an array{self._or_none(name)}"
            )
        return self._checked(name, array)

    def take_columns(self, name: str, value: Array | None) -> np.ndarray:
        """The buffer of one sample's columns, or of all samples'."""
        one = (self.layer.rows, self.layer.pixels)
        return self.take(name, value, one, (self.layer.samples, *one))

    def take_ones(self, value: Array | None) -> np.ndarray:
        """The buffer of ones, which may be larger than this layer's output."""
        pixels = self.layer.pixels
        if value is None:
            return np.empty(pixels, self.dtype)
        array = to_numpy(self.layer.call, "ones", value)[0]
        if array.size < pixels:
            raise ShapeError(
                f"{self.layer.call}: ones is {array.shape}, but the output has "
                f"{self.layer.out_height}×{self.layer.out_width} pixels; pass a buffer of at "
                f"least {pixels} numbers{self._or_none('ones')}"
            )
        return self._checked("ones", array)

    def check(self) -> None:
        """Raise ArrayError where two of the buffers, or one and an operand, share memory."""
        check_apart(self.layer.call, self.written, self.read)

    def _checked(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype.newbyteorder("=") != self.dtype:
            raise DTypeError(
                f"{self.layer.call}: {name} is {array.dtype}, but the operands are {self.dtype}; "
                f"pass it in {self.dtype}{self._or_none(name)}"
            )
        check_writable(self.layer.call, name, array)
        self.written[name] = array
        return array

    def _or_none(self, name: str) -> str:
        return "" if name.startswith("grad_") and name[5:] in ("weight", "bias") else ", or None"


def sample(layer: Layer, array: np.ndarray, index: int) -> np.ndarray:
    """One sample of an array that may have no batch axis."""
    return array if layer.batch is None else array[index]


def columns_of(columns: np.ndarray, index: int) -> np.ndarray:
    """Where a sample's columns go: its own place, or the one place that all samples share."""
    return columns if columns.ndim == 2 else columns[index]
