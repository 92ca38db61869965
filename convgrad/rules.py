"""The derivatives of the three maps: each is made of the other two.

T(x, w, dy) = ⟨forward(x, w), dy⟩ is linear in each operand, so the gradient of a map with respect
to an operand is the map that wants this operand, fed with the cotangent in place of the result
(and the conjugate of the other operand, marked *, for complex arrays: PyTorch's convention).

Each table row names a result and the terms it is the sum of: (map, its two operands).
"""

from typing import NamedTuple


class Term(NamedTuple):
    """One map applied to two of the caller's operands; a trailing * asks for the conjugate."""

    map: str
    first: str
    second: str


Rule = tuple[Term, ...]

CONV: dict[str, dict[str, Rule]] = {
    # the value is y = forward(x, w)
    "value": {"y": (Term("forward", "x", "w"),)},
    "backward": {
        "dx": (Term("input_grad", "w*", "dy"),),
        "dw": (Term("weight_grad", "x*", "dy"),),
    },
    # of dx = input_grad(w*, dy) with cotangent ddx, and dw = weight_grad(x*, dy) with ddw
    "double_backward": {
        "ddy": (Term("forward", "ddx", "w"), Term("forward", "x", "ddw")),
        "dx": (Term("input_grad", "ddw*", "dy"),),
        "dw": (Term("weight_grad", "ddx*", "dy"),),
    },
    # along the tangents tx, tw
    "jvp": {"ty": (Term("forward", "tx", "w"), Term("forward", "x", "tw"))},
}

CONV_TRANSPOSE: dict[str, dict[str, Rule]] = {
    # y = input_grad(w, x): the caller's x is the map's dy, the caller's y the map's x
    "value": {"y": (Term("input_grad", "w", "x"),)},
    "backward": {
        "dx": (Term("forward", "dy", "w*"),),
        "dw": (Term("weight_grad", "dy", "x*"),),
    },
    "double_backward": {
        "ddy": (Term("input_grad", "w", "ddx"), Term("input_grad", "ddw", "x")),
        "dx": (Term("forward", "dy", "ddw*"),),
        "dw": (Term("weight_grad", "dy", "ddx*"),),
    },
}
