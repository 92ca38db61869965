"""Where weights start: uniform or normal numbers whose spread depends on the fans.

fan_in is the number of inputs that one output sees, fan_out the number of outputs that one
input reaches.  For a kernel (O, C/groups, *K) they are (C/groups)·ΠK and O·ΠK, as in PyTorch.
Biases start at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from convgrad.nn.names import choose

Initializer = Callable[[tuple[int, ...], int, int, np.random.Generator], np.ndarray]


def xavier_uniform(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator
) -> np.ndarray:
    """w ~ U(±√(6/(fan_in + fan_out))).  Source: Glorot & Bengio 2010."""
    bound = sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, shape)


def xavier_normal(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator
) -> np.ndarray:
    """w ~ N(0, 2/(fan_in + fan_out)).  Source: Glorot & Bengio 2010."""
    return rng.normal(0.0, sqrt(2 / (fan_in + fan_out)), shape)


def he_uniform(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator
) -> np.ndarray:
    """w ~ U(±√(6/fan_in)).  Source: He et al. 2015."""
    bound = sqrt(6 / fan_in)
    return rng.uniform(-bound, bound, shape)


def he_normal(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator
) -> np.ndarray:
    """w ~ N(0, 2/fan_in).  Source: He et al. 2015."""
    return rng.normal(0.0, sqrt(2 / fan_in), shape)


def toolbox(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator
) -> np.ndarray:
    """w ~ U(±√(6/(fan_in + fan_out))) with fan_in = C·K², fan_out = O·K².

    The same spread as `xavier_uniform`; drawn as the toolbox draws it, (u − ½)·2·bound with u
    in [0, 1).  Source: cnnsetup.m of the MATLAB DeepLearnToolbox (R. B. Palm).
    """
    bound = sqrt(6 / (fan_in + fan_out))
    return (rng.random(shape) - 0.5) * 2 * bound


def zeros(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator
) -> np.ndarray:
    """w = 0."""
    return np.zeros(shape)


INITIALIZERS: dict[str, Initializer] = {
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "toolbox": toolbox,
    "zeros": zeros,
}


def named(name: str) -> Initializer:
    """The initialiser of that name; SettingError lists the names there are."""
    return choose(INITIALIZERS, name, "initializer")


def start(
    name: str,
    shape: tuple[int, ...],
    fan_in: int,
    fan_out: int,
    rng: np.random.Generator,
    dtype: np.dtype,
) -> np.ndarray:
    """A weight of that shape and dtype; the numbers are drawn in float64 and rounded once."""
    return named(name)(shape, fan_in, fan_out, rng).astype(dtype)
