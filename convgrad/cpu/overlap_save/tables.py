"""The tables that transforms read: radices and factors of their passes."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def passes(length: int) -> np.ndarray:
    """The table of passes of a transform of `length`, as 64-bit words (see kernels/fft)."""
    entries, factors, m = [], [], length
    steps = radices(length)
    head = 1 + 3 * len(steps)
    for radix in steps:
        entries += [radix, m, head + sum(map(len, factors))]
        powers = np.outer(np.arange(m // radix), np.arange(1, radix))
        factors.append(_unit(powers, m).reshape(-1))
        m //= radix
    table = np.array([len(steps), *entries], np.int64)
    return np.concatenate([table, np.concatenate(factors).view(np.int64)])


def radices(length: int) -> list[int]:
    """Fives and threes first, where the runs are long; fours; then a two."""
    steps = []
    for radix in (5, 3, 4, 2):
        while length % radix == 0:
            steps.append(radix)
            length //= radix
    return steps


@lru_cache(maxsize=16)
def line_factors(rows: int, columns: int, lanes: int) -> np.ndarray:
    """exp(−2πi·f·c/(rows·columns)), [group of rows][column][re | im][lane], f in their order."""
    powers = np.outer(frequencies(rows), np.arange(columns))  # (rows, columns)
    parts = _unit(powers, rows * columns).reshape(rows // lanes, lanes, columns, 2)
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 1))


def frequencies(length: int) -> np.ndarray:
    """Which frequency stands at each place after the passes."""
    order = np.zeros(1, np.int64)
    for radix in reversed(radices(length)):
        order = np.concatenate([radix * order + p for p in range(radix)])
    return order


def _unit(powers: np.ndarray, length: int) -> np.ndarray:
    """exp(−2πi·power/length) as (…, 2) doubles."""
    angles = 2 * np.pi / length * (powers % length)
    return np.stack([np.cos(angles), -np.sin(angles)], axis=-1)
