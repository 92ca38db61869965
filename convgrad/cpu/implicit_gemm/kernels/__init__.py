"""Generators of the kernels: LLVM IR from the kernel language."""
