"""Numbers of 16 bits as float32 and back, by integer arithmetic: no processor needs to know them.

float16 ("half"): the exponent is moved by a product with 2¹¹², which makes subnormal numbers
normal; back, adding a number of the result's magnitude rounds the bits that are too many (to
nearest, ties to even). bfloat16 ("bfloat") is the upper half of a float32.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convgrad.cpu.jit.language import Kernel, Value


def widened(k: "Kernel", half: str, short: "Value") -> "Value":
    """Half numbers, as integers of 16 bits, in float32."""
    count = _count(short)
    if half == "half" and _in_hardware(k):
        halves = k.bits(short, f"<{count} x half>")
        return k.emit(
            f"<{count} x float>", f"fpext {halves.type} {halves.text} to <{count} x float>"
        )
    kind, number = f"<{count} x i32>", f"<{count} x float>"
    words = k.emit(kind, f"zext {short.type} {short.text} to {kind}")
    if half == "bfloat":
        return k.bits(k.shifted(words, 16), number)
    sign = k.shifted(words & k.every(kind, 0x8000), 16)
    rest = k.shifted(words & k.every(kind, 0x7FFF), 13)
    value = k.bits(rest, number) * k.bits(k.every(kind, (112 + 127) << 23), number)
    special = k.test("uge", rest, k.every(kind, 0x7C00 << 13))
    bits = k.select(special, rest | k.every(kind, 0xFF << 23), k.bits(value, kind))
    return k.bits(bits | sign, number)


def widened_number(k: "Kernel", half: str, short: "Value") -> "Value":
    """One of them."""
    return k.lane(widened(k, half, k.bits(short, "<1 x i16>")), 0)


def rounded(k: "Kernel", half: str, value: "Value") -> "Value":
    """float32 numbers, or one, rounded to half numbers, as integers of 16 bits."""
    if not value.type.startswith("<"):
        return k.lane(rounded(k, half, k.bits(value, "<1 x float>")), 0)
    count = _count(value)
    short = f"<{count} x i16>"
    if half == "half" and _in_hardware(k):
        halves = f"<{count} x half>"
        return k.bits(k.emit(halves, f"fptrunc {value.type} {value.text} to {halves}"), short)
    words = _rounded_words(k, half, value, f"<{count} x i32>")
    return k.emit(short, f"trunc {words.type} {words.text} to {short}")


def _count(value: "Value") -> int:
    return int(value.type.strip("<>").split(" x ")[0])


def _in_hardware(k: "Kernel") -> bool:
    """Whether the processor converts float16: from AVX2 on."""
    return k.lanes.count * k.lanes.bytes >= 32


def _rounded_words(k: "Kernel", half: str, value: "Value", kind: str) -> "Value":
    """float32 as half numbers, each in the lower half of a word."""
    bits = k.bits(value, kind)
    upper = k.shifted(bits, -16)
    size = bits & k.every(kind, 0x7FFFFFFF)
    none = k.test("ugt", size, k.every(kind, 0xFF << 23))
    if half == "bfloat":
        near = k.shifted(bits + k.every(kind, 0x7FFF) + (upper & k.every(kind, 1)), -16)
        return k.select(none, upper | k.every(kind, 0x40), near)
    # The number that is added has its last bit where the result has its own: 2¹³ times the unit
    # of the result's magnitude, whose exponent is at least that of the smallest normal number.
    magnitude = size & k.every(kind, 0xFF << 23)
    least = k.every(kind, (127 - 14) << 23)
    magnitude = k.select(k.test("ult", magnitude, least), least, magnitude)
    magic = k.bits(magnitude + k.every(kind, 13 << 23), value.type)
    within = k.test("ult", size, k.every(kind, (127 + 16) << 23))
    exact = k.bits(k.select(within, size, k.every(kind, 0)), value.type)
    near = k.bits((exact + magic) - magic, kind)
    # Normal numbers: 112 less in the exponent. Others: how many of the smallest subnormal they are.
    normal = k.shifted(near - k.every(kind, 112 << 23), -13)
    scaled = k.bits(near, value.type) * k.bits(k.every(kind, (24 + 127) << 23), value.type)
    small = k.emit(kind, f"fptosi {scaled.type} {scaled.text} to {kind}")
    finite = k.select(k.test("ult", near, least), small, normal)
    infinite = k.select(none, k.every(kind, 0x7E00), k.every(kind, 0x7C00))
    word = k.select(within, finite, infinite)
    return word | (upper & k.every(kind, 0x8000))
