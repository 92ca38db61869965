"""Course: the layout and the names of one course, and conv and backward in them.

Everything is checked here, in the course's own words, before convgrad's maps see it.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convgrad.api import Gradients, backward, conv
from convgrad.arrays import Array, floating_dtype, listed, to_numpy
from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.geometry import check_memory

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """The settings that belong to a layer, not to a call: one int each, for both axes."""

    stride: int
    padding: int
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Sizes:
    """The sizes of x and w, whatever the order of their axes."""

    x_shape: Shape
    w_shape: Shape
    image: Shape
    kernel: Shape
    channels: int
    per_group: int
    out_channels: int


@dataclass(frozen=True)
class Course:
    """How a course lays its arrays out, and what it calls them.

    layout          convgrad's word for the place of the channels in x and y
    single          whether x may lack the batch axis
    weight_order    the axes of the course's weights in the order (O, kernel, C/G) of `layout`
    bias_ones       axes of size 1 in front of the bias's channels
    """

    layout: str
    single: bool
    weight_order: tuple[int, int, int, int]
    bias_ones: int
    x: str
    x_axes: str
    w: str
    w_axes: str
    b: str
    y: str
    dy: str

    def conv(self, call: str, x: Array, w: Array, b: Array | None, layer: Layer) -> np.ndarray:
        """y of the course's x, w and b, or without a bias where b is None."""
        given = {self.x: x, self.w: w} | ({} if b is None else {self.b: b})
        arrays = _promoted(call, given)
        x, w = arrays[self.x], arrays[self.w]
        sizes = self._sizes(call, x.shape, w.shape)
        self._y_shape(call, sizes, layer)
        bias = None if b is None else self._bias(call, arrays[self.b], sizes.out_channels)
        return conv(
            x, w.transpose(self.weight_order), bias,
            layer.stride, layer.padding, layer.dilation, layer.groups,
            layout=self.layout, precision="strict",
        )  # fmt: skip

    def backward(self, call: str, x: Array, w: Array, dy: Array, layer: Layer) -> Gradients:
        """dx, dw and db in the course's layout, for the gradient dy of its y."""
        arrays = _promoted(call, {self.dy: dy, self.x: x, self.w: w})
        x, w, dy = arrays[self.x], arrays[self.w], arrays[self.dy]
        sizes = self._sizes(call, x.shape, w.shape)
        need = self._y_shape(call, sizes, layer)
        if dy.shape != need:
            raise ShapeError(
                f"{call}: {self.dy} is {dy.shape}, but {self.x} {x.shape} with "
                f"{_kernel_text(sizes, layer)}, stride {layer.stride} and padding "
                f"{layer.padding} has {self.y} {need}; pass the gradient of this {self.y}, and "
                "the settings of its forward"
            )
        dx, dw, db = backward(
            x, w.transpose(self.weight_order), dy,
            layer.stride, layer.padding, layer.dilation, layer.groups,
            layout=self.layout, precision="strict",
        )  # fmt: skip
        dw = np.ascontiguousarray(dw.transpose(np.argsort(self.weight_order)))
        return Gradients(dx, dw, db.reshape((1,) * self.bias_ones + db.shape))

    def _sizes(self, call: str, x_shape: Shape, w_shape: Shape) -> Sizes:
        """The sizes of x and w; raises ShapeError unless they have the course's axes."""
        if len(x_shape) != 4 and not (self.single and len(x_shape) == 3):
            raise ShapeError(
                f"{call}: {self.x} is {x_shape}, with {len(x_shape)} axes; pass {self.x_axes}"
            )
        if len(w_shape) != 4:
            raise ShapeError(
                f"{call}: {self.w} is {w_shape}, with {len(w_shape)} axes; pass {self.w_axes}"
            )
        weight = tuple(w_shape[axis] for axis in self.weight_order)
        if self.layout == "channels_last":
            *image, channels = x_shape[-3:]
            out_channels, *kernel, per_group = weight
        else:
            channels, *image = x_shape[-3:]
            out_channels, per_group, *kernel = weight
        sizes = Sizes(
            x_shape, w_shape, tuple(image), tuple(kernel), channels, per_group, out_channels
        )
        if min(*sizes.image, *sizes.kernel, sizes.out_channels) < 1:
            raise ShapeError(
                f"{call}: {self.x} is {x_shape} and {self.w} {w_shape}; only the batch and the "
                "input channels may be empty"
            )
        return sizes

    def _y_shape(self, call: str, sizes: Sizes, layer: Layer) -> Shape:
        """⌊(n + 2·padding − d·(f−1) − 1) / stride⌋ + 1 on each axis, beside batch and channels.

        Raises ShapeError where the channels do not fit together, the kernel does not fit in, or no
        memory holds the padded input or the output.
        """
        channels, outputs, groups = sizes.channels, sizes.out_channels, layer.groups
        if channels % groups or outputs % groups:
            raise ShapeError(
                f"{call}: groups={groups} does not divide both the {channels} input channels of "
                f"{self.x} {sizes.x_shape} and the {outputs} output channels of {self.w} "
                f"{sizes.w_shape}; pass one that does"
            )
        if sizes.per_group * groups != channels:
            within = f" in {groups} groups" if groups > 1 else ""
            raise ShapeError(
                f"{call}: {self.w} {sizes.w_shape} is for {sizes.per_group * groups} input "
                f"channels{within}, but {self.x} {sizes.x_shape} has {channels}; "
                f"pass {self.w} as {self.w_axes} and {self.x} as {self.x_axes}"
            )
        room = [
            n + 2 * layer.padding - layer.dilation * (f - 1) - 1
            for n, f in zip(sizes.image, sizes.kernel, strict=True)
        ]
        if min(room) < 0:
            raise ShapeError(
                f"{call}: {_kernel_text(sizes, layer)} does not fit into {self.x} of "
                f"{sizes.image[0]}×{sizes.image[1]} with padding {layer.padding}; "
                "pass a larger padding or a smaller kernel"
            )
        out = tuple(r // layer.stride + 1 for r in room)
        padded = [n + 2 * layer.padding for n in sizes.image]
        lead = sizes.x_shape[:-3]
        check_memory(call, f"the padded {self.x}", (*lead, channels, *padded), "padding")
        check_memory(call, self.y, (*lead, outputs, *out), "padding")
        return (*lead, *out, outputs) if self.layout == "channels_last" else (*lead, outputs, *out)

    def _bias(self, call: str, b: np.ndarray, out_channels: int) -> np.ndarray:
        need = (1,) * self.bias_ones + (out_channels,)
        if b.shape != need:
            remedy = f"{self.b}.reshape{need}" if b.size == out_channels else "one for each"
            raise ShapeError(
                f"{call}: {self.b} is {b.shape}, but {out_channels} output channels need {need}; "
                f"pass {remedy}"
            )
        return b.reshape(-1)


def _kernel_text(sizes: Sizes, layer: Layer) -> str:
    dilated = f" with dilation {layer.dilation}" if layer.dilation > 1 else ""
    return f"a {sizes.kernel[0]}×{sizes.kernel[1]} kernel{dilated}"


def setting(call: str, name: str, value: object, least: int) -> int:
    """One int ≥ least; raises SettingError for anything else, a pair of ints included."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise SettingError(f"{call}: {name} must be one int, not {value!r}")
    if number < least:
        raise SettingError(f"{call}: {name} is {number}; pass {least} or more")
    return number


def layer_of(call: str, name: str, hyperparameters: object) -> Layer:
    """The Layer of a dict that has 'stride' and 'pad'; its other keys are not read."""
    if not isinstance(hyperparameters, Mapping):
        raise SettingError(
            f"{call}: {name} is a {type(hyperparameters).__name__}; "
            "pass a dict such as {'stride': 1, 'pad': 0}"
        )
    for key in ("stride", "pad"):
        if key not in hyperparameters:
            raise SettingError(
                f"{call}: {name} has no {key!r}; pass a dict such as {{'stride': 1, 'pad': 0}}"
            )
    stride = setting(call, f"{name}['stride']", hyperparameters["stride"], 1)
    return Layer(stride, setting(call, f"{name}['pad']", hyperparameters["pad"], 0))


def unpacked(call: str, cache: object, entries: str) -> tuple:
    """The four entries of a cache; raises SettingError for anything that is no such tuple."""
    if not isinstance(cache, tuple | list) or len(cache) != 4:
        size = f" of {len(cache)}" if isinstance(cache, tuple | list) else ""
        raise SettingError(
            f"{call}: cache is a {type(cache).__name__}{size}; pass the {entries} of the forward"
        )
    return tuple(cache)


def _promoted(call: str, arrays: dict[str, Array]) -> dict[str, np.ndarray]:
    """The arrays in the dtype that NumPy promotes them to, integers counting as float64."""
    given = {name: _real(call, name, array) for name, array in arrays.items()}
    try:
        dtype = np.result_type(*(a.dtype for a in given.values()))
    except TypeError:
        dtypes = ", ".join(f"{name} is {a.dtype}" for name, a in given.items())
        raise DTypeError(
            f"{call}: {dtypes}, and NumPy has no dtype for both; pass one dtype"
        ) from None
    return {name: a.astype(dtype, copy=False) for name, a in given.items()}


def _real(call: str, name: str, array: Array) -> np.ndarray:
    if isinstance(array, list | tuple):
        found = listed(call, name, array)
    else:
        found, _ = to_numpy(call, name, array)
    if found.dtype.kind in "biu":
        return found.astype(np.float64)
    if found.dtype.kind == "c":
        raise DTypeError(
            f"{call}: {name} is {found.dtype}, but the course's gradients are those of real "
            "numbers; call convgrad.backward, which conjugates"
        )
    floating_dtype(call, name, found.dtype)
    return found
