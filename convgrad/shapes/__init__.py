"""Convolution layers of real networks, as data that tests and benchmarks read."""

from convgrad.shapes.layer import CLASSES, Layer
from convgrad.shapes.networks import networks

__all__ = ["CLASSES", "Layer", "networks"]
