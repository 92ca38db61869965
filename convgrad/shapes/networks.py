"""The layers of networks.json, which stands beside this file."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from convgrad.shapes.layer import Layer


@cache
def networks() -> tuple[Layer, ...]:
    """Every layer of the list, in the order of the networks and of the layers in them."""
    text = files("convgrad.shapes").joinpath("networks.json").read_text(encoding="utf-8")
    return tuple(_layer(entry) for entry in json.loads(text)["layers"])


def _layer(entry: dict[str, Any]) -> Layer:
    """An entry: spatial sizes under d, h and w, settings as lists with one number for each axis."""
    return Layer(
        name=entry["name"],
        network=entry["net"],
        batch=entry["batch"],
        in_channels=entry["cin"],
        out_channels=entry["cout"],
        in_size=tuple(entry[axis] for axis in "dhw" if axis in entry),
        kernel=tuple(entry["k"]),
        stride=tuple(entry["stride"]),
        padding=tuple(entry["pad"]),
        dilation=tuple(entry["dilation"]),
        groups=entry["groups"],
        transposed=entry.get("transposed", False),
        output_padding=tuple(entry.get("output_padding", ())),
        count=entry["count"],
    )
