"""Model: worked examples, names, loading, copies, the table, and tracing what is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convgrad.errors import ConvError, DTypeError, SettingError, ShapeError, TrainingError
from convgrad.nn import losses, models
from convgrad.nn.description import model_from_spec
from convgrad.nn.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    ReLU,
    Residual,
    Sigmoid,
    Sum,
)
from convgrad.nn.losses import MSE, MeanLoss, SoftmaxCrossEntropy, target_for
from convgrad.nn.network import Model
from convgrad.nn.optimizers import SGD


def small(dtype: str = "float32", seed: int = 0) -> Model:
    body = [Conv(4, 3, padding=1, bias=False), BatchNorm(), ReLU()]
    layers = [Conv(4, 3), ReLU(), Residual(body), Dropout(0.3), MaxPool(2), Flatten(), Linear(3)]
    return Model(layers, (2, 6, 6), name="small", dtype=dtype, seed=seed)


def batch(dtype: str = "float32", count: int = 5) -> np.ndarray:
    return np.random.default_rng(9).normal(size=(count, 2, 6, 6)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_worked_example_one_step_of_sgd(dtype: str) -> None:
    """x = 1..9, kernel 3 2 / 1 5: outputs 36 47 69 80 add up to 232, two above 230."""
    model = Model([Conv(1, 2, bias=False), Sum()], (1, 3, 3), dtype=dtype)
    model.load({"00_conv.weight": np.array([[[[3, 2], [1, 5]]]], dtype)})
    x = np.arange(1, 10, dtype=dtype).reshape(1, 1, 3, 3)
    y = model.forward(x, training=True)
    np.testing.assert_array_equal(y, [232])
    value, dy = MSE().value_and_grad(y, np.array([230.0]))
    assert value == 4
    model.backward(dy, need_input=False)
    np.testing.assert_array_equal(model.gradients()["00_conv.weight"], [[[[48, 64], [96, 112]]]])
    SGD(lr=0.01).step(model.parameters(), model.gradients())
    tolerance = 8 * np.finfo(dtype).eps * 4
    np.testing.assert_allclose(
        model.parameters()["00_conv.weight"], [[[[2.52, 1.36], [0.04, 3.88]]]], atol=tolerance
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_worked_example_mean_loss(channels: int) -> None:
    """1..16 as 4×4, a 3×3 kernel, mean loss: dw is the mean of the 2×2 places of each tap."""
    model = Model([Conv(channels, 3)], (1, 4, 4), dtype="float64")
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    _, dy = MeanLoss().value_and_grad(model.forward(x, training=True))
    model.backward(dy)
    expected = np.array([[3.5, 4.5, 5.5], [7.5, 8.5, 9.5], [11.5, 12.5, 13.5]]) / channels
    for kernel in model.gradients()["00_conv.weight"]:
        np.testing.assert_array_equal(kernel[0], expected)
    np.testing.assert_array_equal(
        model.gradients()["00_conv.bias"], np.full(channels, 1 / channels)
    )


def test_toolbox_matches_the_toolbox_formulas_in_torch() -> None:
    """6c5-2s-12c5-2s on 28×28: output, ½Σe²/N and every gradient."""
    torch: Any = pytest.importorskip("torch")
    model = model_from_spec(models.named("toolbox", (1, 28, 28), 10), dtype="float64")
    x = np.random.default_rng(0).uniform(size=(4, 1, 28, 28))
    target = losses.one_hot(np.array([3, 1, 4, 1]), 10, "float64")
    loss = losses.named("half_mse")
    y = model.forward(x, training=True)
    value, dy = loss.value_and_grad(y, target)
    dx = model.backward(dy)
    assert dx is not None

    p = {n: torch.tensor(a, requires_grad=True) for n, a in model.parameters().items()}
    tx, calls = torch.tensor(x, requires_grad=True), torch.nn.functional
    one = calls.conv2d(tx, p["00_conv.weight"], p["00_conv.bias"]).sigmoid()
    two = calls.conv2d(calls.avg_pool2d(one, 2), p["03_conv.weight"], p["03_conv.bias"]).sigmoid()
    flat = calls.avg_pool2d(two, 2).flatten(1)
    ty = calls.linear(flat, p["07_linear.weight"], p["07_linear.bias"]).sigmoid()
    expected = 0.5 * ((ty - torch.tensor(target)) ** 2).sum() / 4
    expected.backward()
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-12)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-9, atol=1e-13)
    for name, grad in model.gradients().items():
        np.testing.assert_allclose(grad, p[name].grad.numpy(), rtol=1e-9, atol=1e-13)


def test_parameter_names_and_order() -> None:
    model = small()
    assert list(model.parameters()) == [
        "00_conv.weight",
        "00_conv.bias",
        "02_residual.body.00_conv.weight",
        "02_residual.body.01_batchnorm.weight",
        "02_residual.body.01_batchnorm.bias",
        "06_linear.weight",
        "06_linear.bias",
    ]
    assert list(model.buffers()) == [
        "02_residual.body.01_batchnorm.running_mean",
        "02_residual.body.01_batchnorm.running_var",
    ]
    model.backward(np.ones_like(model.forward(batch(), training=True)))
    assert list(model.gradients()) == list(model.parameters())


def test_same_seed_same_numbers_also_for_dropout() -> None:
    one, two, other = small(seed=4), small(seed=4), small(seed=5)
    for name, param in one.parameters().items():
        np.testing.assert_array_equal(param, two.parameters()[name])
    np.testing.assert_array_equal(one.forward(batch(), True), two.forward(batch(), True))
    assert (one.parameters()["06_linear.weight"] != other.parameters()["06_linear.weight"]).any()


def test_load_takes_what_state_gave_and_keeps_the_arrays() -> None:
    one, two = small(seed=1), small(seed=2)
    one.forward(batch(), training=True)  # moves the running statistics
    arrays = two.parameters()
    two.load({name: array.copy() for name, array in one.state().items()})
    for name, array in two.parameters().items():
        assert array is arrays[name]
    np.testing.assert_array_equal(two.forward(batch()), one.forward(batch()))


def test_load_refuses_what_does_not_fit_and_changes_nothing() -> None:
    model = small()
    before = {name: array.copy() for name, array in model.state().items()}
    good = {name: array + 1 for name, array in before.items()}
    without = {name: array for name, array in good.items() if name != "06_linear.bias"}
    with pytest.raises(SettingError, match=r"missing \['06_linear\.bias'\], unknown none"):
        model.load(without)
    with pytest.raises(SettingError, match=r"unknown \['07_linear\.bias'\]"):
        model.load(good | {"07_linear.bias": np.zeros(3)})
    with pytest.raises(ShapeError, match=r"06_linear\.bias has shape \(4,\), but \(3,\)"):
        model.load(good | {"06_linear.bias": np.zeros(4, "float32")})
    with pytest.raises(DTypeError, match=r"06_linear\.bias is float64, but float32"):
        model.load(good | {"06_linear.bias": np.zeros(3)})
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_backward_without_dx_gives_the_same_gradients() -> None:
    model = Model([Flatten(), Linear(4), Sigmoid(), Linear(2)], (2, 6, 6), dtype="float64")
    dy = np.ones_like(model.forward(batch("float64"), training=True))
    dx = model.backward(dy)
    assert dx is not None
    assert dx.shape == (5, 2, 6, 6)
    full = {name: grad.copy() for name, grad in model.gradients().items()}
    assert model.backward(dy, need_input=False) is None
    for name, grad in model.gradients().items():
        np.testing.assert_array_equal(grad, full[name])


def test_a_model_without_parameters() -> None:
    model = Model([AvgPool(2), Sum()], (1, 2, 2), dtype="float64")
    np.testing.assert_array_equal(model.forward(np.ones((2, 1, 2, 2)), True), [1, 1])
    np.testing.assert_array_equal(model.backward(np.array([4.0, 8.0]))[:, 0, 0, 0], [1, 2])  # pyright: ignore[reportOptionalSubscript]
    assert model.backward(np.ones(2), need_input=False) is None
    assert model.gradients() == {}


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("input_shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_named_models_fit_and_learn_a_batch(name: str, input_shape: tuple[int, ...]) -> None:
    spec = models.named(name, input_shape, 7)
    model = model_from_spec(spec, dtype="float64")
    assert model.output_shape == (7,)
    assert model.spec() == model_from_spec(model.spec()).spec()
    x = np.random.default_rng(1).normal(size=(2, *input_shape))
    loss = losses.named(spec["loss"])
    target = target_for(loss, np.array([2, 5]), 7, "float64")
    value, dy = loss.value_and_grad(model.forward(x, training=True), target)
    model.backward(dy, need_input=False)
    SGD(lr=1e-3).step(model.parameters(), model.gradients())
    assert loss.value_and_grad(model.forward(x, training=True), target)[0] < value


def test_named_models_adapt_their_kernels_as_they_say() -> None:
    shapes = {
        size: model_from_spec(models.named("toolbox", (1, size, size), 10)) for size in (8, 28)
    }
    assert shapes[28].parameters()["00_conv.weight"].shape == (6, 1, 5, 5)
    assert shapes[28].parameters()["07_linear.weight"].shape == (10, 12 * 4 * 4)
    assert shapes[8].parameters()["00_conv.weight"].shape == (6, 1, 3, 3)
    assert shapes[8].parameters()["07_linear.weight"].shape == (10, 12 * 2 * 2)
    small_lenet = model_from_spec(models.named("lenet", (1, 8, 8), 10))
    assert small_lenet.parameters()["07_linear.weight"].shape == (64, 32 * 4 * 4)
    for size in (28, 32):
        lenet = model_from_spec(models.named("lenet", (1, size, size), 10))
        assert lenet.parameters()["07_linear.weight"].shape == (120, 16 * 5 * 5)
    with pytest.raises(ShapeError, match=r"sizes ≥ 4, but got \(1, 3, 9\)"):
        models.named("lenet", (1, 3, 9), 10)
    with pytest.raises(SettingError, match="unknown model 'lenett': did you mean 'lenet'"):
        models.named("lenett", (1, 8, 8), 10)


def test_table_has_every_layer_shape_and_count() -> None:
    lines = [line.split() for line in str(small()).splitlines()]
    assert lines[0] == ["small", "(float32)"]
    assert lines[1] == ["layer", "output", "parameters"]
    assert ["00_conv", "4,", "4,", "4", "76"] in lines
    assert ["02_residual", "4,", "4,", "4"] in lines
    assert ["02_residual.body.00_conv", "4,", "4,", "4", "144"] in lines
    assert ["02_residual.body.01_batchnorm", "4,", "4,", "4", "8"] in lines
    assert ["06_linear", "3", "51"] in lines
    assert lines[-1] == ["total", "3", "279"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_step_in_every_dtype(dtype: str) -> None:
    model = small(dtype)
    _, dy = SoftmaxCrossEntropy().value_and_grad(
        model.forward(batch(dtype), training=True), np.array([0, 1, 2, 0, 1])
    )
    model.backward(dy)
    SGD(lr=0.01, momentum=0.9).step(model.parameters(), model.gradients())
    for array in model.state().values():
        assert array.dtype == np.dtype(dtype)
        assert np.isfinite(array).all()


def test_astype_copies_numbers_and_generator() -> None:
    model = small(seed=3)
    model.forward(batch(), training=True)
    twin = model.astype("float64")
    assert twin.dtype == np.float64
    for name, array in model.state().items():
        np.testing.assert_array_equal(twin.state()[name], array)
    one, two = model.forward(batch(), True), twin.forward(batch("float64"), True)
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    twin.parameters()["06_linear.bias"][...] = 7
    assert not (model.parameters()["06_linear.bias"] == 7).any()


def test_algorithm_reaches_every_convolution() -> None:
    shared = {"input_shape": (2, 6, 6), "dtype": "float64"}
    layers = lambda: [Conv(3, 3), Residual([Conv(3, 3, padding=1)]), Flatten(), Linear(2)]  # noqa: E731
    outputs = []
    for algorithm in ("direct", "im2col", "rot180"):
        model = Model(layers(), algorithm=algorithm, precision="strict", **shared)
        residual = model.layers[1]
        assert isinstance(residual, Residual)
        chosen = [model.layers[0].compute, residual.body[0].compute, model.layers[3].compute]
        assert {(c.algorithm, c.precision) for c in chosen} == {(algorithm, "strict")}
        outputs.append(model.forward(batch("float64")))
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(outputs[2], outputs[0], rtol=1e-12, atol=1e-12)


def test_an_unknown_algorithm_is_refused_with_the_layers_name() -> None:
    with pytest.raises(ConvError, match=r"layer 00_conv.*winogard"):
        Model([Conv(3, 3)], (2, 6, 6), algorithm="winogard")


def test_first_nonfinite_forward() -> None:
    x, labels, loss = batch(), np.array([0, 1, 2, 0, 1]), SoftmaxCrossEntropy()
    assert small().first_nonfinite(x, loss, labels) is None
    bad = x.copy()
    bad[0, 0, 0, 0] = np.nan
    assert small().first_nonfinite(bad, loss, labels) == "input"
    for name, layer in [
        ("00_conv.weight", "00_conv"),
        ("02_residual.body.00_conv.weight", "02_residual.body.00_conv"),
        ("02_residual.body.01_batchnorm.bias", "02_residual.body.01_batchnorm"),
        ("06_linear.bias", "06_linear"),
    ]:
        model = small()
        model.parameters()[name].flat[0] = np.inf
        assert model.first_nonfinite(x, loss, labels) == layer


def test_first_nonfinite_in_the_shortcut() -> None:
    model = Model([Residual([ReLU()], [Conv(2, 1)])], (2, 6, 6))
    model.parameters()["00_residual.shortcut.00_conv.bias"][0] = np.nan
    assert model.first_nonfinite(batch()) == "00_residual.shortcut.00_conv"


def test_first_nonfinite_backward_and_in_the_loss() -> None:
    """Outputs fit into float16, their gradients do not."""
    model = Model(
        [Conv(1, 1, bias=False), Residual([Conv(1, 1)]), Sum()], (1, 2, 2), "m", "float16"
    )
    model.load(
        {
            "00_conv.weight": np.full((1, 1, 1, 1), 1e-3, "float16"),
            "01_residual.body.00_conv.weight": np.full((1, 1, 1, 1), 1e3, "float16"),
            "01_residual.body.00_conv.bias": np.zeros(1, "float16"),
        }
    )
    x = np.full((1, 1, 2, 2), 1e-2, "float16")
    mse = MSE()
    assert model.first_nonfinite(x, mse, np.array([0.0])) is None
    assert model.first_nonfinite(x, mse, np.array([3e4])) == "01_residual.body.00_conv"
    assert model.first_nonfinite(x, mse, np.array([6.5e4])) == "loss"


def test_first_nonfinite_leaves_statistics_and_generator_alone() -> None:
    model = small()
    before = {name: array.copy() for name, array in model.state().items()}
    drawn = model.rng.bit_generator.state
    model.first_nonfinite(batch(), SoftmaxCrossEntropy(), np.array([0, 1, 2, 0, 1]))
    assert model.rng.bit_generator.state == drawn
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_errors_name_the_layer_and_what_to_do() -> None:
    model = small()
    with pytest.raises(ShapeError, match=r"input has shape \(2, 6, 6\).*pass x\[None\]"):
        model.forward(batch()[0])
    with pytest.raises(DTypeError, match=r"float64, but the model float32; pass x\.astype"):
        model.forward(batch("float64"))
    with pytest.raises(TrainingError, match="linear: backward needs"):
        model.backward(np.ones((5, 3), "float32"))
    with pytest.raises(ShapeError, match=r"dy of shape \(5, 4\).*\(N, 3\)"):
        model.backward(np.ones((5, 4), "float32"))
    with pytest.raises(ShapeError, match=r"layer 01_linear \(samples of shape \(3, 4, 4\)\)"):
        Model([Conv(3, 3), Linear(2)], (1, 6, 6))
    with pytest.raises(ShapeError, match=r"layer 00_residual.*layer 01_linear.*flatten"):
        Model([Residual([Conv(3, 3), Linear(2)])], (1, 6, 6))
    relu = ReLU()
    with pytest.raises(SettingError, match="one layer object stands in two places"):
        Model([relu, relu], (1, 6, 6))
    with pytest.raises(ShapeError, match="input_shape is"):
        Model([ReLU()], (1, 0, 6))
    with pytest.raises(DTypeError, match="a model in int32 is not possible"):
        Model([ReLU()], (1, 6), dtype="int32")
