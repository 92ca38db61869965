"""Models that have a name: toolbox, lenet and residual, for images of any usual size.

Each function gives a spec (see description.py): the layers fitted to the input, and the loss
the model is trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convgrad.errors import ConvError, ShapeError
from convgrad.nn import description
from convgrad.nn.names import choose


def toolbox(input_shape: Sequence[int], classes: int) -> dict[str, Any]:
    """6c5-2s-12c5-2s with sigmoids and mean pooling, then linear and sigmoid; ½Σe²/N.

    The network of the MATLAB toolbox's example, as it is for 28×28.  Images too small for its
    5×5 kernels (below 20 pixels) have 3×3 kernels with padding 1 instead: 8 → 8, 4, 4, 2.
    Its sigmoids pass little gradient back: on 8×8 digits it learns with Adam, lr 0.02 and some
    forty epochs, and hardly with SGD's usual learning rates.
    Source: DeepLearnToolbox (R. B. Palm 2012), test_example_CNN.m.
    """
    kernel = "5" if _smallest(input_shape, 4) >= 20 else "3 padding=1"
    layers = f"""
        conv 6 {kernel} initializer=toolbox, sigmoid, avgpool 2,
        conv 12 {kernel} initializer=toolbox, sigmoid, avgpool 2,
        flatten, linear {classes} initializer=toolbox, sigmoid"""
    return _spec("toolbox", input_shape, "half_mse", layers)


def lenet(input_shape: Sequence[int], classes: int) -> dict[str, Any]:
    """LeNet-5's plan with ReLU and max pooling; softmax cross-entropy.

    32×32: 5×5 kernels without padding, 32 → 28, 14, 10, 5.  28×28: the first with padding 2, so
    that the rest is the same.  Below 20 pixels there is less to pool and more to overfit: 3×3
    kernels with padding 1 and more channels, one pooling after both, and dropout, 8 → 8, 8, 4.
    Source: LeCun et al. 1998.
    """
    size = _smallest(input_shape, 4)
    if size < 20:
        maps = "conv 16 3 padding=1, relu, conv 32 3 padding=1, relu, maxpool 2, dropout 0.25"
        hidden = "linear 64, relu, dropout 0.25"
    else:
        first = "conv 6 5" if size >= 32 else "conv 6 5 padding=2"
        maps = f"{first}, relu, maxpool 2, conv 16 5, relu, maxpool 2"
        hidden = "linear 120, relu, linear 84, relu"
    layers = f"{maps}, flatten, {hidden}, linear {classes} initializer=xavier_uniform"
    return _spec("lenet", input_shape, "softmax_cross_entropy", layers)


def residual(input_shape: Sequence[int], classes: int) -> dict[str, Any]:
    """Three residual blocks with BatchNorm, 16, 32 and 64 channels, then the mean of each map.

    The second and third block halve the image; below 16 pixels the third does not.
    Source: He et al. 2016 (the plan of its small networks).
    """
    last = 2 if _smallest(input_shape, 4) >= 16 else 1
    sizes = list(input_shape[1:])
    for stride in (2, last):
        sizes = [-(-size // stride) for size in sizes]
    layers = f"""
        conv 16 3 padding=1 bias=false, batchnorm, relu,
        {_block(16, 1, shortcut=False)},
        {_block(32, 2, shortcut=True)},
        {_block(64, last, shortcut=True)},
        avgpool {"x".join(map(str, sizes))},
        flatten, linear {classes} initializer=xavier_uniform"""
    return _spec("residual", input_shape, "softmax_cross_entropy", layers)


MODELS: dict[str, Callable[[Sequence[int], int], dict[str, Any]]] = {
    "toolbox": toolbox,
    "lenet": lenet,
    "residual": residual,
}


def named(name: str, input_shape: Sequence[int], classes: int) -> dict[str, Any]:
    """The spec of the model of that name; SettingError lists the names there are."""
    return choose(MODELS, name, "model")(input_shape, classes)


def resolve(text: str, input_shape: Sequence[int], classes: int) -> dict[str, Any]:
    """The spec that `text` means: a model's name, the path of a TOML file, or a short line.

    A file without input_shape takes the one given.  Raises ShapeError if the file's differs,
    or if the model does not end in `classes` numbers.
    """
    if text in MODELS:
        return named(text, input_shape, classes)
    if text.endswith(".toml") or Path(text).is_file():
        spec = description.read_spec(text)
    elif " " in text or "," in text:
        spec = description.checked({"name": "model", "layers": text})
    else:
        return named(text, input_shape, classes)
    spec = {"input_shape": list(input_shape)} | spec
    _check_fits(spec, input_shape, classes)
    return spec


def _block(channels: int, stride: int, shortcut: bool) -> str:
    beside = f"| conv {channels} 1 {stride} bias=false, batchnorm" if shortcut else ""
    return f"""residual(
        conv {channels} 3 {stride} padding=1 bias=false, batchnorm, relu,
        conv {channels} 3 padding=1 bias=false, batchnorm {beside})"""


def _spec(name: str, input_shape: Sequence[int], loss: str, layers: str) -> dict[str, Any]:
    shape = [int(size) for size in input_shape]
    return {"name": name, "input_shape": shape, "loss": loss, "layers": description.parse(layers)}


def _smallest(input_shape: Sequence[int], least: int) -> int:
    if len(input_shape) < 2 or min(input_shape[1:]) < least:
        raise ShapeError(
            f"the named models need samples of shape (channels, size, …) with sizes ≥ {least}, "
            f"but got {tuple(input_shape)}; describe a model of your own"
        )
    return min(input_shape[1:])


def _check_fits(spec: dict[str, Any], input_shape: Sequence[int], classes: int) -> None:
    if list(spec["input_shape"]) != list(input_shape):
        raise ShapeError(
            f"the model is for samples of shape {tuple(spec['input_shape'])}, but the data has "
            f"{tuple(input_shape)}; change or leave out its input_shape"
        )
    try:
        out = description.model_from_spec(spec).output_shape
    except ConvError as error:
        raise type(error)(f"model {spec.get('name', '')}: {error}") from error
    if out != (classes,):
        raise ShapeError(
            f"the model ends in samples of shape {out}, but the data has {classes} classes; "
            f"end it with flatten, linear {classes}"
        )
