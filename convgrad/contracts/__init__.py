"""Calling conventions that people know, each kept to the digit on convgrad's maps.

    aten               PyTorch: convolution, its two backwards, torch.nn.grad, unfold and fold
    thnn               SpatialConvolutionMM of PyTorch 0.4: im2col, GEMM and col2im in sight
    numpy_cache        courses: DL-Demos, CS231n and deeplearning.ai, with their caches
    deeplearntoolbox   the MATLAB CNN: true convolution, rot180, (H, W, N) arrays
    scipy_signal       convolve, correlate, convolve2d, correlate2d, with gradients and axes

`help(convgrad.contracts.aten)` and its kin tell the details. TABLE has each convention as data.
"""

from convgrad.contracts import aten, deeplearntoolbox, numpy_cache, scipy_signal, thnn
from convgrad.contracts.signature import Contract

TABLE: dict[str, Contract] = {
    contract.name: contract
    for contract in (
        aten.CONTRACT,
        thnn.CONTRACT,
        numpy_cache.CONTRACT,
        deeplearntoolbox.CONTRACT,
        scipy_signal.CONTRACT,
    )
}

__all__ = ["TABLE", "aten", "deeplearntoolbox", "numpy_cache", "scipy_signal", "thnn"]
