"""A net with the toolbox's structure and names, and cnnsetup.

Where MATLAB has cells, a net has one array whose leading axes count the cells, so that
`net.layers[l].a[j]` and `net.layers[l].k[i][j]` are read and written alike; l, i, j count from 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from convgrad.contracts.deeplearntoolbox.arrays import (
    ordered,
    random_generator,
    real_numbers,
    whole_number,
)
from convgrad.errors import SettingError, ShapeError

NEEDS = {"i": (), "c": ("outputmaps", "kernelsize"), "s": ("scale",)}
Size = tuple[int, int]


def _nothing() -> np.ndarray:
    """What MATLAB writes as []: a field that no call has filled yet."""
    return np.zeros(0)


@dataclass(eq=False)
class Layer:
    """One layer: its type ("i" input, "c" convolution, "s" mean pooling), settings and arrays.

    a   (maps, h, w, N)       output maps; d, of the same shape, is N·∂L/∂z: z is what the
                              sigmoid takes, and a itself in a pooling layer
    k   (in, maps, K, K)      kernels of a convolution, from input map i to output map j
    b   (maps,)               one bias for each map; in a pooling layer it is 0 and stays 0
    dk, db                    ∂L/∂k and ∂L/∂b of a convolution, shaped as k and b
    """

    type: str
    outputmaps: int = 0
    kernelsize: int = 0
    scale: int = 0
    k: np.ndarray = field(default_factory=_nothing, repr=False)
    b: np.ndarray = field(default_factory=_nothing, repr=False)
    a: np.ndarray = field(default_factory=_nothing, repr=False)
    d: np.ndarray = field(default_factory=_nothing, repr=False)
    dk: np.ndarray = field(default_factory=_nothing, repr=False)
    db: np.ndarray = field(default_factory=_nothing, repr=False)


@dataclass(eq=False)
class Net:
    """The layers, the dense output layer, and what the last calls left.

    ffW (onum, fvnum), ffb (onum, 1)    the output layer; dffW, dffb their gradients
    fv (fvnum, N), o (onum, N)          from cnnff: the feature vectors and the outputs
    e, od (onum, N), fvd (fvnum, N)     from cnnbp: o − y, and the deltas of o and of fv
    L                                   from cnnbp: the loss ½Σe²/N
    rL (steps + 1,)                     from cnntrain: the smoothed loss
    """

    layers: list[Layer]
    ffW: np.ndarray = field(default_factory=_nothing, repr=False)
    ffb: np.ndarray = field(default_factory=_nothing, repr=False)
    fv: np.ndarray = field(default_factory=_nothing, repr=False)
    o: np.ndarray = field(default_factory=_nothing, repr=False)
    e: np.ndarray = field(default_factory=_nothing, repr=False)
    L: float = field(default=float("nan"), repr=False)
    od: np.ndarray = field(default_factory=_nothing, repr=False)
    fvd: np.ndarray = field(default_factory=_nothing, repr=False)
    dffW: np.ndarray = field(default_factory=_nothing, repr=False)
    dffb: np.ndarray = field(default_factory=_nothing, repr=False)
    rL: np.ndarray = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True)
class Parameters:
    """A net's parameters, checked, as convgrad's maps take them.

    w[l] (O, I, K, K) and b[l] (O,), None where layer l is no convolution; scale[l], 0 where it is
    no pooling; sizes[l] = (maps, h, w); ffW (onum, fvnum), ffb (onum, 1). Where the net's arrays
    are float64, these are views of them.
    """

    w: list[np.ndarray | None]
    b: list[np.ndarray | None]
    scale: list[int]
    sizes: list[tuple[int, int, int]]
    ffW: np.ndarray
    ffb: np.ndarray


def cnnsetup(net: Any, x: Any, y: Any, *, rng: Any = None) -> Net:
    """A new Net: k ~ U(±√(6/(I·K² + O·K²))), ffW ~ U(±√(6/(onum + fvnum))), all biases 0.

    net     a list of layers, or anything with `layers`; a layer is a dict or has attributes:
            {"type": "i"} first, then {"type": "c", "outputmaps": 6, "kernelsize": 5} and
            {"type": "s", "scale": 2} in any order
    x       (H, W, N), only its sizes count; y (onum, N)
    rng     a numpy.random.Generator or a seed; without it every net is another one
    Raises SettingError for a layer that is not described and for another rng, ShapeError for a
    kernel larger than its input maps, for maps that the scale does not divide, and for y without
    N columns.
    """
    layers = _layers("cnnsetup", net)
    samples = images("cnnsetup", "x", x)
    outputs, _ = targets("cnnsetup", y, samples.shape[2]).shape
    sizes = map_sizes("cnnsetup", layers, samples.shape[:2])
    generator = random_generator("cnnsetup", rng)
    maps = 1
    for layer in layers:
        maps, inputs = layer.outputmaps if layer.type == "c" else maps, maps
        if layer.type == "c":
            _initialise(layer, inputs, generator)
        elif layer.type == "s":
            layer.b = np.zeros(maps)
    features = maps * sizes[-1][0] * sizes[-1][1]
    bound = np.sqrt(6 / (outputs + features))
    ffW = generator.uniform(-bound, bound, (outputs, features))
    return Net(layers, ffW, np.zeros((outputs, 1)))


def _initialise(layer: Layer, inputs: int, generator: np.random.Generator) -> None:
    area = layer.kernelsize**2
    bound = np.sqrt(6 / (inputs * area + layer.outputmaps * area))
    shape = (layer.outputmaps, inputs, layer.kernelsize, layer.kernelsize)
    layer.k = generator.uniform(-bound, bound, shape).swapaxes(0, 1)
    layer.b = np.zeros(layer.outputmaps)


def option(call: str, owner: str, holder: Any, name: str) -> Any:
    """The field `name` of a mapping or an object; raises SettingError where there is none."""
    missing = object()
    if isinstance(holder, Mapping):
        found = holder.get(name, missing)
    else:
        found = getattr(holder, name, missing)
    if found is missing:
        raise SettingError(f"{call}: {owner} has no {name}; give it, as in {{{name!r}: …}}")
    return found


def _layers(call: str, net: Any) -> list[Layer]:
    given = net if isinstance(net, list | tuple) else option(call, "net", net, "layers")
    given = ordered(call, "layers", given, "a list of layers")
    layers = [_layer(call, f"layers[{level}]", one) for level, one in enumerate(given)]
    kinds = "".join(layer.type for layer in layers)
    if not kinds.startswith("i") or "i" in kinds[1:]:
        raise SettingError(
            f"{call}: the layers' types are {list(kinds)}; the first, and only that, must be 'i'"
        )
    return layers


def _layer(call: str, owner: str, given: Any) -> Layer:
    kind = option(call, owner, given, "type")
    if not isinstance(kind, str) or kind not in NEEDS:
        raise SettingError(
            f"{call}: {owner} has type {kind!r}; types are 'i' (input), 'c' (convolution) and "
            "'s' (mean pooling)"
        )
    layer = Layer(kind)
    for name in NEEDS[kind]:
        size = whole_number(call, f"{owner}.{name}", option(call, owner, given, name))
        setattr(layer, name, size)
    return layer


def map_sizes(call: str, layers: list[Layer], size: tuple[int, ...]) -> list[Size]:
    """(h, w) of the maps of each layer, for images of `size`; ShapeError where one does not fit."""
    height, width = size
    sizes = []
    for level, layer in enumerate(layers):
        K, s = layer.kernelsize, layer.scale
        if layer.type == "c":
            if min(height, width) < K:
                raise ShapeError(
                    f"{call}: layers[{level}] has kernels of {K}×{K}, but its input maps are "
                    f"{height}×{width}; take a smaller kernelsize or larger images"
                )
            height, width = height - K + 1, width - K + 1
        elif layer.type == "s":
            if height % s or width % s:
                raise ShapeError(
                    f"{call}: layers[{level}] has scale {s}, which does not divide its input maps "
                    f"of {height}×{width}; the size of a map must be a whole number"
                )
            height, width = height // s, width // s
        sizes.append((height, width))
    return sizes


def images(call: str, name: str, value: Any) -> np.ndarray:
    """`value` as float64 (H, W, N); (H, W) is one sample, since MATLAB drops a last axis of 1."""
    array = real_numbers(call, name, value)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or not array.size:
        raise ShapeError(
            f"{call}: {name} is {array.shape}; it needs (H, W, N), rows, columns and samples, "
            "none of them 0"
        )
    return array


def targets(call: str, y: Any, samples: int, outputs: int | None = None) -> np.ndarray:
    """y as float64 (onum, N): one column for each sample; (onum,) is that of a single one."""
    array = real_numbers(call, "y", y)
    if array.ndim == 1 and samples == 1:
        array = array[:, None]

    def fits(shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 and shape[0] == (outputs or shape[0]) > 0 and shape[1] == samples

    if not fits(array.shape):
        advice = "; pass y.T" if fits(array.shape[::-1]) else ""
        raise ShapeError(
            f"{call}: y is {array.shape}, but needs ({outputs or 'onum'}, {samples}): one row for "
            f"each output, one column for each sample of x{advice}"
        )
    return array


def needed_net(call: str, net: Any) -> Net:
    """`net`; raises SettingError for anything but what cnnsetup returns."""
    if not isinstance(net, Net):
        raise SettingError(
            f"{call}: net is a {type(net).__name__}; pass the Net that cnnsetup returned"
        )
    layers = net.layers if isinstance(net.layers, list | tuple) else []
    if not layers or not all(isinstance(one, Layer) for one in layers):
        raise SettingError(f"{call}: net.layers is no list of Layers; make the net with cnnsetup")
    return net


def parameters(call: str, net: Any, size: tuple[int, ...]) -> Parameters:
    """The parameters as they are now, for images of `size`; raises what does not fit."""
    layers = _layers(call, needed_net(call, net))
    maps_of = map_sizes(call, layers, size)
    w: list[np.ndarray | None] = []
    b: list[np.ndarray | None] = []
    sizes = []
    maps = 1
    for level, (layer, own) in enumerate(zip(layers, net.layers)):
        if layer.type == "c":
            inputs, maps, K = maps, layer.outputmaps, layer.kernelsize
            k = shaped(call, f"layers[{level}].k", own.k, (inputs, maps, K, K))
            w.append(k.swapaxes(0, 1))
            b.append(shaped(call, f"layers[{level}].b", own.b, (maps,)))
        else:
            w.append(None)
            b.append(None)
        sizes.append((maps, *maps_of[level]))
    features = prod(sizes[-1])
    ffW = real_numbers(call, "ffW", net.ffW)
    if ffW.ndim != 2 or ffW.shape[1] != features:
        raise ShapeError(
            f"{call}: ffW is {ffW.shape}, but images of {size[0]}×{size[1]} give a feature vector "
            f"of {features}, so it needs (onum, {features})"
        )
    scale = [layer.scale for layer in layers]
    ffb = shaped(call, "ffb", net.ffb, (ffW.shape[0], 1))
    return Parameters(w, b, scale, sizes, ffW, ffb)


def shaped(
    call: str, name: str, value: Any, shape: tuple[int, ...], advice: str = ""
) -> np.ndarray:
    """`value` as float64 of this shape; axes of size 1 may be missing from or added to a vector."""
    array = real_numbers(call, name, value)
    if array.shape != shape:
        vector = array.size == max(array.shape, default=1) == max(shape) == np.prod(shape)
        if not vector:
            raise ShapeError(f"{call}: {name} is {array.shape}, but needs {shape}{advice}")
        array = array.reshape(shape)
    return array
