"""The discrete Fourier transform of a panel: as many sequences as a register has lanes, at once.

A panel is [t][re | im][lane]. A pass of radix r turns each run of m numbers into r runs of m/r:

    X[p·m/r + j] = ω(m)^(j·p) · Σ_q ω(r)^(p·q) · x[q·m/r + j]        ω(m) = exp(−2πi/m)

in place, so that after the last pass the frequencies stand in the order of reversed digits. The
inverse undoes the passes, the last one first, with conjugate factors. Products of spectra need no
other order, so nothing is ever put into one. The inverse is not divided by the length.

A table of passes (see `overlap_save.tables.passes`) is: how many there are; radix, m, and the
place of the factors, for each; the factors, [j][p−1][re, im].
Source: Van Loan 1992, Computational Frameworks for the FFT, sections 1.9 (Gentleman–Sande) and 2.
"""

from collections.abc import Callable
from functools import partial
from math import cos, pi, sin

from convgrad.cpu.jit.language import Kernel, Lanes, Value

Complex = tuple[Value, Value]
RADICES = (2, 3, 4, 5)


def add(a: Complex, b: Complex) -> Complex:
    return a[0] + b[0], a[1] + b[1]


def subtract(a: Complex, b: Complex) -> Complex:
    return a[0] - b[0], a[1] - b[1]


def multiply(a: Complex, b: Complex) -> Complex:
    """a·b"""
    k = a[0].kernel
    return k.fma(a[0], b[0], -(a[1] * b[1])), k.fma(a[0], b[1], a[1] * b[0])


def multiply_conjugate(a: Complex, b: Complex) -> Complex:
    """a·b*"""
    k = a[0].kernel
    return k.fma(a[0], b[0], a[1] * b[1]), k.fma(a[1], b[0], -(a[0] * b[1]))


def scaled(a: Complex, factor: float, to: Complex) -> Complex:
    """to + factor·a"""
    k = a[0].kernel
    c = k.number(factor)
    return k.fma(c, a[0], to[0]), k.fma(c, a[1], to[1])


def read(panel: Value, t: Value | int) -> Complex:
    """Number t of each of the panel's sequences."""
    lanes = panel.kernel.lanes.count
    return panel.vector(t * (2 * lanes)), panel.vector(t * (2 * lanes) + lanes)


def write(panel: Value, t: Value | int, number: Complex) -> None:
    lanes = panel.kernel.lanes.count
    panel.store(number[0], t * (2 * lanes))
    panel.store(number[1], t * (2 * lanes) + lanes)


def butterfly(x: list[Complex], sign: int) -> list[Complex]:
    """y[p] = Σ_q exp(sign·2πi·p·q/r)·x[q], for r numbers."""
    if len(x) == 2:
        return [add(*x), subtract(*x)]
    if len(x) == 4:
        even, odd = (add(x[0], x[2]), subtract(x[0], x[2])), (add(x[1], x[3]), subtract(x[1], x[3]))
        forth, back = _turned(even[1], odd[1], sign)
        return [add(even[0], odd[0]), forth, subtract(even[0], odd[0]), back]
    return _odd_butterfly(x, sign)


def _odd_butterfly(x: list[Complex], sign: int) -> list[Complex]:
    """By pairs: Σ_q = x[0] + Σ_{q ≤ r/2} cos·(x[q] + x[r−q]) ± i·sin·(x[q] − x[r−q])."""
    r, k = len(x), x[0][0].kernel
    half = range(1, (r + 1) // 2)
    sums = {q: add(x[q], x[r - q]) for q in half}
    differences = {q: subtract(x[q], x[r - q]) for q in half}
    first = x[0]
    for q in half:
        first = add(first, sums[q])
    y = [first] * r
    for p in half:
        even, odd = x[0], (k.zero(), k.zero())
        for q in half:
            angle = 2 * pi * p * q / r
            even, odd = scaled(sums[q], cos(angle), even), scaled(differences[q], sin(angle), odd)
        y[p], y[r - p] = _turned(even, odd, sign)
    return y


def _turned(a: Complex, b: Complex, sign: int) -> tuple[Complex, Complex]:
    """a + sign·i·b and a − sign·i·b."""
    up, down = (a[0] - b[1], a[1] + b[0]), (a[0] + b[1], a[1] - b[0])
    return (up, down) if sign > 0 else (down, up)


def forward_step(x: list[Complex], factors: list[Complex]) -> list[Complex]:
    first, *others = butterfly(x, -1)
    return [first, *map(multiply, others, factors)] if factors else [first, *others]


def inverse_step(x: list[Complex], factors: list[Complex]) -> list[Complex]:
    first, *others = x
    return butterfly([first, *map(multiply_conjugate, others, factors)] if factors else x, 1)


Step = Callable[[list[Complex], list[Complex]], list[Complex]]


def one_pass(lanes: Lanes, step: Step, radix: int) -> Kernel:
    """A pass over all runs of m numbers of a panel of n; the first of each has no factors."""
    name = f"{step.__name__}{radix}"
    k = Kernel(name, ["panel: ptr", "n: i64", "m: i64", "factors: ptr"], lanes)
    panel, n, m, factors = k.parameters
    part = m // radix
    places = [part * q for q in range(radix)]

    def run(j: Value | int, powers: list[Complex]) -> None:
        with k.loop(n, step=m) as (start, _):
            at = panel.at((start + j) * (2 * lanes.count))
            for place, y in zip(places, step([read(at, p) for p in places], powers), strict=True):
                write(at, place, y)

    run(0, [])
    with k.loop(part, start=1) as (j, _):
        at = factors.at(j * (2 * (radix - 1)))
        run(j, [(k.splat(at.load(2 * p)), k.splat(at.load(2 * p + 1))) for p in range(radix - 1)])
    return k


def transform(lanes: Lanes, inverse: bool) -> Kernel:
    """All passes over a panel, in their order or, for the inverse, in the opposite one."""
    k = Kernel("inverse" if inverse else "forward", ["panel: ptr", "n: i64", "table: ptr"], lanes)
    panel, n, table = k.parameters
    count = table.load(0, "i64")
    steps = {r: one_pass(lanes, inverse_step if inverse else forward_step, r) for r in RADICES}
    with k.loop(count) as (i, _):
        entry = table.at((count - 1 - i if inverse else i) * 3 + 1, "i64")
        radix, m, place = (entry.load(word, "i64") for word in range(3))
        for r, step in steps.items():
            with k.when(radix.equals(r)):
                k.do(step, panel, n, m, table.at(place))
    return k


forward = partial(transform, inverse=False)
inverse = partial(transform, inverse=True)
