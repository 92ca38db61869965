"""The kernel language: every statement compiled, run, and compared with Python's own."""

import ctypes

import numpy as np
import pytest

from convgrad.cpu.jit import compiler
from convgrad.cpu.jit.compiler import load_all
from convgrad.cpu.jit.language import BYTES, Kernel, Lanes

ELEMENTS = {"float": np.float32, "double": np.float64}
LANES = [
    Lanes(element, bits // 8 // BYTES[element]) for element in ELEMENTS for bits in (128, 256, 512)
]
lanes_of_each = pytest.mark.parametrize("lanes", LANES, ids=lambda lanes: lanes.mangled)


def compiled(kernel, *kinds):
    """The kernel as a Python function; arrays are passed by address."""
    code = compiler.compile_text(kernel.text(), compiler.target())
    function = ctypes.CFUNCTYPE(None, *kinds)(load_all([code], (kernel.name,))[0])
    return lambda *args: function(
        *(a.ctypes.data if isinstance(a, np.ndarray) else a for a in args)
    )


def run(signature, lanes, write, *args):
    """write(kernel, *parameters) writes the body; then it is run on the arguments."""
    kernel = Kernel("body", signature, lanes)
    write(kernel, *kernel.parameters)
    kinds = {"ptr": ctypes.c_void_p, "i64": ctypes.c_int64, "double": ctypes.c_double}
    compiled(kernel, *(kinds[part.split(": ")[1]] for part in signature))(*args)


def numbers(lanes, count=1):
    return np.arange(1, lanes.count * count + 1, dtype=ELEMENTS[lanes.element])


I64 = Lanes("double", 4)
WHOLE = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "radd": (lambda a, b: 7 + a, lambda a, b: 7 + a),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "rmultiply": (lambda a, b: 3 * a, lambda a, b: 3 * a),
    "minimum": (lambda a, b: a.minimum(b), min),
    "maximum": (lambda a, b: a.maximum(b), max),
    "minimum of a number": (lambda a, b: a.minimum(2), lambda a, b: min(a, 2)),
    "nested": (lambda a, b: (a.maximum(0) + 5).minimum(b), lambda a, b: min(max(a, 0) + 5, b)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name):
    ours, pythons = WHOLE[name]
    for a, b in [(9, 4), (4, 9), (-7, 3), (5, -2), (-3, -8), (6, 6), (0, 0), (2**40, 3)]:
        to = np.zeros(1, np.int64)
        run(["to: ptr", "a: i64", "b: i64"], I64, lambda k, t, x, y: t.store(ours(x, y)), to, a, b)
        assert to[0] == pythons(a, b), (a, b)


@pytest.mark.parametrize(("a", "b"), [(9, 4), (4, 9), (0, 3), (12, 4), (2**40 + 5, 2**20)])
def test_quotient_and_remainder_of_numbers_that_are_not_negative(a, b):
    def write(k, to, x, y):
        to.store(x // y, 0)
        to.store(x % y, 1)

    to = np.zeros(2, np.int64)
    run(["to: ptr", "a: i64", "b: i64"], I64, write, to, a, b)
    assert tuple(to) == divmod(a, b)


@pytest.mark.parametrize(("a", "b"), [(2, 5), (5, 2), (3, 3), (-1, 1), (1, -1)])
def test_comparisons_with_and_and_or(a, b):
    def write(k, to, x, y):
        one, none = k.constant("i64", 1), k.constant("i64", 0)
        conditions = [
            x < y, x <= y, x > y, x >= y, x.equals(y), (x < y) & (x > 0), (x < y) | (x > 0),
            (x < y).equals(0),
        ]  # fmt: skip
        for place, condition in enumerate(conditions):
            to.store(k.select(condition, one, none), place)

    to = np.zeros(8, np.int64)
    run(["to: ptr", "a: i64", "b: i64"], I64, write, to, a, b)
    want = [a < b, a <= b, a > b, a >= b, a == b, a < b and a > 0, a < b or a > 0, not a < b]
    assert to.astype(bool).tolist() == want


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, 5, 1), (2, 11, 3), (2, 12, 3), (4, 4, 1), (5, 2, 1), (-3, 3, 2)]
)
def test_a_loop_carries_values_from_turn_to_turn(start, stop, step):
    def write(k, to, a, b, c):
        zero, one = k.constant("i64", 0), k.constant("i64", 1)
        with k.loop(b, start=a, step=c, carry=[zero, one]) as (i, carried):
            total, swapped = carried.values
            carried.values = [total + i * swapped, k.constant("i64", 3) - swapped]
        for place, value in enumerate(carried.values):
            to.store(value, place)

    to = np.full(2, -99, np.int64)
    run(["to: ptr", "a: i64", "b: i64", "c: i64"], I64, write, to, start, stop, step)
    total, swapped = 0, 1
    for i in range(start, stop, step):
        total, swapped = total + i * swapped, 3 - swapped
    assert to.tolist() == [total, swapped]


def test_loops_in_loops_and_when():
    def write(k, to, n):
        with k.loop(n, carry=[k.constant("i64", 0)]) as (i, outer):
            with k.loop(i + 1, start=1, carry=outer.values) as (j, inner):
                with k.when((j % 2).equals(1)):
                    to.store(j, i * n + j)
                inner.values = [inner.values[0] + i * j]
            outer.values = inner.values
        to.store(outer.values[0], 0)

    n = 6
    to, want = np.zeros(n * n, np.int64), np.zeros(n * n, np.int64)
    run(["to: ptr", "n: i64"], I64, write, to, n)
    for i in range(n):
        for j in range(1, i + 1):
            want[0] += i * j
            if j % 2:
                want[i * n + j] = j
    assert to.tolist() == want.tolist()


@lanes_of_each
def test_vectors_are_read_and_written_at_an_offset(lanes):
    def write(k, to, x, a):
        v = x.at(1).vector(2)
        to.store(k.fma(v, k.splat(a.to_element()), v - k.splat(x.load(3))), 1)
        to.store(x.load(0) + x.load(1), 0)

    x = numbers(lanes, 3)
    to = np.zeros(lanes.count + 2, x.dtype)
    run(["to: ptr", "x: ptr", "a: double"], lanes, write, to, x, 2.5)
    v = x[3 : 3 + lanes.count]
    assert to.tolist() == [x[0] + x[1], *(v * x.dtype.type(2.5) + v - x[3]), 0]


@lanes_of_each
def test_a_fused_product_is_rounded_once_where_the_machine_can(lanes):
    x = np.full(lanes.count, 1 + 2.0 ** (-12 if lanes.element == "float" else -27), np.float64)
    x = x.astype(ELEMENTS[lanes.element])
    to = np.zeros_like(x)

    def write(k, t, a):
        v = a.vector()
        t.store(k.fma(v, v, k.zero() - k.splat(k.constant(lanes.element, 1.0))))

    run(["to: ptr", "x: ptr"], lanes, write, to, x)
    tiny = x[0] - 1
    once, twice = 2 * tiny + tiny * tiny, x[0] * x[0] - 1
    assert once != twice
    assert set(to.tolist()) <= {float(once), float(twice)}


@lanes_of_each
def test_masks_touch_only_their_lanes(lanes):
    def write(k, to, x, n, m):
        below, within = k.lanes_below(n), k.lanes_within(n, m)
        to.store(x.vector(0, below), 0)
        to.store(x.vector(), lanes.count, below)
        to.store(x.vector(0, within), 2 * lanes.count)
        to.store(x.vector(0, k.mask_where(n > 2, below)), 3 * lanes.count)

    x, lane, none = numbers(lanes), np.arange(lanes.count), ELEMENTS[lanes.element](-1)
    for n, m in [(-3, 1), (0, 0), (1, lanes.count), (2, 3), (3, 99), (99, 99), (3, 1)]:
        to = np.full((4, lanes.count), none)
        run(["to: ptr", "x: ptr", "n: i64", "m: i64"], lanes, write, to, x, n, m)
        np.testing.assert_array_equal(to[0], np.where(lane < n, x, 0))
        np.testing.assert_array_equal(to[1], np.where(lane < n, x, none))
        np.testing.assert_array_equal(to[2], np.where((n <= lane) & (lane < m), x, 0))
        np.testing.assert_array_equal(to[3], np.where((lane < n) & (n > 2), x, 0))


@lanes_of_each
def test_a_shuffle_picks_from_two_registers(lanes):
    picks = [(3 * i + 1) % (2 * lanes.count) for i in range(lanes.count)]

    def write(k, to, x):
        to.store(k.shuffle(x.vector(), x.vector(lanes.count), picks))

    x, to = numbers(lanes, 2), np.zeros(lanes.count, ELEMENTS[lanes.element])
    run(["to: ptr", "x: ptr"], lanes, write, to, x)
    np.testing.assert_array_equal(to, x[picks])


@lanes_of_each
def test_transpose_and_sums_of_registers(lanes):
    count = lanes.count

    def write(k, to, x):
        rows = [x.vector(i * count) for i in range(count)]
        for i, column in enumerate(k.transpose(rows)):
            to.store(column, i * count)
        to.store(k.sums(rows), count * count)
        to.store(k.sums(rows[: count // 2]), count * (count + 1))

    x = numbers(lanes, count).reshape(count, count)
    to = np.zeros((count + 2, count), x.dtype)
    run(["to: ptr", "x: ptr"], lanes, write, to, x)
    np.testing.assert_array_equal(to[:count], x.T)
    np.testing.assert_array_equal(to[count], x.sum(1))
    np.testing.assert_array_equal(
        to[count + 1], np.where(np.arange(count) < count // 2, x.sum(1), 0)
    )


def test_narrow_keeps_the_low_half():
    to = np.full(2, -1, np.int32)
    run(["to: ptr", "a: i64"], I64, lambda k, t, a: t.store(a.narrow()), to, 2**32 + 77)
    assert to.tolist() == [77, -1]


def test_a_number_becomes_an_element():
    for lanes in LANES:
        to = np.zeros(1, ELEMENTS[lanes.element])
        run(["to: ptr", "a: double"], lanes, lambda k, t, a: t.store(a.to_element()), to, 0.1)
        assert to[0] == to.dtype.type(0.1)


@lanes_of_each
def test_a_kernel_may_call_another(lanes):
    def double(name, times):
        part = Kernel(name, ["at: ptr", "n: i64"], lanes)
        at, n = part.parameters
        with part.loop(n, step=lanes.count) as (i, _):
            mask, factor = part.lanes_below(n - i), part.splat(part.constant(lanes.element, times))
            at.store(part.fma(at.vector(i, mask), factor, part.zero()), i, mask)
        return part

    twice, thrice = double("twice", 2.0), double("thrice", 3.0)

    def write(k, x, n):
        k.do(twice, x, n)
        k.do(thrice, x.at(1), n - 2)
        k.do(twice, x, n)

    x = numbers(lanes, 3)
    want = x * 4
    want[1 : len(x) - 2] *= 3
    run(["x: ptr", "n: i64"], lanes, write, x, len(x) - 1)
    want[-1] = len(x)
    np.testing.assert_array_equal(x, want)
