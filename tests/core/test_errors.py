"""Every message of the core: what came, what was needed, what to do; and nothing half-written."""

import re

import numpy as np
import pytest

import convgrad as cg

X, W, B = np.ones((8, 3, 32, 32)), np.ones((16, 3, 3, 3)), np.ones(16)
DY = np.ones((8, 16, 30, 30))


def f32(*shape):
    return np.ones(shape, np.float32)


def masked():
    return np.ma.masked_array(X, X > 0)


class OnAnotherDevice:
    def __dlpack__(self, **_):
        raise AssertionError("must not be asked")

    def __dlpack_device__(self):
        return (2, 0)


CASES = {
    "dy of another padding": (
        lambda: cg.weight_grad(X, W.shape, DY, padding=1),
        cg.ShapeError,
        "weight_grad: dy is (8, 16, 30, 30), but x (8, 3, 32, 32) with a 3×3 kernel, stride 1, "
        "padding 1 and dilation 1 has output (8, 16, 32, 32); pass padding=0, or the dy of this "
        "forward",
    ),
    "dy of another stride": (
        lambda: cg.input_grad(X.shape, W, np.ones((8, 16, 15, 15))),
        cg.ShapeError,
        "pass stride=2, or the dy of this forward",
    ),
    "dy of another batch": (
        lambda: cg.backward(X, W, DY[:4]),
        cg.ShapeError,
        "backward: dy is (4, 16, 30, 30), but x (8, 3, 32, 32)",
    ),
    "dy without batch": (
        lambda: cg.backward(X, W, DY[0]),
        cg.ShapeError,
        "has output (8, 16, 30, 30); pass the dy of this forward",
    ),
    "bias of the wrong size": (
        lambda: cg.conv(X, W, np.ones(3)),
        cg.ShapeError,
        "conv: b is (3,), but needs one number for each output channel, (16,)",
    ),
    "ddx unlike x": (
        lambda: cg.double_backward(X, W, DY, X[:4], None),
        cg.ShapeError,
        "double_backward: ddx is (4, 3, 32, 32), but x is (8, 3, 32, 32); they must agree",
    ),
    "rank of x": (
        lambda: cg.conv(np.ones((3, 32)), W),
        cg.ShapeError,
        "conv: x is (3, 32) and w (16, 3, 3, 3); a 2-D convolution needs x with 4 axes "
        "(batch, channels, 2 spatial), or 3 without the batch",
    ),
    "rank of w": (
        lambda: cg.conv(X, np.ones((16, 3))),
        cg.ShapeError,
        "conv: w is (16, 3), with 2 axes; at least 3 are needed",
    ),
    "channels": (
        lambda: cg.conv(np.ones((1, 4, 9, 9)), W),
        cg.ShapeError,
        "conv: x has 4 channels in groups=1, so w needs 4 input channels, but has 3",
    ),
    "groups would fit": (
        lambda: cg.conv(np.ones((1, 6, 9, 9)), W),
        cg.ShapeError,
        "needs 6 input channels, but has 3; groups=2 would fit",
    ),
    "groups and x": (
        lambda: cg.conv(X, W, groups=2),
        cg.ShapeError,
        "conv: x has 3 channels, which groups=2 does not divide",
    ),
    "groups and w": (
        lambda: cg.conv(X, np.ones((16, 1, 3, 3)), groups=3),
        cg.ShapeError,
        "conv: w has 16 output channels, which groups=3 does not divide",
    ),
    "no output channels": (
        lambda: cg.conv(X, np.ones((0, 3, 3, 3))),
        cg.ShapeError,
        "conv: w has 0 output channels; at least 1 is needed",
    ),
    "kernel larger than the input": (
        lambda: cg.conv(np.ones((1, 3, 32, 4)), W, dilation=2),
        cg.ShapeError,
        "conv: the kernel 3×3 with dilation 2×2 spans 5 cells on spatial axis 1, but the input "
        "32×4 with padding 0 has 4 there; pad by at least 1 more, or use a smaller kernel",
    ),
    "empty spatial axis": (
        lambda: cg.conv(np.ones((1, 3, 0, 4)), W, padding=2),
        cg.ShapeError,
        "conv: x has input size 0×4; every spatial size must be at least 1",
    ),
    "empty kernel": (
        lambda: cg.conv(X, np.ones((16, 3, 0, 3))),
        cg.ShapeError,
        "conv: w has kernel size 0×3",
    ),
    "stride zero": (
        lambda: cg.conv(X, W, stride=0),
        cg.SettingError,
        "conv: stride must be at least 1, not 0",
    ),
    "stride for three axes": (
        lambda: cg.conv(X, W, stride=(1, 2, 3)),
        cg.SettingError,
        "conv: stride=(1, 2, 3) has 3 numbers for 2 spatial axes; pass one int or 2 of them",
    ),
    "stride of a fraction": (
        lambda: cg.conv(X, W, stride=1.5),
        cg.SettingError,
        "conv: stride must be made of ints, not 1.5",
    ),
    "stride of truth": (
        lambda: cg.conv(X, W, stride=True),
        cg.SettingError,
        "conv: stride must be made of ints, not True",
    ),
    "dilation below one": (
        lambda: cg.conv(X, W, dilation=(1, -1)),
        cg.SettingError,
        "conv: dilation must be at least 1, not -1",
    ),
    "groups zero": (
        lambda: cg.conv(X, W, groups=0),
        cg.SettingError,
        "conv: groups must be at least 1, not 0",
    ),
    "negative padding": (
        lambda: cg.conv(X, W, padding=-1),
        cg.SettingError,
        "conv: padding must not be negative, but is -1; crop the array instead",
    ),
    "unknown padding": (
        lambda: cg.conv(X, W, padding="full"),
        cg.SettingError,
        'conv: padding="full" is not known; use "valid", "same", "same_lower"',
    ),
    "padding for three axes": (
        lambda: cg.conv(X, W, padding=(1, 1, 1)),
        cg.SettingError,
        "conv: padding=(1, 1, 1) has 3 entries for 2 spatial axes",
    ),
    "padding of one axis as a pair": (
        lambda: cg.conv(np.ones((1, 1, 5)), np.ones((1, 1, 3)), padding=(1, 2)),
        cg.SettingError,
        "has 2 entries for 1 spatial axes; write [(1, 2)] for lo and hi of one axis",
    ),
    "padding triple": (
        lambda: cg.conv(X, W, padding=[(1, 2, 3), (1, 2)]),
        cg.SettingError,
        "conv: padding has (1, 2, 3) where a (lo, hi) pair is needed",
    ),
    "padding mode": (
        lambda: cg.conv(X, W, padding=1, padding_mode="mirror"),
        cg.SettingError,
        "conv: padding_mode='mirror' is not known; use one of zeros, constant, reflect",
    ),
    "padding value without its mode": (
        lambda: cg.conv(X, W, padding=1, padding_value=3.0),
        cg.SettingError,
        'conv: padding_value=3.0 needs padding_mode="constant", not "zeros"',
    ),
    "layout": (
        lambda: cg.conv(X, W, layout="CHWN"),
        cg.SettingError,
        "conv: layout='CHWN' is not known; use one of channels_first, channels_last",
    ),
    "layout of another rank": (
        lambda: cg.conv(X, W, layout="NCDHW"),
        cg.SettingError,
        "conv: layout='NCDHW' has 3 spatial axes, but the arrays have 2",
    ),
    "precision": (
        lambda: cg.conv(X, W, precision="high"),
        cg.SettingError,
        "conv: precision='high' is not known; use one of strict, standard, fast",
    ),
    "negative max_scratch": (
        lambda: cg.conv(X, W, max_scratch=-1),
        cg.SettingError,
        "conv: max_scratch is in bytes and cannot be -1; leave it out for no limit",
    ),
    "needs": (
        lambda: cg.backward(X, W, DY, needs=("x", "bias")),
        cg.SettingError,
        "needs=('x', 'bias'), but it must be a tuple of names out of ('x', 'w', 'b')",
    ),
    "accumulate without out": (
        lambda: cg.input_grad(X.shape, W, DY, accumulate=True),
        cg.SettingError,
        "input_grad: accumulate=True needs the `out` to add to",
    ),
    "per_sample without batch": (
        lambda: cg.weight_grad(X[0], W.shape, DY[0], per_sample=True),
        cg.SettingError,
        "weight_grad: per_sample=True needs x with a batch axis",
    ),
    "x_shape of no shape": (
        lambda: cg.input_grad((8, 3, -1, 32), W, DY),
        cg.ShapeError,
        "input_grad: x_shape=(8, 3, -1, 32) is no shape; pass a tuple of sizes ≥ 0",
    ),
    "mixed dtypes": (
        lambda: cg.conv(X, W.astype(np.float32)),
        cg.DTypeError,
        "conv: x is float64 but w is float32; pass w.astype(numpy.float64) or the other way round",
    ),
    "integers": (
        lambda: cg.conv(X.astype(int), W),
        cg.DTypeError,
        "conv: x is int64; convgrad computes in float16, bfloat16, float32, float64, complex64, "
        "complex128: pass x.astype(numpy.float32)",
    ),
    "an operand that is None": (
        lambda: cg.backward(X, None, DY),
        cg.ArrayError,
        "backward: w is None; an array is needed",
    ),
    "complex scale": (
        lambda: cg.weight_grad(X, W.shape, DY, scale=2j),
        cg.SettingError,
        "weight_grad: scale must be a real number, not 2j",
    ),
    "booleans": (lambda: cg.conv(X, W > 0), cg.DTypeError, "conv: w is bool;"),
    "long double": (
        lambda: cg.conv(X.astype(np.longdouble), W),
        cg.DTypeError,
        "conv: x is longdouble" if np.dtype(np.longdouble).name == "longdouble" else "conv: x is ",
    ),
    "a list": (
        lambda: cg.conv([[[1.0]]], W),
        cg.ArrayError,
        "conv: x is a list, not an array; pass numpy.asarray(x)",
    ),
    "a masked array": (
        lambda: cg.conv(masked(), W),
        cg.ArrayError,
        "conv: x is a masked array; pass x.filled(0) or its data",
    ),
    "another device": (
        lambda: cg.conv(OnAnotherDevice(), W),
        cg.ArrayError,
        "conv: x is on DLPack device (2, 0), not on the CPU",
    ),
    "unknown algorithm": (
        lambda: cg.conv(X, W, algorithm="cudnn"),
        cg.AlgorithmError,
        "conv: there is no algorithm 'cudnn'; use auto or one of stencil, tiled_winograd, "
        "implicit_gemm, overlap_save, im2col, winograd, fft, direct, rot180",
    ),
    "declining algorithm": (
        lambda: cg.conv(X, W, stride=2, algorithm="winograd"),
        cg.AlgorithmError,
        "winograd declines this: the stride must be 1, not (2, 2); these accept it: ",
    ),
    "strict precision": (
        lambda: cg.conv(X, W, algorithm="fft", precision="strict"),
        cg.AlgorithmError,
        'fft declines this: a product of spectra is no plain sum, which precision="strict"',
    ),
    "scratch of the padded copy": (
        lambda: cg.conv(X, W, padding=1, padding_mode="circular", max_scratch=1000),
        cg.AlgorithmError,
        "but max_scratch is 1,000",
    ),
    "output padding": (
        lambda: cg.conv_transpose(X, np.ones((3, 5, 3, 3)), stride=2, output_padding=2),
        cg.SettingError,
        "conv_transpose: output_padding 2 on spatial axis 0 must be smaller than the stride 2 or "
        "the dilation 1",
    ),
    "output padding of same": (
        lambda: cg.conv_transpose(
            X, np.ones((3, 5, 3, 3)), stride=2, output_padding=1, padding="same"
        ),
        cg.SettingError,
        "fixes the output at input·stride",
    ),
    "transposed output too small": (
        lambda: cg.conv_transpose(np.ones((1, 3, 2, 2)), np.ones((3, 5, 1, 1)), padding=1),
        cg.ShapeError,
        "gives an output of 0 on spatial axis 0; at least 1 is needed: use less padding",
    ),
    "transposed channels": (
        lambda: cg.conv_transpose(X, np.ones((4, 5, 3, 3))),
        cg.ShapeError,
        "conv_transpose: x has 3 channels, but w is for 4; a transposed convolution's w is "
        "(input channels, output channels / groups, *kernel)",
    ),
    "transposed groups": (
        lambda: cg.conv_transpose(X, np.ones((3, 5, 3, 3)), groups=2),
        cg.ShapeError,
        "conv_transpose: x has 3 channels, which groups=2 does not divide",
    ),
    "transposed no channels": (
        lambda: cg.conv_transpose(np.ones((1, 0, 4)), np.ones((0, 5, 3))),
        cg.ShapeError,
        "conv_transpose: x has 0 channels",
    ),
    "transposed dy": (
        lambda: cg.conv_transpose_backward(X, np.ones((3, 5, 3, 3)), np.ones((8, 5, 32, 32))),
        cg.ShapeError,
        "has output (8, 5, 34, 34); pass the dy of this forward",
    ),
    "plan of no direction": (
        lambda: cg.plan("backward", X.shape, W.shape),
        cg.SettingError,
        "plan: direction='backward' is not known; use one of forward, input_grad, weight_grad",
    ),
    "plan of no dtype": (
        lambda: cg.plan("forward", X.shape, W.shape, dtype="float8"),
        cg.DTypeError,
        "plan: dtype='float8', but it must be one of float16",
    ),
    "plan of float128": (
        lambda: cg.plan("forward", X.shape, W.shape, dtype=None),
        cg.DTypeError,
        "plan: dtype=None, but it must be one of float16",
    ),
    "plan for each sample of a forward": (
        lambda: cg.plan("forward", X.shape, W.shape, per_sample=True),
        cg.SettingError,
        "plan: per_sample=True is for weight_grad of x with a batch axis",
    ),
    "a list of algorithms": (
        lambda: cg.conv(X, W, algorithm=["direct"]),
        cg.SettingError,
        "conv: algorithm must be a string, not ['direct']",
    ),
    "an array as a flag": (
        lambda: cg.conv(X, W, flip=np.ones(2)),
        cg.SettingError,
        "conv: flip must be True or False, not array",
    ),
    "a word as a flag": (
        lambda: cg.bias_grad(DY, batched="no"),
        cg.SettingError,
        "bias_grad: batched must be True or False, not 'no'",
    ),
    "a set of strides": (
        lambda: cg.conv(X, W, stride={2, 1}),
        cg.SettingError,
        "conv: stride={1, 2} has no order; pass a tuple",
    ),
    "nested strides": (
        lambda: cg.conv(X, W, stride=[[1, 2], [3]]),
        cg.SettingError,
        "conv: stride is nested too deep at [1, 2]; pass ints there",
    ),
    "x in the place of its shape": (
        lambda: cg.input_grad(X, W, DY),
        cg.ShapeError,
        "input_grad: x_shape is an array; pass its shape",
    ),
    "a padding value of words": (
        lambda: cg.conv(X, W, padding=1, padding_mode="constant", padding_value="a"),
        cg.SettingError,
        "conv: padding_value must be a number, not 'a'",
    ),
    "a huge padding value": (
        lambda: cg.conv(X, W, padding=1, padding_mode="constant", padding_value=10**400),
        cg.SettingError,
        "is too large for a float",
    ),
    "a complex padding value": (
        lambda: cg.conv(X, W, padding=1, padding_mode="constant", padding_value=2j),
        cg.SettingError,
        "conv: padding_value=2j is complex, but the operands are float64",
    ),
    "an array that no memory holds": (
        lambda: cg.conv(X, W, padding=10**30),
        cg.ShapeError,
        "conv: the padded input, (8, 3, 2000000000000000000000000000032, ",
    ),
    "an output that no memory holds": (
        lambda: cg.conv(X[:1, :, :5, :5], np.ones((2**10, 3, 1, 1)), padding=2**24),
        cg.ShapeError,
        "conv: the output, (1, 1024, 33554437, 33554437), would be larger than any memory",
    ),
    "no sample, and more than any memory holds": (
        lambda: cg.conv(X[:0], W, padding=10**30),
        cg.ShapeError,
        "would be larger than any memory; pass smaller sizes or a smaller padding",
    ),
    "a wrong dy with a huge dilation": (
        lambda: cg.weight_grad(
            np.ones((1, 1, 5)), (1, 1, 3), np.ones((1, 1, 99)), dilation=10**8, padding=10**8
        ),
        cg.ShapeError,
        "dy is (1, 1, 99)",
    ),
    "no needs": (lambda: cg.backward(X, W, DY, needs=None), cg.SettingError, "needs=None"),
    "plan measured and named": (
        lambda: cg.plan("forward", X.shape, W.shape, algorithm="direct", measure=True),
        cg.SettingError,
        "plan: measure=True chooses the algorithm",
    ),
    "plan of a mode transposed": (
        lambda: cg.plan("forward", X.shape, (3, 5, 3, 3), transposed=True, padding_mode="reflect"),
        cg.SettingError,
        "plan: transposed=True pads with zeros only",
    ),
    "plan of output padding": (
        lambda: cg.plan("forward", X.shape, W.shape, output_padding=1),
        cg.SettingError,
        "plan: output_padding needs transposed=True",
    ),
    "plan with another dtype": (
        lambda: cg.plan("forward", X.shape, W.shape)(X, W),
        cg.DTypeError,
        "plan: the plan is for float32, but x is float64; make another plan",
    ),
    "plan with a bias in a gradient": (
        lambda: cg.plan("input_grad", X.shape, W.shape, dtype="float64")(W, DY, B),
        cg.SettingError,
        "plan: a bias takes part in forward only",
    ),
    "bias_grad rank": (
        lambda: cg.bias_grad(np.ones((3, 4))),
        cg.ShapeError,
        "bias_grad: dy is (3, 4) with batched=True; it needs batch, channels and at least one",
    ),
    "col2im columns": (
        lambda: cg.col2im(np.ones((27, 8)), (3, 9, 9), (3, 3), stride=3),
        cg.ShapeError,
        "col2im: cols is (27, 8), but x (3, 9, 9) with kernel (3, 3) unfolds to (27, 9)",
    ),
    "im2col kernel": (
        lambda: cg.im2col(X, 3),
        cg.ShapeError,
        "im2col: kernel=3; pass one size for each spatial axis",
    ),
    "im2col of words": (
        lambda: cg.im2col(np.array([["a"]]), (1,)),
        cg.DTypeError,
        "which holds no numbers",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, kind, words = CASES[name]
    with pytest.raises(kind, match=re.escape(words)) as caught:
        call()
    assert isinstance(caught.value, cg.ConvError)
    assert isinstance(caught.value, ValueError)


def shared():
    buffer = np.ones(8 * 3 * 32 * 32)
    return buffer.reshape(X.shape), buffer[: W.size].reshape(W.shape)


OUTS = {
    "read-only": (
        lambda: np.broadcast_to(np.float64(7), W.shape), X, cg.ArrayError, "out is read-only"
    ),
    "overlapping x": (None, None, cg.ArrayError, "out overlaps x in memory; pass a separate"),
    "overlapping itself": (
        lambda: np.lib.stride_tricks.as_strided(np.full(99, 7.0), W.shape, (0, 8, 8, 8)),
        X, cg.ArrayError, "cells of out share memory",
    ),
    "another shape": (
        lambda: np.full((16, 3, 3, 2), 7.0), X, cg.ShapeError,
        "out is (16, 3, 3, 2), but the result is (16, 3, 3, 3)",
    ),
    "another dtype": (
        lambda: np.full(W.shape, 7, np.float32), X, cg.DTypeError,
        "out is float32, but the operands are float64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTS)
def test_out_is_refused_before_it_is_written(name):
    make, x, kind, words = OUTS[name]
    x, out = shared() if make is None else (x, make())
    before = out.copy()
    with pytest.raises(kind, match=re.escape(words)):
        cg.weight_grad(x, W.shape, DY, out=out)
    np.testing.assert_array_equal(out, before)


def test_a_bad_dy_leaves_out_as_it_was():
    out = np.full(W.shape, 7.0)
    with pytest.raises(cg.ShapeError):
        cg.weight_grad(X, W.shape, DY[:, :, 1:], out=out)
    with pytest.raises(cg.AlgorithmError):
        cg.weight_grad(X, W.shape, DY, out=out, max_scratch=0)
    assert (out == 7).all()


def test_a_byte_swapped_operand_is_not_overwritten():
    x = np.arange(5, dtype=">f4").reshape(1, 1, 5)
    with pytest.raises(cg.ArrayError, match="out overlaps x"):
        cg.conv(x, np.ones((1, 1, 3), "f4"), out=x[:, :, :3])
    np.testing.assert_array_equal(x.ravel(), np.arange(5))


def test_padding_values_of_two_fields_do_not_meet_in_a_cache():
    """1 and 1+0j are equal keys; each call must get its own field's number."""
    how = {"padding": 1, "padding_mode": "constant"}
    x, w = np.ones((1, 1, 4)), np.ones((1, 1, 3))
    for dtype, value in ((np.complex64, 1 + 0j), (np.float32, 1), (np.complex64, 1)):
        y = cg.conv(x.astype(dtype), w.astype(dtype), padding_value=value, **how)
        np.testing.assert_array_equal(y, np.full((1, 1, 4), 3, dtype), strict=True)


def test_interleaved_views_do_not_overlap():
    buffer = np.zeros((*W.shape, 2))
    x = np.ones((1, 3, 3, 3))
    cg.weight_grad(x, W.shape, np.ones((1, 16, 1, 1)), out=buffer[..., 1])
    assert (buffer[..., 1] == 1).all()
    assert not buffer[..., 0].any()


def test_an_overlap_that_is_too_hard_to_decide_is_taken_for_one(monkeypatch):
    def too_hard(*args, **kwargs):
        raise np.exceptions.TooHardError

    monkeypatch.setattr(np, "shares_memory", too_hard)
    memory, w = np.zeros((1, 1, 10)), np.zeros((1, 1, 1))
    with pytest.raises(cg.ArrayError, match="out overlaps x in memory"):
        cg.conv(memory[..., ::2], w, out=memory[..., 1::2])
