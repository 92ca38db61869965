"""`convgrad bench`: the three maps, checked and then timed beside PyTorch.

Each result is compared with float64 (PyTorch's, or the direct algorithm's where PyTorch is not
installed) before anything is timed. Times are taken in turns, ours, theirs, ours, theirs …, and
the ratio shown is the median over these pairs, so that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import typer

import convgrad as cg
from convgrad.cli import console
from convgrad.cli.info import processor, version
from convgrad.nn.training.blas_threads import using_blas_threads
from convgrad.nn.training.machine import threads as blas_thread_text

TOLERANCE = 1e-4  # of max|result|, in float32
SECONDS_EACH, QUICK_SECONDS_EACH = 0.5, 0.1
LEAST_PAIRS, MOST_PAIRS = 3, 50
WRONG = 1


@dataclass(frozen=True)
class Layer:
    """A convolution's operands and settings."""

    name: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: int = 1
    padding: int = 0
    groups: int = 1


QUICK_LAYERS = (
    Layer("first of lenet, 8x8", (32, 1, 8, 8), (16, 1, 3, 3), padding=1),
    Layer("second of lenet, 4x4", (32, 16, 4, 4), (32, 16, 3, 3), padding=1),
    Layer("3x3, 32 channels", (8, 32, 16, 16), (32, 32, 3, 3), padding=1),
)
LAYERS = (
    *QUICK_LAYERS,
    Layer("5x5, first of 28x28", (32, 1, 28, 28), (6, 1, 5, 5)),
    Layer("3x3, 64 channels", (8, 64, 28, 28), (64, 64, 3, 3), padding=1),
    Layer("3x3, stride 2", (8, 32, 32, 32), (64, 32, 3, 3), stride=2, padding=1),
    Layer("1x1", (8, 64, 28, 28), (128, 64, 1, 1)),
    Layer("depthwise 3x3", (8, 64, 28, 28), (64, 1, 3, 3), padding=1, groups=64),
)


@dataclass(frozen=True)
class Operands:
    """x, w and dy of one layer, in one dtype."""

    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray

    def astype(self, dtype: str) -> Operands:
        return Operands(self.x.astype(dtype), self.w.astype(dtype), self.dy.astype(dtype))


Work = Callable[[], np.ndarray]


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="fewer layers, less time")] = False,
    algorithm: Annotated[str | None, typer.Option(help="time only this algorithm")] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads, of all three")] = 1,
) -> None:
    """Check the three maps of a few layers, then time them, beside PyTorch if it is installed."""
    with_torch = find_spec("torch") is not None
    peer = f"PyTorch {version('torch')}" if with_torch else "none (PyTorch is not installed)"
    if with_torch:
        import torch

        torch.set_num_threads(threads)
    cg.set_num_threads(threads)
    with using_blas_threads(threads):
        console.say(
            f"float32 on {processor()}; threads: {cg.get_num_threads()}, "
            f"of NumPy's BLAS: {blas_thread_text()}"
        )
        console.say(
            f"beside: {peer}; the ratio is their time by ours, above 1 convgrad is faster\n"
        )
        wrong = _time_layers(quick, algorithm, with_torch)
    if wrong:
        console.fail(f"{wrong} results were wrong, and were not timed")
        raise typer.Exit(WRONG)


def _time_layers(quick: bool, algorithm: str | None, with_torch: bool) -> int:
    console.say(_line("layer", "map", "algorithm", "ms", "GFLOP/s", "ratio"))
    budget = QUICK_SECONDS_EACH if quick else SECONDS_EACH
    wrong = 0
    for layer in QUICK_LAYERS if quick else LAYERS:
        operands = drawn(layer)
        for direction in ("forward", "input_grad", "weight_grad"):
            wrong += _time_map(layer, operands, direction, algorithm, with_torch, budget)
    return wrong


def _line(*cells: str) -> str:
    layer, direction, algorithm, *numbers = cells
    return f"{layer:<21} {direction:<12} {algorithm:<14}" + "".join(f"{n:>11}" for n in numbers)


def drawn(layer: Layer) -> Operands:
    """Normally distributed operands, the same ones each time."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(layer.x), rng.standard_normal(layer.w)
    out = [
        (n + 2 * layer.padding - k) // layer.stride + 1 for n, k in zip(layer.x[2:], layer.w[2:])
    ]
    dy = rng.standard_normal((layer.x[0], layer.w[0], *out))
    return Operands(x, w, dy).astype("float32")


def _time_map(
    layer: Layer,
    operands: Operands,
    direction: str,
    only: str | None,
    with_torch: bool,
    budget: float,
) -> int:
    """Print a line for each algorithm that accepts; how many gave wrong results."""
    settings = (layer.stride, layer.padding, 1, layer.groups)
    plan = cg.plan(direction, layer.x, layer.w, *settings)
    exact = operands.astype("float64")
    truth = torch_work if with_torch else _direct_work
    expected = truth(layer, exact, direction)()
    theirs = torch_work(layer, operands, direction) if with_torch else None
    wrong = 0
    for name in plan.accepted if only is None else [only]:
        ours = our_work(layer, operands, direction, name)
        error = float(np.abs(ours() - expected).max() / np.abs(expected).max())
        if not error <= TOLERANCE:
            console.say(_line(layer.name, direction, name) + f"  WRONG: error {error:.1e} of max")
            wrong += 1
            continue
        seconds, ratio = in_turns(ours, theirs, budget)
        shown = "-" if ratio is None else f"{ratio:.2f}"
        gflops = plan.flops / seconds / 1e9
        figures = (f"{1e3 * seconds:.3f}", f"{gflops:.1f}", shown)
        console.say(_line(layer.name, direction, name, *figures))
    return wrong


def our_work(layer: Layer, operands: Operands, direction: str, algorithm: str) -> Work:
    """The call of convgrad that is timed."""
    x, w, dy = operands.x, operands.w, operands.dy
    settings = (layer.stride, layer.padding, 1, layer.groups)
    if direction == "forward":
        return lambda: cg.conv(x, w, None, *settings, algorithm=algorithm)
    if direction == "input_grad":
        return lambda: cg.input_grad(x.shape, w, dy, *settings, algorithm=algorithm)
    return lambda: cg.weight_grad(x, w.shape, dy, *settings, algorithm=algorithm)


def _direct_work(layer: Layer, operands: Operands, direction: str) -> Work:
    return our_work(layer, operands, direction, "direct")


def torch_work(layer: Layer, operands: Operands, direction: str) -> Work:
    """The same call of PyTorch, on tensors that share the arrays' memory."""
    import torch

    x, w, dy = (torch.from_numpy(a) for a in (operands.x, operands.w, operands.dy))
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    if direction == "forward":
        return lambda: torch.conv2d(x, w, None, stride, padding, 1, layer.groups).numpy()
    wanted = [direction == "input_grad", direction == "weight_grad", False]

    def gradient() -> np.ndarray:
        results = torch.ops.aten.convolution_backward(
            dy, x, w, None, stride, padding, [1, 1], False, [0, 0], layer.groups, wanted
        )
        return results[wanted.index(True)].numpy()

    return gradient


def in_turns(ours: Work, theirs: Work | None, budget: float) -> tuple[float, float | None]:
    """(our median seconds, median of their time by ours), from pairs timed one after the other."""
    pairs = min(MOST_PAIRS, max(LEAST_PAIRS, int(budget / max(_seconds(ours), 1e-9))))
    if theirs is None:
        return statistics.median(_seconds(ours) for _ in range(pairs)), None
    theirs()
    times = [(_seconds(ours), _seconds(theirs)) for _ in range(pairs)]
    return statistics.median(a for a, _ in times), statistics.median(b / a for a, b in times)


def _seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
