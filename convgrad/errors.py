"""Every error that convgrad raises on purpose.

A message says the value that came, what was needed, and what to do next.
All of them are `ConvError`, which is a `ValueError`.
"""


class ConvError(ValueError):
    """Something convgrad was given cannot be used; the base of every convgrad error."""


class ShapeError(ConvError):
    """Ranks, sizes, channels or groups that do not fit together."""


class DTypeError(ConvError):
    """A dtype that is not supported, or two dtypes that differ."""


class ArrayError(ConvError):
    """An array that cannot be used as it is: wrong kind, read-only, overlapping, on a device."""


class SettingError(ConvError):
    """A setting (stride, padding, layout, precision, needs …) with a value it cannot have."""


class AlgorithmError(ConvError):
    """An algorithm that does not exist or declines what it was asked for."""


class GradientError(ConvError):
    """A gradient that differs from central differences of its loss."""


class DataError(ConvError):
    """A data file that is missing, cut short, or of the wrong kind."""


class TrainingError(ConvError):
    """A training run that cannot start, go on or be resumed."""


class MissingExtraError(ConvError, ImportError):
    """A feature needs packages that are not installed; the message has the command."""
