"""Numbers that can be checked by hand."""

import numpy as np
import pytest

import convgrad as cg
from convgrad.choose import TABLE

ALGORITHMS = [a.name for a in TABLE["cpu"] if a.name not in ("fft", "overlap_save")]


def ramp(*shape):
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("out_channels", [1, 2])
def test_sixteen_numbers_and_the_mean(algorithm, out_channels):
    """1..16 as 4×4, a 3×3 kernel, mean loss: each tap's gradient is the mean of what it touched."""
    x = ramp(1, 1, 4, 4)
    dy = np.full((1, out_channels, 2, 2), 1 / (4 * out_channels))
    dw = cg.weight_grad(x, (out_channels, 1, 3, 3), dy, algorithm=algorithm)
    means = np.array([[3.5, 4.5, 5.5], [7.5, 8.5, 9.5], [11.5, 12.5, 13.5]])
    for o in range(out_channels):
        np.testing.assert_array_equal(dw[o, 0], means / out_channels)
    np.testing.assert_array_equal(cg.bias_grad(dy), np.full(out_channels, 1 / out_channels))


def test_two_input_channels_have_two_gradient_planes():
    x = ramp(1, 2, 4, 4)
    dw = cg.weight_grad(x, (1, 2, 3, 3), np.full((1, 1, 2, 2), 0.25))
    np.testing.assert_array_equal(dw[0, 1] - dw[0, 0], np.full((3, 3), 16.0))


def test_padding_zeros_take_part_in_the_corner_taps():
    """With padding 1, tap (0, 0) touches the padded image's upper left 4×4: nine image cells."""
    x = ramp(1, 1, 4, 4)
    dw = cg.weight_grad(x, (1, 1, 3, 3), np.full((1, 1, 4, 4), 1 / 16), padding=1)
    assert dw[0, 0, 0, 0] == x[0, 0, :3, :3].sum() / 16
    assert dw[0, 0, 1, 1] == x.sum() / 16
    assert dw[0, 0, 2, 2] == x[0, 0, 1:, 1:].sum() / 16


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_step_of_gradient_descent(algorithm):
    """1..9 as 3×3, kernel 3 2 1 5, sum, squared error against 230, step 0.01."""
    x, w = ramp(1, 1, 3, 3), np.array([3.0, 2.0, 1.0, 5.0]).reshape(1, 1, 2, 2)
    if algorithm == "winograd":
        with pytest.raises(cg.AlgorithmError, match="kernel must have 3"):
            cg.conv(x, w, algorithm=algorithm)
        return
    total = cg.conv(x, w, algorithm=algorithm).sum()
    slope = 2 * (total - 230)
    dw = cg.weight_grad(x, w.shape, np.full((1, 1, 2, 2), slope), algorithm=algorithm)
    np.testing.assert_allclose((w - 0.01 * dw).ravel(), [2.52, 1.36, 0.04, 3.88], rtol=1e-14)


def test_three_by_nine_by_nine_unfolds_to_27_by_9():
    x = ramp(3, 9, 9)
    cols = cg.im2col(x, (3, 3), stride=3)
    assert cols.shape == (27, 9)
    np.testing.assert_array_equal(cols[0], x[0, ::3, ::3].ravel())
    np.testing.assert_array_equal(cols[(2 * 3 + 1) * 3 + 2], x[2, 1::3, 2::3].ravel())
    w = np.arange(270.0).reshape(10, 3, 3, 3)
    y = cg.conv(x, w, stride=3)
    assert y.shape == (10, 3, 3)
    np.testing.assert_array_equal(w.reshape(10, 27) @ cols, y.reshape(10, 9))
    np.testing.assert_array_equal(cg.col2im(cols, x.shape, (3, 3), stride=3), x)


def test_overlaps_add_up_in_col2im():
    ones = np.ones((1, 4, 4))
    cols = cg.im2col(ones, (3, 3))
    counts = cg.col2im(cols, ones.shape, (3, 3))
    np.testing.assert_array_equal(
        counts[0], [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]
    )


def test_the_remainder_of_a_stride_gets_no_gradient():
    """Six cells, kernel 2, stride 3: cells 2 and 5 lie in no window."""
    dx = cg.input_grad((1, 1, 6), np.ones((1, 1, 2)), np.ones((1, 1, 2)), stride=3)
    np.testing.assert_array_equal(dx.ravel(), [1, 1, 0, 1, 1, 0])


def test_input_gradient_is_full_convolution_with_the_turned_kernel():
    """One output gradient of 1 puts the kernel, unturned, into dx."""
    w = ramp(1, 1, 2, 2)
    dy = np.zeros((1, 1, 2, 2))
    dy[0, 0, 0, 0] = 1
    dx = cg.input_grad((1, 1, 3, 3), w, dy)
    np.testing.assert_array_equal(dx[0, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])


def test_same_padding_puts_the_odd_cell_behind_or_in_front():
    x, w = ramp(1, 1, 4), np.array([[[1.0, 10.0]]])
    np.testing.assert_array_equal(cg.conv(x, w, padding="same").ravel(), [21, 32, 43, 4])
    np.testing.assert_array_equal(cg.conv(x, w, padding="same_lower").ravel(), [10, 21, 32, 43])


def test_same_with_a_stride_gives_one_position_for_each_started_step():
    assert cg.conv(np.ones((1, 1, 7)), np.ones((1, 1, 3)), stride=3, padding="same").shape[2] == 3
    assert cg.conv(np.ones((1, 1, 7)), np.ones((1, 1, 1)), stride=3, padding="same").shape[2] == 3


def test_no_input_channels_leave_the_bias():
    """A sum of no products is zero, and y still depends on b: db counts every position."""
    x, w, b = np.zeros((2, 0, 5, 5)), np.zeros((3, 0, 3, 3)), np.array([1.0, 2.0, 3.0])
    y = cg.conv(x, w, b)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None, None], (2, 3, 3, 3)))
    dx, dw, db = cg.backward(x, w, np.ones_like(y))
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    np.testing.assert_array_equal(db, [18.0, 18.0, 18.0])


def test_an_empty_batch_has_no_output_and_no_gradient():
    x, w = np.zeros((0, 2, 5, 5)), np.ones((3, 2, 3, 3))
    assert cg.conv(x, w, np.ones(3)).shape == (0, 3, 3, 3)
    dx, dw, db = cg.backward(x, w, np.zeros((0, 3, 3, 3)))
    assert dx.shape == x.shape
    assert not dw.any()
    assert not db.any()


def test_transposed_output_padding_beyond_the_stride():
    """PyTorch allows output_padding below the dilation: the extra cells see one tap fewer."""
    y = cg.conv_transpose(np.ones((1, 1, 4)), np.ones((1, 1, 3)), output_padding=1, dilation=2)
    np.testing.assert_array_equal(y.ravel(), [1, 1, 2, 2, 2, 2, 1, 1, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.bool_])
def test_integers_fold_in_64_bits(dtype):
    cols = np.full((1, 3, 2), 200).astype(dtype)
    folded = cg.col2im(cols, (1, 1, 4), (3,))
    assert folded.dtype == np.int64
    np.testing.assert_array_equal(folded.ravel(), int(cols[0, 0, 0]) * np.array([1, 2, 2, 1]))


def test_an_empty_batch_unfolds():
    assert cg.im2col(np.ones((0, 2, 4)), (3,)).shape == (0, 6, 2)
    assert cg.col2im(np.ones((0, 6, 2)), (0, 2, 4), (3,)).shape == (0, 2, 4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_bias_gradient_of_a_million_terms_keeps_its_digits(layout, rng):
    dy = rng.random((1, 1000, 1000, 2), dtype=np.float32)
    db = cg.bias_grad(dy if layout == "NHWC" else np.moveaxis(dy, -1, 1), layout=layout)
    np.testing.assert_allclose(db, dy.sum(axis=(0, 1, 2), dtype=np.float64), rtol=1e-7)
