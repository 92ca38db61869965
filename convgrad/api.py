"""START HERE: the public functions. Each validates, makes canonical, and calls the maps.

    y[n,o,p] = Σ_{c,k} x[n,c, s·p + d·k − lo] · w[o,c,k] + b[o]

x (N, C, *in), w (O, C/groups, *kernel), b (O), y and dy (N, O, *out), for one spatial axis or
more; out = ⌊(in + lo + hi − d·(kernel−1) − 1)/s⌋ + 1. A d before a name marks the gradient of a
scalar loss with respect to it, so dy is given and dx, dw, db are sought.

Settings that all functions share:

    stride s, dilation d    one int, or one for each spatial axis
    padding                 one int, one for each axis, [(lo, hi), …], "valid", "same" (⌈in/s⌉
                            positions; an odd cell goes behind) or "same_lower" (… in front)
    groups                  w's input channels are C/groups; depthwise is groups=C
    padding_mode            zeros, constant (of padding_value), reflect, symmetric, replicate or
                            circular; `convgrad.padding` has other libraries' names for them
    layout                  "channels_first"; "channels_last": x (N, *in, C), w (O, *kernel, C/G);
                            NCHW, NHWC and the like are aliases. x without N gives y without N
    flip                    True for convolution with the kernel turned by 180°, as in MATLAB
    algorithm               "auto", or implicit_gemm, tiled_winograd, stencil, overlap_save
                            (generated kernels), direct, im2col, rot180, fft, winograd (NumPy)
    precision               "strict": plain sums only; "standard": FFT and Winograd too, which
                            spread a NaN over an image or a tile; "fast": all that err ≤ 1e-5
    max_scratch             the most bytes an algorithm may take beside operands and result
    out                     an array to write into; it is returned

dtypes: float16, bfloat16, float32, float64, complex64, complex128; all operands of one dtype, the
result of the same, sums in float32 or wider and rounded once. For complex arrays the gradients are
PyTorch's: dx and dw conjugate the other operand, so that −dx points downhill for a real loss.
Arrays: NumPy's, and CPU arrays of others through DLPack; the result is of the input's kind.
Raises: ShapeError, DTypeError, ArrayError, SettingError, AlgorithmError; all are ConvError, and
`out` is untouched when one is raised.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

from convgrad import running
from convgrad.arrays import Array
from convgrad.plans import Plan, make_plan
from convgrad.running import Backward, OneMap, of_conv, of_transposed

Ints = SupportsIndex | Iterable[SupportsIndex]
Padding = str | SupportsIndex | Iterable[SupportsIndex | Iterable[SupportsIndex]]


class Gradients(NamedTuple):
    """What a backward returns; None where it was not needed."""

    dx: Array
    dw: Array
    db: Array


class SecondGradients(NamedTuple):
    """What a double backward returns; None where it was not needed."""

    ddy: Array
    dx: Array
    dw: Array


_conv = OneMap("conv", "value", "y", ("x", "w"), of_conv)
_conv_transpose = OneMap("conv_transpose", "value", "y", ("w", "x"), of_transposed)
_input_grad = OneMap("input_grad", "backward", "dx", ("w", "dy"), of_conv)
_weight_grad = OneMap("weight_grad", "backward", "dw", ("x", "dy"), of_conv)
_backward = Backward("backward", of_conv)
_conv_transpose_backward = Backward("conv_transpose_backward", of_transposed)


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    padding_value: complex = 0,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    out: Array | None = None,
) -> Array:
    """y[n,o,p] = Σ_{c,k} x[n,c, s·p + d·k − lo] · w[o,c,k] + b[o].

    x (N, C, *in), w (O, C/G, *kernel), b (O) → y (N, O, *out). With no input channels (C = 0)
    y is the bias. Settings and errors: see the top of `convgrad.api`.
    """
    return _conv(x, w, (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    ), b=b, out=out)  # fmt: skip


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: SupportsIndex = 1,
    dilation: Ints = 1,
    *,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    out: Array | None = None,
) -> Array:
    """y[n,o,i] = Σ_{c,k,p: s·p + d·k − lo = i} x[n,c,p] · w[c,o,k] + b[o].

    x (N, C, *in), w (C, O/G, *kernel), b (O) → y (N, O, *out), where
    out = (in−1)·s − lo − hi + d·(kernel−1) + 1 + output_padding, or in·s for padding "same".
    It is `input_grad` by its other name; that one also takes the padding modes.
    """
    return _conv_transpose(w, x, (
        stride, padding, output_padding, groups, dilation, layout, flip, algorithm, precision,
        max_scratch,
    ), b=b, out=out)  # fmt: skip


def input_grad(
    x_shape: Iterable[SupportsIndex],
    w: Array,
    dy: Array,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    out: Array | None = None,
    scale: SupportsFloat = 1.0,
    accumulate: bool = False,
) -> Array:
    """dx[n,c,i] = Σ_{o,k,p: s·p + d·k − lo = i} conj(w[o,c,k]) · dy[n,o,p].

    w (O, C/G, *kernel), dy (N, O, *out) → dx of x_shape. With `out`, out = scale·dx, or
    out += scale·dx where accumulate=True. Input rows that the stride leaves out get zero.
    """
    return _input_grad(w, dy, (
        stride, padding, dilation, groups, padding_mode, 0, layout, flip, algorithm,
        precision, max_scratch,
    ), x_shape, out=out, scale=scale, accumulate=accumulate)  # fmt: skip


def weight_grad(
    x: Array,
    w_shape: Iterable[SupportsIndex],
    dy: Array,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    padding_value: complex = 0,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    out: Array | None = None,
    scale: SupportsFloat = 1.0,
    accumulate: bool = False,
    per_sample: bool = False,
) -> Array:
    """dw[o,c,k] = Σ_{n,p} conj(x[n,c, s·p + d·k − lo]) · dy[n,o,p].

    x (N, C, *in), dy (N, O, *out) → dw of w_shape; per_sample=True leaves the sum over n out and
    gives (N, *w_shape). With `out`, out = scale·dw, or out += scale·dw where accumulate=True.
    """
    return _weight_grad(x, dy, (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    ), w_shape, out=out, scale=scale, accumulate=accumulate, per_sample=per_sample)  # fmt: skip


def bias_grad(
    dy: Array,
    *,
    layout: str = "channels_first",
    batched: bool = True,
    out: Array | None = None,
    scale: SupportsFloat = 1.0,
    accumulate: bool = False,
    per_sample: bool = False,
) -> Array:
    """db[o] = Σ_{n,p} dy[n,o,p], whatever the number of input channels.

    dy (N, O, *out), or (O, *out) with batched=False → (O); per_sample=True gives (N, O).
    """
    return running.bias_grad("bias_grad", dy, layout, batched, out, scale, accumulate, per_sample)


def backward(
    x: Array,
    w: Array,
    dy: Array,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    needs: Iterable[str] = ("x", "w", "b"),
    padding_mode: str = "zeros",
    padding_value: complex = 0,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
) -> Gradients:
    """dx, dw and db of conv in one call: `input_grad`, `weight_grad` and `bias_grad`.

    x (N, C, *in), w (O, C/G, *kernel), dy (N, O, *out) → (dx, dw, db), shaped as x, w and (O).
    What `needs` leaves out is not computed and None.
    """
    return Gradients(*_backward(x, w, dy, (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    ), needs))  # fmt: skip


def conv_transpose_backward(
    x: Array,
    w: Array,
    dy: Array,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: SupportsIndex = 1,
    dilation: Ints = 1,
    *,
    needs: Iterable[str] = ("x", "w", "b"),
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
) -> Gradients:
    """dx = conv(dy, w), dw[c,o,k] = Σ_{n,p} conj(x[n,c,p]) · dy[n,o, s·p + d·k − lo], db = Σ dy.

    x (N, C, *in), w (C, O/G, *kernel), dy (N, O, *out) → (dx, dw, db); dx conjugates w.
    """
    return Gradients(*_conv_transpose_backward(x, w, dy, (
        stride, padding, output_padding, groups, dilation, layout, flip, algorithm, precision,
        max_scratch,
    ), needs))  # fmt: skip


def double_backward(
    x: Array,
    w: Array,
    dy: Array,
    ddx: Array | None,
    ddw: Array | None,
    ddb: Array | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    needs: Iterable[str] = ("dy", "x", "w"),
    padding_mode: str = "zeros",
    padding_value: complex = 0,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
) -> SecondGradients:
    """The gradients of `backward` itself, for a loss whose gradients of dx, dw, db are given.

        ddy = conv(ddx, w) + conv(x, ddw) + ddb
        dx  = input_grad(ddw, dy)        dw = weight_grad(ddx, dy)

    ddx, ddw, ddb are shaped as x, w, (O); None stands for zero. What `needs` leaves out is None.
    """
    settings = (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    )  # fmt: skip
    return SecondGradients(*running.double_backward(
        "double_backward", of_conv, settings, needs, x=x, w=w, dy=dy, ddx=ddx, ddw=ddw, ddb=ddb
    ))  # fmt: skip


def conv_transpose_double_backward(
    x: Array,
    w: Array,
    dy: Array,
    ddx: Array | None,
    ddw: Array | None,
    ddb: Array | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: SupportsIndex = 1,
    dilation: Ints = 1,
    *,
    needs: Iterable[str] = ("dy", "x", "w"),
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
) -> SecondGradients:
    """The gradients of `conv_transpose_backward`, for given gradients of dx, dw, db.

        ddy = conv_transpose(ddx, w) + conv_transpose(x, ddw) + ddb
        dx  = conv(dy, ddw)        dw = weight_grad(dy, ddx)

    ddx, ddw, ddb are shaped as x, w, (O); None stands for zero. What `needs` leaves out is None.
    """
    settings = (
        stride, padding, output_padding, groups, dilation, layout, flip, algorithm, precision,
        max_scratch,
    )  # fmt: skip
    return SecondGradients(*running.double_backward(
        "conv_transpose_double_backward", of_transposed, settings, needs,
        x=x, w=w, dy=dy, ddx=ddx, ddw=ddw, ddb=ddb,
    ))  # fmt: skip


def jvp(
    x: Array,
    w: Array,
    tx: Array | None,
    tw: Array | None,
    tb: Array | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    padding_value: complex = 0,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    out: Array | None = None,
) -> Array:
    """Forward mode: the tangent of y along the tangents tx, tw, tb of x, w, b.

        ty = conv(tx, w) + conv(x, tw) + tb

    tx, tw, tb are shaped as x, w, (O); None stands for zero → ty (N, O, *out).
    """
    settings = (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    )  # fmt: skip
    return running.tangent("jvp", settings, out, x=x, w=w, tx=tx, tw=tw, tb=tb)


def plan(
    direction: str,
    x_shape: Iterable[SupportsIndex],
    w_shape: Iterable[SupportsIndex],
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: SupportsIndex = 1,
    *,
    dtype: Any = "float32",
    transposed: bool = False,
    output_padding: Ints = 0,
    padding_mode: str = "zeros",
    padding_value: complex = 0,
    layout: str = "channels_first",
    flip: bool = False,
    algorithm: str = "auto",
    precision: str = "standard",
    max_scratch: int | None = None,
    per_sample: bool = False,
    measure: bool = False,
) -> Plan:
    """How "forward", "input_grad" or "weight_grad" would be computed, to print, keep and run.

    print(plan) shows the algorithm and why, who declined and why, flops, bytes, scratch and the
    error bound. plan(x, w, b), plan(w, dy) and plan(x, dy) run it. transposed=True plans
    conv_transpose and its gradients, per_sample=True a weight_grad for each sample. measure=True
    times every algorithm that accepts, takes the fastest, and remembers the times for this
    process; results may then differ in their last bits from one machine to another.
    """
    settings = (padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch)
    return make_plan(
        direction, x_shape, w_shape, (stride, padding, dilation, groups), settings,
        transposed, output_padding, dtype, per_sample, measure,
    )  # fmt: skip
