"""PyTorch's convolution kernels: aten::convolution and its gradients, torch.nn.grad, (un)fold.

    convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    convolution_backward(grad_output, input, weight, bias_sizes, …, output_mask)
    convolution_double_backward(ggI, ggW, ggb, gO, weight, input, …, output_mask)
    conv1d_input, conv2d_input, conv3d_input(input_size, weight, grad_output, …)
    conv1d_weight, conv2d_weight, conv3d_weight(input, weight_size, grad_output, …)
    unfold(input, kernel_size, …), fold(input, output_size, kernel_size, …)

input (N, C, *in), weight (O, C/G, *kernel), bias (O), grad_output (N, O, *out), over 1 to 3 spatial
axes; with transposed=True weight is (C, O/G, *kernel). NumPy arrays in, NumPy arrays out; CPU
tensors give tensors. What PyTorch 2.13 refuses is refused with a ConvError; where it accepts what
has no meaning, or answers by chance, this is refused too: docs/contracts/aten.md has the list.
"""

from convgrad.contracts.aten.folding import fold, unfold
from convgrad.contracts.aten.kernels import (
    convolution,
    convolution_backward,
    convolution_double_backward,
)
from convgrad.contracts.aten.signatures import CONTRACT
from convgrad.contracts.aten.torch_grad import (
    conv1d_input,
    conv1d_weight,
    conv2d_input,
    conv2d_weight,
    conv3d_input,
    conv3d_weight,
)

__all__ = [
    "CONTRACT", "conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input",
    "conv3d_weight", "convolution", "convolution_backward", "convolution_double_backward", "fold",
    "unfold",
]  # fmt: skip
