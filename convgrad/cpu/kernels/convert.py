"""Half types to float32 and back, by integer arithmetic, so that no processor needs to know them.

float16: the exponent is moved by a product with 2¹¹², which makes subnormal numbers normal; back,
adding a number of the result's magnitude rounds the bits that are too many (to nearest, ties to
even). bfloat16 is the upper half of a float32.
"""

from convgrad.cpu.jit.language import Kernel, Lanes, Value
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import start

FIELDS = ("x", "to", "count", "chunk")


def widen(lanes: Lanes, half: str) -> str:
    """to[i] = x[i] as float32; a part is a chunk."""
    k, a = start("widen", lanes, FIELDS)
    first, count = _chunk(k, a)
    source, to = a["x"].at(first, "i16"), a["to"].at(first)
    whole = count // lanes.count * lanes.count
    with k.loop(whole, step=lanes.count) as (i, _):
        to.store(_wide(k, half, source.at(i, "i16").words()), i)
    with k.loop(count, start=whole) as (i, _):
        to.store(k.lane(_wide(k, half, k.words_of(source.load(i, "i16"))), 0), i)
    return k.text()


def narrow(lanes: Lanes, half: str) -> str:
    """to[i] = x[i], rounded to the half type; a part is a chunk."""
    k, a = start("narrow", lanes, FIELDS)
    first, count = _chunk(k, a)
    source, to = a["x"].at(first), a["to"].at(first, "i16")
    whole = count // lanes.count * lanes.count
    with k.loop(whole, step=lanes.count) as (i, _):
        to.at(i, "i16").store(k.emit(
            f"<{lanes.count} x i16>", _trunc(k, _short(k, half, source.vector(i)))
        ))  # fmt: skip
    with k.loop(count, start=whole) as (i, _):
        word = k.lane(_short(k, half, k.splat(source.load(i))), 0)
        to.at(i, "i16").store(k.emit("i16", f"trunc i32 {word.text} to i16"))
    return k.text()


def _chunk(k: Kernel, a: dict[str, Value]) -> tuple[Value, Value]:
    first = k.parameters[1] * a["chunk"]
    return first, a["chunk"].minimum(a["count"] - first)


def _trunc(k: Kernel, words: Value) -> str:
    return f"trunc {words.type} {words.text} to <{k.lanes.count} x i16>"


def _wide(k: Kernel, half: str, words: Value) -> Value:
    """Half numbers, each in the lower half of a word, as float32."""
    number = k.lanes.type
    if half == "bfloat16":
        return k.bits(k.shifted(words, 16), number)
    sign = k.shifted(words & k.every(words.type, 0x8000), 16)
    rest = k.shifted(words & k.every(words.type, 0x7FFF), 13)
    value = k.bits(rest, number) * k.bits(k.every(words.type, (112 + 127) << 23), number)
    special = k.test("uge", rest, k.every(words.type, 0x7C00 << 13))
    bits = k.select(
        special, rest | k.every(words.type, 0xFF << 23), k.bits(value, words.type)
    )  # fmt: skip
    return k.bits(bits | sign, number)


def _short(k: Kernel, half: str, value: Value) -> Value:
    """float32 as half numbers, each in the lower half of a word."""
    kind = f"<{k.lanes.count} x i32>"
    bits = k.bits(value, kind)
    upper = k.shifted(bits, -16)
    size = bits & k.every(kind, 0x7FFFFFFF)
    none = k.test("ugt", size, k.every(kind, 0xFF << 23))
    if half == "bfloat16":
        rounded = k.shifted(bits + k.every(kind, 0x7FFF) + (upper & k.every(kind, 1)), -16)
        return k.select(none, upper | k.every(kind, 0x40), rounded)
    # The number that is added has its last bit where the result has its own: 2¹³ times the unit
    # of the result's magnitude, whose exponent is at least that of the smallest normal number.
    magnitude = size & k.every(kind, 0xFF << 23)
    least = k.every(kind, (127 - 14) << 23)
    magnitude = k.select(k.test("ult", magnitude, least), least, magnitude)
    magic = k.bits(magnitude + k.every(kind, 13 << 23), k.lanes.type)
    within = k.test("ult", size, k.every(kind, (127 + 16) << 23))
    exact = k.bits(k.select(within, size, k.every(kind, 0)), k.lanes.type)
    rounded = k.bits((exact + magic) - magic, kind)
    # Normal numbers: 112 less in the exponent. Others: how many of the smallest subnormal they are.
    normal = k.shifted(rounded - k.every(kind, 112 << 23), -13)
    scaled = k.bits(rounded, k.lanes.type) * k.bits(k.every(kind, (24 + 127) << 23), k.lanes.type)
    small = k.emit(kind, f"fptosi {scaled.type} {scaled.text} to {kind}")
    finite = k.select(k.test("ult", rounded, least), small, normal)
    infinite = k.select(none, k.every(kind, 0x7E00), k.every(kind, 0x7C00))
    word = k.select(within, finite, infinite)
    return word | (upper & k.every(kind, 0x8000))


def _halves(level: str) -> tuple[str, ...]:
    return ("float16", "bfloat16")


WIDEN = Generator("widen", widen, FIELDS, _halves)
NARROW = Generator("narrow", narrow, FIELDS, _halves)
