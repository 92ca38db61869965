"""Descriptions: lists, TOML and short lines to models and back, and errors that name the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convgrad.errors import ConvError, SettingError, ShapeError
from convgrad.nn import models
from convgrad.nn.description import (
    checked,
    model_from_spec,
    parse,
    read_model,
    read_spec,
    to_toml,
)
from convgrad.nn.layers import LAYERS

TOML = """
name = "mine"
input_shape = [1, 8, 8]
loss = "softmax_cross_entropy"

[[layers]]
layer = "conv"
channels = 4
kernel = [3, 3]
padding = [[1, 1], [2, 0]]

[[layers]]
layer = "residual"
body = [{layer = "conv", channels = 4, kernel = 3, padding = "same"}, {layer = "batchnorm"}]
shortcut = "conv 4 1"

[[layers]]
layer = "flatten"

[[layers]]
layer = "linear"
features = 10
"""


def test_toml_gives_a_model(tmp_path: Path) -> None:
    path = tmp_path / "模型.toml"
    path.write_text(TOML, encoding="utf-8")
    model = read_model(path, seed=3, dtype="float64")
    assert (model.name, model.loss, model.input_shape) == (
        "mine",
        "softmax_cross_entropy",
        (1, 8, 8),
    )
    assert model.output_shape == (10,)
    shapes = {name: p.shape for name, p in model.parameters().items()}
    assert shapes["00_conv.weight"] == (4, 1, 3, 3)
    assert shapes["01_residual.shortcut.00_conv.weight"] == (4, 4, 1, 1)


def test_short_line_by_hand() -> None:
    line = """conv 16 3 same, relu, maxpool 3 2, batchnorm, conv 8 3x5 2 padding=1 groups=4
    bias=false padding_value=0.5, residual(conv 8 3 same, tanh | conv 8 1) activation=none,
    dropout 0.25, flatten, linear 10 initializer=zeros"""
    assert parse(line) == [
        {"layer": "conv", "channels": 16, "kernel": 3, "padding": "same"},
        {"layer": "relu"},
        {"layer": "maxpool", "window": 3, "stride": 2},
        {"layer": "batchnorm"},
        {
            "layer": "conv",
            "channels": 8,
            "kernel": [3, 5],
            "stride": 2,
            "padding": 1,
            "groups": 4,
            "bias": False,
            "padding_value": 0.5,
        },
        {
            "layer": "residual",
            "body": [
                {"layer": "conv", "channels": 8, "kernel": 3, "padding": "same"},
                {"layer": "tanh"},
            ],
            "shortcut": [{"layer": "conv", "channels": 8, "kernel": 1}],
            "activation": "none",
        },
        {"layer": "dropout", "rate": 0.25},
        {"layer": "flatten"},
        {"layer": "linear", "features": 10, "initializer": "zeros"},
    ]


def test_residual_within_residual() -> None:
    (block,) = parse("residual(relu, residual(tanh | sigmoid), relu)")
    assert [item["layer"] for item in block["body"]] == ["relu", "residual", "relu"]
    assert block["body"][1]["shortcut"] == [{"layer": "sigmoid"}]
    assert "shortcut" not in block


def test_a_list_may_mix_tables_and_lines() -> None:
    spec = {"input_shape": [1, 6, 6], "layers": ["conv 2 3, relu", {"layer": "flatten"}]}
    assert [layer.kind for layer in model_from_spec(spec).layers] == ["conv", "relu", "flatten"]


@pytest.mark.parametrize("name", models.MODELS)
def test_toml_and_back(name: str, tmp_path: Path) -> None:
    spec = model_from_spec(models.named(name, (1, 8, 8), 10)).spec()
    path = tmp_path / "model.toml"
    path.write_text(to_toml(spec), encoding="utf-8")
    assert read_spec(path) == spec


def test_every_layer_goes_to_toml_and_back(tmp_path: Path) -> None:
    line = """conv 4 3 same, conv_transpose 4 3x3 2 output_padding=1, avgpool 2 padding=1,
    maxpool 2, sigmoid, relu, tanh, batchnorm momentum=0.2, dropout 0.1, residual(relu),
    flatten, linear 4 bias=false, sum"""
    spec: dict[str, Any] = {"name": 'a "b" \\ 数', "input_shape": [2, 9, 9], "layers": parse(line)}
    spec = model_from_spec(spec).spec()
    assert {item["layer"] for item in spec["layers"]} == LAYERS.keys()
    path = tmp_path / "model.toml"
    path.write_text(to_toml(spec), encoding="utf-8")
    assert read_spec(path) == spec
    assert str(read_model(path)) == str(model_from_spec(spec))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"layer": "relu"}, {"layer": "convv"}], "layer 1: unknown kind of layer 'convv': did"),
        ([{"kind": "relu"}], r'layer 0: no key "layer" that says its kind, in \{\'kind\''),
        ([{"layer": 3}], "layer 0: unknown kind of layer 3"),
        (
            [{"layer": "conv", "channels": 4, "kernal": 3}],
            "layer 0: unknown setting of conv 'kernal': did you mean 'kernel'",
        ),
        ([{"layer": "conv", "channels": 4}], "layer 0: conv: the setting 'kernel' is missing"),
        (
            [{"layer": "conv", "channels": "many", "kernel": 3}],
            "layer 0: conv: channels is 'many'; it must be an integer",
        ),
        (
            [{"layer": "residual", "body": [{"layer": "relu"}, {"layer": "dropout", "rate": 2}]}],
            "^layer 0, body 1: dropout: rate is 2",
        ),
        ([{"layer": "residual", "body": 3}], "layer 0: body must be a list of layers"),
        ([{"layer": "params", "x": 1}], "unknown kind of layer 'params'"),
        ([7], "an entry must be a table or a line, but is 7"),
        (9, "layers must be a list of layers or a short line, but is 9"),
        ("conv 4 3 1 0 1 1 zeros 0.0 false true he_uniform 9", "'9' is one value too many"),
        ("conv 4 3 same padding=1", r"layer 0 \(conv\): 'padding=1' is one value too many"),
        ("relu, relu 3", r"layer 1 \(relu\): '3' is one value too many"),
        ("relu, blur 3", "'blur': choose one of conv, "),
        ("residual(relu", "brackets in 'residual\\(relu' do not match"),
        ("conv(relu)", r"not of the form residual\(body \| shortcut\)"),
        ("residual(relu | tanh | relu)", "not of the form"),
        ("conv 4 3 params=2", "unknown setting of conv 'params'"),
    ],
)
def test_errors_name_the_layer_and_the_key(layers: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        checked({"name": "m", "input_shape": [1, 8, 8], "layers": layers})


def test_errors_about_the_model_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown key of a model 'layer': did you mean 'layers'"):
        checked({"layer": []})
    with pytest.raises(SettingError, match="the model has no layers"):
        checked({"name": "m"})
    with pytest.raises(SettingError, match="says no input_shape"):
        model_from_spec({"layers": "relu"})
    with pytest.raises(SettingError, match="unknown loss 'msee'"):
        checked({"layers": "relu", "loss": "msee"})
    with pytest.raises(SettingError, match=r"no model file .*absent\.toml"):
        read_spec(tmp_path / "absent.toml")
    path = tmp_path / "bad.toml"
    path.write_text("layers = [", encoding="utf-8")
    with pytest.raises(SettingError, match=r"bad\.toml is not TOML"):
        read_spec(path)
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(SettingError, match=r"bad\.toml is not TOML"):
        read_spec(path)
    path.write_text('layers = ["relu", "conv 4"]', encoding="utf-8")
    with pytest.raises(SettingError, match=r"bad\.toml: layer 1: conv: the setting 'kernel'"):
        read_spec(path)


def test_resolve_takes_a_name_a_file_or_a_line(tmp_path: Path) -> None:
    assert models.resolve("lenet", (1, 8, 8), 10) == models.named("lenet", (1, 8, 8), 10)
    line = models.resolve("conv 4 3, relu, flatten, linear 10", (1, 8, 8), 10)
    assert line["input_shape"] == [1, 8, 8]
    path = tmp_path / "m.toml"
    path.write_text('layers = "flatten, linear 10"', encoding="utf-8")
    assert model_from_spec(models.resolve(str(path), (3, 8, 8), 10)).output_shape == (10,)
    path.write_text(TOML, encoding="utf-8")
    assert models.resolve(str(path), (1, 8, 8), 10) == read_spec(path)


def test_resolve_says_what_does_not_fit_the_data(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(TOML, encoding="utf-8")
    with pytest.raises(ShapeError, match=r"for samples of shape \(1, 8, 8\), but the data has"):
        models.resolve(str(path), (1, 28, 28), 10)
    with pytest.raises(ShapeError, match=r"\(10,\), but the data has 26 classes.*linear 26"):
        models.resolve(str(path), (1, 8, 8), 26)
    with pytest.raises(ConvError, match="model model: layer 01_linear"):
        models.resolve("conv 4 3, linear 10", (1, 8, 8), 10)
    with pytest.raises(SettingError, match="unknown model 'lenat': did you mean 'lenet'"):
        models.resolve("lenat", (1, 8, 8), 10)
    with pytest.raises(SettingError, match="no model file"):
        models.resolve(str(tmp_path / "none.toml"), (1, 8, 8), 10)
