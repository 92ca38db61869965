"""Networks whose every gradient is computed by convgrad: layers, losses, optimizers, models.

from convgrad import nn

model = nn.model_from_spec(nn.models.named("lenet", (1, 8, 8), 10), seed=0)
loss, opt = nn.losses.named(model.loss), nn.Adam()
value, dy = loss.value_and_grad(model.forward(x, training=True), labels)
model.backward(dy, need_input=False)
opt.step(model.parameters(), model.gradients())
"""

from convgrad.nn import description, initializers, losses, models, optimizers, schedules
from convgrad.nn.description import model_from_spec, read_model, read_spec, to_toml
from convgrad.nn.gradient_check import GradientReport, check_gradients
from convgrad.nn.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    ReLU,
    Residual,
    Sigmoid,
    Sum,
    Tanh,
)
from convgrad.nn.losses import (
    MSE,
    BinaryCrossEntropy,
    Loss,
    MeanLoss,
    SoftmaxCrossEntropy,
    SumLoss,
    one_hot,
)
from convgrad.nn.network import Model
from convgrad.nn.optimizers import SGD, Adam, AdamW, Optimizer, RMSProp
from convgrad.nn.schedules import Constant, Cosine, Exponential, OneCycle, Schedule, Step

__all__ = [
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Cosine",
    "Dropout",
    "Exponential",
    "Flatten",
    "GradientReport",
    "Layer",
    "Linear",
    "Loss",
    "MaxPool",
    "MeanLoss",
    "Model",
    "OneCycle",
    "Optimizer",
    "RMSProp",
    "ReLU",
    "Residual",
    "Schedule",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Step",
    "Sum",
    "SumLoss",
    "Tanh",
    "check_gradients",
    "description",
    "initializers",
    "losses",
    "model_from_spec",
    "models",
    "one_hot",
    "optimizers",
    "read_model",
    "read_spec",
    "schedules",
    "to_toml",
]
