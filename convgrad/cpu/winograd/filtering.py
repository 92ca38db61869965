"""Minimal filtering F(m, r) on one axis: small matrices for tiles of m results and r taps.

    Σ_i (G w)_i · (Bᵀ x)_i · (A dy)_i / divisor        i = 0 … t−1,  t = m + r − 1

is the trilinear form of a tile: polynomials multiplied by way of their values at t − 1 points and
at infinity. Points come as 0 and pairs ±p, so that two rows of a matrix share their even and their
odd part. All entries are dyadic: the odd parts of the denominators are gathered in `divisor`.

Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, Fast Algorithms
for Convolutional Neural Networks; points other than 0, ±1, ±2: Barabasz, Anderson, Soodhalter &
Gregg 2020, Error Analysis and Improving the Accuracy of Winograd Convolution for DNNs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm, prod

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True, eq=False)
class Filtering:
    """y = Aᵀ[(G w) ⊙ (Bᵀ x)] / divisor."""

    a: Matrix  # (t, m)
    bt: Matrix  # (t, t)
    g: Matrix  # (t, r)
    divisor: int

    @property
    def tile(self) -> int:
        return len(self.bt)

    @property
    def step(self) -> int:
        return len(self.a[0])

    def growth(self, contracted: str) -> float:
        """The largest Σ of |matrix entries| that one number of the result takes part in.

        contracted: "forward", where results are y, or "weight_grad", where they are dw.
        """
        a, x, w = ([sum(map(abs, row)) for row in matrix] for matrix in (self.a, self.bt, self.g))
        out, others = (self.a, (x, w)) if contracted == "forward" else (self.g, (x, a))
        size = len(out[0])
        sums = [
            sum(abs(out[i][j]) * others[0][i] * others[1][i] for i in range(self.tile))
            for j in range(size)
        ]
        return float(max(sums) / self.divisor)


def filtering(step: int, taps: int, pairs: Sequence[Fraction]) -> Filtering:
    """F(step, taps) at the points 0, ±p for p in pairs, and infinity."""
    points = [Fraction(0), *(s * p for p in pairs for s in (1, -1))]
    others = [[q for q in points if q != p] for p in points]
    scales = [
        1 / prod([p - q for q in rest], start=Fraction(1))
        for p, rest in zip(points, others, strict=True)
    ]
    divisor = lcm(*(_odd(scale.denominator) for scale in scales))
    size = len(points) + 1
    a = [[p**j for j in range(step)] for p in points] + [
        [Fraction(j == step - 1) for j in range(step)]
    ]
    g = [
        [p**j * scale * divisor for j in range(taps)]
        for p, scale in zip(points, scales, strict=True)
    ]
    g.append([Fraction(divisor * (j == taps - 1)) for j in range(taps)])
    bt = [_polynomial(roots, size) for roots in (*others, points)]
    return Filtering(_frozen(a), _frozen(bt), _frozen(g), divisor)


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


F43 = filtering(4, 3, (Fraction(3, 4), Fraction(3, 2)))
