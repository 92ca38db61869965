"""The three course forms against NumPy loops and PyTorch's autograd: integers, tolerance zero."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convgrad.contracts.numpy_cache import (
    CONTRACT,
    conv2d,
    conv2d_backward,
    conv2d_forward,
    conv_backward,
    conv_backward_naive,
    conv_forward,
    conv_forward_naive,
)
from convgrad.contracts.signature import Case
from convgrad.errors import ArrayError, ConvError, DTypeError, SettingError, ShapeError

SIGNATURES = {signature.name: signature for signature in CONTRACT.signatures}
SETTINGS = [
    pytest.param(*layer, id="s{}-p{}-d{}-g{}".format(*layer))
    for layer in [
        (1, 0, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1), (3, 2, 1, 1), (1, 2, 2, 1), (2, 3, 3, 1),
        (1, 1, 1, 2), (2, 2, 2, 4),
    ]
]  # fmt: skip
PLAIN = [param for param in SETTINGS if param.values[2:] == (1, 1)]


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float64)


def loops(a, w, b, dz, stride, padding, dilation=1, groups=1):
    """z, dw, db, da of one sample (H, W, C) and w (O, f, g, C/groups), a product at a time."""
    height, width, channels = a.shape
    outputs, tall, wide, per_group = w.shape
    out_h = (height + 2 * padding - dilation * (tall - 1) - 1) // stride + 1
    out_w = (width + 2 * padding - dilation * (wide - 1) - 1) // stride + 1
    z = np.tile(np.asarray(b, np.float64), (out_h, out_w, 1))
    dz = np.zeros_like(z) if dz is None else dz
    dw, db, da = np.zeros(w.shape), np.zeros(outputs), np.zeros(a.shape)
    for p, q, o in np.ndindex(z.shape):
        db[o] += dz[p, q, o]
        first = o // (outputs // groups) * per_group
        for k, m, c in np.ndindex(tall, wide, per_group):
            i, j = p * stride + k * dilation - padding, q * stride + m * dilation - padding
            if 0 <= i < height and 0 <= j < width:
                z[p, q, o] += a[i, j, first + c] * w[o, k, m, c]
                dw[o, k, m, c] += a[i, j, first + c] * dz[p, q, o]
                da[i, j, first + c] += w[o, k, m, c] * dz[p, q, o]
    assert channels == per_group * groups
    return z, dw, db, da


def torch_results(x, w, b, dy, stride, padding, dilation=1, groups=1):
    """y, dx, dw, db by PyTorch's autograd, all in its own layout (N, C, H, W)."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, w, b)]
    y = torch.nn.functional.conv2d(*leaves, stride, padding, dilation, groups)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)


def equal(got, want):
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


@st.composite
def layers(draw):
    """A single HWC sample with weights, bias and settings, rectangular and with remainders."""
    groups = draw(st.integers(1, 3))
    per_group, outputs = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    size = [max(1, dilation * (f - 1) + 1 - 2 * padding) + draw(st.integers(0, 4)) for f in kernel]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = integers(rng, *size, per_group * groups)
    w, b = integers(rng, outputs, *kernel, per_group), integers(rng, outputs)
    return a, w, b, (draw(st.integers(1, 3)), padding, dilation, groups), rng


@given(layers())
def test_dl_demos_form_equals_the_loops(layer):
    a, w, b, (stride, padding, dilation, groups), rng = layer
    z, *_ = loops(a, w, b, None, stride, padding, dilation, groups)
    dz = integers(rng, *z.shape)
    _, dw, db, da = loops(a, w, b, dz, stride, padding, dilation, groups)

    equal(conv2d(a, w, stride, padding, dilation, groups, b), z)
    equal(conv2d(a, w, stride, padding, dilation, groups), z - b)
    cache = conv2d_forward(a, w, b, stride, padding, dilation=dilation, groups=groups)
    equal(cache["Z"], z)
    gradients = conv2d_backward(dz, cache, stride, padding)
    for got, want in zip(gradients, (dw, db, da), strict=True):
        equal(got, want)
    bare, settings = {"W": w, "A_prev": a}, {"dilation": dilation, "groups": groups}
    for given_cache, keywords in [(bare, settings), (bare | settings, {}), (cache, settings)]:
        again = conv2d_backward(dz, given_cache, stride, padding, **keywords)
        for got, want in zip(again, gradients, strict=True):
            equal(got, want)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), SETTINGS)
def test_dl_demos_form_equals_pytorch_in_batches_and_sample_by_sample(
    rng, stride, padding, dilation, groups
):
    x, w, b = integers(rng, 3, 8, 9, 4), integers(rng, 8, 3, 3, 4 // groups), integers(rng, 8)
    settings = {"dilation": dilation, "groups": groups}
    cache = conv2d_forward(x, w, b, stride, padding, **settings)
    dz = integers(rng, *cache["Z"].shape)
    first = [np.moveaxis(array, -1, 1) for array in (x, w)]
    y, dx, dw, db = torch_results(
        *first, b, np.moveaxis(dz, -1, 1), stride, padding, dilation, groups
    )
    equal(cache["Z"], np.moveaxis(y, 1, -1))
    equal(conv2d(x, w, stride, padding, dilation, groups, b), cache["Z"])
    got = conv2d_backward(dz, cache, stride, padding)
    for ours, theirs in zip(got, (np.moveaxis(dw, 1, -1), db, np.moveaxis(dx, 1, -1)), strict=True):
        equal(ours, theirs)

    single = [
        conv2d_backward(dz[n], {"W": w, "A_prev": x[n]}, stride, padding, **settings)
        for n in range(3)
    ]
    equal(sum(one[0] for one in single), got[0])
    equal(sum(one[1] for one in single), got[1])
    equal(np.stack([one[2] for one in single]), got[2])


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), PLAIN)
@pytest.mark.parametrize("kernel", [(3, 3), (2, 2), (1, 3)], ids=str)
def test_cs231n_form_equals_pytorch(rng, stride, padding, dilation, groups, kernel):
    x, w, b = integers(rng, 2, 3, 7, 6), integers(rng, 5, 3, *kernel), integers(rng, 5)
    param = {"stride": stride, "pad": padding}
    out, cache = conv_forward_naive(x, w, b, param)
    dout = integers(rng, *out.shape)
    y, *gradients = torch_results(x, w, b, dout, stride, padding, dilation, groups)
    equal(out, y)
    for ours, theirs in zip(conv_backward_naive(dout, cache), gradients, strict=True):
        equal(ours, theirs)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), PLAIN)
@pytest.mark.parametrize("kernel", [(3, 3), (2, 2), (1, 3)], ids=str)
def test_deeplearning_ai_form_equals_pytorch(rng, stride, padding, dilation, groups, kernel):
    a, w, b = integers(rng, 2, 7, 6, 3), integers(rng, *kernel, 3, 5), integers(rng, 1, 1, 1, 5)
    z, cache = conv_forward(a, w, b, {"stride": stride, "pad": padding})
    dz = integers(rng, *z.shape)
    y, dx, dw, db = torch_results(
        np.moveaxis(a, -1, 1), w.transpose(3, 2, 0, 1), b.reshape(-1), np.moveaxis(dz, -1, 1),
        stride, padding, dilation, groups,
    )  # fmt: skip
    equal(z, np.moveaxis(y, 1, -1))
    want = np.moveaxis(dx, 1, -1), dw.transpose(2, 3, 1, 0), db.reshape(1, 1, 1, 5)
    for ours, theirs in zip(conv_backward(dz, cache), want, strict=True):
        equal(ours, theirs)
        assert ours.flags.c_contiguous


def test_the_numbers_that_the_notebooks_print():
    """CS231n's check of the forward, and deeplearning.ai's checks of both (stride 2, pad 2)."""
    x = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4)
    out, _ = conv_forward_naive(x, w, np.linspace(-0.1, 0.2, 3), {"stride": 2, "pad": 1})
    printed = [
        -0.08759809, -0.10987781, -0.18387192, -0.2109216, 0.21027089, 0.21661097, 0.22847626,
        0.23004637, 0.50813986, 0.54309974, 0.64082444, 0.67101435, -0.98053589, -1.03143541,
        -1.19128892, -1.24695841, 0.69108355, 0.66880383, 0.59480972, 0.56776003, 2.36270298,
        2.36904306, 2.38090835, 2.38247847,
    ]  # fmt: skip
    np.testing.assert_allclose(out.ravel(), printed, rtol=0, atol=6e-9)

    old = np.random.RandomState(1)  # the generator that the notebook seeds
    a, w, b = (old.standard_normal(s) for s in ((10, 4, 4, 3), (2, 2, 3, 8), (1, 1, 1, 8)))
    z, cache = conv_forward(a, w, b, {"stride": 2, "pad": 2})
    assert z.mean() == pytest.approx(0.0489952035289, rel=1e-11)
    means = [gradient.mean() for gradient in conv_backward(z, cache)]
    assert means == pytest.approx([1.45243777754, 1.72699145831, 7.83923256462], rel=1e-11)

    # An early edition of the notebook counts the bias once for each of the 2·2·3 products.
    z, cache = conv_forward(a, w, 12 * b, {"stride": 1, "pad": 2})
    assert z.mean() == pytest.approx(0.155859324889, rel=1e-11)
    means = [gradient.mean() for gradient in conv_backward(z, cache)]
    assert means == pytest.approx([9.60899067587, 10.5817412755, 76.3710691956], rel=1e-11)


def test_caches_hold_what_the_courses_keep(rng):
    a, w, b = integers(rng, 5, 5, 2), integers(rng, 3, 3, 3, 2), integers(rng, 3)
    cache = conv2d_forward(a, w, b, 1, 1)
    assert list(cache) == ["Z", "W", "b", "A_prev"]
    assert cache["W"] is w
    assert cache["b"] is b
    assert cache["A_prev"] is a

    wide = conv2d_forward(a, w, b, 1, 1, dilation=2)
    assert list(wide) == ["Z", "W", "b", "A_prev", "dilation"]
    assert wide["dilation"] == 2
    halves = conv2d_forward(a, integers(rng, 4, 3, 3, 1), None, 1, 1, groups=np.int64(2))
    assert list(halves) == ["Z", "W", "b", "A_prev", "groups"]
    assert halves["groups"] == 2

    param, four = {"stride": 1, "pad": 1}, a.transpose(2, 0, 1)[None]
    given = (four, w.transpose(0, 3, 1, 2), b, param)
    _, cache = conv_forward_naive(*given)
    assert all(one is other for one, other in zip(cache, given, strict=True))

    given = (a[None], w.transpose(1, 2, 3, 0), b.reshape(1, 1, 1, 3), param)
    _, cache = conv_forward(*given)
    assert all(one is other for one, other in zip(cache, given, strict=True))


def test_backward_reads_neither_z_nor_the_bias(rng):
    a, w = integers(rng, 5, 5, 2), integers(rng, 3, 3, 3, 2)
    dz, param = integers(rng, 5, 5, 3), {"stride": 1, "pad": 1}
    full = conv2d_backward(dz, conv2d_forward(a, w, None, 1, 1), 1, 1)
    bare = conv2d_backward(dz, {"W": w, "A_prev": a}, 1, 1)
    for one, other in zip(full, bare, strict=True):
        equal(one, other)
    equal(bare[1], dz.sum(axis=(0, 1)))
    first = [np.moveaxis(array, -1, 1) for array in (a[None], w, dz[None])]
    equal(conv_backward_naive(first[2], (*first[:2], None, param))[2], bare[1])
    (_, _, db) = conv_backward(dz[None], (a[None], w.transpose(1, 2, 3, 0), None, param))
    equal(db, bare[1].reshape(1, 1, 1, 3))


def test_hyperparameters_may_hold_other_keys(rng):
    a, w, b = integers(rng, 1, 5, 5, 2), integers(rng, 3, 3, 2, 4), integers(rng, 1, 1, 1, 4)
    more = {"stride": np.int64(2), "pad": 1, "f": 3, "mode": "max"}
    equal(conv_forward(a, w, b, more)[0], conv_forward(a, w, b, {"stride": 2, "pad": 1})[0])


def test_operands_stay_as_they_are(rng):
    a, w, b = integers(rng, 5, 5, 2), integers(rng, 3, 3, 3, 2), integers(rng, 3)
    copies = [array.copy() for array in (a, w, b)]
    cache = conv2d_forward(a, w, b, 1, 1)
    conv2d_backward(cache["Z"], cache, 1, 1)
    for array, copy in zip((a, w, b), copies, strict=True):
        equal(array, copy)


# The slips of the originals.


def test_a_bias_is_added_whatever_its_numbers(rng):
    a, w = integers(rng, 4, 4, 1), integers(rng, 2, 3, 3, 1)
    plain = conv2d(a, w)
    equal(conv2d(a, w, bias=np.zeros(2)), plain)
    equal(conv2d(a, w, bias=np.array([0.0, 5.0])), plain + [0, 5])
    equal(conv2d(a, w[:1], bias=np.array([7.0])), plain[..., :1] + 7)


def test_integers_are_not_truncated():
    a, w, b = np.full((2, 2, 1), 3), np.full((1, 1, 1, 1), 0.5), np.array([0.25])
    cache = conv2d_forward(a, w, b, 1, 0)
    equal(cache["Z"], np.full((2, 2, 1), 1.75))
    dW, db, dA_prev = conv2d_backward(np.full((2, 2, 1), 0.5), cache, 1, 0)
    equal(dW, np.full((1, 1, 1, 1), 6.0))
    equal(db, np.array([2.0]))
    equal(dA_prev, np.full((2, 2, 1), 0.25))
    bytes_ = np.full((1, 1, 1, 1), 200, np.uint8)
    out, _ = conv_forward_naive(bytes_, bytes_, np.array([200], np.uint8), {"stride": 1, "pad": 0})
    equal(out, np.full((1, 1, 1, 1), 40200.0))


@pytest.mark.parametrize(
    "shape", [(2, 3, 4), (3, 2, 4), (4, 3, 4), (3, 3, 3), (1, 3, 3, 4)], ids=str
)
def test_a_gradient_of_another_shape_than_z_is_refused(rng, shape):
    a, w, b = integers(rng, 5, 5, 2), integers(rng, 4, 3, 3, 2), integers(rng, 4)
    cache = conv2d_forward(a, w, b, 1, 0)
    with pytest.raises(ShapeError, match=r"conv2d_backward: dZ is .* has Z \(3, 3, 4\)"):
        conv2d_backward(np.ones(shape), cache, 1, 0)


def test_another_stride_than_the_forwards_is_noticed(rng):
    cache = conv2d_forward(integers(rng, 5, 5, 2), integers(rng, 4, 3, 3, 2), None, 2, 1)
    with pytest.raises(ShapeError, match="stride 1 and padding 1 has Z"):
        conv2d_backward(cache["Z"], cache, 1, 1)


def test_the_remainder_of_a_stride_has_gradient_zero(rng):
    a, w = integers(rng, 1, 6, 6, 1), np.ones((2, 2, 1, 1))
    z, cache = conv_forward(a, w, np.zeros((1, 1, 1, 1)), {"stride": 3, "pad": 0})
    assert z.shape == (1, 2, 2, 1)
    dA_prev, _, _ = conv_backward(np.ones_like(z), cache)
    reached = np.tile([1.0, 1.0, 0.0], 2)
    equal(dA_prev[0, :, :, 0], np.outer(reached, reached))


def test_large_kernels_stay_exact(rng):
    """Where the FFT would be faster, the sums are plain all the same."""
    a, w = integers(rng, 40, 40, 2), integers(rng, 3, 21, 21, 2)
    cache = conv2d_forward(a, w, integers(rng, 3), 1, 0)
    dz = integers(rng, *cache["Z"].shape)
    for array in (cache["Z"], *conv2d_backward(dz, cache, 1, 0)):
        equal(array, np.round(array))


def test_stride_and_padding_have_no_default():
    """Forward (2, 1) and backward (1, 0) both make 3×3 of 5×5: dZ's shape could not tell."""
    a, w = np.ones((5, 5, 1)), np.ones((1, 3, 3, 1))
    cache = conv2d_forward(a, w, None, 2, 1)
    assert cache["Z"].shape == (3, 3, 1)
    for settings, missing in [((), "'stride' and 'padding'"), ((2,), "'padding'")]:
        with pytest.raises(TypeError, match=missing):
            conv2d_backward(cache["Z"], cache, *settings)
        with pytest.raises(TypeError, match=missing):
            conv2d_forward(a, w, None, *settings)


@pytest.mark.parametrize(
    ("forward", "passed", "kept"),
    [
        ({}, {"dilation": 2}, 1),
        ({"dilation": 2}, {"dilation": 1}, 2),
        ({"groups": 2}, {"groups": 1}, 2),
    ],
    ids=["dilation-1", "dilation-2", "groups-2"],
)
def test_another_dilation_or_groups_than_the_caches_is_refused(forward, passed, kept):
    """With a 2×2 kernel and stride 2, dilations 1 and 2 both make 2×2 of 5×5."""
    a, w = np.ones((5, 5, 2)), np.ones((2, 2, 2, 2 // forward.get("groups", 1)))
    cache = conv2d_forward(a, w, None, 2, 0, **forward)
    (name, number), *_ = passed.items()
    words = (
        f"conv2d_backward: {name} is {number}, but the forward's was {kept}, .* leave {name} out"
    )
    with pytest.raises(SettingError, match=words):
        conv2d_backward(cache["Z"], cache, 2, 0, **passed)


def test_lists_are_read(rng):
    a, w, b = integers(rng, 4, 5, 2), integers(rng, 3, 2, 2, 2), integers(rng, 3)
    dz = integers(rng, 3, 4, 3)
    cache = conv2d_forward(a.tolist(), w.tolist(), b.tolist(), 1, 0)
    z, dw, db, da = loops(a, w, b, dz, 1, 0)
    equal(cache["Z"], z)
    for got, want in zip(conv2d_backward(dz.tolist(), cache, 1, 0), (dw, db, da), strict=True):
        equal(got, want)
    equal(conv2d(a, w, bias=[0, 0, 0]), z - b)
    equal(conv2d([[[True], [False]]], [[[[2]]]], bias=(1,)), np.array([[[3.0], [1.0]]]))

    param = {"stride": 1, "pad": 0}
    first = [np.moveaxis(array, -1, 1) for array in (a[None], w, dz[None])]
    x, kernels, dout = (array.tolist() for array in first)
    out, cache = conv_forward_naive(x, kernels, b.tolist(), param)
    equal(out, np.moveaxis(z[None], -1, 1))
    want = np.moveaxis(da[None], -1, 1), np.moveaxis(dw, -1, 1), db
    for got, wanted in zip(conv_backward_naive(dout, cache), want, strict=True):
        equal(got, wanted)
    kernels, four = w.transpose(1, 2, 3, 0).tolist(), b.reshape(1, 1, 1, 3).tolist()
    out, cache = conv_forward([a.tolist()], kernels, four, param)
    equal(out, z[None])
    equal(conv_backward([dz.tolist()], cache)[0], da[None])


@pytest.mark.parametrize(
    ("a", "w", "dz", "want"),
    [
        ("float32", "float32", "float32", "float32"),
        ("float16", "float16", "float16", "float16"),
        ("float32", "float32", "float64", "float64"),
        ("float16", "float32", "float32", "float32"),
        ("float32", "float32", "int64", "float64"),
        ("uint8", "float32", "float32", "float64"),
        ("bool", "int16", "int16", "float64"),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "bfloat16", "float32"),
    ],
)
def test_dtypes_are_promoted_as_numpy_does(a, w, dz, want):
    kinds = {"bfloat16": ml_dtypes.bfloat16}
    a, w, dz = (np.dtype(kinds.get(name, name)) for name in (a, w, dz))
    cache = {"A_prev": np.ones((3, 3, 1), a), "W": np.ones((2, 2, 2, 1), w)}
    for gradient in conv2d_backward(np.ones((2, 2, 2), dz), cache, 1, 0):
        assert gradient.dtype.name == want
    z = conv2d(cache["A_prev"], cache["W"])
    assert z.dtype == np.result_type(*(np.float64 if d.kind in "biu" else d for d in (a, w)))


def test_an_empty_batch_has_gradients_of_zero():
    cache = conv2d_forward(np.ones((0, 4, 4, 2)), np.ones((3, 2, 2, 2)), np.ones(3), 1, 0)
    assert cache["Z"].shape == (0, 3, 3, 3)
    dW, db, dA_prev = conv2d_backward(cache["Z"], cache, 1, 0)
    equal(dW, np.zeros((3, 2, 2, 2)))
    equal(db, np.zeros(3))
    assert dA_prev.shape == (0, 4, 4, 2)


X, W, B = np.ones((5, 5, 4)), np.ones((6, 3, 3, 4)), np.ones(6)
HYPER = {"stride": 1, "pad": 0}
HUGE = {"stride": 1, "pad": 10**30}
REFUSALS = {
    "input axes": (lambda: conv2d(X[0], W), ShapeError, r"conv2d: input is \(5, 4\), with 2 axes"),
    "weight axes": (lambda: conv2d(X, W[0]), ShapeError, r"weight is \(3, 3, 4\), with 3 axes"),
    "channels": (
        lambda: conv2d(X[..., :3], W), ShapeError, r"weight \(6, 3, 3, 4\) is for 4 .* has 3; pass",
    ),
    "groups of weight": (
        lambda: conv2d(X, W, groups=2), ShapeError, r"is for 8 input channels in 2 groups.*has 4",
    ),
    "groups": (lambda: conv2d(X, W, groups=4), ShapeError, "groups=4 does not divide both the 4"),
    "kernel too large": (
        lambda: conv2d(X, W, dilation=3), ShapeError, "3×3 kernel with dilation 3 does not fit",
    ),
    "empty image": (lambda: conv2d(X[:0], W, padding=2), ShapeError, r"input is \(0, 5, 4\)"),
    "no outputs": (lambda: conv2d(X, W[:0]), ShapeError, r"weight \(0, 3, 3, 4\)"),
    "bias": (lambda: conv2d(X, W, bias=B[:5]), ShapeError, r"bias is \(5,\), but 6 .* \(6,\)"),
    "bias column": (
        lambda: conv2d(X, W, bias=B[:, None]), ShapeError, r"pass bias\.reshape\(6,\)",
    ),
    "bias a number": (lambda: conv2d(X, W, bias=0), ArrayError, "bias is a int, not an array"),
    "list": (lambda: conv2d([[1.0]], W), ShapeError, r"conv2d: input is \(1, 1\), with 2 axes"),
    "uneven list": (lambda: conv2d([[1], [1, 2]], W), ArrayError, "conv2d: input is no array: "),
    "list of text": (lambda: conv2d(X, W, bias=["a"] * 6), DTypeError, "conv2d: bias is str"),
    "set": (lambda: conv2d({1.0}, W), ArrayError, r"a set, .*; pass numpy.asarray\(input"),
    "none": (lambda: conv2d(None, W), ArrayError, "conv2d: input is None; pass an array"),
    "no dW of None": (
        lambda: conv2d_backward(None, {"A_prev": X, "W": W}, 1, 0), ArrayError, "dZ is None; pass",
    ),
    "complex": (lambda: conv2d(X * 1j, W), DTypeError, "input is complex128.*convgrad.backward"),
    "text": (lambda: conv2d(X.astype(str), W), DTypeError, "conv2d: input is str"),
    "no common dtype": (
        lambda: conv2d(X.astype(ml_dtypes.bfloat16), W.astype("f2")), DTypeError, "pass one dtype",
    ),
    "pair": (lambda: conv2d(X, W, (1, 1)), SettingError, r"stride must be one int, not \(1, 1\)"),
    "bool": (lambda: conv2d(X, W, padding=True), SettingError, "padding must be one int, not True"),
    "stride 0": (lambda: conv2d(X, W, 0), SettingError, "conv2d: stride is 0; pass 1 or more"),
    "padding -1": (
        lambda: conv2d_forward(X, W, B, 1, -1), SettingError, "conv2d_forward: padding is -1",
    ),
    "padding 10**9": (
        lambda: conv2d(X, W, 1, 10**9), ShapeError,
        "conv2d: the padded input, .*2000000005, 2000000005.* would be larger than any memory",
    ),
    "padding and stride 10**9": (
        lambda: conv2d_backward(X[:3, :3], {"A_prev": X, "W": W}, 10**9, 10**9), ShapeError,
        "conv2d_backward: the padded A_prev, .* would be larger than any memory",
    ),
    "an output of 2**60": (
        lambda: conv2d(X[:, :, :1], np.ones((2**10, 1, 1, 1)), 1, 2**24), ShapeError,
        "conv2d: output, .* would be larger than any memory",
    ),
    "pad 10**30 of no sample": (
        lambda: conv_forward_naive(np.ones((0, 4, 5, 5)), W.transpose(0, 3, 1, 2), B, HUGE),
        ShapeError, "conv_forward_naive: the padded x, .* larger than any memory",
    ),
    "dilation 0": (lambda: conv2d(X, W, dilation=0), SettingError, "dilation is 0"),
    "groups 0": (lambda: conv2d(X, W, groups=0), SettingError, "groups is 0"),
    "cache a tuple": (
        lambda: conv2d_backward(X, (X, W), 1, 0), SettingError, "cache is a tuple; pass",
    ),
    "cache without W": (lambda: conv2d_backward(X, {"A_prev": X}, 1, 0), SettingError, "no 'W'"),
    "cache with a dilation of text": (
        lambda: conv2d_backward(X, {"A_prev": X, "W": W, "dilation": "2"}, 1, 0), SettingError,
        r"cache\['dilation'\] must be one int, not '2'",
    ),
    "dilation 0 of a bare cache": (
        lambda: conv2d_backward(X, {"A_prev": X, "W": W}, 1, 0, dilation=0), SettingError,
        "conv2d_backward: dilation is 0",
    ),
    "single sample": (
        lambda: conv_forward_naive(X, W, B, HYPER), ShapeError, r"with 3 axes; pass \(N, C, H, W\)",
    ),
    "no pad": (
        lambda: conv_forward_naive(X[None], W, B, {"stride": 1}), SettingError,
        "conv_param has no 'pad'",
    ),
    "no dict": (
        lambda: conv_forward(X[None], W, B, (1, 0)), SettingError, "hparameters is a tuple",
    ),
    "float stride": (
        lambda: conv_forward(X[None], W, B, {"stride": 2.0, "pad": 0}), SettingError,
        r"hparameters\['stride'\] must be one int, not 2.0",
    ),
    "no bias in CS231n": (
        lambda: conv_forward_naive(X[None], W, None, HYPER), ArrayError, r"b is None; .* \(F,\)",
    ),
    "no bias in deeplearning.ai": (
        lambda: conv_forward(X[None], W, None, HYPER), ArrayError, r"zeros of \(1, 1, 1, n_C\)",
    ),
    "flat bias": (
        lambda: conv_forward(X[None], np.ones((3, 3, 4, 6)), B, HYPER),
        ShapeError, r"pass b\.reshape\(1, 1, 1, 6\)",
    ),
    "cache of three": (
        lambda: conv_backward_naive(X, (X, W, B)), SettingError, "cache is a tuple of 3; pass",
    ),
    "cache a dict": (lambda: conv_backward(X, {}), SettingError, "cache is a dict; pass"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_what_came_and_what_to_do(name):
    call, error, match = REFUSALS[name]
    with pytest.raises(error, match=match) as caught:
        call()
    assert issubclass(error, ConvError)
    assert type(caught.value) is error


# The signatures: a function that somebody else wrote, called by the convention alone.


def case(rng, **changes):
    plain = Case(
        x=integers(rng, 2, 4, 5, 6), w=integers(rng, 2, 4, 3, 3), b=integers(rng, 2),
        dy=integers(rng, 2, 2, 3, 3), stride=(2, 2), pads=((1, 1), (1, 1)), dilation=(1, 1),
        groups=1,
    )  # fmt: skip
    return replace(plain, **changes)


def students_backward(dZ, cache, stride, padding):
    """A student's own conv2d_backward: one sample, the cache of the convention and nothing more."""
    W, A_prev = cache["W"], cache["A_prev"]
    height, width, _ = A_prev.shape
    assert cache["Z"].shape == dZ.shape
    assert cache["b"].shape == dZ.shape[2:]
    padded = np.pad(A_prev, ((padding, padding), (padding, padding), (0, 0)))
    dW, gradient = np.zeros(W.shape), np.zeros(padded.shape)
    f = W.shape[1]
    for p, q, o in np.ndindex(dZ.shape):
        window = np.s_[p * stride : p * stride + f, q * stride : q * stride + f]
        dW[o] += padded[window] * dZ[p, q, o]
        gradient[window] += W[o] * dZ[p, q, o]
    kept = gradient[padding : padding + height, padding : padding + width]
    return dW, dZ.sum(axis=(0, 1)), kept


def test_a_students_backward_is_called_with_the_convention_alone(rng):
    one = case(rng)
    _, dx, dw, db = torch_results(one.x, one.w, one.b, one.dy, 2, 1)
    results = SIGNATURES["conv2d_backward"].call(students_backward, one)
    for name, want in {"dx": dx, "dw": dw, "db": db}.items():
        equal(results[name], want)

    def forgets_the_stride(dZ, cache, stride, padding):
        dW, db, dA_prev = students_backward(dZ, cache, stride, padding)
        return dW, db, np.roll(dA_prev, 1, axis=0)

    assert (SIGNATURES["conv2d_backward"].call(forgets_the_stride, one)["dx"] != dx).any()


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_bring_results_back_to_convgrads_layout(rng, name):
    one, signature = case(rng), SIGNATURES[name]
    y, dx, dw, db = torch_results(one.x, one.w, one.b, one.dy, 2, 1)
    want = {"y": y, "dx": dx, "dw": dw, "db": db}
    results = signature.call(signature.function, one)
    assert set(results) == set(signature.gives)
    for result, got in results.items():
        equal(got, want[result])


INEXPRESSIBLE = {
    "transposed": ({"transposed": True}, "transposed"),
    "complex": ({"x": np.ones((2, 4, 5, 6), complex)}, "real"),
    "no sample": ({"x": np.ones((0, 4, 5, 6))}, "one sample"),
    "pads of one axis": ({"pads": ((1, 0), (1, 1))}, "padding is one number"),
    "pads of two axes": ({"pads": ((1, 1), (0, 0))}, "padding is one number"),
    "negative pads": ({"pads": ((-1, -1), (-1, -1))}, "not negative"),
    "stride": ({"stride": (1, 2)}, "stride is one number"),
    "dilation": ({"dilation": (1, 2)}, "dilation is one number"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_say_what_the_convention_cannot_express(rng, name):
    refuses = SIGNATURES[name].refuses
    assert refuses(case(rng)) is None
    for changes, word in INEXPRESSIBLE.values():
        assert word in str(refuses(case(rng, **changes)))
    flat = replace(case(rng), w=np.ones((2, 4, 3)), pads=((1, 1),), stride=(1,), dilation=(1,))
    assert "two spatial axes, not 1" in str(refuses(flat))

    wide, grouped = case(rng, w=np.ones((2, 4, 1, 3))), case(rng, groups=2)
    assert ("square" in str(refuses(wide))) == (not name.endswith("naive"))
    assert ("groups" in str(refuses(grouped))) == (name != "conv2d")
    assert ("dilation" in str(refuses(case(rng, dilation=(2, 2))))) == (name != "conv2d")
