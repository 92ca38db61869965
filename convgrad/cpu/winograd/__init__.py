"""tiled_winograd, for kernels of 3×3; algorithm.py says how."""
