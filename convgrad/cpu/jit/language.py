"""The kernel language: LLVM IR written by Python statements. It knows nothing of convolution.

    kernel = Kernel("axpy", ["x: ptr", "y: ptr", "n: i64", "a: float"], Lanes("float", 16))
    x, y, n, a = kernel.parameters
    with kernel.loop(n, step=16) as (i, _):
        y.store(fma(kernel.splat(a), x.vector(i), y.vector(i)), i)

A Value has a type and operators; a pointer reads and writes at an offset counted in elements (an
"array" in the type that arrays have in memory, which may be a half type). A loop is a context
manager; what it carries from one turn to the next are the values of its `carry`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from struct import pack, unpack

from convgrad.cpu.jit import half_types

BYTES = {
    "float": 4,
    "double": 8,
    "i64": 8,
    "i32": 4,
    "i8": 1,
    "ptr": 8,
    "half": 2,
    "bfloat": 2,
    "i16": 2,
}
HALVES = ("half", "bfloat")  # types of 16 bits: float in registers, these in memory


@dataclass(frozen=True)
class Lanes:
    """The element type of a kernel's vectors and how many of them a register holds.

    memory: the type that arrays have in memory, where it is another one: a half type for float.
    """

    element: str
    count: int
    memory: str | None = None

    @property
    def type(self) -> str:
        return f"<{self.count} x {self.element}>"

    @property
    def mangled(self) -> str:
        return f"v{self.count}f{8 * BYTES[self.element]}"

    @property
    def bytes(self) -> int:
        """Of one element."""
        return BYTES[self.element]


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA value: its kernel, its type, and how the IR's text names it.

    element: what a pointer points to, where that is a half type; it is widened as it is read, and
    rounded as it is written.
    """

    kernel: "Kernel"
    type: str
    text: str
    element: str | None = None

    def __add__(self, other: "Operand") -> "Value":
        return self._binary("add", "fadd", other)

    __radd__ = __add__

    def __sub__(self, other: "Operand") -> "Value":
        return self._binary("sub", "fsub", other)

    def __mul__(self, other: "Operand") -> "Value":
        return self._binary("mul", "fmul", other)

    __rmul__ = __mul__

    def __neg__(self) -> "Value":
        """The number, or each lane, with the other sign."""
        return self.kernel.emit(self.type, f"fneg {self.type} {self.text}")

    def __truediv__(self, other: "Value") -> "Value":
        return self._binary("", "fdiv", other)

    def __floordiv__(self, other: "Operand") -> "Value":
        """The quotient of two numbers that are not negative."""
        return self._binary("udiv", "", other)

    def __mod__(self, other: "Operand") -> "Value":
        return self._binary("urem", "", other)

    def __and__(self, other: "Operand") -> "Value":
        return self._binary("and", "", other)

    def __or__(self, other: "Operand") -> "Value":
        return self._binary("or", "", other)

    def __lt__(self, other: "Operand") -> "Value":
        return self._compare("slt", other)

    def __le__(self, other: "Operand") -> "Value":
        return self._compare("sle", other)

    def __gt__(self, other: "Operand") -> "Value":
        return self._compare("sgt", other)

    def __ge__(self, other: "Operand") -> "Value":
        return self._compare("sge", other)

    def equals(self, other: "Operand") -> "Value":
        return self._compare("eq", other)

    def narrow(self) -> "Value":
        """An i64 as an i32."""
        return self.kernel.emit("i32", f"trunc i64 {self.text} to i32")

    def to_element(self) -> "Value":
        """A double as the element type of the kernel's lanes."""
        element = self.kernel.lanes.element
        if element == self.type:
            return self
        return self.kernel.emit(element, f"fptrunc {self.type} {self.text} to {element}")

    def minimum(self, other: "Operand") -> "Value":
        other = self.kernel.value(other, self.type)
        return self.kernel.select(self < other, self, other)

    def maximum(self, other: "Operand") -> "Value":
        other = self.kernel.value(other, self.type)
        return self.kernel.select(self > other, self, other)

    def _binary(self, whole: str, floating: str, other: "Operand") -> "Value":
        other = self.kernel.value(other, self.type)
        op = floating if "float" in self.type or "double" in self.type else whole
        return self.kernel.emit(self.type, f"{op} {self.type} {self.text}, {other.text}")

    def _compare(self, relation: str, other: "Operand") -> "Value":
        other = self.kernel.value(other, self.type)
        return self.kernel.emit("i1", f"icmp {relation} {self.type} {self.text}, {other.text}")

    # Pointers: offsets count elements of the kernel's lanes, unless a type is named.

    def at(self, offset: "Operand", element: str | None = None) -> "Value":
        """The pointer `offset` elements further."""
        kernel = self.kernel
        if isinstance(offset, int) and offset == 0:
            return self
        index = kernel.value(offset, "i64")
        kind = element or self.element or kernel.lanes.element
        place = kernel.emit("ptr", f"getelementptr {kind}, ptr {self.text}, i64 {index.text}")
        return replace(place, element=self.element if element is None else None)

    def load(self, offset: "Operand" = 0, element: str | None = None) -> "Value":
        """One element."""
        kernel, place = self.kernel, self.at(offset, element)
        if element is None and self.element is not None:
            word = kernel.emit("i16", f"load i16, ptr {place.text}, align 2")
            return half_types.widened_number(kernel, self.element, word)
        element = element or kernel.lanes.element
        return kernel.emit(element, f"load {element}, ptr {place.text}, align {BYTES[element]}")

    def vector(self, offset: "Operand" = 0, mask: "Value | None" = None) -> "Value":
        """A register of consecutive elements; zero where the mask is off (and nothing is read)."""
        kernel, lanes, place = self.kernel, self.kernel.lanes, self.at(offset)
        short = f"<{lanes.count} x i16>"
        kind = lanes.type if self.element is None else short
        mangled = lanes.mangled if self.element is None else f"v{lanes.count}i16"
        align = BYTES[self.element or lanes.element]
        if mask is None:
            read = kernel.emit(kind, f"load {kind}, ptr {place.text}, align {align}")
        else:
            read = kernel.call(
                f"llvm.masked.load.{mangled}.p0", kind, place, kernel.constant("i32", align), mask,
                Value(kernel, kind, "zeroinitializer"),
            )  # fmt: skip
        return read if self.element is None else half_types.widened(kernel, self.element, read)

    def mask(self, offset: "Operand" = 0) -> "Value":
        """A mask from memory: words as wide as an element, negative in the lanes that are on."""
        kernel, lanes, place = self.kernel, self.kernel.lanes, self.at(offset)
        kind = f"<{lanes.count} x i{8 * lanes.bytes}>"
        words = kernel.emit(kind, f"load {kind}, ptr {place.text}, align {lanes.bytes}")
        return kernel.emit(
            f"<{lanes.count} x i1>", f"icmp slt {kind} {words.text}, zeroinitializer"
        )

    def gather(self, step: "Operand", mask: "Value") -> "Value":
        """A register of elements `step` apart; zero where the mask is off (and nothing is read)."""
        kernel, lanes = self.kernel, self.kernel.lanes
        kind = f"<{lanes.count} x i64>"
        iota = ", ".join(f"i64 {lane}" for lane in range(lanes.count))
        steps = kernel.splat(kernel.value(step, "i64"))
        places = kernel.emit(kind, f"mul {kind} {steps.text}, <{iota}>")
        many = f"<{lanes.count} x ptr>"
        element = self.element or lanes.element
        addresses = kernel.emit(
            many, f"getelementptr {element}, ptr {self.text}, {kind} {places.text}"
        )
        read, mangled = lanes.type, lanes.mangled
        if self.element is not None:
            read, mangled = f"<{lanes.count} x i16>", f"v{lanes.count}i16"
        found = kernel.call(
            f"llvm.masked.gather.{mangled}.v{lanes.count}p0", read,
            addresses, kernel.constant("i32", BYTES[element]), mask,
            Value(kernel, read, "zeroinitializer"),
        )  # fmt: skip
        return found if self.element is None else half_types.widened(kernel, self.element, found)

    def piece(self, count: int, offset: "Operand" = 0) -> "Value":
        """`count` consecutive elements, fewer than a register holds."""
        kernel, place = self.kernel, self.at(offset)
        element = kernel.lanes.element if self.element is None else "i16"
        kind = f"<{count} x {element}>"
        read = kernel.emit(kind, f"load {kind}, ptr {place.text}, align {BYTES[element]}")
        return read if self.element is None else half_types.widened(kernel, self.element, read)

    def prefetch(self, offset: "Operand" = 0, write: bool = False, near: bool = False) -> None:
        """Ask for the cache line of an element that will be read, or written, soon.

        Any address will do. near: into the first cache, not the second.
        """
        kernel = self.kernel
        flags = (
            kernel.constant("i32", n) for n in (int(write), 3 if write or near else 2, 1)
        )  # …, to be kept, data
        kernel.call("llvm.prefetch.p0", "void", self.at(offset), *flags)

    def store(self, value: "Value", offset: "Operand" = 0, mask: "Value | None" = None) -> None:
        """Write an element, a piece or a register; only lanes where the mask is on."""
        kernel, lanes = self.kernel, self.kernel.lanes
        mangled = lanes.mangled
        if self.element is not None:
            value = half_types.rounded(kernel, self.element, value)
            mangled = f"v{lanes.count}i16"
        element = value.type.strip("<>").split(" x ")[-1]
        place = self.at(offset, None if self.element else element)
        if mask is None:
            kernel.write(
                f"store {value.type} {value.text}, ptr {place.text}, align {BYTES[element]}"
            )
            return
        align = kernel.constant("i32", BYTES[element])
        kernel.call(f"llvm.masked.store.{mangled}.p0", "void", value, place, align, mask)

    def store_first(self, number: int, value: "Value", offset: "Operand" = 0) -> None:
        """Write the first `number` lanes of a register, under a mask where masks cost nothing."""
        kernel, lanes = self.kernel, self.kernel.lanes
        if number == lanes.count:
            self.store(value, offset)
        elif lanes.count * lanes.bytes == MASKED:
            self.store(value, offset, kernel.lanes_below(kernel.constant("i64", number)))
        else:
            self.store(kernel.shuffle(value, value, range(number)), offset)


MASKED = 64  # bytes of the registers whose instructions all take a mask: those of AVX-512
Operand = Value | int


@dataclass
class Carry:
    """What a loop carries: read the values in a turn and assign the next turn's; then, the last."""

    values: list[Value]


@dataclass
class Kernel:
    """One function `void name(parameters)` being written."""

    name: str
    signature: Sequence[str]
    lanes: Lanes
    lines: list[str] = field(default_factory=list)
    declared: dict[str, str] = field(default_factory=dict)
    parts: dict[str, "Kernel"] = field(default_factory=dict)
    names: int = 0
    block: str = "entry"

    def __post_init__(self) -> None:
        pairs = [parameter.split(": ") for parameter in self.signature]
        self.parameters = [
            Value(self, "ptr", f"%{name}", self.lanes.memory)
            if kind == "array"
            else Value(self, kind, f"%{name}")
            for name, kind in pairs
        ]

    def fresh(self) -> str:
        self.names += 1
        return f"%{'v'}{self.names}"

    def write(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def emit(self, kind: str, text: str) -> Value:
        name = self.fresh()
        self.write(f"{name} = {text}")
        return Value(self, kind, name)

    def constant(self, kind: str, number: int | float) -> Value:
        return Value(self, kind, str(number))

    def value(self, operand: Operand, kind: str) -> Value:
        return operand if isinstance(operand, Value) else self.constant(kind, operand)

    def call(self, function: str, result: str, *arguments: Value) -> Value:
        """Call an intrinsic of LLVM."""
        types = ", ".join(a.type for a in arguments)
        self.declared[function] = f"declare {result} @{function}({types})"
        text = f"call {result} @{function}({', '.join(f'{a.type} {a.text}' for a in arguments)})"
        if result == "void":
            self.write(text)
            return Value(self, "void", "")
        return self.emit(result, text)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        return self.emit(
            yes.type,
            f"select {condition.type} {condition.text}, {yes.type} {yes.text}, {no.type} {no.text}",
        )

    def every(self, kind: str, number: int) -> Value:
        """A vector of whole numbers, all the same."""
        count, element = kind.strip("<>").split(" x ")
        return Value(self, kind, "<" + ", ".join([f"{element} {number}"] * int(count)) + ">")

    def bits(self, value: Value, kind: str) -> Value:
        """The same bits as another type."""
        return self.emit(kind, f"bitcast {value.type} {value.text} to {kind}")

    def shifted(self, value: Value, bits: int) -> Value:
        """Words shifted to the left, or to the right by −bits, with zeros moving in."""
        by = self.every(value.type, abs(bits))
        shift = "shl" if bits >= 0 else "lshr"
        return self.emit(value.type, f"{shift} {value.type} {value.text}, {by.text}")

    def test(self, relation: str, a: Value, b: Value) -> Value:
        """Lanes where the relation (ult, ugt, uge, …) holds between whole numbers."""
        mask = f"<{a.type.strip('<>').split(' x ')[0]} x i1>"
        return self.emit(mask, f"icmp {relation} {a.type} {a.text}, {b.text}")

    def lane(self, vector: Value, number: int) -> Value:
        """One lane of a vector."""
        kind = vector.type.strip("<>").split(" x ")[1]
        return self.emit(kind, f"extractelement {vector.type} {vector.text}, i64 {number}")

    def zero(self) -> Value:
        return Value(self, self.lanes.type, "zeroinitializer")

    def zero_element(self) -> Value:
        return Value(self, self.lanes.element, "0.0")

    def number(self, number: float) -> Value:
        """A register with the same number, rounded to the element type, in all lanes."""
        if self.lanes.element == "float":
            (number,) = unpack(">f", pack(">f", number))
        bits = int.from_bytes(pack(">d", number))
        one = f"{self.lanes.element} 0x{bits:016X}"
        return Value(self, self.lanes.type, f"<{', '.join([one] * self.lanes.count)}>")

    def gathered(self, scalars: Sequence[Value]) -> Value:
        """A register with these elements in its lanes."""
        kind, whole = self.lanes.type, Value(self, self.lanes.type, "poison")
        for lane, one in enumerate(scalars):
            text = f"insertelement {kind} {whole.text}, {one.type} {one.text}, i64 {lane}"
            whole = self.emit(kind, text)
        return whole

    def splat(self, scalar: Value) -> Value:
        """All lanes the same."""
        count = self.lanes.count
        kind = f"<{count} x {scalar.type}>"
        one = self.emit(kind, f"insertelement {kind} poison, {scalar.type} {scalar.text}, i64 0")
        return self.emit(
            kind,
            f"shufflevector {kind} {one.text}, {kind} poison, <{count} x i32> zeroinitializer",
        )

    def mask_where(self, condition: Value, mask: Value) -> Value:
        """The mask where the condition holds, otherwise no lane."""
        return self.select(condition, mask, Value(self, mask.type, "zeroinitializer"))

    def lanes_below(self, number: Value) -> Value:
        """A mask: lane l is on where l < number."""
        count = self.lanes.count
        iota = "<" + ", ".join(f"i32 {lane}" for lane in range(count)) + ">"
        small = number.maximum(0).minimum(count)
        bound = self.splat(self.emit("i32", f"trunc i64 {small.text} to i32"))
        return self.emit(f"<{count} x i1>", f"icmp ult <{count} x i32> {iota}, {bound.text}")

    def lanes_within(self, first: Value, last: Value) -> Value:
        """A mask: lane l is on where first ≤ l < last."""
        count = self.lanes.count
        iota = "<" + ", ".join(f"i32 {lane}" for lane in range(count)) + ">"
        low = self.splat(first.maximum(0).minimum(count).narrow())
        high = self.splat(last.maximum(0).minimum(count).narrow())
        above = self.emit(f"<{count} x i1>", f"icmp uge <{count} x i32> {iota}, {low.text}")
        below = self.emit(f"<{count} x i1>", f"icmp ult <{count} x i32> {iota}, {high.text}")
        return above & below

    def steps_within(self, step: Value, first: Value, last: Value) -> Value:
        """A mask: lane l is on where first ≤ step·l < last."""
        count = self.lanes.count
        kind = f"<{count} x i64>"
        iota = "<" + ", ".join(f"i64 {lane}" for lane in range(count)) + ">"
        places = self.emit(kind, f"mul {kind} {self.splat(step).text}, {iota}")
        low, high = self.splat(first), self.splat(last)
        above = self.emit(f"<{count} x i1>", f"icmp sge {kind} {places.text}, {low.text}")
        below = self.emit(f"<{count} x i1>", f"icmp slt {kind} {places.text}, {high.text}")
        return above & below

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lanes picked from a and b, counted through both."""
        picks = ", ".join(f"i32 {lane}" for lane in lanes)
        kind = f"<{len(lanes)} x {self.lanes.element}>"
        return self.emit(
            kind,
            f"shufflevector {a.type} {a.text}, {b.type} {b.text}, <{len(lanes)} x i32> <{picks}>",
        )

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """As many registers as lanes: lane j of result i is lane i of row j."""
        count, rows = self.lanes.count, list(rows)
        block = min(
            count, 16 // self.lanes.bytes
        )  # lanes of 128 bits, within which a shuffle is quick
        if block == 4:
            rows = [v for i in range(0, count, 4) for v in self._transpose_blocks(rows[i : i + 4])]
        half = 1 if block < 4 else 4
        while half < count:
            low = [lane if not lane & half else lane - half + count for lane in range(count)]
            high = [lane + half if not lane & half else lane + count for lane in range(count)]
            for i in range(count):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            half *= 2
        return rows

    def _transpose_blocks(self, rows: Sequence[Value]) -> list[Value]:
        """Four rows, each block of four lanes transposed by itself: pairs of lanes, then halves."""
        count = self.lanes.count
        starts = range(0, count, 4)
        low = [lane for i in starts for lane in (i, i + count, i + 1, i + 1 + count)]
        high = [lane + 2 for lane in low]
        left = [lane for i in starts for lane in (i, i + 1, i + count, i + 1 + count)]
        right = [lane + 2 for lane in left]
        a, b, c, d = rows
        ab, cd = self.shuffle(a, b, low), self.shuffle(c, d, low)
        ab2, cd2 = self.shuffle(a, b, high), self.shuffle(c, d, high)
        return [
            self.shuffle(ab, cd, left), self.shuffle(ab, cd, right),
            self.shuffle(ab2, cd2, left), self.shuffle(ab2, cd2, right),
        ]  # fmt: skip

    def sums(self, registers: Sequence[Value]) -> Value:
        """One register whose lane i is the sum of the lanes of registers[i], halves added first."""
        count = self.lanes.count
        rows = [*registers, *[self.zero()] * (count - len(registers))]
        half = count // 2
        while half:
            # Two registers with `2·half` lanes of partial sums each become one.
            low = [lane for lane in range(2 * count) if not lane & half]
            high = [lane | half for lane in low]
            rows = [
                self.shuffle(a, b, low) + self.shuffle(a, b, high)
                for a, b in zip(rows[::2], rows[1::2], strict=True)
            ]
            half //= 2
        return rows[0]

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c, with one rounding where the processor can."""
        mangled = self.lanes.mangled
        if a.type == self.lanes.element:
            mangled = f"f{8 * self.lanes.bytes}"
        return self.call(f"llvm.fmuladd.{mangled}", a.type, a, b, c)

    def label(self) -> str:
        self.names += 1
        return f"b{self.names}"

    def enter(self, block: str) -> None:
        self.lines.append(f"{block}:")
        self.block = block

    @contextmanager
    def loop(
        self, stop: Operand, start: Operand = 0, step: Operand = 1, carry: Sequence[Value] = ()
    ) -> Iterator[tuple[Value, Carry]]:
        """for i in range(start, stop, step), carrying values from turn to turn."""
        stop, start, step = (self.value(v, "i64") for v in (stop, start, step))
        before, body, after = self.block, self.label(), self.label()
        first = start < stop
        self.write(f"br i1 {first.text}, label %{body}, label %{after}")
        self.enter(body)
        index = Value(self, "i64", self.fresh())
        phis = [Value(self, v.type, self.fresh()) for v in carry]
        place = len(self.lines)
        state = Carry(list(phis))
        yield index, state
        following = index + step
        last = self.block
        again = following < stop
        self.write(f"br i1 {again.text}, label %{body}, label %{after}")
        heads = [self._phi(index, (start, before), (following, last))]
        heads += [
            self._phi(phi, (old, before), (new, last))
            for phi, old, new in zip(phis, carry, state.values, strict=True)
        ]
        self.lines[place:place] = heads
        self.enter(after)
        results = [Value(self, v.type, self.fresh()) for v in carry]
        self.lines += [
            self._phi(result, (old, before), (new, last))
            for result, old, new in zip(results, carry, state.values, strict=True)
        ]
        state.values = results

    def _phi(self, value: Value, *sources: tuple[Value, str]) -> str:
        pairs = ", ".join(f"[ {source.text}, %{block} ]" for source, block in sources)
        return f"  {value.text} = phi {value.type} {pairs}"

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """What is written inside is done only where the condition holds."""
        body, after = self.label(), self.label()
        self.write(f"br i1 {condition.text}, label %{body}, label %{after}")
        self.enter(body)
        yield
        self.write(f"br label %{after}")
        self.enter(after)

    def do(self, part: "Kernel", *arguments: Value) -> None:
        """Call another kernel, which goes along in the text.

        LLVM gives registers to one function at a time: the fewer else live in it, the fewer spills.
        """
        self.parts[part.name] = part
        self.write(f"call void @{part.name}({', '.join(f'{a.type} {a.text}' for a in arguments)})")

    def text(self) -> str:
        """The function, and those that it calls, as LLVM IR."""
        called = self.called()
        functions = [
            self._definition("define"),
            *(part._definition("define internal") for part in called.values()),
        ]
        declared = dict(self.declared)
        for part in called.values():
            declared |= part.declared
        return "\n".join([*functions, *declared.values()])

    def called(self) -> dict[str, "Kernel"]:
        """The kernels that it calls, and those that they call, by name."""
        called = dict(self.parts)
        for part in self.parts.values():
            called |= part.called()
        return called

    def _definition(self, define: str) -> str:
        parameters = ", ".join(
            f"{v.type} noalias {v.text}" if v.type == "ptr" else f"{v.type} {v.text}"
            for v in self.parameters
        )
        body = "\n".join([*self.lines, "  ret void"])
        return f"{define} void @{self.name}({parameters}) {{\nentry:\n{body}\n}}"
