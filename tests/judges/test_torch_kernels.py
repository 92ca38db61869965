"""PyTorch as a judge: convgrad takes the place of its CPU convolution kernels, in child processes.

A child registers convgrad as aten::convolution and aten::convolution_backward and runs PyTorch's
own samples through PyTorch's own gradient checks; another answers with PyTorch's own kernels.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import convgrad

pytest.importorskip("torch")

HERE = Path(__file__).parent
SAMPLES = {
    "conv1d": 10, "conv2d": 30, "conv3d": 20,
    "conv_transpose1d": 10, "conv_transpose2d": 12, "conv_transpose3d": 10,
}  # fmt: skip
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
KINDS = ("contiguous", "channels last", "with gaps")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the children found: the gradient checks run beside the comparison of values."""
    folder = tmp_path_factory.mktemp("torch")
    paths = {job: folder / f"{job}.json" for job in ("gradients", "values")}
    gradients = start("torch_engine.py", "gradients", paths["gradients"])
    try:
        finish(start("torch_stock.py", folder / "stock.pt"))
        finish(start("torch_engine.py", "values", paths["values"], folder / "stock.pt"))
        finish(gradients)
    finally:
        gradients.kill()
    return {job: json.loads(path.read_text(encoding="utf-8")) for job, path in paths.items()}


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A child that judges the same convgrad as this process has."""
    line = [sys.executable, str(HERE / script), *map(str, arguments)]
    home = str(Path(convgrad.__file__).parents[1])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8",
    )  # fmt: skip


def finish(child: subprocess.Popen[str]) -> None:
    output, _ = child.communicate(timeout=600)
    assert child.returncode == 0, output


def ran(reports: dict[str, dict[str, Any]], job: str, op: str, dtype: str) -> Counter[str]:
    return Counter(reports[job]["ran"][f"{op} {dtype}"])


@pytest.mark.parametrize("job", ["gradients", "values"])
def test_every_check_passes(reports: dict[str, dict[str, Any]], job: str) -> None:
    failures = reports[job]["failures"]
    assert not failures, f"{len(failures)} failures, the first:\n" + "\n".join(failures[:20])


@pytest.mark.parametrize("check", ["gradcheck", "gradgradcheck"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("op", SAMPLES)
def test_gradient_checks_ran_on_our_kernels(
    reports: dict[str, dict[str, Any]], op: str, dtype: str, check: str
) -> None:
    counts = ran(reports, "gradients", op, dtype)
    modes = [f"{mode} {check}" for mode in ("full", "fast")]
    assert sum(counts[mode] for mode in modes) >= SAMPLES[op]
    for name in ("forward", "backward"):
        assert sum(counts[f"{mode}: {name} calls"] for mode in modes) > 3 * SAMPLES[op]
    assert counts["double backward"] >= SAMPLES[op]
    assert counts["double backward: forward calls"] >= 3 * SAMPLES[op]


@pytest.mark.parametrize("op", SAMPLES)
def test_gradient_checks_see_an_error_of_one_in_a_million(
    reports: dict[str, dict[str, Any]], op: str
) -> None:
    assert ran(reports, "gradients", op, "float64")["spoiled kernels found out"] == 2


def test_full_jacobians_were_compared(reports: dict[str, dict[str, Any]]) -> None:
    for check in ("gradcheck", "gradgradcheck"):
        full = sum(ran(reports, "gradients", op, "float64")[f"full {check}"] for op in SAMPLES)
        assert full >= 40


@pytest.mark.parametrize("op", SAMPLES)
def test_forward_mode_and_strided_gradients_ran(
    reports: dict[str, dict[str, Any]], op: str
) -> None:
    counts = ran(reports, "gradients", op, "float64")
    for check in ("forward-mode gradcheck", "gradgradcheck of strided dy"):
        assert counts[check] >= SAMPLES[op]
        assert counts[f"{check}: forward calls"] > 0
        assert counts[f"{check}: backward calls"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", SAMPLES)
def test_values_were_compared_with_stock_pytorch(
    reports: dict[str, dict[str, Any]], op: str, dtype: str, kind: str
) -> None:
    counts = ran(reports, "values", op, dtype)
    assert counts[f"values, {kind}"] >= SAMPLES[op]
    assert counts[f"convgrad alone, {kind}"] >= SAMPLES[op]
    for name in ("forward", "backward"):
        assert counts[f"values, {kind}: {name} calls"] >= SAMPLES[op]
    assert counts[f"convgrad alone, {kind}: forward calls"] == 0


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("op", SAMPLES)
def test_output_masks_ran(reports: dict[str, dict[str, Any]], op: str, dtype: str) -> None:
    counts = ran(reports, "values", op, dtype)
    assert counts["output mask"] == counts["output mask: backward calls"] >= 24


@pytest.mark.parametrize("op", SAMPLES)
def test_integers_are_refused_by_name(reports: dict[str, dict[str, Any]], op: str) -> None:
    assert ran(reports, "values", op, "int64")["integers refused by convgrad"] >= SAMPLES[op]


@pytest.mark.parametrize("op", ["conv1d", "conv2d", "conv3d"])
def test_pytorchs_samples_of_wrong_use_are_refused(
    reports: dict[str, dict[str, Any]], op: str
) -> None:
    both = [ran(reports, "values", op, dtype) for dtype in ("float64", "int64")]
    refused = {
        by: sum(c[f"wrong use refused by {by}"] for c in both) for by in ("PyTorch", "convgrad")
    }
    assert refused["convgrad"] >= 5
    assert sum(refused.values()) >= 10
