"""JAX: the convolution and its two linear transposes, each jitted as a function of its own."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from convgrad.bench.case import Case, Operands
from convgrad.bench.peers.library import Library, accepts
from convgrad.bench.timing import Work
from convgrad.shapes import Layer


def libraries(threads: int) -> list[Library]:
    """JAX on so many threads: XLA reads their number from the environment when it is loaded."""
    os.environ["NPROC"] = str(threads)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_enable_x64", True)
    return [Library("JAX", "jitted", accepts, _work, np.asarray)]


def _work(case: Case, operands: Operands) -> Work:
    """A call that waits for its result; it has been compiled when the first one returns."""
    import jax

    direction = case.direction
    x, w, dy = (jax.device_put(a) for a in (operands.x, operands.w, operands.dy))
    if case.layer.transposed:  # the same form with x and y in each other's place
        x, dy = dy, x
        direction = {"forward": "input_grad", "input_grad": "forward"}.get(direction, direction)
    function = jax.jit(_maps(case.layer, x, w)[direction])
    operand = {"forward": (x, w), "input_grad": (w, dy), "weight_grad": (x, dy)}[direction]
    return lambda: function(*operand).block_until_ready()


def _maps(layer: Layer, x: Any, w: Any) -> dict[str, Any]:
    """The three maps of the layer's form, for operands like these."""
    import jax
    from jax import lax

    def forward(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            x, w, layer.stride, [(pad, pad) for pad in layer.padding],
            rhs_dilation=layer.dilation, feature_group_count=layer.groups,
        )  # fmt: skip

    like_x, like_w = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, w))
    return {
        "forward": forward,
        "input_grad": lambda w, dy: jax.linear_transpose(lambda x: forward(x, w), like_x)(dy)[0],
        "weight_grad": lambda x, dy: jax.linear_transpose(lambda w: forward(x, w), like_w)(dy)[0],
    }
