"""SpatialConvolutionMM as PyTorch 0.4 and 1.0 had it in THNN (CPU) and THCUNN (CUDA).

    update_output         output = weight · columns + bias ⊗ ones       columns = im2col(input)
    update_grad_input     grad_input = col2im(grad_columns)             = weightᵀ · grad_output
    acc_grad_parameters   grad_weight += scale · Σ_n grad_output · columnsᵀ
                          grad_bias += scale · Σ grad_output · ones

The original's argument order, without its `state`; the width comes first: kW, kH, dW, dH, padW,
padH are kernel, stride and padding. input (N, I, H, W) or (I, H, W), weight (O, I, kH, kW) or its
2-D view (O, I·kH·kW), bias (O) or None, columns (I·kH·kW, oH·oW) of a sample, row
(c·kH + u)·kW + v, column p·oW + q; also im2col and col2im (with dilation), and columns_shape.

Buffers that the original resizes (output, grad_input, columns, grad_columns, ones) are None, or
arrays of the right shape and dtype, which are written. All that is written must be contiguous,
writable, and apart in memory from what is read. Everything is checked before the first write.
dtypes: float16 (multiplied and summed in float32, rounded once), float32, float64; one for all.
Raises ShapeError, SettingError (kernel, stride, padding, scale), DTypeError, ArrayError.
"""

from convgrad.contracts.signature import Contract
from convgrad.contracts.thnn.columns import col2im, columns_shape, im2col
from convgrad.contracts.thnn.functions import (
    ParameterGradients,
    acc_grad_parameters,
    update_grad_input,
    update_output,
)
from convgrad.contracts.thnn.signatures import SIGNATURES

__all__ = [
    "CONTRACT",
    "ParameterGradients",
    "acc_grad_parameters",
    "col2im",
    "columns_shape",
    "im2col",
    "update_grad_input",
    "update_output",
]

CONTRACT = Contract(
    name="thnn",
    summary="PyTorch 0.4's SpatialConvolutionMM: im2col, GEMM and col2im, with its buffers",
    source="PyTorch 0.4 and 1.0, aten/src/THNN and aten/src/THCUNN, SpatialConvolutionMM",
    signatures=SIGNATURES,
)
