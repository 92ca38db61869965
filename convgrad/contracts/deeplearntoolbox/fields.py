"""What a net's fields hold between two calls, checked as they are now.

They are the toolbox's fields, so a script may set each of them: to an array, or to nested lists
where MATLAB has cells.
"""

from dataclasses import dataclass

import numpy as np

from convgrad.contracts.deeplearntoolbox.arrays import real_numbers
from convgrad.contracts.deeplearntoolbox.network import (
    Net,
    Parameters,
    needed_net,
    parameters,
    shaped,
)
from convgrad.errors import SettingError, ShapeError


@dataclass(frozen=True)
class Passed:
    """A net after cnnff: its parameters, a[l] (maps, h, w, N), fv (fvnum, N) and o (onum, N)."""

    values: Parameters
    a: list[np.ndarray]
    fv: np.ndarray
    o: np.ndarray


@dataclass(frozen=True)
class Gradients:
    """A net's gradients after cnnbp, shaped as k, b, ffW and ffb; dk[l] and db[l] may be None."""

    dk: list[np.ndarray | None]
    db: list[np.ndarray | None]
    dffW: np.ndarray
    dffb: np.ndarray


def after_cnnff(call: str, net: Net) -> Passed:
    """What cnnff left; raises SettingError where it has not run, ShapeError for what is unfit."""
    if not real_numbers(call, "o", needed_net(call, net).o).size:
        raise SettingError(f"{call}: the net has no outputs yet; call cnnff(net, x) first")
    images = real_numbers(call, "layers[0].a", net.layers[0].a)
    again = "; call cnnff again"
    if images.ndim != 4 or not images.size:
        raise ShapeError(f"{call}: layers[0].a is {images.shape}, but needs (1, H, W, N){again}")
    samples = images.shape[3]
    values = parameters(call, net, images.shape[1:3])
    outputs, features = values.ffW.shape
    a = [
        shaped(call, f"layers[{level}].a", layer.a, (*size, samples), again)
        for level, (layer, size) in enumerate(zip(net.layers, values.sizes))
    ]
    fv = shaped(call, "fv", net.fv, (features, samples), again)
    return Passed(values, a, fv, shaped(call, "o", net.o, (outputs, samples), again))


def after_cnnbp(call: str, net: Net, values: Parameters) -> Gradients:
    """What cnnbp left; raises SettingError where it has not run, ShapeError for what is unfit."""
    dffW = _gradient(call, "dffW", net.dffW, values.ffW.shape)
    dffb = _gradient(call, "dffb", net.dffb, values.ffb.shape)
    dk: list[np.ndarray | None] = [None] * len(net.layers)
    db: list[np.ndarray | None] = [None] * len(net.layers)
    for level, (layer, w) in enumerate(zip(net.layers, values.w)):
        if w is not None:
            shape = w.swapaxes(0, 1).shape
            dk[level] = _gradient(call, f"layers[{level}].dk", layer.dk, shape)
            db[level] = _gradient(call, f"layers[{level}].db", layer.db, w.shape[:1])
    return Gradients(dk, db, dffW, dffb)


def _gradient(call: str, name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    if not real_numbers(call, name, value).size:
        raise SettingError(f"{call}: {name} is empty; call cnnff and cnnbp first")
    advice = ", the shape of its parameter; call cnnff and cnnbp again"
    return shaped(call, name, value, shape, advice)
