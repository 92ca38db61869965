"""Products of spectra, tile by tile, for large kernels; algorithm.py says how."""
