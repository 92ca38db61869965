"""Which cases are timed: the layers of networks, and images with large kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from convgrad.algorithm import DIRECTIONS
from convgrad.bench.case import DTYPES, Case, dtype_of, fitted
from convgrad.errors import SettingError
from convgrad.shapes import CLASSES, Layer, networks

SUITES = ("networks", "imaging")
MOST_MACS = 1e9  # of a case in float32; half in float64
QUICK_MACS = 2e8  # of a case of a quick run
MOST_BYTES = 128e6  # of its largest array
IMAGES, KERNELS = (512, 1024, 2048), (15, 31, 63, 129)


def layers_of(suite: str) -> tuple[Layer, ...]:
    """The suite's layers; raises SettingError for an unknown suite."""
    if suite == "networks":
        return networks()
    if suite == "imaging":
        return imaging()
    raise SettingError(f"--suite is {suite!r}; choose from {', '.join(SUITES)}")


def imaging() -> tuple[Layer, ...]:
    """One image of one channel, and a kernel: y has the size of x."""
    return tuple(
        Layer(
            f"imaging/{size}x{size}_{kernel}x{kernel}", "imaging", 1, 1, 1, (size, size),
            (kernel, kernel), (1, 1), (kernel // 2, kernel // 2), (1, 1),
        )
        for size in IMAGES
        for kernel in KERNELS
    )  # fmt: skip


def dtypes_of(suite: str) -> tuple[str, ...]:
    """What the suite is timed in, unless asked otherwise."""
    return ("float64",) if suite == "imaging" else ("float32", "float64")


def chosen(layers: Sequence[Layer], names: str | None, every: int) -> list[Layer]:
    """Every so-many-th of the layers whose class is one of `names` or whose name holds one.

    Raises SettingError where a name fits no layer.
    """
    if every < 1:
        raise SettingError(f"--every is {every}; it must be at least 1")
    if names is None:
        return list(layers[::every])
    kept: dict[Layer, None] = {}
    for word in (word.strip() for word in names.split(",")):
        fits = [layer for layer in layers if _fits(layer, word)]
        if not fits:
            raise SettingError(
                f"--layers has {word!r}, which is in no layer's name and is no class: "
                f"{', '.join(CLASSES)}"
            )
        kept |= dict.fromkeys(fits)
    return [layer for layer in layers if layer in kept][::every]


def _fits(layer: Layer, word: str) -> bool:
    plain = word.replace("x", "×")  # 3x3 for 3×3
    return layer.layer_class == plain if plain in CLASSES else word in layer.name


def in_classes(layers: Iterable[Layer]) -> list[list[Layer]]:
    """A first layer of each class, then a second one of each, and so on.

    A class begins with one that is larger than a quarter of them, by the work for an image: the
    smallest say little, and the largest take long.
    """
    classes: dict[str, list[Layer]] = {}
    for layer in sorted(layers, key=lambda layer: layer.macs / layer.batch):
        classes.setdefault(layer.layer_class, []).append(layer)
    spread = [[*group[len(group) // 4 :], *group[: len(group) // 4]] for group in classes.values()]
    return [[layer for layer in turn if layer is not None] for turn in zip_longest(*spread)]


def sample(layers: Iterable[Layer], directions: Sequence[str], dtypes: Sequence[str]) -> list[Case]:
    """All cases, small ones, so that one of each class comes first, in each dtype in turn."""
    return [
        case
        for turn in in_classes(layers)
        for dtype in dtypes
        for case in cases(turn, directions, [dtype], QUICK_MACS)
    ]


def cases(
    layers: Iterable[Layer],
    directions: Sequence[str],
    dtypes: Sequence[str],
    most_macs: float = MOST_MACS,
) -> list[Case]:
    """The layers, with batches that fit, in each dtype and direction."""
    return [
        Case(_fitted(layer, dtype, most_macs), direction, dtype)
        for layer in layers
        for dtype in dtypes
        for direction in directions
    ]


def _fitted(layer: Layer, dtype: str, most_macs: float) -> Layer:
    size = dtype_of(dtype).itemsize
    return fitted(layer, most_macs * min(1.0, 4 / size), MOST_BYTES / size)


def words(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """`a,b` → those of the known words; raises SettingError for another."""
    found = tuple(word.strip() for word in text.split(","))
    for word in found:
        if word not in known:
            raise SettingError(f"{option} is {text!r}; choose from {', '.join(known)}")
    return found


def directions(text: str) -> tuple[str, ...]:
    return words("--directions", text, DIRECTIONS)


def dtypes(text: str) -> tuple[str, ...]:
    return words("--dtypes", text, DTYPES)
