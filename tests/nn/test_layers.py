"""Every layer: forward, dx and parameter gradients against PyTorch in float64, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convgrad.errors import ConvError, SettingError, ShapeError, TrainingError
from convgrad.nn.layers import (
    LAYERS,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    ReLU,
    Residual,
    Sigmoid,
    Sum,
    Tanh,
)

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
Torch = Any


@pytest.fixture(scope="module")
def torch() -> Torch:
    return pytest.importorskip("torch")


def built(layer: Layer, in_shape: tuple[int, ...], dtype: str = "float64") -> Layer:
    """The layer with random numbers in every parameter, biases included."""
    rng = np.random.default_rng(7)
    layer.build(in_shape, rng, np.dtype(dtype))
    for param in layer.params.values():
        param[...] = rng.normal(size=param.shape)
    return layer


def against_torch(
    torch: Torch,
    layer: Layer,
    in_shape: tuple[int, ...],
    formula: Callable[..., Any],
    x: np.ndarray | None = None,
) -> None:
    """The layer and `formula(x, params)` in PyTorch agree on y, dx and every gradient."""
    rng = np.random.default_rng(3)
    layer = built(layer, in_shape)
    x = rng.normal(size=(3, *in_shape)) if x is None else x
    y = layer.forward(x, training=True)
    dy = rng.normal(size=y.shape)
    dx = layer.backward(dy)

    tx = torch.tensor(x, requires_grad=True)
    params = {name: torch.tensor(p, requires_grad=True) for name, p in layer.params.items()}
    ty = formula(tx, params)
    ty.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, ty.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(dx, tx.grad.numpy(), **CLOSE)
    assert layer.grads.keys() == params.keys()
    for name, param in params.items():
        np.testing.assert_allclose(layer.grads[name], param.grad.numpy(), **CLOSE)
    evaluated = layer.forward(x, training=False)
    if not layer.buffers:
        np.testing.assert_array_equal(evaluated, y)


CONVS = [
    ((4, 9), {"channels": 6, "kernel": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ((4, 7, 6), {"channels": 6, "kernel": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ((4, 7, 6), {"channels": 6, "kernel": 3, "groups": 2, "bias": False}),
    ((4, 7, 6), {"channels": 4, "kernel": 3, "groups": 4, "padding": "same", "dilation": 2}),
    ((2, 4, 5, 4), {"channels": 3, "kernel": (2, 3, 1), "padding": "valid"}),
]


@pytest.mark.parametrize(("in_shape", "settings"), CONVS)
def test_conv(torch: Torch, in_shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    conv = [torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d]
    rest = {key: settings[key] for key in settings if key not in ("channels", "kernel", "bias")}
    against_torch(
        torch,
        Conv(**settings),
        in_shape,
        lambda x, p: conv[len(in_shape) - 2](x, p["weight"], p.get("bias"), **rest),
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_conv_padding_modes_and_pairs(torch: Torch, mode: str) -> None:
    pad, conv = torch.nn.functional.pad, torch.nn.functional.conv2d
    torch_mode = "constant" if mode == "zeros" else mode
    against_torch(
        torch,
        Conv(3, 3, padding=((2, 1), (0, 2)), padding_mode=mode),
        (2, 5, 6),
        lambda x, p: conv(pad(x, (0, 2, 2, 1), mode=torch_mode), p["weight"], p["bias"]),
    )


def test_conv_pads_with_a_value_and_flips(torch: Torch) -> None:
    pad, conv = torch.nn.functional.pad, torch.nn.functional.conv2d
    against_torch(
        torch,
        Conv(3, 2, padding=1, padding_mode="constant", padding_value=2.5, flip=True),
        (2, 5, 6),
        lambda x, p: conv(pad(x, (1, 1, 1, 1), value=2.5), p["weight"].flip(2, 3), p["bias"]),
    )


TRANSPOSED = [
    ((4, 5), {"channels": 6, "kernel": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    ((4, 3, 4), {"channels": 6, "kernel": (3, 2), "stride": (2, 3), "groups": 2, "dilation": 2}),
    ((4, 3, 4), {"channels": 2, "kernel": 4, "stride": 2, "padding": 1, "bias": False}),
    ((2, 2, 3, 2), {"channels": 3, "kernel": 2, "stride": 2}),
]


@pytest.mark.parametrize(("in_shape", "settings"), TRANSPOSED)
def test_conv_transpose(torch: Torch, in_shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    calls = torch.nn.functional
    conv = [calls.conv_transpose1d, calls.conv_transpose2d, calls.conv_transpose3d]
    rest = {key: settings[key] for key in settings if key not in ("channels", "kernel", "bias")}
    against_torch(
        torch,
        ConvTranspose(**settings),
        in_shape,
        lambda x, p: conv[len(in_shape) - 2](x, p["weight"], p.get("bias"), **rest),
    )


POOLS = [
    ((3, 9), {"window": 2}),
    ((3, 8, 7), {"window": 2}),
    ((3, 8, 7), {"window": 3, "stride": 2, "padding": 1}),
    ((3, 8, 9), {"window": (3, 2), "stride": (1, 3), "padding": (0, 1)}),
    ((2, 5, 4, 6), {"window": 2, "stride": (1, 2, 3), "padding": 1}),
]


@pytest.mark.parametrize(("in_shape", "settings"), POOLS)
@pytest.mark.parametrize("pad_counts", [True, False])
def test_avgpool(
    torch: Torch, in_shape: tuple[int, ...], settings: dict[str, Any], pad_counts: bool
) -> None:
    calls = torch.nn.functional
    pool = [calls.avg_pool1d, calls.avg_pool2d, calls.avg_pool3d][len(in_shape) - 2]
    rest = {"stride": settings.get("stride"), "padding": settings.get("padding", 0)}
    against_torch(
        torch,
        AvgPool(**settings, count_include_pad=pad_counts),
        in_shape,
        lambda x, p: pool(x, settings["window"], **rest, count_include_pad=pad_counts),
    )


@pytest.mark.parametrize(("in_shape", "settings"), POOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_maxpool(
    torch: Torch, in_shape: tuple[int, ...], settings: dict[str, Any], ties: bool
) -> None:
    calls = torch.nn.functional
    pool = [calls.max_pool1d, calls.max_pool2d, calls.max_pool3d][len(in_shape) - 2]
    rest = {"stride": settings.get("stride"), "padding": settings.get("padding", 0)}
    rng = np.random.default_rng(5)
    shape = (3, *in_shape)
    x = rng.integers(-1, 2, shape).astype(float) if ties else rng.normal(size=shape)
    formula = lambda x, p: pool(x, settings["window"], **rest)  # noqa: E731
    against_torch(torch, MaxPool(**settings), in_shape, formula, x)


def test_maxpool_gives_ties_to_the_first_in_window_order() -> None:
    pool = built(MaxPool(2), (1, 2, 4))
    x = np.array([[[[5.0, 5.0, 1.0, 2.0], [5.0, 5.0, 2.0, 2.0]]]])
    np.testing.assert_array_equal(pool.forward(x, True), [[[[5.0, 2.0]]]])
    dx = pool.backward(np.array([[[[10.0, 20.0]]]]))
    np.testing.assert_array_equal(dx, [[[[10.0, 0.0, 0.0, 20.0], [0.0, 0.0, 0.0, 0.0]]]])


def test_maxpool_lets_nan_win() -> None:
    pool = built(MaxPool(2), (1, 4))
    y = pool.forward(np.array([[[np.nan, 3.0, 1.0, -np.inf]]]), True)
    np.testing.assert_array_equal(y, [[[np.nan, 1.0]]])


def test_avgpool_by_hand() -> None:
    pool = built(AvgPool(2), (1, 3, 4))
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    np.testing.assert_array_equal(pool.forward(x, True), [[[[2.5, 4.5]]]])
    dx = pool.backward(np.array([[[[4.0, 8.0]]]]))
    np.testing.assert_array_equal(dx, [[[[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0]]]])


@pytest.mark.parametrize("bias", [True, False])
def test_linear(torch: Torch, bias: bool) -> None:
    linear = torch.nn.functional.linear
    against_torch(
        torch, Linear(5, bias=bias), (7,), lambda x, p: linear(x, p["weight"], p.get("bias"))
    )


def test_flatten_and_sum(torch: Torch) -> None:
    against_torch(torch, Flatten(), (2, 3, 4), lambda x, p: x.flatten(1))
    against_torch(torch, Sum(), (2, 3, 4), lambda x, p: x.flatten(1).sum(1))


def test_activations(torch: Torch) -> None:
    against_torch(torch, Sigmoid(), (4, 5), lambda x, p: torch.sigmoid(x))
    against_torch(torch, Tanh(), (4, 5), lambda x, p: torch.tanh(x))
    kinked = np.array([[-1.5, -0.0, 0.0, 2.0]])
    against_torch(torch, ReLU(), (4,), lambda x, p: torch.relu(x), kinked)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sigmoid_is_stable_far_out(dtype: str) -> None:
    layer = built(Sigmoid(), (5,), dtype)
    x = np.array([[-1e4, -20, 0, 20, 1e4]], dtype)
    with np.errstate(over="raise", invalid="raise"):
        y = layer.forward(x, True)
        dx = layer.backward(np.ones_like(x))
    assert y.dtype == dx.dtype == x.dtype
    exact = 1 / (1 + np.exp(np.array([20.0])))
    np.testing.assert_allclose(y[0, 1], exact[0], rtol=8 * np.finfo(dtype).eps, atol=1e-7)
    np.testing.assert_array_equal(y[0, [0, 2, 4]], [0, 0.5, 1])


@pytest.mark.parametrize("in_shape", [(4,), (4, 5), (4, 3, 2), (2, 3, 2, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batchnorm_in_training(torch: Torch, in_shape: tuple[int, ...], affine: bool) -> None:
    norm = torch.nn.functional.batch_norm
    against_torch(
        torch,
        BatchNorm(affine=affine),
        in_shape,
        lambda x, p: norm(x, None, None, p.get("weight"), p.get("bias"), training=True),
    )


def test_batchnorm_running_statistics_over_three_batches(torch: Torch) -> None:
    ours = built(BatchNorm(momentum=0.3, eps=1e-3), (4, 3, 2))
    theirs = torch.nn.BatchNorm2d(4, momentum=0.3, eps=1e-3, dtype=torch.float64)
    with torch.no_grad():
        for name, param in ours.params.items():
            getattr(theirs, name).copy_(torch.tensor(param))
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = rng.normal(2.0, 3.0, size=(5, 4, 3, 2))
        ours.forward(x, training=True)
        theirs(torch.tensor(x))
    for name, running in ours.buffers.items():
        np.testing.assert_allclose(running, getattr(theirs, name).numpy(), **CLOSE)
    theirs.eval()
    x = rng.normal(size=(2, 4, 3, 2))
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours.forward(x, training=False), expected, **CLOSE)


def test_batchnorm_by_hand() -> None:
    norm = built(BatchNorm(momentum=0.5, eps=1e-30, affine=False), (1,))
    np.testing.assert_allclose(norm.forward(np.array([[1.0], [3.0]]), True), [[-1.0], [1.0]])
    np.testing.assert_allclose(norm.buffers["running_mean"], [1.0])  # ½·0 + ½·2
    np.testing.assert_allclose(norm.buffers["running_var"], [1.5])  # ½·1 + ½·2, unbiased


def test_batchnorm_refuses_one_entry_for_each_channel() -> None:
    norm = built(BatchNorm(), (4,))
    with pytest.raises(ShapeError, match=r"1 entries for each channel.*two samples or more"):
        norm.forward(np.ones((1, 4)), True)


def test_dropout_masks_scales_and_repeats() -> None:
    layer = built(Dropout(0.25), (50, 40))
    x = np.random.default_rng(0).normal(size=(3, 50, 40)) + 10
    assert layer.rng is not None
    drawn = layer.rng.bit_generator.state
    y = layer.forward(x, True)
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-15)
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_allclose(layer.backward(np.ones_like(x)), kept / 0.75, rtol=1e-15)
    assert (layer.forward(x, True) != y).any()
    layer.rng.bit_generator.state = drawn
    np.testing.assert_array_equal(layer.forward(x, True), y)
    np.testing.assert_array_equal(layer.forward(x, False), x)


def test_dropout_draws_the_same_mask_in_every_dtype() -> None:
    masks = []
    for dtype in ("float32", "float64"):
        layer = built(Dropout(0.5), (100,), dtype)
        masks.append(layer.forward(np.ones((4, 100), dtype), True) > 0)
    np.testing.assert_array_equal(*masks)


def test_residual_with_shortcut(torch: Torch) -> None:
    calls = torch.nn.functional
    layer = Residual([Conv(4, 3, stride=2, padding=1), Tanh(), Conv(4, 1)], [Conv(4, 1, stride=2)])

    def formula(x: Any, p: dict[str, Any]) -> Any:
        first = calls.conv2d(x, p["body.00_conv.weight"], p["body.00_conv.bias"], 2, 1)
        body = calls.conv2d(first.tanh(), p["body.02_conv.weight"], p["body.02_conv.bias"])
        beside = p["shortcut.00_conv.weight"], p["shortcut.00_conv.bias"]
        return torch.relu(body + calls.conv2d(x, *beside, 2))

    against_torch(torch, layer, (2, 6, 5), formula)


@pytest.mark.parametrize("after", ["none", "sigmoid", "tanh"])
def test_residual_without_shortcut_or_parameters(torch: Torch, after: str) -> None:
    last = {"none": lambda z: z, "sigmoid": torch.sigmoid, "tanh": torch.tanh}[after]
    layer = Residual([Tanh()], activation=after)
    against_torch(torch, layer, (3, 4), lambda x, p: last(x.tanh() + x))


def test_residual_names_both_shapes_that_cannot_be_added() -> None:
    with pytest.raises(ShapeError, match=r"body gives \(4, 3, 3\) and the shortcut \(2, 5, 5\)"):
        built(Residual([Conv(4, 3)]), (2, 5, 5))


@pytest.mark.parametrize(
    ("layer", "in_shape"),
    [
        (Conv(2, 3), (2, 5, 5)),
        (ConvTranspose(2, 3), (2, 5, 5)),
        (Linear(3), (4,)),
        (BatchNorm(), (3, 2)),
        (Residual([Conv(2, 1)], [Conv(2, 1)]), (2, 4)),
    ],
)
def test_dx_can_be_left_out(layer: Layer, in_shape: tuple[int, ...]) -> None:
    layer = built(layer, in_shape)
    x = np.random.default_rng(0).normal(size=(3, *in_shape))
    dy = np.ones_like(layer.forward(x, True))
    assert layer.backward(dy) is not None
    full = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.grads = {}
    assert layer.backward(dy, need_input=False) is None
    for name in layer.params:
        np.testing.assert_array_equal(layer.grads[name], full[name])


SAMPLES: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "conv": (Conv(2, 3, padding="same"), (2, 4, 4)),
    "conv_transpose": (ConvTranspose(2, 3, stride=2), (2, 4, 4)),
    "avgpool": (AvgPool(2), (2, 4, 4)),
    "maxpool": (MaxPool(2), (2, 4, 4)),
    "linear": (Linear(3), (4,)),
    "flatten": (Flatten(), (2, 4)),
    "sum": (Sum(), (2, 4)),
    "sigmoid": (Sigmoid(), (4,)),
    "relu": (ReLU(), (4,)),
    "tanh": (Tanh(), (4,)),
    "batchnorm": (BatchNorm(), (2, 4)),
    "dropout": (Dropout(0.5), (4,)),
    "residual": (Residual([Conv(2, 3, padding=1)]), (2, 4)),
}


def test_there_is_a_sample_of_every_layer() -> None:
    assert SAMPLES.keys() == LAYERS.keys()


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_keeps_shape_and_dtype(kind: str, dtype: str) -> None:
    layer, in_shape = SAMPLES[kind]
    layer = layer.fresh()
    out_shape = layer.build(in_shape, np.random.default_rng(0), np.dtype(dtype))
    x = np.random.default_rng(1).normal(size=(3, *in_shape)).astype(dtype)
    y = layer.forward(x, True)
    assert y.shape == (3, *out_shape)
    dx = layer.backward(np.ones_like(y))
    assert dx is not None
    assert dx.shape == x.shape
    for array in (y, dx, *layer.params.values(), *layer.grads.values(), *layer.buffers.values()):
        assert array.dtype == np.dtype(dtype)
    for name, param in layer.params.items():
        assert layer.grads[name].shape == param.shape


@pytest.mark.parametrize("kind", SAMPLES)
def test_backward_without_a_training_forward_says_so(kind: str) -> None:
    layer, in_shape = SAMPLES[kind]
    layer = built(layer.fresh(), in_shape)
    y = layer.forward(np.ones((2, *in_shape)), training=False)
    with pytest.raises(TrainingError, match=r"call forward\(x, training=True\) first"):
        layer.backward(np.ones_like(y))


@pytest.mark.parametrize("kind", SAMPLES)
def test_spec_rebuilds_the_layer(kind: str) -> None:
    layer, _ = SAMPLES[kind]
    assert layer.spec()["layer"] == kind
    assert layer.fresh().spec() == layer.spec()


def test_spec_holds_what_is_not_the_default() -> None:
    conv = Conv(4, (3, 1), padding=((1, 0), (0, 0)), bias=False)
    padding = [[1, 0], [0, 0]]
    spec = {"layer": "conv", "channels": 4, "kernel": [3, 1], "padding": padding, "bias": False}
    assert conv.spec() == spec


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(0, 3), "conv: channels is 0; it must be an integer ≥ 1"),
        (lambda: Conv(2, 2.5), "conv: kernel is 2.5"),
        (lambda: Conv(2, (3, -1)), "conv: an entry of kernel is -1"),
        (lambda: Conv(2, 3, bias="no"), "conv: bias is 'no'; it must be true or false"),
        (lambda: Conv(2, 3, initializer="he_unifrom"), "did you mean 'he_uniform'"),
        (lambda: ConvTranspose(2, 3, output_padding=-1), "output_padding is -1"),
        (lambda: Linear(True), "linear: features is True"),
        (lambda: MaxPool(0), "maxpool: window is 0"),
        (lambda: AvgPool(2, count_include_pad=1), "count_include_pad is 1"),
        (lambda: Dropout(1.0), "dropout: rate is 1"),
        (lambda: Dropout("half"), "dropout: rate is 'half'"),
        (lambda: BatchNorm(momentum=2), "momentum is 2; it must be a number from 0 to 1"),
        (lambda: BatchNorm(eps=0), "eps is 0"),
        (lambda: Residual([ReLU()], activation="gelu"), "unknown activation"),
        (lambda: Residual(["relu"]), "a layer is needed, but this came: 'relu'"),
    ],
)
def test_wrong_settings_are_refused_at_once(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "in_shape", "message"),
    [
        (Conv(4, 3, groups=2), (3, 5, 5), "groups=2 must divide the 3 input channels"),
        (Conv(4, (3, 3)), (2, 5), "1 spatial axes; give one integer"),
        (Conv(4, 3), (5,), "put conv before flatten"),
        (Conv(4, 7), (1, 5, 5), "7"),
        (Linear(3), (2, 4, 4), "put a flatten layer before it"),
        (MaxPool(6), (1, 5, 5), r"window \(6, 6\) is larger than the input \(5, 5\)"),
        (MaxPool(2, padding=2), (1, 5, 5), "more than half of the window"),
        (BatchNorm(), (), r"gets \(\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_when_built(
    layer: Layer, in_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ConvError, match=message):
        built(layer, in_shape)
