"""Small matrices of known numbers, applied to registers: two rows at points ±p share their work."""

from collections.abc import Sequence
from fractions import Fraction

from convgrad.cpu.jit.language import Kernel, Value
from convgrad.cpu.winograd.filtering import Matrix


def expand(k: Kernel, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """matrix · values; rows of points ±p share their even and their odd part."""
    rows, i, results = list(matrix), 0, []
    while i < len(rows):
        row = rows[i]
        even, odd = _parts(row)
        if i + 1 < len(rows) and any(odd) and _mirrored(row, rows[i + 1]):
            factor = next(c for c in odd if c and all(_is_dyadic(other / c) for other in odd))
            shared = linear(k, even, values)
            other = linear(k, [c / factor for c in odd], values)
            results += [k.fma(other, k.number(float(f)), shared) for f in (factor, -factor)]
            i += 2
        else:
            results.append(linear(k, row, values))
            i += 1
    return results


def contract(k: Kernel, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """matrixᵀ · values; points ±p are added and subtracted first."""
    coefficients, terms, i = [], [], 0
    while i < len(matrix):
        row = matrix[i]
        if i + 1 < len(matrix) and any(_parts(row)[1]) and _mirrored(row, matrix[i + 1]):
            even, odd = _parts(row)
            coefficients += [even, odd]
            terms += [values[i] + values[i + 1], values[i] - values[i + 1]]
            i += 2
        else:
            coefficients.append(row)
            terms.append(values[i])
            i += 1
    return [linear(k, column, terms) for column in zip(*coefficients, strict=True)]


def linear(k: Kernel, factors: Sequence[Fraction], values: Sequence[Value]) -> Value:
    """Σ factors · values, beginning with a factor of one where there is one."""
    pairs = [(f, v) for f, v in zip(factors, values, strict=True) if f]
    pairs.sort(key=lambda pair: pair[0] != 1)
    (first, total), *rest = pairs
    if first != 1:
        total = total * k.number(float(first))
    for factor, value in rest:
        total = total + value if factor == 1 else k.fma(value, k.number(float(factor)), total)
    return total


def _parts(row: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """The row's entries at even and at odd places, zero elsewhere."""
    even = [c if j % 2 == 0 else Fraction(0) for j, c in enumerate(row)]
    return even, [c if j % 2 else Fraction(0) for j, c in enumerate(row)]


def _is_dyadic(number: Fraction) -> bool:
    return number.denominator & (number.denominator - 1) == 0


def _mirrored(row: Sequence[Fraction], other: Sequence[Fraction]) -> bool:
    return all(c == (-d if j % 2 else d) for j, (c, d) in enumerate(zip(row, other, strict=True)))
