"""Kernels generated for this machine's processor."""
