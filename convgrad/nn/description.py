"""A model as text: a TOML file, a list of dicts, or a short line; and back.

TOML, one table for each layer:

    name = "mine"
    input_shape = [1, 8, 8]             # channels, then sizes; may be left out if the data says it
    loss = "softmax_cross_entropy"      # optional

    [[layers]]
    layer = "conv"                      # the kind; every other key is a setting of that layer
    channels = 16
    kernel = 3
    padding = "same"

    [[layers]]
    layer = "residual"
    body = [{layer = "conv", channels = 16, kernel = 3, padding = "same"}, {layer = "batchnorm"}]

    [[layers]]
    layer = "flatten"

    [[layers]]
    layer = "linear"
    features = 10

The short line says the same; it may stand for the whole list (`layers = "…"`) or for one entry:

    conv 16 3 same, relu, maxpool 2, residual(conv 16 3 same, batchnorm | conv 16 1), flatten,
    dropout 0.5, linear 10

Values without a name fill the layer's settings in their order (conv: channels, kernel, stride);
same, same_lower and valid are the padding; 3x5 is a size for each axis; anything else is
name=value.  In residual(body | shortcut) the shortcut may be left out.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from convgrad.errors import ConvError, SettingError
from convgrad.nn import losses
from convgrad.nn.layers import LAYERS, Layer
from convgrad.nn.names import choose
from convgrad.nn.network import Model

MODEL_KEYS = {"name": str, "input_shape": list, "loss": str, "layers": list}
PADDINGS = ("same", "same_lower", "valid")


def model_from_spec(
    spec: Mapping[str, Any],
    seed: int = 0,
    dtype: str = "float32",
    algorithm: str = "auto",
    precision: str = "standard",
) -> Model:
    """The model that a spec describes (`Model.spec()`, `models.named`, `read_spec`).

    Raises SettingError that names the layer and the key.
    """
    spec = checked(spec)
    if "input_shape" not in spec:
        raise SettingError("the model says no input_shape; add input_shape = [channels, size, …]")
    layers = [layer_from_spec(item, place) for place, item in enumerate(spec["layers"])]
    compute = {"algorithm": algorithm, "precision": precision}
    name, loss = spec.get("name", "model"), spec.get("loss")
    return Model(layers, spec["input_shape"], name, dtype, seed, loss=loss, **compute)


def read_spec(path: str | Path) -> dict[str, Any]:
    """The spec in a TOML file, checked; SettingError names the file, the layer and the key."""
    path = Path(path)
    try:
        return checked(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SettingError(f"no model file {path}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not TOML: {error}") from error
    except ConvError as error:
        raise type(error)(f"{path}: {error}") from error


def read_model(path: str | Path, seed: int = 0, dtype: str = "float32") -> Model:
    """The model that a TOML file describes."""
    return model_from_spec(read_spec(path), seed, dtype)


def to_toml(spec: Mapping[str, Any]) -> str:
    """A spec as the text of a TOML file, which `read_spec` takes back."""
    head = [f"{key} = {_toml(value)}" for key, value in spec.items() if key != "layers"]
    rows = [f"  {_toml(layer)}," for layer in checked(spec)["layers"]]
    return "\n".join([*head, "layers = [", *rows, "]", ""])


def checked(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its layers as a list of dicts, every layer and key tried."""
    for key in spec:
        choose(MODEL_KEYS, key, "key of a model")
    if "layers" not in spec:
        raise SettingError('the model has no layers; add layers = "conv 16 3, relu, …" or a list')
    items = spec["layers"]
    entries = parse(items) if isinstance(items, str) else _entries(items, "layers")
    for place, item in enumerate(entries):
        layer_from_spec(item, place)
    if "loss" in spec:
        losses.named(spec["loss"])
    return {**spec, "layers": entries}


def layer_from_spec(item: Mapping[str, Any], place: int | str) -> Layer:
    """The layer that {"layer": kind, setting: value, …} describes; not built yet."""
    where = f"layer {place}" if isinstance(place, int) else place
    if "layer" not in item:
        raise SettingError(f'{where}: no key "layer" that says its kind, in {dict(item)}')
    try:
        kind = choose(LAYERS, item["layer"], "kind of layer")
        known = {f.name: f for f in fields(kind) if f.init}
        given = {key: value for key, value in item.items() if key != "layer"}
        for key in given:
            choose(known, key, f"setting of {item['layer']}")
        lacking = [n for n, f in known.items() if f.default is MISSING and n not in given]
        if lacking:
            raise SettingError(f"{item['layer']}: the setting {lacking[0]!r} is missing")
        return kind(**_nested(given, where))
    except ConvError as error:
        prefix = "" if str(error).startswith(where) else f"{where}: "
        raise type(error)(f"{prefix}{error}") from error


def parse(text: str) -> list[dict[str, Any]]:
    """The layers of a short line, as a list of dicts."""
    items = [item.strip() for item in _split(text, ",")]
    return [_parse_item(item, f"layer {place}") for place, item in enumerate(items) if item]


def _nested(given: dict[str, Any], where: str) -> dict[str, Any]:
    return {
        key: [layer_from_spec(item, f"{where}, {key} {n}") for n, item in enumerate(items)]
        if (items := _inner(key, value, where)) is not None
        else value
        for key, value in given.items()
    }


def _inner(key: str, value: Any, where: str) -> list[dict[str, Any]] | None:
    """The layers inside a layer, for the settings that hold some."""
    if key not in ("body", "shortcut"):
        return None
    return parse(value) if isinstance(value, str) else _entries(value, f"{where}: {key}")


def _entries(items: Any, where: str) -> list[dict[str, Any]]:
    """A list whose entries are dicts or short lines, as a list of dicts."""
    if not isinstance(items, Sequence):
        raise SettingError(f"{where} must be a list of layers or a short line, but is {items!r}")
    entries: list[dict[str, Any]] = []
    for item in items:
        if not isinstance(item, (str, Mapping)):
            raise SettingError(f"{where}: an entry must be a table or a line, but is {item!r}")
        entries += parse(item) if isinstance(item, str) else [dict(item)]
    return entries


def _parse_item(item: str, where: str) -> dict[str, Any]:
    name, bracket, rest = item.partition("(")
    if not bracket:
        kind, *words = item.split()
        return {"layer": kind} | _settings(kind, words, where)
    inner, closed, after = rest.rpartition(")")
    body, *shortcut = _split(inner, "|")
    if name.strip() != "residual" or not closed or len(shortcut) > 1:
        raise SettingError(f"{where}: {item!r} is not of the form residual(body | shortcut)")
    parts = {"body": parse(body)}
    if shortcut:
        parts["shortcut"] = parse(shortcut[0])
    return {"layer": "residual"} | parts | _settings("residual", after.split(), where)


def _settings(kind: str, words: list[str], where: str) -> dict[str, Any]:
    layer = choose(LAYERS, kind, f"kind of layer ({where})")
    free = iter([f.name for f in fields(layer) if f.init])
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            key, text = ("padding", word) if word in PADDINGS else (next(free, ""), word)
        if not key or key in settings:
            raise SettingError(f"{where} ({kind}): {word!r} is one value too many; use name=value")
        settings[key] = _value(text)
    return settings


def _value(text: str) -> Any:
    """3 → 3, 0.5 → 0.5, true → True, 3x5 → [3, 5], anything else a string."""
    if text in ("true", "false"):
        return text == "true"
    if "x" in text and all(part.isdecimal() for part in text.split("x")):
        return [int(part) for part in text.split("x")]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _split(text: str, mark: str) -> list[str]:
    """text at every mark that stands outside all brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == mark and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise SettingError(f"the brackets in {text!r} do not match")
    return parts


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
