"""Minimal filtering F(m, r) on one axis: small matrices for tiles of m results and r taps.

    Σ_i (G w)_i · (Bᵀ x)_i · (A dy)_i / divisor        i = 0 … t−1,  t = m + r − 1

is the trilinear form of a tile: polynomials multiplied by way of their values at t − 1 points and
at infinity. Points come as pairs ±p, and 0 where t is even, so that two rows of a matrix share
their even and their odd part. All entries are dyadic: the odd parts of the denominators are
gathered in `divisor`.

Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, Fast Algorithms
for Convolutional Neural Networks; points other than 0, ±1, ±2: Barabasz, Anderson, Soodhalter &
Gregg 2020, Error Analysis and Improving the Accuracy of Winograd Convolution for DNNs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import lcm, prod

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True, eq=False)
class Filtering:
    """y = Aᵀ[(G w) ⊙ (Bᵀ x)] / divisor."""

    name: str
    a: Matrix = field(repr=False)  # (t, m)
    bt: Matrix = field(repr=False)  # (t, t)
    g: Matrix = field(repr=False)  # (t, r)
    divisor: int = field(repr=False)

    @property
    def tile(self) -> int:
        return len(self.bt)

    @property
    def step(self) -> int:
        return len(self.a[0])

    @property
    def taps(self) -> int:
        return len(self.g[0])

    def meets(self, taps: Sequence[int]) -> list[bool]:
        """For each point, whether a kernel that has these taps alone is met there."""
        return [any(row[j] for j in taps) for row in self.g]


@lru_cache(maxsize=32)
def growth(form: Filtering, contracted: str) -> float:
    """The largest Σ of |matrix entries| that one number of the result takes part in.

    contracted: "forward", where results are y, or "weight_grad", where they are dw.
    """
    a, x, w = ([sum(map(abs, row)) for row in matrix] for matrix in (form.a, form.bt, form.g))
    out, others = (form.a, (x, w)) if contracted == "forward" else (form.g, (x, a))
    sums = [
        sum(abs(out[i][j]) * others[0][i] * others[1][i] for i in range(form.tile))
        for j in range(len(out[0]))
    ]
    return float(max(sums) / form.divisor)


def filtering(step: int, taps: int, pairs: Sequence[Fraction], exact: bool = True) -> Filtering:
    """F(step, taps) at infinity, the points ±p for p in pairs, and 0 if that makes too few.

    exact: see the module; otherwise the divisor is 1, and entries of G are no dyadic numbers.
    """
    size = step + taps - 1
    points = [Fraction(0)] * (size % 2 == 0) + [s * p for p in pairs for s in (1, -1)]
    if len(points) != size - 1:
        raise ValueError(f"F({step}, {taps}) has {size - 1} points beside infinity")
    others = [[q for q in points if q != p] for p in points]
    # With a sign, the rows of ±p are one another's mirror image.
    signs = [-1 if p < 0 and size % 2 else 1 for p in points]
    scales = [
        sign / prod([p - q for q in rest], start=Fraction(1))
        for p, rest, sign in zip(points, others, signs, strict=True)
    ]
    divisor = lcm(*(_odd(scale.denominator) for scale in scales)) if exact else 1
    a = [[p**j for j in range(step)] for p in points] + [
        [Fraction(j == step - 1) for j in range(step)]
    ]
    g = [
        [p**j * scale * divisor for j in range(taps)]
        for p, scale in zip(points, scales, strict=True)
    ]
    g.append([Fraction(divisor * (j == taps - 1)) for j in range(taps)])
    bt = [
        [sign * c for c in _polynomial(rest, size)]
        for rest, sign in zip((*others, points), (*signs, 1), strict=True)
    ]
    return Filtering(f"F({step}, {taps})", _frozen(a), _frozen(bt), _frozen(g), divisor)


def _polynomial(roots: Sequence[Fraction], size: int) -> list[Fraction]:
    """The coefficients of Π (z − root), lowest first."""
    c = [Fraction(1)]
    for root in roots:
        c = [
            low - root * high
            for low, high in zip([Fraction(0), *c], [*c, Fraction(0)], strict=True)
        ]
    return c + [Fraction(0)] * (size - len(c))


def _odd(number: int) -> int:
    return number // (number & -number)


def _frozen(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


F11 = filtering(1, 1, ())  # the identity
F23 = filtering(2, 3, (Fraction(1),))
F43 = filtering(4, 3, (Fraction(3, 4), Fraction(3, 2)))
F33 = filtering(3, 3, (Fraction(1, 2), Fraction(3, 2)))
F42 = filtering(4, 2, (Fraction(1, 2), Fraction(3, 2)))
F52 = filtering(5, 2, (Fraction(3, 4), Fraction(3, 2)))
# For precision="fast": of all multiples of 1/8 these points err least, twice as much as F(4, 3).
F53 = filtering(5, 3, (Fraction(1, 4), Fraction(7, 8), Fraction(7, 4)), exact=False)
