"""The layers, and the names by which a description calls them."""

from convgrad.nn.layers.activations import ReLU, Sigmoid, Tanh
from convgrad.nn.layers.base import Compute, Layer
from convgrad.nn.layers.chain import Chain
from convgrad.nn.layers.conv import Conv, ConvTranspose
from convgrad.nn.layers.dense import Flatten, Linear, Sum
from convgrad.nn.layers.dropout import Dropout
from convgrad.nn.layers.norm import BatchNorm
from convgrad.nn.layers.pool import AvgPool, MaxPool
from convgrad.nn.layers.residual import Residual

LAYERS: dict[str, type[Layer]] = {
    "conv": Conv,
    "conv_transpose": ConvTranspose,
    "avgpool": AvgPool,
    "maxpool": MaxPool,
    "linear": Linear,
    "flatten": Flatten,
    "sum": Sum,
    "sigmoid": Sigmoid,
    "relu": ReLU,
    "tanh": Tanh,
    "batchnorm": BatchNorm,
    "dropout": Dropout,
    "residual": Residual,
}

__all__ = [
    "LAYERS",
    "AvgPool",
    "BatchNorm",
    "Chain",
    "Compute",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Sum",
    "Tanh",
]
