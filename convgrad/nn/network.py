"""Model: a chain of layers with an input shape, a dtype, a generator and names for its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.nn.layers.base import Arrays, Compute, Layer, Shape
from convgrad.nn.layers.chain import Chain
from convgrad.nn.losses import Loss

DTYPES = ("float16", "float32", "float64")


class Model:
    """y = f_n(… f_1(x)) for x (N, *input_shape) → y (N, *output_shape).

    `seed` decides the first weights and everything that is drawn while training; `algorithm`
    and `precision` are handed to every convolution; `loss` is the name of the loss that the
    model is meant to be trained with, if it has one.
    Parameters are named by place and kind: "00_conv.weight", "03_residual.body.00_conv.weight".
    Raises ShapeError or SettingError that names the layer which does not fit.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Sequence[int],
        name: str = "model",
        dtype: str | np.dtype = "float32",
        seed: int = 0,
        algorithm: str = "auto",
        precision: str = "standard",
        loss: str | None = None,
    ):
        self.name, self.loss = name, loss
        self.input_shape = _checked_shape(input_shape)
        self.dtype = _checked_dtype(dtype)
        self.compute = Compute(algorithm, precision)
        self._rng = np.random.default_rng(seed)
        self._chain = Chain(layers)
        self._chain.configure(self.compute)
        self.output_shape: Shape = self._chain.build(self.input_shape, self._rng, self.dtype)
        self._params, self._buffers = self._chain.params(), self._chain.buffers()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._chain.layers

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(self._chain.names)

    @property
    def rng(self) -> np.random.Generator:
        """The generator that Dropout draws from; set `rng.bit_generator.state` to restore it."""
        return self._rng

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """y for x (N, *input_shape); with training=True what backward needs is kept."""
        self._check_input(x)
        return self._chain.forward(x, training)

    def backward(self, dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
        """dx for dy (N, *output_shape), and all `gradients()`.

        With need_input=False the result is None and the work for dx of the first layer with
        parameters is saved.  Raises TrainingError without a forward(x, training=True) before.
        """
        if dy.shape[1:] != self.output_shape or dy.dtype != self.dtype:
            raise ShapeError(
                f"{self.name}: backward got dy of shape {dy.shape} and dtype {dy.dtype}, but the "
                f"output is (N, {_listed(self.output_shape)}) in {self.dtype}"
            )
        return self._chain.backward(dy, need_input)

    def parameters(self) -> Arrays:
        """Every trained array by its name, in the order of the layers; the arrays themselves."""
        return dict(self._params)

    def gradients(self) -> Arrays:
        """The gradients of the last backward, under the names of `parameters()`."""
        return self._chain.grads()

    def buffers(self) -> Arrays:
        """Arrays that are saved but not trained: the running statistics of BatchNorm."""
        return dict(self._buffers)

    def state(self) -> Arrays:
        """Parameters and buffers in one dict: what `load` takes."""
        return self._params | self._buffers

    def load(self, arrays: Arrays) -> None:
        """Copy the numbers of `state()` into this model's arrays.

        Raises SettingError for names that lack or are too many, ShapeError and DTypeError for
        arrays that do not fit; nothing is changed then.
        """
        own = self.state()
        lacking, odd = own.keys() - arrays.keys(), arrays.keys() - own.keys()
        if lacking or odd:
            raise SettingError(
                f"{self.name}: these arrays are of another model: "
                f"missing {sorted(lacking) or 'none'}, unknown {sorted(odd) or 'none'}"
            )
        for name, array in own.items():
            _check_like(self.name, name, arrays[name], array)
        for name, array in own.items():
            array[...] = arrays[name]

    def astype(self, dtype: str | np.dtype) -> Model:
        """A copy of this model, numbers and generator included, in another dtype."""
        layers = [layer.fresh() for layer in self.layers]
        compute = {"algorithm": self.compute.algorithm, "precision": self.compute.precision}
        twin = Model(layers, self.input_shape, self.name, dtype, 0, loss=self.loss, **compute)
        twin.load({name: array.astype(twin.dtype) for name, array in self.state().items()})
        twin.rng.bit_generator.state = self.rng.bit_generator.state
        return twin

    def first_nonfinite(
        self, x: np.ndarray, loss: Loss | None = None, target: np.ndarray | None = None
    ) -> str | None:
        """Name of the first layer where a training pass over x meets NaN or infinity.

        Forward, the first layer whose output is not finite; else, with a loss, in backward
        order the first whose gradient (dx or a parameter's) is not.  Within a residual block
        the name goes on: "03_residual.body.00_conv".  "input" and "loss" are possible answers;
        None means that all is finite.  Running statistics and generator are left as they were.
        """
        buffers = {name: array.copy() for name, array in self._buffers.items()}
        drawn = self.rng.bit_generator.state
        try:
            return self._trace(x, loss, target)
        finally:
            self.rng.bit_generator.state = drawn
            for name, array in self._buffers.items():
                array[...] = buffers[name]

    def _trace(self, x: np.ndarray, loss: Loss | None, target: np.ndarray | None) -> str | None:
        if not np.isfinite(x).all():
            return "input"
        with np.errstate(all="ignore"):
            found = self._chain.nonfinite_output(x)
            if found or loss is None:
                return found
            value, dy = loss.value_and_grad(self.forward(x, training=True), target)
            if not (np.isfinite(value) and np.isfinite(dy).all()):
                return "loss"
            return self._chain.nonfinite_gradient(dy)

    def spec(self) -> dict[str, Any]:
        """name, input_shape, layers and loss, as JSON and TOML have them."""
        loss = {} if self.loss is None else {"loss": self.loss}
        layers = [layer.spec() for layer in self.layers]
        shape = list(self.input_shape)
        return {"name": self.name, "input_shape": shape, **loss, "layers": layers}

    def __str__(self) -> str:
        """A table of the layers, their output shapes and parameter counts, and the total."""
        rows = [("layer", "output", "parameters"), ("input", _listed(self.input_shape), "")]
        for name, layer, shape in self._chain.rows():
            rows.append((name, _listed(shape), _count(layer)))
        rows.append(("total", _listed(self.output_shape), f"{_total(self._params):,}"))
        first, second, third = (max(len(row[column]) for row in rows) for column in range(3))
        lines = [f"{a:<{first}}  {b:<{second}}  {c:>{third}}".rstrip() for a, b, c in rows]
        return "\n".join([f"{self.name} ({self.dtype})", *lines])

    def _check_input(self, x: np.ndarray) -> None:
        if x.shape[1:] != self.input_shape:
            raise ShapeError(
                f"{self.name}: the input has shape {x.shape}, but (N, {_listed(self.input_shape)}) "
                "is needed; for one sample, pass x[None]"
            )
        if x.dtype != self.dtype:
            raise DTypeError(
                f"{self.name}: the input is {x.dtype}, but the model {self.dtype}; "
                f"pass x.astype({str(self.dtype)!r})"
            )


def _checked_shape(shape: Sequence[int]) -> Shape:
    if not shape or not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
        raise ShapeError(
            f"input_shape is {shape!r}; it must be positive integers without the batch axis, "
            "such as (1, 28, 28)"
        )
    return tuple(int(n) for n in shape)


def _checked_dtype(dtype: str | np.dtype) -> np.dtype:
    found = np.dtype(dtype)
    if found.name not in DTYPES:
        raise DTypeError(f"a model in {found} is not possible; choose one of {', '.join(DTYPES)}")
    return found


def _check_like(model: str, name: str, new: np.ndarray, own: np.ndarray) -> None:
    if new.shape != own.shape:
        raise ShapeError(f"{model}: {name} has shape {new.shape}, but {own.shape} is needed")
    if new.dtype != own.dtype:
        raise DTypeError(f"{model}: {name} is {new.dtype}, but {own.dtype} is needed")


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape)) or "()"


def _count(layer: Layer) -> str:
    """The number of parameters; the layers within a layer have rows of their own."""
    return f"{_total(layer.params):,}" if layer.params and not layer.inside() else ""


def _total(arrays: Arrays) -> int:
    return sum(prod(array.shape) for array in arrays.values())
