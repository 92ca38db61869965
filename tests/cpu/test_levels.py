"""Every instruction set that the machine has, run; and every kernel's code, looked at."""

import json
import re
import struct
from functools import cache

import numpy as np
import pytest
from core.cases import cases, oracle
from engine_cases import child, dense, expected, levels, run
from hypothesis import given, settings

from convgrad.cpu.implicit_gemm.kernels.few import MULTIPLY_FEW, PACK_CELLS, WEAVE_FEW
from convgrad.cpu.implicit_gemm.kernels.multiply import MULTIPLY, WEAVE
from convgrad.cpu.implicit_gemm.kernels.outer import OUTER
from convgrad.cpu.implicit_gemm.kernels.packing import PACK_WEIGHTS
from convgrad.cpu.jit import compiler
from convgrad.cpu.jit.compiler import GENERIC_CPU, Target
from convgrad.cpu.jit.language import HALVES
from convgrad.cpu.kernels.convert import NARROW, WIDEN
from convgrad.cpu.tiling import HEIGHTS, Tile
from convgrad.cpu.winograd.kernels.outer import WINOGRAD_OUTER
from convgrad.cpu.winograd.kernels.products import WINOGRAD, WINOGRAD_FEW
from convgrad.cpu.winograd.kernels.transforms import (
    WINOGRAD_GRADIENT,
    WINOGRAD_PANELS,
    WINOGRAD_SOURCE,
    WINOGRAD_WEIGHTS,
)
from convgrad.errors import SettingError

TRIPLES = {
    "avx512": "x86_64-unknown-linux-gnu",
    "avx2": "x86_64-unknown-linux-gnu",
    "sse2": "x86_64-unknown-linux-gnu",
    "neon": "aarch64-unknown-linux-gnu",
}
TARGETS = {level: Target(level, TRIPLES[level], GENERIC_CPU[level], "") for level in TRIPLES}
CODES = [
    (level, element, generator, shape)
    for level in TARGETS
    for generator in (
        PACK_WEIGHTS,
        MULTIPLY,
        WEAVE,
        PACK_CELLS,
        MULTIPLY_FEW,
        WEAVE_FEW,
        OUTER,
        WIDEN,
        NARROW,
    )
    for element in (HALVES if generator in (WIDEN, NARROW) else ("float", "double"))
    for shape in generator.shapes(level)
]
HALF_CODES = [
    (level, half, generator, Tile(4, min(HEIGHTS[level])))
    for level in TARGETS
    for generator in (PACK_WEIGHTS, MULTIPLY, WEAVE, OUTER)
    for half in HALVES
]

WINOGRAD_CODES = [
    (level, element, generator, shape)
    for level in TARGETS
    for generator in (
        WINOGRAD, WINOGRAD_FEW, WINOGRAD_OUTER, WINOGRAD_SOURCE, WINOGRAD_WEIGHTS, WINOGRAD_PANELS,
        WINOGRAD_GRADIENT,
    )
    for element in ("float", "double")
    for shape in generator.shapes(level)
]  # fmt: skip


@settings(max_examples=100)
@given(cases(largest_batch=2))
def test_the_two_oracles_agree(case):
    x, w, b, dy = case.integers()
    want = oracle(case, x, w, 0 * b, dy)[:3]
    for got, e in zip(expected(case, x, w, dy).values(), want, strict=True):
        np.testing.assert_array_equal(got, e)


@pytest.mark.parametrize("level", levels())
def test_every_level_of_the_machine_is_exact(level):
    done = child("level_run.py", CONVGRAD_ISA=level)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["level"] == level
    assert told["low"] > 0, "no panel of height − 1 beside one of full height"
    several = (
        "shares", "units", "blocks", "nb", "samples", "phases", "skips",
        "cshares", "oshares", "pieces", "nn", "nz", "nr", "nc",
    )  # fmt: skip
    told["most"]["skips"] += 1
    assert all(told["most"][name] > 1 for name in several), told["most"]
    ran = {tuple(kernel) for kernel in told["kernels"]}
    tallest = max(HEIGHTS[level].values())
    for element in ("float", "double"):
        for name in ("multiply", "weave", "pack_weights", "outer"):
            heights = {height for n, e, height, _ in ran if (n, e) == (name, element)}
            assert heights == set(range(1, tallest + 1)), (name, element)


def test_an_unknown_level_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("CONVGRAD_ISA", "avx1024")
    compiler.target.cache_clear()
    case = dense(1, 1, 1, (3,), (1,))
    x, w, _, _ = case.integers(np.float32)
    try:
        with pytest.raises(SettingError, match=r"CONVGRAD_ISA='avx1024', but this machine has"):
            compiler.target()
        with pytest.raises(SettingError, match=r"avx1024"):
            run("forward", case, x, w, np.empty(case.y_shape, np.float32))
    finally:
        compiler.target.cache_clear()


def test_an_unknown_level_stops_a_public_call_too():
    script = """
import numpy as np, convgrad as cg
cg.conv(np.ones((2, 16, 20, 20)), np.ones((16, 16, 3, 3)), algorithm="implicit_gemm")
"""
    done = child("-c", script, CONVGRAD_ISA="mmx")
    assert done.returncode == 1
    assert "SettingError: conv: CONVGRAD_ISA='mmx', but this machine has" in done.stderr


@cache
def text(level, element, generator, shape):
    return generator.write(TARGETS[level].lanes(element), shape)


def name_of(code):
    level, element, generator, shape = code
    kind = f"{shape.height}x{shape.vectors}" if isinstance(shape, Tile) else str(shape)
    return f"{generator.name}-{kind}-{element}-{level}"


@pytest.mark.parametrize("code", CODES, ids=name_of)
def test_no_micro_kernel_spills_and_no_code_calls_out(code):
    level, _, generator, shape = code
    module, where = text(*code), TARGETS[level]
    needed = undefined_symbols(compiler.compile_text(module, where))
    assert needed <= {"_GLOBAL_OFFSET_TABLE_"}  # x86: made by whoever links it
    micro = [
        loop for loop in innermost_loops(compiler.assembly(module, where)) if products(loop) > 1
    ]
    if not isinstance(shape, Tile):  # elementwise
        return
    if generator in (PACK_WEIGHTS, PACK_CELLS):
        assert not micro
        return
    assert max(map(products, micro)) == shape.height * shape.vectors
    for loop in micro:
        assert [line for line in loop if spills(line)] == []


@pytest.mark.parametrize("code", HALF_CODES, ids=name_of)
def test_half_types_need_no_library(code):
    """Whether LLVM knows the type or not, no conversion is a call."""
    needed = undefined_symbols(compiler.compile_text(text(*code), TARGETS[code[0]]))
    assert needed <= {"_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.parametrize(
    "code", WINOGRAD_CODES, ids=lambda code: f"{code[2].name}-{code[1]}-{code[0]}"
)
def test_no_product_of_tiles_spills(code):
    """The transforms may: a tile has more numbers than there are registers."""
    level, _, generator, shape = code
    module, where = text(*code), TARGETS[level]
    assert undefined_symbols(compiler.compile_text(module, where)) <= {"_GLOBAL_OFFSET_TABLE_"}
    loops = innermost_loops(compiler.assembly(module, where))
    full = shape.height * shape.vectors
    micro = [loop for loop in loops if products(loop) == full and broadcasts(loop) >= shape.height]
    if generator not in (WINOGRAD, WINOGRAD_FEW, WINOGRAD_OUTER):
        return
    assert micro
    for loop in micro:
        assert [line for line in loop if spills(line)] == []


def innermost_loops(assembly: str) -> list[list[str]]:
    """The loops of one block: from a label to the jump back to it, with no label between."""
    lines = [re.split(r"\s+(?:#|//)", line)[0] for line in assembly.splitlines()]
    labels, loops = {}, []
    for number, line in enumerate(lines):
        label = re.match(r"(\.L\w+):", line)
        if label:
            labels = {label[1]: number}  # a jump to an earlier label goes round a larger loop
        jump = re.match(r"\s+(?:j\w+|b\S*|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.L\w+)$", line)
        if jump and jump[1] in labels:
            loops.append(lines[labels[jump[1]] + 1 : number + 1])
    return loops


def products(loop: list[str]) -> int:
    """Products of whole registers; a micro-kernel does nothing else with them but add."""
    whole = r"\s+(?:vfmadd\w+p[sd]|mulp[sd]|fmla|fmul)\s"
    return sum(1 for line in loop if re.match(whole, line))


def broadcasts(loop: list[str]) -> int:
    """Numbers brought into all lanes, or taken from one lane by the product itself."""
    spread = r"\s+(?:vbroadcast|shufps|unpcklpd|movddup|movlhps|ld1r|dup|fml\w+\s.*\.[sd]\[\d)"
    memory = r"\{1to\d+\}"
    return sum(1 for line in loop if re.match(spread, line) or re.search(memory, line))


def spills(line: str) -> bool:
    """A vector register that is put on the stack or taken from it.

    Pointers are no spill of the tile: with twelve rows of dx or more, x86 has too few for them.
    """
    stack = re.search(r"\(%rsp[,)]|\[sp\b", line)
    vector = re.search(r"%[xyz]mm\d|\b[qvds]\d+\b", line)
    return bool(stack and vector)


def undefined_symbols(code: bytes) -> set[str]:
    """What an ELF64 object file needs from elsewhere."""
    assert code[:5] == b"\x7fELF\x02"
    (sections,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", code, sections + i * size) for i in range(count)]
    needed, symbols = set(), 0
    for _, kind, _, _, offset, length, link, _, _, each in heads:
        if kind != 2:  # SHT_SYMTAB
            continue
        for place in range(offset + each, offset + length, each):
            name, _, _, section = struct.unpack_from("<IBBH", code, place)
            symbols += 1
            if section == 0:
                start = heads[link][4] + name
                needed.add(code[start : code.index(b"\0", start)].decode())
    assert symbols
    return needed


def test_a_spill_and_a_call_are_seen():
    lines = ["\tvmovaps\t%zmm3, 64(%rsp)", "\tldr\tq3, [sp, #16]", "\tstp\tq1, q2, [sp, #-32]"]
    assert all(map(spills, lines))
    assert not any(map(spills, ["\tmovq\t8(%rsp), %rax", "\tvmovups\t(%rdi,%rsp2), %zmm1"]))
    loops = innermost_loops(".LBB0_1:\n\tfmla\tv1.4s, v2.4s, v3.4s\n\tb.lt\t.LBB0_1\n")
    assert [products(loop) for loop in loops] == [1]
    module = "declare void @far()\ndefine void @f() {\n  call void @far()\n  ret void\n}"
    assert undefined_symbols(compiler.compile_text(module, TARGETS["neon"])) == {"far"}
