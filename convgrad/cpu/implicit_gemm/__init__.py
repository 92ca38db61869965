"""Products of panels, for many channels; algorithm.py says how."""
