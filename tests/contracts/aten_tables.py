"""Calls of PyTorch's convolution functions, as what differs from the base call of aten_calls.

ACCEPTED by both, with the same numbers.  REFUSED by both.  MEANINGLESS: PyTorch answers, convgrad
refuses.  UNSAFE: PyTorch reads past an operand's end, convgrad refuses.
"""

import numpy as np

INTEGERS = (np.uint8, np.int8, np.int16, np.int32, np.int64)
W, Y = (3, 2, 3, 2), (2, 3, 3, 5)
AXES = {"stride": [1], "padding": [0], "dilation": [1], "output_padding": [0]}
LINE = {"stride": [2], "padding": [1], "dilation": [1], "output_padding": [0]}
TURNED = {"transposed": True, "weight": (2, 3, 3, 2)}

ACCEPTED = {
    "convolution": {
        "as it stands": {},
        "no bias": {"bias": None},
        "lists of one": {"stride": [2], "padding": [1], "dilation": [2], "output_padding": [0]},
        "1-D": {"input": (2, 2, 6), "weight": (3, 2, 3), **LINE},
        "3-D": {"input": (2, 2, 3, 4, 5), "weight": (3, 2, 2, 3, 1), **LINE},
        "groups": {"input": (2, 4, 5, 6), "weight": (6, 2, 3, 2), "bias": (6,), "groups": 2},
        "rows that the stride leaves out": {"stride": [3, 4]},
        "padding wider than the input": {"padding": [7, 9]},
        "kernel as large as the padded input": {"weight": (3, 2, 7, 8), "padding": [1, 1]},
        "empty batch": {"input": (0, 2, 5, 6)},
        "no channels": {"input": (2, 0, 5, 6), "weight": (3, 0, 3, 2)},
        "no channels, groups": {
            "input": (2, 0, 5, 6), "weight": (4, 0, 3, 2), "bias": (4,), "groups": 2, "stride": [2],
        },
        "no channels, empty batch": {"input": (0, 0, 5, 6), "weight": (3, 0, 3, 2)},
        "transposed": TURNED,
        "transposed with groups": {
            "input": (2, 4, 5, 6), "weight": (4, 3, 3, 2), "bias": (6,), "groups": 2,
            "transposed": True,
        },
        "output_padding below the stride": {**TURNED, "stride": [2, 3], "output_padding": [1, 2]},
        "output_padding below the dilation": {
            **TURNED, "stride": [2], "dilation": [3], "output_padding": [2],
        },
        "transposed with an empty batch": {**TURNED, "input": (0, 2, 5, 6)},
        "transposed, all but one cell cropped": {
            **TURNED, "input": (2, 2, 2, 2), "weight": (2, 3, 1, 1), "stride": [2], "padding": [1],
        },
        "output_padding that has no effect": {"output_padding": [7, 0]},
        "flags as ints": {**TURNED, "transposed": 1},
    },
    "convolution_backward": {
        "as it stands": {},
        "no bias_sizes": {"bias_sizes": None},
        "bias_sizes without meaning where no grad_bias is asked for": {
            "bias_sizes": [0], "output_mask": [True, True, False],
        },
        "lists of one": {
            "stride": [2], "padding": [1], "dilation": [1], "output_padding": [0],
            "grad_output": (2, 3, 3, 4),
        },
        "1-D": {"input": (2, 2, 6), "weight": (3, 2, 3), "grad_output": (2, 3, 3), **LINE},
        "empty batch": {"input": (0, 2, 5, 6), "grad_output": (0, 3, 3, 5)},
        "no channels": {
            "input": (2, 0, 5, 6), "weight": (3, 0, 3, 2), "grad_output": (2, 0, 3, 5),
        },
        "transposed": {**TURNED, "grad_output": (2, 3, 7, 7)},
        "transposed with output_padding": {
            **TURNED, "stride": [2], "output_padding": [1], "grad_output": (2, 3, 12, 13),
        },
        "mask of ints": {"output_mask": [1, 0, 1]},
    },
    "convolution_double_backward": {
        "as it stands": {},
        "nothing": {"ggI": None, "ggW": None, "ggb": None},
        "ggI alone": {"ggW": None, "ggb": None},
        "ggW alone": {"ggI": None, "ggb": None},
        "ggb alone": {"ggI": None, "ggW": None},
        "no ggb": {"ggb": None},
        "transposed": {**TURNED, "ggW": (2, 3, 3, 2), "gO": (2, 3, 7, 7)},
    },
    "conv1d_input": {"as it stands": {}, "stride": {"stride": 2, "grad_output": (2, 3, 2)}},
    "conv1d_weight": {"as it stands": {}, "padding": {"padding": (1,), "grad_output": (2, 3, 5)}},
    "conv2d_input": {
        "as it stands": {},
        "a list for input_size": {"input_size": [2, 2, 5, 6]},
        "rows that the stride leaves out": {"stride": (2, 3), "grad_output": (2, 3, 2, 2)},
        "all settings": {
            "input_size": (2, 4, 7, 6), "weight": (6, 2, 3, 2), "grad_output": (2, 6, 3, 6),
            "stride": (2, 1), "padding": (1, 1), "dilation": (2, 2), "groups": 2,
        },
        "empty batch": {"input_size": (0, 2, 5, 6), "grad_output": (0, 3, 3, 5)},
        "no channels": {
            "input_size": (2, 0, 5, 6), "weight": (3, 0, 3, 2), "grad_output": (2, 0, 3, 5),
        },
    },
    "conv2d_weight": {
        "as it stands": {},
        "groups": {
            "input": (2, 4, 5, 6), "weight_size": (6, 2, 3, 2), "grad_output": (2, 6, 3, 5),
            "groups": 2,
        },
        "rows that the stride leaves out": {"stride": (2, 3), "grad_output": (2, 3, 2, 2)},
        "empty batch": {"input": (0, 2, 5, 6), "grad_output": (0, 3, 3, 5)},
        "no channels": {
            "input": (2, 0, 5, 6), "weight_size": (3, 0, 3, 2), "grad_output": (2, 0, 3, 5),
        },
    },
    "conv3d_input": {"as it stands": {}, "stride": {"stride": 3, "grad_output": (2, 3, 1, 1, 2)}},
    "conv3d_weight": {"as it stands": {}, "stride": {"stride": 3, "grad_output": (2, 3, 1, 1, 2)}},
    "unfold": {
        "as it stands": {},
        "one image": {"input": (3, 5, 6)},
        "empty batch": {"input": (0, 3, 5, 6)},
        "ints": {"kernel_size": 2, "dilation": 2, "padding": 1, "stride": 2},
        "pairs": {"kernel_size": [2, 3], "dilation": (2, 1), "padding": (0, 2), "stride": (1, 3)},
        "bool": {"dtype": bool, "padding": 1},
        "complex": {"dtype": complex, "padding": 1},
    },
    "fold": {
        "as it stands": {},
        "one image": {"input": (18, 15)},
        "empty batch": {"input": (0, 18, 15)},
        "ints": {"input": (2, 8, 4), "output_size": 4, "kernel_size": 2, "stride": 2},
        "pairs": {
            "input": (2, 12, 12), "kernel_size": [2, 3], "dilation": (2, 1), "padding": (0, 2),
            "stride": (1, 2), "output_size": [5, 6],
        },
        "bool": {"dtype": bool},
        "complex": {"dtype": complex},
    },
}  # fmt: skip

REFUSED_SETTINGS = {
    "no stride": {"stride": []},
    "three strides": {"stride": [1, 1, 1]},
    "four paddings": {"padding": [1, 1, 1, 1]},
    "three dilations": {"dilation": [1, 1, 1]},
    "three output_paddings": {"output_padding": [0, 0, 0]},
    "stride 0": {"stride": [0, 1]},
    "stride below 0": {"stride": [-1, 1]},
    "padding below 0": {"padding": [0, -1]},
    "dilation 0": {"dilation": [1, 0]},
    "output_padding below 0": {"output_padding": [-1, 0]},
    "groups 0": {"groups": 0},
    "groups below 0": {"groups": -1},
    "groups that do not divide weight": {"groups": 2},
    "a fractional stride": {"stride": [1.5, 1]},
    "stride as text": {"stride": "11"},
    "no groups": {"groups": None},
    "transposed as text": {"transposed": "no"},
    "channels that differ": {"input": (2, 3, 5, 6)},
    "one sample without a batch axis": {"input": (2, 5, 6)},
    "kernel larger than the padded input": {"input": (2, 2, 2, 6)},
    "no output channels": {"weight": (0, 2, 3, 2)},
    "a kernel without taps": {"weight": (3, 2, 0, 2)},
    "a line and a kernel for images": {"input": (2, 2, 6)},
    "an input without rows": {"input": (2, 2, 0, 6), "padding": [2, 2]},
    "weight without an axis": {"weight": (3, 2, 3)},
    "operands of two dtypes": {"dtypes": {"input": np.float32}},
    "no input": {"input": None},
}
UNSEEN_TWICE = ("an input without rows", "no input")  # the double backward's holes: MEANINGLESS
REFUSED = {
    "convolution": {
        **REFUSED_SETTINGS,
        "bias of another size": {"bias": (2,)},
        "bias of one": {"bias": (1,)},
        "bias as a column": {"bias": (3, 1)},
        "bias of the wrong size, no channels": {
            "input": (2, 0, 5, 6), "weight": (3, 0, 3, 2), "bias": (2,),
        },
        "no spatial axes": {"input": (2, 2), "weight": (3, 2), **AXES},
        "four spatial axes": {
            "input": (1, 2, 3, 3, 3, 3), "weight": (3, 2, 2, 2, 2, 2), **AXES,
        },
        "weight of another dtype": {"dtypes": {"weight": np.int64}},
        "bool": {"dtype": bool},
        "uint16": {"dtype": np.uint16},
        "groups that do not divide the output channels": {
            "input": (2, 4, 5, 6), "weight": (3, 2, 3, 2), "groups": 2,
        },
        "fewer output channels than groups": {
            "input": (2, 4, 5, 6), "weight": (1, 2, 3, 2), "bias": (1,), "groups": 2,
        },
        "no channels, larger kernel": {"input": (2, 0, 2, 6), "weight": (3, 0, 3, 2)},
        "no channels in the input only": {"input": (2, 0, 5, 6)},
        "transposed with weight the other way round": {"transposed": True},
        "transposed without channels": {
            **TURNED, "input": (2, 0, 5, 6), "weight": (0, 3, 3, 2),
        },
        "transposed without output channels": {
            **TURNED, "weight": (2, 0, 3, 2), "bias": None,
        },
        "transposed, nothing left": {
            **TURNED, "input": (2, 2, 1, 1), "padding": [2, 1],
        },
        "transposed, exactly nothing left": {
            **TURNED, "input": (2, 2, 2, 2), "weight": (2, 3, 2, 2), "stride": [2], "padding": [2],
        },
        "output_padding as large as stride and dilation": {
            **TURNED, "stride": [2], "output_padding": [2, 0],
        },
        "output_padding below another axis' stride": {
            **TURNED, "stride": [1, 3], "output_padding": [1, 0],
        },
        "int32 transposed": {**TURNED, "dtype": np.int32},
        "uint8 dilated": {"dilation": [2, 1], "dtype": np.uint8},
    },
    "convolution_backward": {
        **REFUSED_SETTINGS,
        "grad_output too small": {"grad_output": (2, 3, 2, 5)},
        "grad_output too large": {"grad_output": (2, 3, 3, 6)},
        "grad_output of one cell": {"grad_output": (2, 3, 1, 1)},
        "grad_output of other channels": {"grad_output": (2, 2, 3, 5)},
        "grad_output without a batch axis": {"grad_output": (3, 3, 5)},
        "transposed, grad_output too small": {**TURNED, "grad_output": (2, 3, 7, 6)},
        "transposed, fewer samples in grad_output": {**TURNED, "grad_output": (1, 3, 7, 7)},
        "output_padding": {"output_padding": [1, 0], "stride": [2], "grad_output": (2, 3, 2, 3)},
        "two masks": {"output_mask": [True, True]},
        "four masks": {"output_mask": [True] * 4},
        "mask as text": {"output_mask": ["yes", "no", "no"]},
        "int64": {"dtype": np.int64},
        "grad_output of another dtype": {"dtypes": {"grad_output": np.float32}},
    },
    "convolution_double_backward": {
        **{name: row for name, row in REFUSED_SETTINGS.items() if name not in UNSEEN_TWICE},
        "output_padding": {"output_padding": [1, 0]},
        "ggI of other channels": {"ggI": (2, 3, 5, 6)},
        "ggI of fewer samples": {"ggI": (1, 2, 5, 6)},
        "ggW of other channels": {"ggW": (3, 1, 3, 2)},
        "ggb of another size": {"ggb": (2,)},
        "gO too small": {"gO": (2, 3, 2, 5)},
        "gO of other channels": {"gO": (2, 2, 3, 5)},
        "two masks": {"output_mask": [True, True]},
        "ggI of another dtype": {"dtypes": {"ggI": np.float32}},
    },
    "conv2d_input": {
        "padding by name": {"padding": "same"},
        "a size below 0": {"input_size": (-1, 2, 5, 6)},
        "another width": {"input_size": (2, 2, 5, 9)},
        "other channels": {"input_size": (2, 3, 5, 6)},
        "no batch axis": {"input_size": (2, 5, 6), "grad_output": (3, 3, 5)},
        "three strides": {"stride": (1, 1, 1)},
        "1-D operands": {
            "input_size": (2, 2, 5), "weight": (3, 2, 3), "grad_output": (2, 3, 3),
        },
        "int64": {"dtype": np.int64},
    },
    "conv2d_weight": {
        "another kernel": {"weight_size": (3, 2, 2, 2)},
        "other output channels": {"weight_size": (4, 2, 3, 2)},
        "other input channels": {"weight_size": (3, 1, 3, 2)},
        "a size below 0": {"weight_size": (3, -1, 3, 2)},
        "no batch axis": {"input": (2, 5, 6), "grad_output": (3, 3, 5)},
        "int64": {"dtype": np.int64},
    },
    "conv3d_input": {"2-D operands": {"input_size": (2, 2, 5, 6), "weight": W, "grad_output": Y}},
    "unfold": {
        "a line": {"input": (5, 6)},
        "a volume": {"input": (2, 3, 4, 5, 6)},
        "no channels": {"input": (2, 0, 5, 6)},
        "no rows": {"input": (2, 3, 0, 6), "padding": 2},
        "empty batch of no rows": {"input": (0, 3, 0, 6), "padding": 2},
        "kernel_size of one": {"kernel_size": (3,)},
        "kernel_size of three": {"kernel_size": (3, 3, 3)},
        "padding of one": {"padding": (1,)},
        "stride of one": {"stride": [1]},
        "dilation of one": {"dilation": (1,)},
        "kernel_size 0": {"kernel_size": 0},
        "stride 0": {"stride": 0},
        "dilation 0": {"dilation": (1, 0)},
        "padding below 0": {"padding": -1},
        "kernel larger than the image": {"kernel_size": 6},
        "the same, empty batch": {"kernel_size": 6, "input": (0, 3, 5, 6)},
        **{np.dtype(dtype).name: {"dtype": dtype} for dtype in INTEGERS},
    },
    "fold": {
        "four axes": {"input": (1, 2, 18, 15)},
        "one axis": {"input": (15,)},
        "no rows": {"input": (2, 0, 15)},
        "no columns": {"input": (2, 18, 0)},
        "rows that the kernel does not divide": {"input": (2, 17, 15)},
        "other columns": {"input": (2, 18, 14)},
        "output_size of one": {"output_size": (5,)},
        "output_size of three": {"output_size": (5, 6, 1)},
        "output_size 0": {
            "input": (2, 4, 6), "output_size": (0, 5), "kernel_size": 2, "padding": 1,
        },
        "output_size below 0": {"output_size": (-5, 6)},
        "kernel_size of one": {"kernel_size": (3,)},
        "stride 0": {"stride": 0},
        "padding below 0": {"padding": (0, -1)},
        "dilation 0": {"dilation": 0},
        "kernel larger than the image": {"output_size": (1, 1)},
        **{np.dtype(dtype).name: {"dtype": dtype} for dtype in INTEGERS},
    },
}  # fmt: skip

EMPTY = {"input": (0, 2, 5, 6), "grad_output": (0, 3, 3, 5)}
NO_CHANNELS = {"input": (2, 0, 5, 6), "weight": (3, 0, 3, 2)}
MEANINGLESS = {
    "convolution": {
        "bias of another dtype": {"dtypes": {"bias": np.float32}},
        "weight of another dtype, empty batch": {
            "input": (0, 2, 5, 6), "dtypes": {"weight": np.float32},
        },
        "empty batch of no rows": {"input": (0, 2, 0, 6), "padding": [2, 0]},
        "empty batch, transposed to nothing": {
            **TURNED, "input": (0, 2, 1, 1), "weight": (2, 3, 2, 2), "padding": [1, 0],
        },
        "empty batch, output_padding as large as the stride": {
            **TURNED, "input": (0, 2, 5, 6), "output_padding": [3, 0],
        },
        "empty batch of bool": {"input": (0, 2, 5, 6), "dtype": bool},
        "no channels, a kernel without taps": {"input": (2, 0, 5, 6), "weight": (3, 0, 0, 2)},
        "transposed as a number": {**TURNED, "transposed": 2},
    },
    "convolution_backward": {
        "more samples in grad_output": {"grad_output": (3, 3, 3, 5)},
        "grad_output of another size, grad_bias alone": {
            "grad_output": (2, 3, 2, 5), "output_mask": [False, False, True],
        },
        "grad_output of other channels, grad_bias alone": {
            "grad_output": (2, 2, 3, 5), "output_mask": [False, False, True],
        },
        "grad_output of another size, empty batch": {**EMPTY, "grad_output": (0, 3, 9, 9)},
        "grad_output with samples, empty batch": {**EMPTY, "grad_output": Y},
        "grad_output with channels where the input has none": NO_CHANNELS,
        "grad_output of another dtype, grad_bias alone": {
            "output_mask": [False, False, True], "dtypes": {"grad_output": np.float32},
        },
        "bias_sizes of another size": {"bias_sizes": [4]},
        "bias_sizes 0": {"bias_sizes": [0]},
        "bias_sizes as a column": {"bias_sizes": [3, 1]},
        "int64, grad_bias alone": {"dtype": np.int64, "output_mask": [False, False, True]},
        "int64, dilated": {
            "dtype": np.int64, "dilation": [2, 2], "grad_output": (2, 3, 1, 4),
        },
        "mask of any number": {"output_mask": [2, 0, 1]},
    },
    "convolution_double_backward": {
        **{name: REFUSED_SETTINGS[name] for name in UNSEEN_TWICE},
        "output_padding, which gives gI another size": {
            "output_padding": [1, 0], "stride": [2], "gO": (2, 3, 2, 3),
        },
        "ggI of another size": {"ggI": (2, 2, 6, 6), "ggW": None, "ggb": None},
        "ggW of another size": {"ggI": None, "ggW": (3, 2, 3, 1), "ggb": None},
        "ggb of one": {"ggb": (1,)},
        "ggb as a column": {"ggb": (3, 1)},
        "ggb of another dtype": {"dtypes": {"ggb": np.float32}},
        "int64": {"dtype": np.int64},
    },
    "conv1d_input": {
        "2-D operands": {"input_size": (2, 2, 5, 6), "weight": W, "grad_output": Y},
    },
    "conv1d_weight": {
        "2-D operands": {"input": (2, 2, 5, 6), "weight_size": W, "grad_output": Y},
    },
    "conv2d_input": {
        "fewer samples in input_size": {"input_size": (1, 2, 5, 6)},
        "grad_output with channels where the input has none": {
            "input_size": (2, 0, 5, 6), "weight": (3, 0, 3, 2),
        },
    },
    "conv2d_weight": {
        "more samples in grad_output": {"grad_output": (3, 3, 3, 5)},
        "grad_output with channels where the input has none": {
            "input": (2, 0, 5, 6), "weight_size": (3, 0, 3, 2),
        },
    },
}  # fmt: skip

# PyTorch reads memory that is not grad_output's, and may crash: a test cannot ask it.
UNSAFE = {
    "convolution_backward": {
        "fewer samples in grad_output": {"grad_output": (1, 3, 3, 5)},
        "no samples in grad_output": {"grad_output": (0, 3, 3, 5)},
    },
    "conv2d_weight": {"fewer samples in grad_output": {"grad_output": (1, 3, 3, 5)}},
}
