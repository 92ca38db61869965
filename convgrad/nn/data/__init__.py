"""Image data sets: digits that ship with the package, and readers of original files."""

from convgrad.nn.data.dataset import Dataset
from convgrad.nn.data.source import load

__all__ = ["Dataset", "load"]
