"""Records with known figures."""

from dataclasses import replace

from convgrad.bench.results import Beside, Finding, Record, Row

HEAD = Record(
    suite="networks", subject="convgrad", date="2026-01-02T03:04:05+00:00",
    machine={
        "processor": "P", "system": "S", "cores": 2, "instruction_set": "avx2 (x)", "blas": "b",
    },
    versions={"convgrad": "0", "torch": "2"},
    settings={"threads": 2, "precision": "standard", "algorithm": "auto", "budget": 0.1},
    limits={"threads": 2, "peak": {"float32": 2e11}, "bandwidth": {"65536": 1e11, "9999": 3e10}},
    left_out={"JAX": "not installed"},
)  # fmt: skip


def row(layer, layer_class, direction, ratio, dtype="float32", **more):
    """A row whose PyTorch takes `ratio` times as long in one layout, twice that in the other."""
    beside = (
        Beside("PyTorch", "channels_first", 2e-3, 2 * ratio, 1.9 * ratio, 2.1 * ratio, 7),
        Beside("PyTorch", "channels_last", 1e-3, ratio, 0.9 * ratio, 1.1 * ratio, 7),
    )
    made = Row(
        layer, "net", layer_class, direction, dtype, (2, 3, 4, 4), (5, 3, 1, 1), (2, 5, 4, 4),
        1000, 800, "implicit_gemm", 64, 1e-3, 2e-3, 1e-7, 5e-4, "flops", beside=beside,
    )  # fmt: skip
    return replace(made, **more)


def record():
    rows = [
        row("a", "3×3", "forward", 2.0),
        row("a", "3×3", "weight_grad", 0.5),
        row("b", "3×3", "forward", 8.0),
        row("c", "1×1", "forward", 1.0),
        row("d", "1×1", "forward", 1.0, seconds=None, wrong="wrong before timing", beside=()),
    ]
    errors = [
        Finding("a", "3×3", "forward", "float32", "auto", "standard", 1e-8, 2e-7, 3e-8, 4e-7),
        Finding("b", "3×3", "forward", "float32", "auto", "standard", 1e-8, 2e-7, 9e-8, 4e-7),
        Finding(
            "b", "3×3", "forward", "float32", "PyTorch", "channels_first", 1e-8, 1e-7, 3e-8, 2e-7
        ),
    ]
    return replace(HEAD, rows=rows, errors=errors)
