"""The CNN of the MATLAB toolbox DeepLearnToolbox: its functions, its structure, its digits.

    from convgrad.contracts.deeplearntoolbox import cnnsetup, cnntrain, cnntest

    net = cnnsetup([{"type": "i"}, {"type": "c", "outputmaps": 6, "kernelsize": 5},
                    {"type": "s", "scale": 2}], x, y)
    net = cnntrain(net, x, y, {"alpha": 1, "batchsize": 10, "numepochs": 1})
    er, bad = cnntest(net, x, y)

x (H, W, N), y (onum, N). A layer's convolution is the true one, its kernel turned by 180°:
a_j = σ(Σ_i convn(a_i, k_ij, "valid") + b_j). Everything is computed in float64; other real
numbers are converted.

`net` has the toolbox's fields, with indices from 0. The calls change the net they are given and
return it, so `net = cnnff(net, x)` reads as in MATLAB; `copy.deepcopy(net)` keeps an old one.
Arrays that were read from a net are not changed by later calls, which put new ones in.
"""

from convgrad.contracts.deeplearntoolbox.arrays import convn, expand, flipall, rot180, sigm
from convgrad.contracts.deeplearntoolbox.gradient_check import cnnnumgradcheck
from convgrad.contracts.deeplearntoolbox.network import Layer, Net, cnnsetup
from convgrad.contracts.deeplearntoolbox.passes import cnnapplygrads, cnnbp, cnnff
from convgrad.contracts.deeplearntoolbox.signatures import CONTRACT
from convgrad.contracts.deeplearntoolbox.training import cnntest, cnntrain

__all__ = [
    "CONTRACT",
    "Layer",
    "Net",
    "cnnapplygrads",
    "cnnbp",
    "cnnff",
    "cnnnumgradcheck",
    "cnnsetup",
    "cnntest",
    "cnntrain",
    "convn",
    "expand",
    "flipall",
    "rot180",
    "sigm",
]
