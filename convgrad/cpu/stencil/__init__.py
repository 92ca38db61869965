"""Groups of few channels; algorithm.py says how."""
