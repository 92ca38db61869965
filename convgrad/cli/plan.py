"""`convgrad plan`: which algorithm a map would use, why, and what it takes."""

from __future__ import annotations

import re
from typing import Annotated

import typer

import convgrad as cg
from convgrad.cli import console
from convgrad.errors import SettingError


def plan(
    direction: Annotated[str, typer.Argument(help="forward, input_grad or weight_grad")],
    x: Annotated[str, typer.Option(help="shape of x: N,C,*in, such as 8,3,32,32")],
    w: Annotated[str, typer.Option(help="shape of w: O,C/groups,*kernel, such as 16,3,3,3")],
    stride: Annotated[str, typer.Option(help="a number, or one for each axis: 2 or 2,1")] = "1",
    padding: Annotated[
        str, typer.Option(help="1, or 1,2, or low:high for each axis: 0:1,0:1, or same, valid")
    ] = "0",
    dilation: Annotated[str, typer.Option(help="a number, or one for each axis")] = "1",
    groups: Annotated[int, typer.Option(help="groups of channels")] = 1,
    padding_mode: Annotated[str, typer.Option(help="zeros, reflect, replicate, …")] = "zeros",
    layout: Annotated[str, typer.Option(help="channels_first or channels_last")] = "channels_first",
    dtype: Annotated[str, typer.Option(help="dtype of the arrays")] = "float32",
    algorithm: Annotated[str, typer.Option(help="auto, or an algorithm's name")] = "auto",
    precision: Annotated[str, typer.Option(help="strict, standard or fast")] = "standard",
    max_scratch: Annotated[int | None, typer.Option(help="most bytes of scratch memory")] = None,
) -> None:
    """Show which algorithm is chosen for a map, what declines, and what it takes."""
    result = cg.plan(
        direction,
        read_sizes("--x", x),
        read_sizes("--w", w),
        read_setting("--stride", stride),
        read_padding(padding),
        read_setting("--dilation", dilation),
        groups,
        padding_mode=padding_mode,
        layout=layout,
        dtype=dtype,
        algorithm=algorithm,
        precision=precision,
        max_scratch=max_scratch,
    )
    console.say(str(result))


def read_sizes(name: str, text: str) -> tuple[int, ...]:
    """`8,3,32,32` or `8x3x32x32` → (8, 3, 32, 32)."""
    words = re.split(r"\s*[,x×]\s*", text.strip())
    if not all(re.fullmatch(r"-?\d+", word) for word in words):
        raise SettingError(f"{name} is {text!r}; give whole numbers with commas, such as 8,3,32,32")
    return tuple(int(word) for word in words)


def read_setting(name: str, text: str) -> int | tuple[int, ...]:
    """One number for all axes, or one for each."""
    sizes = read_sizes(name, text)
    return sizes[0] if len(sizes) == 1 else sizes


def read_padding(text: str) -> int | str | tuple[int, ...] | list[tuple[int, int]]:
    """A name, a number, one for each axis, or `low:high` for each axis."""
    if re.fullmatch(r"[a-z_]+", text):
        return text
    if ":" not in text:
        return read_setting("--padding", text)
    pairs = [read_sizes("--padding", part.replace(":", ",")) for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise SettingError(f"--padding is {text!r}; give low:high for each axis, such as 0:1,0:1")
    return [(low, high) for low, high in pairs]
