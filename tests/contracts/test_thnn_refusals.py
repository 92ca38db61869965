"""What SpatialConvolutionMM, im2col and col2im refuse, in which words, before any write."""

import numpy as np
import pytest

from convgrad.contracts import thnn
from convgrad.errors import ArrayError, ConvError, DTypeError, SettingError, ShapeError

X, W, B = np.ones((2, 3, 5, 6)), np.ones((4, 3, 2, 3)), np.ones(4)
DY = np.ones((2, 4, 4, 4))
READ_ONLY = np.ones(W.shape)
READ_ONLY.flags.writeable = False
WINDOW = {"kW": 3, "kH": 2, "dW": 1, "dH": 1, "padW": 0, "padH": 0}
CALLS = {
    "update_output": {
        "input": X, "output": None, "weight": W, "bias": B, "columns": None, "ones": None,
    },
    "update_grad_input": {
        "input": X, "grad_output": DY, "grad_input": None, "weight": W, "grad_columns": None,
        "ones": None,
    },
    "acc_grad_parameters": {
        "input": X, "grad_output": DY, "grad_weight": W, "grad_bias": B, "columns": None,
        "ones": None,
    },
}  # fmt: skip

IN_ALL = [
    ({"kW": 0}, SettingError, "kW, the kernel, is 0; pass 1 or more"),
    ({"kH": -1}, SettingError, "kH, the kernel, is -1"),
    ({"kW": 3.0}, SettingError, "kW must be made of ints, not 3.0"),
    ({"dW": 0}, SettingError, "dW, the stride, is 0; pass 1 or more"),
    ({"dH": -2}, SettingError, "dH, the stride, is -2"),
    ({"padW": -1}, SettingError, "padW, the padding, is -1; pass 0 or more"),
    ({"padH": -1}, SettingError, "padH, the padding, is -1"),
    ({"kW": 7}, ShapeError, r"input is 5×6, 5×6 with padH=0 and padW=0, smaller than .* kW=7"),
    ({"kH": 8, "padH": 1}, ShapeError, r"input is 5×6, 7×6 with padH=1 .* kH=8"),
    ({"input": np.ones((5, 6))}, ShapeError, r"input is \(5, 6\); pass \(I, H, W\) or \(N, I, H,"),
    ({"input": np.ones((1, 2, 3, 5, 6))}, ShapeError, r"input is \(1, 2, 3, 5, 6\)"),
    ({"input": np.ones((0, 3, 5, 6))}, ShapeError, r"input is \(0, 3, 5, 6\); .* no size of 0"),
    ({"input": np.ones((2, 0, 5, 6))}, ShapeError, "no size of 0"),
    ({"input": None}, ArrayError, "input is None; pass an array"),
    ({"input": X.tolist()}, ArrayError, "input is a list, not an array"),
    ({"padW": 10**30}, ShapeError, "the padded input, .* would be larger than any memory"),
    ({"padH": 10**30}, ShapeError, "the padded input, .* would be larger than any memory"),
    ({"padW": 10**30, "dW": 10**30}, ShapeError, "the padded input, .* larger than any memory"),
    ({"padH": 1, "padW": 2**56}, ShapeError, "larger than any memory; pass .* smaller padding"),
    ({"input": X.astype("f4")}, DTypeError, "input is float32 but .* is float64"),
    ({"input": X.astype(int)}, DTypeError, "input is int64; pass float16, float32, float64"),
]
WITH_WEIGHT = [
    ({"weight": None}, ArrayError, "weight is None; pass an array"),
    ({"weight": np.ones((4, 3, 6))}, ShapeError, r"weight is \(4, 3, 6\); pass \(O, I, kH, kW\)"),
    ({"weight": np.ones((0, 18))}, ShapeError, r"weight is \(0, 18\); .* no size of 0"),
    ({"weight": np.ones((4, 3, 3, 2))}, ShapeError,
     r"kernel is kH=3, kW=2, but kW=3, kH=2 came; pass kW=2, kH=3 \(the width comes first\)"),
    ({"weight": np.ones((4, 20))}, ShapeError, r"weight is \(4, 20\), but .* a multiple of 6"),
    ({"weight": np.ones((4, 2, 2, 3))}, ShapeError, "for 2 input planes, but input .* has 3"),
    ({"weight": np.ones((4, 24))}, ShapeError, "for 4 input planes, but input .* has 3"),
]  # fmt: skip
WITH_GRAD_OUTPUT = [
    ({"grad_output": None}, ArrayError, "grad_output is None"),
    ({"grad_output": DY[0]}, ShapeError, "with 3 axes, but input .* has 4; .* with 4 axes"),
    ({"grad_output": np.ones((1, 4, 4, 4))}, ShapeError, r"batch is 1, not 2"),
    ({"grad_output": np.ones((2, 5, 4, 4))}, ShapeError, r"planes is 5, not 4"),
    ({"grad_output": np.ones((2, 4, 3, 4))}, ShapeError, r"height is 3, not 4"),
    ({"grad_output": np.ones((2, 4, 4, 5))}, ShapeError, r"the output is \(2, 4, 4, 4\): width is"),
    ({"grad_output": DY.astype("f4")}, DTypeError, "input is float64 but grad_output is float32"),
]
REFUSALS = {
    "update_output": [
        *IN_ALL,
        *WITH_WEIGHT,
        ({"bias": np.ones(3)}, ShapeError, r"bias is \(3,\), but 4 output planes need \(4,\)"),
        ({"bias": np.ones((4, 1))}, ShapeError, r"bias is \(4, 1\)"),
        ({"output": np.ones((2, 4, 4, 3))}, ShapeError,
         r"output is \(2, 4, 4, 3\), but must be \(2, 4, 4, 4\); pass such an array, or None"),
        ({"columns": np.ones((18, 15))}, ShapeError,
         r"columns is \(18, 15\), but must be \(18, 16\) or \(2, 18, 16\)"),
        ({"columns": np.ones((3, 18, 16))}, ShapeError, r"columns is \(3, 18, 16\)"),
        ({"ones": np.ones((3, 5))}, ShapeError,
         r"ones is \(3, 5\), but the output has 4×4 pixels; pass a buffer of at least 16"),
        ({"output": np.ones(DY.shape, "f4")}, DTypeError,
         "output is float32, but the operands are float64; pass it in float64, or None"),
        ({"output": np.ones((2, 4, 4, 8))[..., ::2]}, ArrayError, "output is not contiguous"),
        ({"output": np.ones(DY.shape).astype(">f8")}, DTypeError, "output is >f8; .* native"),
        ({"columns": np.ones((16, 18)).T}, ArrayError, "columns is not contiguous"),
        ({"columns": X.reshape(-1)[:0]}, ShapeError, r"columns is \(0,\)"),
        ({"ones": X.reshape(-1)}, ArrayError, "ones, which is written, shares memory with input"),
    ],
    "update_grad_input": [
        *IN_ALL,
        *WITH_WEIGHT,
        *WITH_GRAD_OUTPUT,
        ({"grad_input": X[:1].copy()}, ShapeError, r"grad_input is \(1, 3, 5, 6\), but must be"),
        ({"grad_input": np.ones((2, 3, 5, 12))[..., ::2]}, ArrayError, "grad_input is not contig"),
        ({"grad_columns": np.ones((18, 16), "f2")}, DTypeError, "grad_columns is float16"),
        ({"grad_columns": DY.reshape(2, 64)[:, :16]}, ShapeError, "grad_columns is"),
    ],
    "acc_grad_parameters": [
        *IN_ALL,
        *WITH_GRAD_OUTPUT,
        *(({"grad_weight": c["weight"]}, e, m) for c, e, m in WITH_WEIGHT[1:]),
        ({"grad_bias": np.ones(5)}, ShapeError, r"grad_bias is \(5,\), but 4 output planes"),
        ({"grad_bias": np.ones((1, 4))}, ShapeError, r"grad_bias is \(1, 4\)"),
        ({"grad_weight": None, "grad_bias": np.ones(5)}, ShapeError, r"grad_bias is \(5,\)"),
        ({"grad_weight": None, "grad_output": np.ones((2, 0, 4, 4))}, ShapeError, "no planes"),
        ({"grad_weight": W.astype("f4")}, DTypeError, "grad_weight is float32, .* in float64$"),
        ({"grad_weight": np.ones((4, 3, 3, 2)).swapaxes(2, 3)}, ArrayError,
         r"grad_weight is not contiguous .*; pass numpy.ascontiguousarray\(grad_weight\), and"),
        ({"grad_weight": READ_ONLY}, ArrayError, "grad_weight is read-only"),
        ({"grad_weight": W.tolist()}, ArrayError, "grad_weight is a list"),
        ({"grad_bias": np.ones(8)[::2]}, ArrayError, "grad_bias is not contiguous"),
        ({"grad_bias": W.reshape(-1)[:4]}, ArrayError,
         "grad_weight, which is written, shares memory with grad_bias"),
        ({"grad_bias": DY.reshape(-1)[:4]}, ArrayError, "grad_bias, .* memory with grad_output"),
        ({"grad_weight": X.reshape(-1)[:72].reshape(4, 18)}, ArrayError, "memory with input"),
        ({"columns": np.ones((18, 17))}, ShapeError, "columns is"),
        ({"scale": "0.1"}, SettingError, "scale must be a real number, not '0.1'"),
        ({"scale": None}, SettingError, "scale must be a real number"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "error", "words"),
    [(name, *case) for name, cases in REFUSALS.items() for case in cases],
    ids=[f"{name}-{i}" for name, cases in REFUSALS.items() for i in range(len(cases))],
)
def test_refused_before_anything_is_written(name, changes, error, words):
    arguments = {**CALLS[name], **WINDOW} | changes
    before = {k: v.copy() for k, v in arguments.items() if isinstance(v, np.ndarray)}
    with pytest.raises(error, match=f"^{name}: .*{words}"):
        getattr(thnn, name)(**arguments)
    for key, array in before.items():
        np.testing.assert_array_equal(arguments[key], array, err_msg=key)


IMAGE = np.ones((3, 9, 9))
UNFOLDING = [
    (thnn.im2col, (IMAGE, 0, 3), SettingError, "ksize_h, the kernel, is 0"),
    (thnn.im2col, (IMAGE, 3, 3, 0, -1), SettingError, "pad_w, the padding, is -1"),
    (thnn.im2col, (IMAGE, 3, 3, 0, 0, 1, 0), SettingError, "stride_w, the stride, is 0"),
    (thnn.im2col, (IMAGE, 3, 3, 0, 0, 1, 1, 0), SettingError, "dilation_h, the dilation, is 0"),
    (thnn.im2col, (IMAGE[0], 3, 3), ShapeError, r"data_im is \(9, 9\); pass \(C, H, W\)"),
    (thnn.im2col, (IMAGE, 3, 3, 0, 0, 1, 1, 1, 5), ShapeError,
     r"data_im \(3, 9, 9\) has 9 cells along w, 9 with pad_w=0, but .* dilation_w=5 spans 11"),
    (thnn.im2col, (np.array([["a"]])[None], 1, 1), DTypeError, "data_im is <U1, .* no numbers"),
    (thnn.im2col, (IMAGE.astype(object), 1, 1), DTypeError, "data_im is object, .* no numbers"),
    (thnn.im2col, (IMAGE, 3, 3, 10**30), ShapeError, "the padded data_im, .* than any memory"),
    (thnn.im2col, (IMAGE[:, :0], 3, 3, 0, 2), ShapeError, "has 0 cells along h"),
    (thnn.im2col, (IMAGE[None][:0], 3, 3, 10**30), ShapeError, "than any memory"),
    (thnn.im2col, (IMAGE, 9, 9, 2**27, 2**27), ShapeError, "data_col, .* than any memory"),
    (thnn.col2im, (np.ones((27, 49)).astype(str), 3, 9, 9, 3, 3), DTypeError, "data_col is <U3"),
    (thnn.col2im, (np.ones((27, 9)), 3, 9, 9, 3, 3, 10**30, 0, 10**30, 3), ShapeError,
     "the padded data_im, .* than any memory"),
    (thnn.col2im, (np.ones((27, 48)), 3, 9, 9, 3, 3), ShapeError,
     r"data_col is \(27, 48\), but data_im \(3, 9, 9\) with a 3×3 kernel unfolds to \(27, 49\)"),
    (thnn.col2im, (np.ones(27), 3, 9, 9, 3, 3), ShapeError, r"data_col is \(27,\)"),
    (thnn.col2im, (np.ones((27, 49)), 3, -9, 9, 3, 3), ShapeError, "is no shape"),
    (thnn.columns_shape, ((9, 9), 3, 3), ShapeError, r"input is \(9, 9\)"),
    (thnn.columns_shape, (IMAGE, 3, 3), ShapeError, "input_shape is an array; pass its shape"),
    (thnn.columns_shape, ((3, 9, 9), 3, 3, 1, 1, 10**30), ShapeError, "than any memory"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "arguments", "error", "words"),
    UNFOLDING,
    ids=[str(i) for i in range(len(UNFOLDING))],
)
def test_unfolding_refuses(function, arguments, error, words):
    with pytest.raises(error, match=f"^{function.__name__}: .*{words}"):
        function(*arguments)


@pytest.mark.parametrize("name", CALLS)
def test_what_the_original_requires_has_no_default(name):
    for left_out in WINDOW:
        window = {key: number for key, number in WINDOW.items() if key != left_out}
        with pytest.raises(TypeError, match=left_out):
            getattr(thnn, name)(**CALLS[name], **window)


def test_an_output_that_no_memory_holds_is_refused():
    image, weight = np.ones((1, 1, 1)), np.ones((2**10, 1))
    window = {"kW": 1, "kH": 1, "dW": 1, "dH": 1, "padW": 2**26, "padH": 2**24}
    with pytest.raises(
        ShapeError, match=r"^update_output: output, \(1024, .* larger than any memo"
    ):
        thnn.update_output(image, None, weight, None, None, None, **window)


def test_a_destination_that_does_not_fit_is_refused():
    for data_col, words in [
        (np.ones((27, 48)), r"data_col is \(27, 48\), but the result is \(27, 49\)"),
        (np.ones((27, 49), "f4"), "data_col is float32, but the result is float64"),
        (np.ones((49, 27)).T, "data_col is not contiguous"),
    ]:
        with pytest.raises(ConvError, match=words):
            thnn.im2col(IMAGE, 3, 3, data_col=data_col)
    columns = np.ones((1, 4))
    with pytest.raises(ArrayError, match="data_im, which is written, shares memory with data_col"):
        thnn.col2im(columns, 1, 2, 2, 1, 1, data_im=columns.reshape(1, 2, 2))
