"""From the text of a module to functions in memory: the target, LLVM, and the loader.

LLVM is loaded with the first kernel. Code is compiled for the processor at hand, or for less where
CONVGRAD_ISA says so (avx512, avx2, sse2; neon).
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from threading import RLock
from typing import Any, ParamSpec, TypeVar

import numpy as np

from convgrad.cpu.jit.language import BYTES, HALVES, Lanes
from convgrad.errors import SettingError

LEVELS = {"x86": ("avx512", "avx2", "sse2"), "arm": ("neon",)}
BITS = {"avx512": 512, "avx2": 256, "sse2": 128, "neon": 128}
PYTHON = platform.python_implementation()
REGISTERS = {"avx512": 32, "avx2": 16, "sse2": 16, "neon": 32}
NEEDED = {
    "avx512": ("avx512f", "avx512vl", "avx512dq", "avx512bw", "fma", "f16c"),
    "avx2": ("avx2", "fma", "bmi2", "f16c"),
    "sse2": (),
    "neon": (),
}
GENERIC_CPU = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "sse2": "x86-64", "neon": "generic"}
# In CPython the address of an array's first element stands behind the head that every object has:
# NumPy's C API promises it. Kernels read it there, since `array.ctypes.data` takes a microsecond.
POINTER = ctypes.c_void_p
ADDRESS = object.__basicsize__
P = ParamSpec("P")
R = TypeVar("R")
_lock = RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


def forks_wait(function: Callable[P, R]) -> Callable[P, R]:
    """One thread at a time, and no fork meanwhile: LLVM's locks would stay locked in the child."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with _lock:
            return function(*args, **kwargs)

    return alone


@dataclass(frozen=True)
class Target:
    """The instruction set that kernels are made for."""

    level: str
    triple: str
    cpu: str
    features: str

    @property
    def registers(self) -> int:
        """Vector registers."""
        return REGISTERS[self.level]

    def lanes(self, element: str) -> Lanes:
        """Registers of float or double; of float for arrays of a half type."""
        memory, element = (element, "float") if element in HALVES else (None, element)
        return Lanes(element, BITS[self.level] // (8 * BYTES[element]), memory)


@cache
@forks_wait
def unavailable() -> str | None:
    """Why no kernel can be made here, or None."""
    if sys.maxsize < 2**63 - 1 or sys.byteorder != "little":
        return "its kernels are for little-endian 64-bit processors"
    try:
        triple = _llvm().get_process_triple()
    except (ImportError, OSError) as error:  # OSError where its library cannot be loaded
        return f"llvmlite cannot be loaded ({error})"
    if not triple.startswith(("x86_64", "aarch64", "arm64")):
        return f"its kernels are for x86-64 and 64-bit Arm, not {triple.partition('-')[0]}"
    probe = np.zeros((3, 5))[1:, 2:]
    if (
        sys.implementation.name != "cpython"
        or POINTER.from_address(id(probe) + ADDRESS).value != probe.ctypes.data
    ):
        return "its kernels read an array's address where CPython and NumPy keep it"
    return None


@cache
@forks_wait
def target() -> Target:
    """This machine's target; raises SettingError for a CONVGRAD_ISA that it does not have."""
    llvm = _llvm()
    triple = llvm.get_process_triple()
    family = "arm" if triple.startswith(("aarch64", "arm64")) else "x86"
    host = llvm.get_host_cpu_features()
    able = [
        level for level in LEVELS[family] if all(host.get(name, False) for name in NEEDED[level])
    ]
    asked = os.environ.get("CONVGRAD_ISA", "").strip().lower()
    if asked and asked not in able:
        raise SettingError(f"CONVGRAD_ISA={asked!r}, but this machine has {', '.join(able)}")
    if asked and asked != able[0]:
        return Target(asked, triple, GENERIC_CPU[asked], "")
    return Target(able[0], triple, llvm.get_host_cpu_name(), host.flatten())


def compile_text(text: str, where: Target) -> bytes:
    """The object code of a module of IR. Raises RuntimeError where LLVM refuses it.

    In a context and with a target machine of its own: LLVM then works on several threads at once.
    """
    llvm = _llvm()
    module = llvm.parse_assembly(text, llvm.create_context())
    module.verify()
    machine, emit = _machine(where), _emit()
    if emit is None:
        return machine.emit_object(module)
    with llvm.ffi.OutputString() as message:
        buffer = emit(machine, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    calls = llvm.ffi.lib
    try:
        size = calls.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(calls.LLVMPY_GetBufferStart(buffer), size)
    finally:
        calls.LLVMPY_DisposeMemoryBuffer(buffer)


@cache
def _emit() -> Any:
    """What `emit_object` calls, without the lock that llvmlite holds around every call of LLVM.

    None where llvmlite has it no more: kernels are then compiled one at a time.
    """
    ffi = _llvm().ffi
    try:
        emit = ctypes.CDLL(ffi.lib._name).LLVMPY_TargetMachineEmitToMemory
        emit.restype = ffi.LLVMMemoryBufferRef
    except (AttributeError, OSError):
        return None
    return emit


@cache
def llvm_version() -> str:
    return ".".join(map(str, _llvm().llvm_version_info))


@forks_wait
def assembly(text: str, where: Target) -> str:
    """The module as the assembler would read it, to look at."""
    module = _llvm().parse_assembly(text)
    return _machine(where).emit_assembly(module)


@forks_wait
def load_all(codes: Sequence[bytes], names: tuple[str, ...]) -> tuple[int, ...]:
    """Link modules' object codes with each other in this process; the addresses of functions."""
    llvm = _llvm()
    builder = llvm.JITLibraryBuilder()
    for code in codes:
        builder = builder.add_object_img(code)
    for name in names:
        builder = builder.export_symbol(name)
    library = builder.link(_linker(), f"convgrad{len(_libraries)}")
    _libraries.append(library)  # dropping it would unmap the code
    return tuple(library[name] for name in names)


_libraries: list[Any] = []


@cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm


def _machine(where: Target) -> Any:
    """A target machine, for one thread."""
    llvm = _llvm()
    return llvm.Target.from_triple(where.triple).create_target_machine(
        cpu=where.cpu, features=where.features, opt=3, reloc="pic", codemodel="jitdefault"
    )


@cache
def _linker() -> Any:
    linker = _llvm().create_lljit_compiler(_machine(target()))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(linker))  # code runs until the process has ended
    return linker
