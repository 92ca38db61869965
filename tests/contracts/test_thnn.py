"""SpatialConvolutionMM against PyTorch of today: results, columns, buffers, products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convgrad.contracts import thnn
from convgrad.contracts.thnn import functions

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
F = torch.nn.functional


@st.composite
def layers(draw):
    """Sizes of one layer: (N or None, I, H, W), O, and kW, kH, dW, dH, padW, padH."""
    kernel, stride, pad = ([draw(st.integers(lo, 3)) for _ in "WH"] for lo in (1, 1, 0))
    width, height = (
        max(1, k - 2 * p) + draw(st.integers(0, 5)) for k, p in zip(kernel, pad, strict=True)
    )
    batch = draw(st.sampled_from((None, 1, 2, 3)))
    planes, out_planes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    shape = (planes, height, width) if batch is None else (batch, planes, height, width)
    return shape, out_planes, (*kernel, *stride, *pad), draw(st.integers(0, 2**32 - 1))


class Run:
    """One layer's operands, and PyTorch's results for them in float64."""

    def __init__(self, drawn, dtype=np.float64, integers=True):
        shape, out_planes, self.window, seed = drawn
        kW, kH, dW, dH, padW, padH = self.window
        rng = np.random.default_rng(seed)

        def draw(*size):
            numbers = rng.integers(-3, 4, size) if integers else rng.standard_normal(size)
            return numbers.astype(dtype)

        self.input, self.weight = draw(*shape), draw(out_planes, shape[-3], kH, kW)
        self.bias = draw(out_planes)
        leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True)
                  for a in (self.input, self.weight, self.bias)]  # fmt: skip
        self.settings = {"stride": (dH, dW), "padding": (padH, padW)}
        y = F.conv2d(*leaves, **self.settings)
        self.grad_output = draw(*y.shape)
        self.output = y.detach().numpy()
        dy = torch.tensor(self.grad_output, dtype=torch.float64)
        self.dx, self.dw, self.db = (g.numpy() for g in torch.autograd.grad(y, leaves, dy))
        unfolded = F.unfold(torch.tensor(self.input.astype(np.float64)), (kH, kW), **self.settings)
        self.columns = unfolded.numpy()

    def one(self):
        """The shape of one sample's columns."""
        return self.columns.shape[-2:]


@given(layers(), st.sampled_from((np.float16, np.float32, np.float64)))
def test_integers_are_exact(drawn, dtype):
    run = Run(drawn, dtype)
    window = run.window
    y = thnn.update_output(run.input, None, run.weight, run.bias, None, None, *window)
    dx = thnn.update_grad_input(run.input, run.grad_output, None, run.weight, None, None, *window)
    dw, db = np.ones_like(run.weight), np.ones_like(run.bias)
    thnn.acc_grad_parameters(run.input, run.grad_output, dw, db, None, None, *window, scale=2)
    assert y.dtype == dx.dtype == dtype
    for got, want in [(y, run.output), (dx, run.dx), (dw, 1 + 2 * run.dw), (db, 1 + 2 * run.db)]:
        np.testing.assert_array_equal(got, want)


@given(layers())
def test_other_numbers_agree_with_autograd(drawn):
    run = Run(drawn, integers=False)
    window = run.window
    y = thnn.update_output(run.input, None, run.weight, run.bias, None, None, *window)
    dx = thnn.update_grad_input(run.input, run.grad_output, None, run.weight, None, None, *window)
    dw, db = np.zeros_like(run.weight), np.zeros_like(run.bias)
    thnn.acc_grad_parameters(run.input, run.grad_output, dw, db, None, None, *window)
    for got, want in [(y, run.output), (dx, run.dx), (dw, run.dw), (db, run.db)]:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@given(layers())
def test_the_buffers_show_columns_and_their_gradient(drawn):
    run = Run(drawn)
    window, one = run.window, run.one()
    every = run.columns if run.input.ndim == 4 else run.columns[None]
    flat_dy = run.grad_output.reshape(-1, run.weight.shape[0], one[1])
    every_grad = np.einsum("ok,nop->nkp", run.weight.reshape(len(run.weight), -1), flat_dy)
    assert thnn.columns_shape(run.input.shape, *window) == run.columns.shape
    for shape in (one, every.shape):
        want, want_grad = (a[-1] if len(shape) == 2 else a for a in (every, every_grad))
        cols = [np.full(shape, np.nan) for _ in range(3)]
        thnn.update_output(run.input, None, run.weight, None, cols[0], None, *window)
        thnn.update_grad_input(run.input, run.grad_output, None, run.weight, cols[1], None, *window)
        dw = np.zeros_like(run.weight)
        thnn.acc_grad_parameters(run.input, run.grad_output, dw, None, cols[2], None, *window)
        for got, expected in zip(cols, (want, want_grad, want), strict=True):
            np.testing.assert_array_equal(got, expected)


@given(layers())
def test_buffers_are_written_and_returned(drawn):
    run = Run(drawn)
    output, grad_input = np.full(run.output.shape, np.nan), np.full(run.input.shape, np.nan)
    ones = np.full(run.output.shape[-2:], 7.0)
    arrays = run.input, output, run.weight, run.bias, None, ones
    assert thnn.update_output(*arrays, *run.window) is output
    np.testing.assert_array_equal(output, run.output)
    assert (ones == 1).all()
    ones[:] = 7
    arrays = run.input, run.grad_output, grad_input, run.weight, None, ones
    assert thnn.update_grad_input(*arrays, *run.window) is grad_input
    np.testing.assert_array_equal(grad_input, run.dx)
    assert (ones == 7).all()


@given(layers())
def test_a_two_dimensional_weight_is_the_same_layer(drawn):
    run = Run(drawn, integers=False)
    flat, window = run.weight.reshape(len(run.weight), -1), run.window
    y, y_flat = (thnn.update_output(run.input, None, w, run.bias, None, None, *window)
                 for w in (run.weight, flat))  # fmt: skip
    dx, dx_flat = (
        thnn.update_grad_input(run.input, run.grad_output, None, w, None, None, *window)
        for w in (run.weight, flat)
    )
    dw, dw_flat = (
        thnn.acc_grad_parameters(
            run.input, run.grad_output, np.zeros_like(w), None, None, None, *window
        )[0]
        for w in (run.weight, flat)
    )
    assert dw_flat.shape == flat.shape
    for one, other in [(y, y_flat), (dx, dx_flat), (dw, dw_flat)]:
        np.testing.assert_array_equal(one.ravel(), other.ravel())


@given(layers())
def test_operands_may_lie_anyhow(drawn):
    run = Run(drawn)
    x, dy, w = (
        np.repeat(a, 2, axis=-1)[..., ::2] for a in (run.input, run.grad_output, run.weight)
    )
    x, b = x.astype(">f8").swapaxes(-1, -2).copy().swapaxes(-1, -2), np.repeat(run.bias, 2)[::2]
    window = run.window
    y = thnn.update_output(x, None, w, b, None, None, *window)
    dx = thnn.update_grad_input(x, dy, None, w, None, None, *window)
    dw, db = thnn.acc_grad_parameters(
        x, dy, np.zeros(w.shape), np.zeros(b.shape), None, None, *window
    )
    for got, want in [(y, run.output), (dx, run.dx), (dw, run.dw), (db, run.db)]:
        np.testing.assert_array_equal(got, want)


CASE = ((2, 2, 5, 6), 3, (3, 2, 2, 1, 1, 0), 7)


def test_torch_nn_grad_says_the_same():
    run = Run(CASE, integers=False)
    x, w, dy = (torch.tensor(a) for a in (run.input, run.weight, run.grad_output))
    dx = thnn.update_grad_input(
        run.input, run.grad_output, None, run.weight, None, None, *run.window
    )
    dw, _ = thnn.acc_grad_parameters(
        run.input, run.grad_output, np.zeros_like(run.weight), None, None, None, *run.window
    )
    want = torch.nn.grad.conv2d_input(x.shape, w, dy, **run.settings)
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-12)
    want = torch.nn.grad.conv2d_weight(x, w.shape, dy, **run.settings)
    np.testing.assert_allclose(dw, want, rtol=0, atol=1e-12)


def test_with_the_weight_as_buffer_it_is_a_step_of_gradient_descent():
    run = Run(CASE, integers=False)
    layer = torch.nn.Conv2d(2, 3, (2, 3), **run.settings, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(run.weight))
        layer.bias.copy_(torch.tensor(run.bias))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    layer(torch.tensor(run.input)).backward(torch.tensor(run.grad_output))
    optimizer.step()
    stepped = thnn.acc_grad_parameters(
        run.input, run.grad_output, run.weight, run.bias, None, None, *run.window, scale=-0.01
    )
    assert stepped.grad_weight is run.weight
    assert stepped.grad_bias is run.bias
    np.testing.assert_allclose(run.weight, layer.weight.detach(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(run.bias, layer.bias.detach(), rtol=0, atol=1e-14)


def test_a_gradient_that_is_not_wanted_is_left_out():
    run = Run(CASE)
    arrays = run.input, run.grad_output
    dw, db = np.zeros_like(run.weight), np.zeros_like(run.bias)
    cols = np.full(run.one(), 7.0)
    only = thnn.acc_grad_parameters(*arrays, None, db, cols, None, *run.window)
    assert only.grad_weight is None
    np.testing.assert_array_equal(only.grad_bias, run.db)
    assert (cols == 7).all()
    only = thnn.acc_grad_parameters(*arrays, dw, None, None, None, *run.window)
    assert only.grad_bias is None
    np.testing.assert_array_equal(only.grad_weight, run.dw)
    assert thnn.acc_grad_parameters(*arrays, None, None, None, None, *run.window) == (None, None)


def test_the_bias_may_be_none():
    run = Run(CASE)
    output = np.full(run.output.shape, np.nan)
    thnn.update_output(run.input, output, run.weight, None, None, None, *run.window)
    np.testing.assert_array_equal(output, run.output - run.bias.reshape(-1, 1, 1))


def test_ones_may_be_larger_and_is_filled():
    run = Run(CASE)
    ones = np.zeros((9, 11))
    y = thnn.update_output(run.input, None, run.weight, run.bias, None, ones, *run.window)
    np.testing.assert_array_equal(y, run.output)
    assert (ones == 1).all()
    ones[:] = 0
    db = np.zeros_like(run.bias)
    thnn.acc_grad_parameters(run.input, run.grad_output, None, db, None, ones, *run.window)
    np.testing.assert_array_equal(db, run.db)


def test_the_input_gradient_may_be_written_over_the_input():
    run = Run(CASE)
    arrays = run.input, run.grad_output, run.input, run.weight, None, None
    np.testing.assert_array_equal(thnn.update_grad_input(*arrays, *run.window), run.dx)


def test_scale_zero_leaves_the_buffers():
    run = Run(CASE)
    run.input[:] = np.nan
    dw, db = np.full(run.weight.shape, 5.0), np.full(run.bias.shape, 6.0)
    arrays = run.input, run.grad_output, dw, db, None, None
    thnn.acc_grad_parameters(*arrays, *run.window, scale=0)
    assert (dw == 5).all()
    assert (db == 6).all()


def test_float16_is_rounded_once():
    """Sums that float16 could not keep, over taps, samples and overlaps."""
    x = w = np.ones((1, 1, 1, 2049), np.float16)
    y = thnn.update_output(x, None, w, np.array([2], x.dtype), None, None, 2049, 1, 1, 1, 0, 0)
    assert y.item() == 2052  # 2051 is halfway between 2050 and 2052
    x = dy = np.ones((3, 1, 1, 1), np.float16)
    dw, db = np.full((1, 1), 2048, np.float16), np.full(1, 2048, np.float16)
    thnn.acc_grad_parameters(x, dy, dw, db, None, None, 1, 1, 1, 1, 0, 0)
    assert dw.item() == db.item() == 2052
    number = np.float16(2.1)
    dy, w = np.full((1, 1, 3), number), np.full((1, 1, 1, 3), number)
    columns, image = np.empty((3, 3), np.float16), np.zeros((1, 1, 5), np.float16)
    dx = thnn.update_grad_input(image, dy, None, w, columns, None, 3, 1, 1, 1, 0, 0)
    exact = 3 * np.float64(number) ** 2
    assert dx[0, 0, 2] == np.float16(exact) != np.float16(3 * np.float64(columns[0, 0]))
    assert (columns == np.float16(exact / 3)).all()


def test_every_product_goes_through_gemm_with_the_originals_sizes(monkeypatch):
    """3×9×9, ten 3×3 kernels, stride 3: what the article on THCUNN works through."""
    calls = []

    def recorded(name, function, sizes):
        def run(*args):
            calls.append((name, *(args[i] for i in sizes)))
            return function(*args)

        monkeypatch.setattr(functions, name, run)

    recorded("gemm", functions.gemm, (0, 1, 2, 3, 4, 7, 9, 12))  # trans, m, n, k, lda, ldb, ldc
    recorded("gemv", functions.gemv, (0, 1, 2, 5, 7, 10))  # trans, m, n, lda, incx, incy
    x, w, b = np.ones((1, 3, 9, 9)), np.ones((10, 3, 3, 3)), np.ones(10)
    y = thnn.update_output(x, None, w, b, None, None, 3, 3, 3, 3, 0, 0)
    thnn.update_grad_input(x, y, None, w, None, None, 3, 3, 3, 3, 0, 0)
    thnn.acc_grad_parameters(x, y, w, b, None, None, 3, 3, 3, 3, 0, 0)
    assert calls == [
        ("gemm", "t", "n", 9, 10, 1, 1, 1, 9),
        ("gemm", "n", "n", 9, 10, 27, 9, 27, 9),
        ("gemm", "n", "t", 9, 27, 10, 9, 27, 9),
        ("gemm", "t", "n", 27, 10, 9, 9, 9, 27),
        ("gemv", "t", 9, 10, 9, 1, 1),
    ]


@given(layers(), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_im2col_and_col2im_are_unfold_and_fold(drawn, dilation_h, dilation_w, given_buffers):
    (*lead, height, width), _, (kW, kH, dW, dH, padW, padH), seed = drawn
    height, width = height + (kH - 1) * dilation_h, width + (kW - 1) * dilation_w
    rng = np.random.default_rng(seed)
    image = rng.integers(-9, 10, (*lead, height, width)) * 1.0
    keywords = {
        "ksize_h": kH, "ksize_w": kW, "pad_h": padH, "pad_w": padW, "stride_h": dH, "stride_w": dW,
        "dilation_h": dilation_h, "dilation_w": dilation_w,
    }  # fmt: skip
    settings = ((kH, kW), (dilation_h, dilation_w), (padH, padW), (dH, dW))
    want = F.unfold(torch.tensor(image), *settings).numpy()
    data_col = np.full(want.shape, np.nan) if given_buffers else None
    columns = thnn.im2col(image, **keywords, data_col=data_col)
    assert data_col is None or columns is data_col
    np.testing.assert_array_equal(columns, want)
    other = rng.integers(-9, 10, want.shape) * 1.0
    want = F.fold(torch.tensor(other), (height, width), *settings).numpy()
    data_im = np.full(image.shape, np.nan) if given_buffers else None
    folded = thnn.col2im(other, lead[-1], height, width, **keywords, data_im=data_im)
    assert data_im is None or folded is data_im
    np.testing.assert_array_equal(folded, want)
    assert (columns * other).sum() == (image * folded).sum()


def test_unfolding_takes_integers_and_the_originals_order():
    image = np.arange(12).reshape(1, 3, 4)
    columns = thnn.im2col(image, 2, 3, 0, 1, 1, 2)  # kH 2, kW 3, pad_w 1, stride_w 2
    assert columns.dtype == image.dtype
    assert columns[:, 0].tolist() == [0, 0, 1, 0, 4, 5]
    assert columns[:, 1].tolist() == [1, 2, 3, 5, 6, 7]
    assert thnn.col2im(columns, 1, 3, 4, 2, 3, 0, 1, 1, 2)[0, 0].tolist() == [0, 2, 2, 3]


def test_torch_tensors_are_buffers_too():
    run = Run(CASE)
    x, w, b = (torch.tensor(a) for a in (run.input, run.weight, run.bias))
    output = torch.empty(run.output.shape, dtype=torch.float64)
    assert thnn.update_output(x, output, w, b, None, None, *run.window) is output
    np.testing.assert_array_equal(output, run.output)
