"""The kernels of implicit GEMM: each is a function that writes the IR of one."""
