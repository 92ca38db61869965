"""The layers of networks: read from their file, sized and classed."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest

from convgrad.shapes import CLASSES, Layer, networks

NAMED = {
    "resnet50/00_7x7s2_3-64@224x224": "first",
    "resnet50/02_3x3s1_64-64@56x56": "3×3",
    "resnet50/01_1x1s1_64-64@56x56": "1×1",
    "resnet50/08_1x1s2_256-512@56x56": "strided",
    "mobilenet_v2/17_3x3s1dw_384-384@14x14": "depthwise",
    "resnext50_32x4d/07_3x3s2g32_256-256@56x56": "grouped",
    "deeplabv3_resnet50/25_3x3s1d24_2048-256@64x64": "dilated",
    "wavenet/05_2s1d4_64-128@8196": "1-D",
    "unet3d_cicek/00_3x3x3s1_3-32@64x128x128": "3-D",
    "unet3d_cicek/12_T2x2x2s2_64-32@32x64x64": "transposed",
    "lenet5/02_5x5s1_16-120@5x5": "other",
}
SMALL = Layer("small", "none", 2, 4, 6, (5, 7), (3, 3), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize(("name", "layer_class"), NAMED.items())
def test_named_layers_are_classed(name, layer_class):
    (layer,) = (layer for layer in networks() if layer.name == name)
    assert layer.layer_class == layer_class


def test_every_class_has_layers():
    assert {layer.layer_class for layer in networks()} == set(CLASSES)


def test_names_are_unique():
    names = [layer.name for layer in networks()]
    assert len(names) == len(set(names)) > 150


def test_work_is_what_the_file_says():
    text = files("convgrad.shapes").joinpath("networks.json").read_text(encoding="utf-8")
    for layer, entry in zip(networks(), json.loads(text)["layers"], strict=True):
        assert layer.macs == layer.batch * entry["macs_per_image"], layer.name


def test_sizes_by_hand():
    assert SMALL.y_shape == (2, 6, 5, 7)
    assert SMALL.macs == 2 * 6 * 4 * 35 * 9
    assert SMALL.elements == 2 * 4 * 35 + 6 * 4 * 9 + 2 * 6 * 35
    strided = replace(SMALL, stride=(2, 3), padding=(0, 2), dilation=(1, 2))
    assert strided.out_size == (2, 3)
    assert replace(SMALL, groups=2).w_shape == (6, 2, 3, 3)


def test_a_transposed_layer_by_hand():
    layer = replace(
        SMALL, transposed=True, stride=(2, 2), padding=(1, 0), output_padding=(1, 0), groups=2
    )
    assert layer.w_shape == (4, 3, 3, 3)
    assert layer.out_size == (4 * 2 - 2 + 2 + 1 + 1, 6 * 2 + 2 + 1)
    assert layer.macs == 2 * 4 * 3 * 35 * 9
