"""Check, then time: convgrad beside its peers, layer by layer, and beside the machine's limits.

    case.py         Case: one map of one layer in one dtype, and its operands
    suites.py       which cases: layers of networks, and images with large kernels
    definition.py   the reference: float64 sums that share no code with what is timed
    peers/          what is timed beside convgrad: PyTorch, JAX, SciPy
    timing.py       turns, in bursts; the median of the pairs and its interval
    limits.py       what the machine can do: multiply-adds and copies in a second
    measuring.py    one case: check, time, check again
    results.py      the record of a run, as JSON
    report.py       a record as text;  markdown.py as tables;  picture.py as a heat map

Nothing here prints; `cli/bench.py` does.
"""
