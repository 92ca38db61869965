"""Readable NumPy algorithms for any rank and any geometry: the definitions."""
