"""The layers of the toolbox's nets that several test files use."""

INPUT = {"type": "i"}
CONV = {"type": "c", "outputmaps": 2, "kernelsize": 3}
POOL = {"type": "s", "scale": 2}
SMALL = [INPUT, CONV, POOL, {"type": "c", "outputmaps": 3, "kernelsize": 2}]
