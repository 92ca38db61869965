"""The kernels, each a function that writes the IR of one."""
