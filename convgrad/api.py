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

import numpy as np

from convgrad import maps
from convgrad.algorithm import Epilogue
from convgrad.arrays import Array, apart, check_out, dtype_of, native
from convgrad.calls import Frame, conv_frame, gather, target, transposed_frame
from convgrad.errors import SettingError, ShapeError
from convgrad.plans import Plan, make_plan
from convgrad.ready import Key, call_key, calls, laid_out, make_ready
from convgrad.settings import Settings, channels_last, flag, ints, needed, real_scale

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
    key = call_key("conv", laid_out(x, w, b, out), (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    ))  # fmt: skip
    ready = calls.find(key)
    if ready is not None:
        if out is not None and not apart(out, x, w, b):
            check_out("conv", out, {"x": x, "w": w, "b": b})
        return ready.run(x, w, b, out)
    settings = Settings(
        padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch
    )
    operands, kind = gather("conv", x=x, w=w, b=b)
    frame = conv_frame(
        "conv", operands["x"].shape, operands["w"].shape, stride, padding, dilation, groups,
        settings,
    )  # fmt: skip
    return _value(frame, operands, kind, out, key)


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
    key = call_key("conv_transpose", laid_out(x, w, b, out), (
        stride, padding, output_padding, groups, dilation, layout, flip, algorithm, precision,
        max_scratch,
    ))  # fmt: skip
    ready = calls.find(key)
    if ready is not None:
        if out is not None and not apart(out, x, w, b):
            check_out("conv_transpose", out, {"x": x, "w": w, "b": b})
        return ready.run(w, x, b, out)
    settings = Settings("zeros", 0, layout, flip, algorithm, precision, max_scratch)
    operands, kind = gather("conv_transpose", x=x, w=w, b=b)
    frame = transposed_frame(
        "conv_transpose", operands["x"].shape, operands["w"].shape, stride, padding,
        output_padding, groups, dilation, settings,
    )  # fmt: skip
    return _value(frame, operands, kind, out, key)


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
    scale: SupportsFloat = 1,
    accumulate: bool = False,
) -> Array:
    """dx[n,c,i] = Σ_{o,k,p: s·p + d·k − lo = i} conj(w[o,c,k]) · dy[n,o,p].

    w (O, C/G, *kernel), dy (N, O, *out) → dx of x_shape. With `out`, out = scale·dx, or
    out += scale·dx where accumulate=True. Input rows that the stride leaves out get zero.
    """
    key = call_key("input_grad", laid_out(w, dy, None, out), (
        stride, padding, dilation, groups, padding_mode, layout, flip, algorithm, precision,
        max_scratch,
    ), x_shape)  # fmt: skip
    ready = calls.find(key)
    if ready is not None:
        _check_accumulate("input_grad", out, accumulate)
        if out is not None and not apart(out, w, dy):
            check_out("input_grad", out, {"w": w, "dy": dy})
        return ready.run(w, dy, None, out, real_scale("input_grad", scale), bool(accumulate))
    settings = Settings(padding_mode, 0, layout, flip, algorithm, precision, max_scratch)
    operands, kind = gather("input_grad", w=w, dy=dy)
    frame = conv_frame(
        "input_grad", x_shape, operands["w"].shape, stride, padding, dilation, groups, settings
    )
    frame.check(operands)
    array = _target(frame, "dx", out, operands, accumulate)
    result = frame.evaluate(
        "backward",
        "dx",
        operands,
        out=array,
        scale=real_scale("input_grad", scale),
        accumulate=accumulate,
    )
    if key is not None:
        calls.keep(key, make_ready(frame, "backward", "dx", operands, None, array))
    return kind.restore(result) if out is None else out


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
    scale: SupportsFloat = 1,
    accumulate: bool = False,
    per_sample: bool = False,
) -> Array:
    """dw[o,c,k] = Σ_{n,p} conj(x[n,c, s·p + d·k − lo]) · dy[n,o,p].

    x (N, C, *in), dy (N, O, *out) → dw of w_shape; per_sample=True leaves the sum over n out and
    gives (N, *w_shape). With `out`, out = scale·dw, or out += scale·dw where accumulate=True.
    """
    key = call_key("weight_grad", laid_out(x, dy, None, out), (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch, per_sample,
    ), w_shape)  # fmt: skip
    ready = calls.find(key)
    if ready is not None:
        _check_accumulate("weight_grad", out, accumulate)
        if out is not None and not apart(out, x, dy):
            check_out("weight_grad", out, {"x": x, "dy": dy})
        return ready.run(x, dy, None, out, real_scale("weight_grad", scale), bool(accumulate))
    settings = Settings(
        padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch
    )
    operands, kind = gather("weight_grad", x=x, dy=dy)
    frame = conv_frame(
        "weight_grad", operands["x"].shape, w_shape, stride, padding, dilation, groups, settings
    )
    frame.check(operands)
    if flag("weight_grad", "per_sample", per_sample) and not frame.batched:
        raise SettingError("weight_grad: per_sample=True needs x with a batch axis")
    array = _target(frame, "dw", out, operands, accumulate, per_sample)
    result = frame.evaluate(
        "backward", "dw", operands, out=array,
        scale=real_scale("weight_grad", scale), accumulate=accumulate, per_sample=per_sample,
    )  # fmt: skip
    if key is not None and not per_sample:
        calls.keep(key, make_ready(frame, "backward", "dw", operands, None, array))
    return kind.restore(result) if out is None else out


def bias_grad(
    dy: Array,
    *,
    layout: str = "channels_first",
    batched: bool = True,
    out: Array | None = None,
    scale: SupportsFloat = 1,
    accumulate: bool = False,
    per_sample: bool = False,
) -> Array:
    """db[o] = Σ_{n,p} dy[n,o,p], whatever the number of input channels.

    dy (N, O, *out), or (O, *out) with batched=False → (O); per_sample=True gives (N, O).
    """
    operands, kind = gather("bias_grad", dy=dy)
    array = native(operands["dy"])
    rank = array.ndim - 1 - flag("bias_grad", "batched", batched)
    if rank < 1:
        raise ShapeError(
            f"bias_grad: dy is {array.shape} with batched={batched}; it needs "
            f"{'batch, ' if batched else ''}channels and at least one spatial axis"
        )
    if flag("bias_grad", "per_sample", per_sample) and not batched:
        raise SettingError("bias_grad: per_sample=True needs dy with a batch axis")
    if channels_last("bias_grad", layout, rank):
        array = np.moveaxis(array, -1, int(batched))
    canonical = array if batched else array[None]
    shape = canonical.shape[:2] if per_sample else canonical.shape[1:2]
    _check_accumulate("bias_grad", out, accumulate)
    result = target("bias_grad", out, shape, operands)
    result = np.empty(shape, array.dtype) if result is None else result
    epilogue = Epilogue(real_scale("bias_grad", scale), accumulate)
    maps.bias_grad(canonical, result, epilogue, per_sample)
    return kind.restore(result) if out is None else out


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
    key = call_key("backward", laid_out(x, w, dy), (
        stride, padding, dilation, groups, padding_mode, padding_value, layout, flip, algorithm,
        precision, max_scratch,
    ), needs)  # fmt: skip
    ready = calls.find(key)
    if ready is not None:
        return _gradients(ready, {"x": x, "w": w, "dy": dy})
    settings = Settings(
        padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch
    )
    operands, kind = gather("backward", x=x, w=w, dy=dy)
    frame = conv_frame(
        "backward", operands["x"].shape, operands["w"].shape, stride, padding, dilation, groups,
        settings,
    )  # fmt: skip
    return _backward(frame, operands, kind, needs, key)


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
    key = call_key("conv_transpose_backward", laid_out(x, w, dy), (
        stride, padding, output_padding, groups, dilation, layout, flip, algorithm, precision,
        max_scratch,
    ), needs)  # fmt: skip
    ready = calls.find(key)
    if ready is not None:
        return _gradients(ready, {"x": x, "w": w, "dy": dy})
    settings = Settings("zeros", 0, layout, flip, algorithm, precision, max_scratch)
    operands, kind = gather("conv_transpose_backward", x=x, w=w, dy=dy)
    frame = transposed_frame(
        "conv_transpose_backward", operands["x"].shape, operands["w"].shape, stride, padding,
        output_padding, groups, dilation, settings,
    )  # fmt: skip
    return _backward(frame, operands, kind, needs, key)


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
    settings = Settings(
        padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch
    )
    operands, kind = gather("double_backward", x=x, w=w, dy=dy, ddx=ddx, ddw=ddw, ddb=ddb)
    frame = conv_frame(
        "double_backward", operands["x"].shape, operands["w"].shape, stride, padding, dilation,
        groups, settings,
    )  # fmt: skip
    return _double_backward(frame, operands, kind, needs)


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
    settings = Settings("zeros", 0, layout, flip, algorithm, precision, max_scratch)
    call = "conv_transpose_double_backward"
    operands, kind = gather(call, x=x, w=w, dy=dy, ddx=ddx, ddw=ddw, ddb=ddb)
    frame = transposed_frame(
        call, operands["x"].shape, operands["w"].shape, stride, padding, output_padding, groups,
        dilation, settings,
    )  # fmt: skip
    return _double_backward(frame, operands, kind, needs)


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
    settings = Settings(
        padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch
    )
    operands, kind = gather("jvp", x=x, w=w, tx=tx, tw=tw, tb=tb)
    frame = conv_frame(
        "jvp", operands["x"].shape, operands["w"].shape, stride, padding, dilation, groups, settings
    )
    frame.check(operands)
    array = target("jvp", out, frame.shape("y"), operands)
    bias = operands.pop("tb", None)
    result = frame.evaluate("jvp", "ty", operands, bias, array)
    return kind.restore(result) if out is None else out


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
    settings = Settings(
        padding_mode, padding_value, layout, flip, algorithm, precision, max_scratch
    )
    if flag("plan", "measure", measure) and algorithm != "auto":
        raise SettingError(
            f"plan: measure=True chooses the algorithm, so algorithm={algorithm!r} cannot be met; "
            "leave one of them out"
        )
    if flag("plan", "transposed", transposed):
        if padding_mode != "zeros":
            raise SettingError(
                "plan: transposed=True pads with zeros only; plan input_grad for other modes"
            )
        frame = transposed_frame(
            "plan", x_shape, w_shape, stride, padding, output_padding, groups, dilation, settings
        )
    else:
        extra = ints("plan", "output_padding", output_padding)
        if extra != 0 and any((extra,) if isinstance(extra, int) else extra):
            raise SettingError("plan: output_padding needs transposed=True")
        frame = conv_frame("plan", x_shape, w_shape, stride, padding, dilation, groups, settings)
    if flag("plan", "per_sample", per_sample) and (direction != "weight_grad" or not frame.batched):
        raise SettingError("plan: per_sample=True is for weight_grad of x with a batch axis")
    return make_plan(direction, frame, dtype_of("plan", dtype), per_sample, measure)


def _value(
    frame: Frame, operands: dict[str, np.ndarray], kind: Any, out: Array | None, key: Key | None
) -> Array:
    frame.check(operands)
    array = target(frame.call, out, frame.shape("y"), operands)
    bias = operands.pop("b", None)
    result = frame.evaluate("value", "y", operands, bias, array)
    if key is not None:
        calls.keep(key, make_ready(frame, "value", "y", operands, bias, array))
    return kind.restore(result) if out is None else out


def _backward(
    frame: Frame, operands: dict[str, np.ndarray], kind: Any, needs: Iterable[str], key: Key | None
) -> Gradients:
    wanted = needed(frame.call, needs, ("x", "w", "b"))
    frame.check(operands)
    grads: list[Array | None] = [None, None, None]
    for i, name in enumerate(("x", "w")):
        if name in wanted:
            grads[i] = kind.restore(frame.evaluate("backward", "d" + name, operands))
    if "b" in wanted:
        layout = frame.geometry.layout
        db = bias_grad(operands["dy"], layout=layout, batched=frame.batched)
        grads[2] = kind.restore(db)
    if key is not None:
        calls.keep(key, (
            [make_ready(frame, "backward", "d" + name, operands) if name in wanted else None
             for name in ("x", "w")],
            frame if "b" in wanted else None,
        ))  # fmt: skip
    return Gradients(*grads)


def _gradients(ready: Any, operands: dict[str, np.ndarray]) -> Gradients:
    """The gradients of a backward that was made before."""
    (for_x, for_w), frame = ready
    dx, dw = (
        None if one is None else one.run(*(operands[name] for name in one.names))
        for one in (for_x, for_w)
    )
    db = None
    if frame is not None:
        db = bias_grad(operands["dy"], layout=frame.geometry.layout, batched=frame.batched)
    return Gradients(dx, dw, db)


def _double_backward(
    frame: Frame, operands: dict[str, np.ndarray], kind: Any, needs: Iterable[str]
) -> SecondGradients:
    wanted = needed(frame.call, needs, ("dy", "x", "w"))
    frame.check(operands)
    bias = operands.pop("ddb", None)
    grads: list[Array | None] = [None, None, None]
    if "dy" in wanted:
        grads[0] = kind.restore(frame.evaluate("double_backward", "ddy", operands, bias))
    for i, name in enumerate(("x", "w"), start=1):
        if name in wanted:
            grads[i] = kind.restore(frame.evaluate("double_backward", "d" + name, operands))
    return SecondGradients(*grads)


def _target(
    frame: Frame,
    result: str,
    out: Array | None,
    operands: dict[str, np.ndarray],
    accumulate: bool,
    per_sample: bool = False,
) -> np.ndarray | None:
    _check_accumulate(frame.call, out, accumulate)
    lead = (frame.geometry.batch,) if per_sample else ()
    return target(frame.call, out, lead + frame.shape(result), operands)


def _check_accumulate(call: str, out: Array | None, accumulate: bool) -> None:
    if flag(call, "accumulate", accumulate) and out is None:
        raise SettingError(f"{call}: accumulate=True needs the `out` to add to")
