"""A case's row: what is described, and the peers' results beside convgrad's."""

from dataclasses import replace

import numpy as np
import pytest

import convgrad as cg
from convgrad.bench import definition, peers, suites, timing
from convgrad.bench.case import DTYPES, NEEDS, Case, drawn
from convgrad.bench.checking import TOLERANCE, error
from convgrad.bench.measuring import Bench
from convgrad.bench.peers import ours
from convgrad.bench.peers.ours import Settings
from convgrad.errors import SettingError
from convgrad.shapes import Layer

PLAIN = Layer("plain", "n", 2, 4, 6, (9, 7), (3, 2), (2, 1), (1, 0), (1, 2), 2)
TURNED = Layer("turned", "n", 2, 4, 6, (5, 4), (3, 3), (2, 1), (1, 0), (1, 1), 2, True, (1, 0))
LONG = Layer("long", "n", 2, 3, 5, (40,), (4,), (1,), (0,), (3,))
DEEP = Layer("deep", "n", 1, 2, 4, (4, 5, 6), (2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
DEPTHWISE = Layer("depthwise", "n", 2, 3, 3, (12, 13), (5, 3), (1, 1), (2, 1), (1, 1), 3)
UNPADDED = replace(DEPTHWISE, name="unpadded", padding=(0, 2))
LAYERS = [PLAIN, TURNED, LONG, DEEP, DEPTHWISE, UNPADDED]
MODULES = {"PyTorch": "torch", "JAX": "jax", "SciPy": "scipy"}


@pytest.mark.parametrize("name", MODULES)
def test_peers_give_what_the_definition_gives(name):
    pytest.importorskip(MODULES[name])
    libraries, missing = peers.installed((name,), 1)
    assert missing == {}
    tried = 0
    for library in libraries:
        for layer in LAYERS:
            operands = drawn(layer, "float64")
            for direction in NEEDS:
                case = Case(layer, direction, "float64")
                if library.refuses(case) is None:
                    got = library.numpy(library.work(case, operands)())
                    want = definition.result(layer, direction, operands)
                    assert error(got, want) < 1e-13, (library.variant, layer.name, direction)
                    tried += 1
    assert tried >= 2 * len(NEEDS) * len(libraries)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_convgrad_in_both_layouts(layer, layout):
    operands, library = drawn(layer, "float64"), ours.library(Settings(layout=layout))
    for direction in NEEDS:
        case = Case(layer, direction, "float64")
        got = library.numpy(library.work(case, operands)())
        want = definition.result(layer, direction, operands)
        assert error(got, want) < 1e-13


def test_scipy_refuses_what_it_cannot_do():
    pytest.importorskip("scipy")
    library = peers.installed(("SciPy",), 1)[0][0]
    assert "one channel" in library.refuses(Case(LONG, "forward", "float64"))
    strided = Case(replace(DEPTHWISE, stride=(2, 1)), "forward", "float64")
    assert "no stride" in library.refuses(strided)
    assert "bfloat16" in library.refuses(Case(DEPTHWISE, "forward", "bfloat16"))


def test_a_missing_peer_is_left_out_with_a_sentence(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    found, missing = peers.installed(("JAX",), 1)
    assert found == []
    assert missing == {"JAX": "JAX is not installed, so convgrad is not compared with it"}


def test_names_of_peers():
    assert peers.names("jax, PyTorch") == ("JAX", "PyTorch")
    assert peers.names("none") == ()
    assert peers.names("all") == ("PyTorch", "JAX", "SciPy")
    with pytest.raises(SettingError, match="choose from pytorch, jax, scipy"):
        peers.names("mxnet")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0.0)
    monkeypatch.setattr(timing, "BURST", 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row(dtype, quick):
    (row,) = Bench(Settings(), [], None, 1e-3).rows([Case(PLAIN, "weight_grad", dtype)])
    assert (row.layer, row.layer_class, row.direction) == ("plain", "grouped", "weight_grad")
    assert (row.x, row.w, row.y) == (PLAIN.x_shape, PLAIN.w_shape, PLAIN.y_shape)
    assert row.flops == 2 * PLAIN.macs
    plan = cg.plan(
        "weight_grad", PLAIN.x_shape, PLAIN.w_shape, PLAIN.stride, PLAIN.padding, PLAIN.dilation,
        PLAIN.groups, dtype=dtype,
    )  # fmt: skip
    assert (row.algorithm, row.scratch) == (plan.algorithm, plan.scratch)
    assert row.error <= TOLERANCE[dtype]
    assert row.seconds > 0
    assert row.rate == row.flops / row.seconds


def test_a_wrong_gradient_of_convgrad_has_no_times(quick, monkeypatch):
    right = cg.input_grad
    monkeypatch.setattr(cg, "input_grad", lambda *a, **k: right(*a, **k) * 1.001)
    run = Bench(Settings(), [], None, 1e-3)
    cases = suites.cases([PLAIN], tuple(NEEDS), ("float64",))
    forward, wrong, weight = run.rows(cases)
    assert wrong.wrong.startswith("wrong before timing: it errs by 1.0e-03")
    assert (wrong.seconds, wrong.rate, wrong.fraction) == (None, None, None)
    assert forward.seconds is not None
    assert weight.seconds is not None


def test_operands_are_the_same_for_everybody_and_each_time():
    first, second = drawn(PLAIN, "float32"), drawn(PLAIN, "float32")
    np.testing.assert_array_equal(first.x, second.x)
    assert first.exact.w.dtype == np.float64
