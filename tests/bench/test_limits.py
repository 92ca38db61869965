"""The machine's limits: measured sanely, and applied as the formula has it."""

import pytest

from convgrad.bench import limits
from convgrad.bench.case import Case
from convgrad.bench.limits import Limits
from convgrad.cpu.jit import compiler
from convgrad.shapes import Layer

KNOWN = Limits(
    2, {"float32": 50e9, "float64": 25e9}, {"float32": 100e9, "float64": 50e9},
    {1 << 16: 200e9, 1 << 20: 20e9},
)  # fmt: skip
POINT = Layer("p", "n", 1, 64, 64, (8, 8), (1, 1), (1, 1), (0, 0), (1, 1))
THIN = Layer("t", "n", 1, 1, 1, (512, 512), (1, 1), (1, 1), (0, 0), (1, 1))


def test_the_limit_is_the_slower_of_flops_and_bytes():
    flops = 2 * 64 * 64 * 64
    assert KNOWN.seconds(Case(POINT, "forward", "float32")) == (flops / 100e9, "flops")
    assert KNOWN.seconds(Case(POINT, "forward", "bfloat16"))[0] == flops / 100e9
    seconds, bound = KNOWN.seconds(Case(THIN, "forward", "float64"))
    assert bound == "bytes"
    assert seconds == 8 * (2 * 512 * 512 + 1) / 20e9


def test_small_copies_have_the_caches_rate():
    assert KNOWN.copy_rate(10) == KNOWN.copy_rate(1 << 19) == 200e9
    assert KNOWN.copy_rate(1 << 20) == KNOWN.copy_rate(1 << 30) == 20e9


@pytest.mark.skipif(compiler.unavailable() is not None, reason="no kernels here")
def test_measured_rates_are_those_of_a_processor(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 2e-3)
    monkeypatch.setattr(limits, "SIZES", (1 << 16, 1 << 20))
    found = limits.measured(1)
    assert found is not None
    assert 1e8 < found.peak["float64"] < found.peak["float32"] < 1e13
    assert set(found.bandwidth) == {1 << 16, 1 << 20}
    assert all(1e8 < rate < 1e13 for rate in found.bandwidth.values())


@pytest.mark.parametrize("level", ["avx512", "avx2", "sse2", "neon"])
@pytest.mark.skipif(compiler.unavailable() is not None, reason="no kernels here")
def test_the_peak_loop_is_multiply_adds_in_registers(level, monkeypatch):
    triple = "aarch64-unknown-linux-gnu" if level == "neon" else "x86_64-unknown-linux-gnu"
    where = compiler.Target(level, triple, compiler.GENERIC_CPU[level], "")
    monkeypatch.setattr(compiler, "target", lambda: where)
    lines = compiler.assembly(
        limits.write_multiply_adds(where.lanes("float"), None), where
    ).splitlines()
    name = {"neon": "fmla", "sse2": "mulps"}.get(level, "vfmadd")
    assert sum(name in line for line in lines) == limits.chains()
    assert not any("call" in line or "fmaf" in line for line in lines)
