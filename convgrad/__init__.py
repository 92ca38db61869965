"""convgrad: every gradient of a convolution, on NumPy arrays. Start in `convgrad.api`."""

from convgrad.api import (
    Gradients,
    SecondGradients,
    backward,
    bias_grad,
    conv,
    conv_transpose,
    conv_transpose_backward,
    conv_transpose_double_backward,
    double_backward,
    input_grad,
    jvp,
    plan,
    weight_grad,
)
from convgrad.cpu.jit.threads import get_num_threads, set_num_threads
from convgrad.errors import (
    AlgorithmError,
    ArrayError,
    ConvError,
    DataError,
    DTypeError,
    GradientError,
    MissingExtraError,
    SettingError,
    ShapeError,
    TrainingError,
)
from convgrad.plans import Plan, PlanWithWeights
from convgrad.unfolding import col2im, im2col

__version__ = "0.1.0"

__all__ = [
    "AlgorithmError",
    "ArrayError",
    "ConvError",
    "DTypeError",
    "DataError",
    "GradientError",
    "Gradients",
    "MissingExtraError",
    "Plan",
    "PlanWithWeights",
    "SecondGradients",
    "SettingError",
    "ShapeError",
    "TrainingError",
    "__version__",
    "backward",
    "bias_grad",
    "col2im",
    "conv",
    "conv_transpose",
    "conv_transpose_backward",
    "conv_transpose_double_backward",
    "double_backward",
    "get_num_threads",
    "im2col",
    "input_grad",
    "jvp",
    "plan",
    "set_num_threads",
    "weight_grad",
]
