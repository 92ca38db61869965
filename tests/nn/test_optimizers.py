"""Optimizers against torch.optim over many steps, their state, and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convgrad.errors import DTypeError, SettingError, ShapeError
from convgrad.nn import optimizers
from convgrad.nn.optimizers import SGD, Adam, AdamW, Optimizer, RMSProp

Torch = Any
SHAPES = {"00_conv.weight": (3, 2, 3), "00_conv.bias": (3,)}
STEPS = 60


@pytest.fixture(scope="module")
def torch() -> Torch:
    return pytest.importorskip("torch")


def start(dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def gradients(step: int, dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


CASES = [
    (SGD(lr=0.1), "SGD", {"lr": 0.1}),
    (SGD(lr=0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    (
        SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    ),
    (RMSProp(), "RMSprop", {}),
    (
        RMSProp(lr=0.02, alpha=0.9, momentum=0.8, centered=True, weight_decay=0.1, eps=1e-6),
        "RMSprop",
        {
            "lr": 0.02,
            "alpha": 0.9,
            "momentum": 0.8,
            "centered": True,
            "weight_decay": 0.1,
            "eps": 1e-6,
        },
    ),
    (Adam(), "Adam", {}),
    (
        Adam(lr=0.01, betas=(0.8, 0.99), weight_decay=0.1),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1},
    ),
    (AdamW(), "AdamW", {}),
    (AdamW(lr=0.02, weight_decay=0.3), "AdamW", {"lr": 0.02, "weight_decay": 0.3}),
]


@pytest.mark.parametrize(("ours", "name", "settings"), CASES)
def test_same_parameters_as_torch_after_many_steps(
    torch: Torch, ours: Optimizer, name: str, settings: dict[str, Any]
) -> None:
    ours = optimizers.named(**fresh(ours))
    params = start()
    peers = {key: torch.tensor(p, requires_grad=True) for key, p in params.items()}
    theirs = getattr(torch.optim, name)(list(peers.values()), **settings)
    base = theirs.param_groups[0]["lr"]
    for step in range(STEPS):
        factor = 1 - step / STEPS
        theirs.param_groups[0]["lr"] = base * factor
        grads = gradients(step)
        for key, peer in peers.items():
            peer.grad = torch.tensor(grads[key])
        ours.step(params, grads, lr=ours.lr * factor)
        theirs.step()
    for key, peer in peers.items():
        np.testing.assert_allclose(params[key], peer.detach().numpy(), rtol=1e-11, atol=1e-12)


def fresh(optimizer: Optimizer) -> dict[str, Any]:
    spec = optimizer.spec()
    return {"name": spec.pop("optimizer"), **spec}


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_defaults_are_those_of_torch(torch: Torch, name: str) -> None:
    torch_name = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}[name]
    theirs = getattr(torch.optim, torch_name)([torch.zeros(1)]).defaults
    ours = optimizers.named(name)
    assert {key: getattr(ours, key) for key in fresh(ours) if key != "name"} == {
        key: theirs[key] for key in fresh(ours) if key != "name"
    }


def test_steps_by_hand() -> None:
    p, g = np.array([1.0]), {"p": np.array([2.0])}
    opt = SGD(lr=0.1, momentum=0.5)
    opt.step({"p": p}, g)  # v = 2, p = 1 − 0.2
    opt.step({"p": p}, g)  # v = 3, p = 0.8 − 0.3
    np.testing.assert_allclose(p, [0.5])
    p = np.array([1.0])
    Adam(lr=0.1, eps=0.0).step({"p": p}, g)  # m̂/√v̂ = 1 at the first step
    np.testing.assert_allclose(p, [0.9])
    p = np.array([1.0])
    AdamW(lr=0.1, eps=0.0, weight_decay=0.5).step({"p": p}, g)  # 1 − 0.05, then − 0.1
    np.testing.assert_allclose(p, [0.85])


@pytest.mark.parametrize(("ours", "name", "settings"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_state_goes_on_to_the_same_bits(
    ours: Optimizer, name: str, settings: dict[str, Any], dtype: str
) -> None:
    whole, cut = optimizers.named(**fresh(ours)), optimizers.named(**fresh(ours))
    one, two = start(dtype), start(dtype)
    for step in range(4):
        whole.step(one, gradients(step, dtype), lr=0.01)
        cut.step(two, gradients(step, dtype), lr=0.01)
    kept = cut.state()
    cut.step(two, gradients(99, dtype))  # what `state` gave must not change with it
    two = {key: array.copy() for key, array in one.items()}
    resumed = optimizers.named(**fresh(ours))
    resumed.load_state(kept)
    for step in range(4, 8):
        whole.step(one, gradients(step, dtype), lr=np.float64(0.01))
        resumed.step(two, gradients(step, dtype), lr=0.01)
    for key in one:
        assert one[key].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(one[key], two[key])


def test_nothing_moves_when_something_does_not_fit() -> None:
    opt, params = Adam(), start()
    before = {key: array.copy() for key, array in params.items()}
    grads = gradients(0)
    with pytest.raises(ShapeError, match=r"differ in 00_conv\.bias"):
        opt.step(params, {"00_conv.weight": grads["00_conv.weight"]})
    with pytest.raises(ShapeError, match=r"00_conv\.bias is \(3,\), but got \(4,\)"):
        opt.step(params, grads | {"00_conv.bias": np.zeros(4)})
    with pytest.raises(DTypeError, match="is float64, but got float32"):
        opt.step(params, gradients(0, "float32"))
    opt.load_state({"steps": np.array([3]), "first/00_conv.bias": np.zeros(5)})
    with pytest.raises(ShapeError, match=r"but got \(5,\)"):
        opt.step(params, grads)
    for key, array in params.items():
        np.testing.assert_array_equal(array, before[key])


def test_errors_name_what_there_is() -> None:
    with pytest.raises(SettingError, match="choose one of sgd, rmsprop, adam, adamw"):
        optimizers.named("adagrad")
    with pytest.raises(SettingError, match="unknown setting of sgd 'beta'"):
        optimizers.named("sgd", beta=1)
    with pytest.raises(SettingError, match="nesterov needs a momentum"):
        SGD(nesterov=True)
    with pytest.raises(SettingError, match="lr is -1"):
        SGD(lr=-1)
    with pytest.raises(SettingError, match="lr is nan"):
        Adam(lr=float("nan"))
    with pytest.raises(SettingError, match="betas are"):
        Adam(betas=(0.9, 1.0))
    with pytest.raises(SettingError, match="unknown slot of sgd 'first'"):
        SGD().load_state({"steps": np.array([1]), "first/w": np.zeros(1)})
    with pytest.raises(SettingError, match="no entry 'steps'"):
        SGD().load_state({})
