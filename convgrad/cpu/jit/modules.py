"""Modules of IR made ready to load: from the cache, or compiled, by several threads at once.

A module's large functions are compiled apart from each other: at the same time, and once for all
modules that have them. The file of a module has the object codes of all of it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from threading import BoundedSemaphore, Thread
from typing import NamedTuple

from convgrad.cpu.jit import cache, compiler
from convgrad.cpu.jit.compiler import Target, forks_wait

FORM = "lengths and codes"  # of a module in the cache; part of its name
LARGE = 20_000  # characters of a function that is compiled apart: 5 ms or more
FUNCTION = re.compile(r"^define .*?^}$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"@([\w.]+)\(")


class Module(NamedTuple):
    """A module of IR: the texts that its code depends on alone, and how it is written.

    identity: the IR itself, or what it is made from where that is known without writing it.
    """

    identity: tuple[str, ...]
    write: Callable[[], str]


class Made(NamedTuple):
    """A module's name in the cache, its object codes, and whether they were found there."""

    name: str
    codes: list[bytes]
    kept: bool


@forks_wait
def functions(text: str, names: tuple[str, ...]) -> tuple[int, ...]:
    """The addresses of a module's functions, compiled now or taken from the cache."""
    (one,) = made([Module((text,), lambda: text)])
    if not one.kept:
        keep(one)
    return compiler.load_all(one.codes, names)


@forks_wait
def made(modules: Sequence[Module], threads: int = 1) -> list[Made]:
    """What the cache has of the modules; the others are compiled, so many functions at a time."""
    where = compiler.target()
    versions = repr(where), compiler.llvm_version(), compiler.PYTHON, FORM
    names = [cache.key(*module.identity, *versions) for module in modules]
    found = {name: cache.read(name) for name in names}
    missing = {n: m for n, m in zip(names, modules, strict=True) if found[n] is None}
    texts = (_split(module.write(), where) for module in missing.values())
    compiled = dict(zip(missing, _compiled(texts, where, threads), strict=True))
    return [
        Made(name, compiled[name] if content is None else _apart(content), content is not None)
        for name, content in ((name, found[name]) for name in names)
    ]


def keep(one: Made) -> None:
    """Write a module to the cache: of each object code the length, and the code."""
    sizes = (len(code).to_bytes(8, "little") for code in one.codes)
    cache.write(one.name, b"".join(chain.from_iterable(zip(sizes, one.codes, strict=True))))


def _apart(content: bytes) -> list[bytes]:
    """The object codes of a module in the cache."""
    codes = []
    while content:
        end = 8 + int.from_bytes(content[:8], "little")
        codes.append(content[8:end])
        content = content[end:]
    return codes


def _split(text: str, where: Target) -> list[str]:
    """Modules that are this one together: the first function, each large one, all others.

    Where code is ELF: other linkers might not reach from one to the other.
    """
    whole = FUNCTION.findall(text)
    first, called = "".join(whole[:1]), whole[1:]
    large = [function for function in called if len(function) >= LARGE]
    small = "\n".join(function for function in called if len(function) < LARGE)
    if len(small) >= LARGE:
        large.append(small)
    elif small:
        first = f"{first}\n{small}"
    if not large or "linux" not in where.triple:
        return [text]
    declared = dict(_declaration(line) for line in whole)
    declared |= {_name(line): line for line in FUNCTION.sub("", text).split("\n") if line}
    modules = []
    for part in (first, *large):
        own = {_name(function) for function in FUNCTION.findall(part)}
        used = dict.fromkeys(name for name in NAMED.findall(part) if name not in own)
        open_part = part.replace("define internal ", "define ")
        modules.append("\n".join([open_part, *(declared[name] for name in used)]))
    return modules


def _name(function: str) -> str:
    return NAMED.findall(function)[0]


def _declaration(function: str) -> tuple[str, str]:
    """A function's name, and the line that declares it."""
    head = function[: function.index(" {")].replace("define internal ", "define ")
    return _name(head), re.sub(r" %[\w.]+", "", head).replace("define ", "declare ")


_known: dict[str, bytes] = {}  # large functions that this process has compiled


def _compiled(
    modules: Iterable[list[str]], where: Target, threads: int
) -> list[list[bytes]]:  # fmt: skip
    """The object codes of modules that were split. One is compiled while the next is written."""
    turns, workers, names = BoundedSemaphore(threads), dict[str, Thread](), list[list[str]]()
    codes, errors = dict(_known), list[Exception]()

    def compile_one(name: str, text: str) -> None:
        with turns:
            try:
                codes[name] = compiler.compile_text(text, where)
            except Exception as error:  # noqa: BLE001 (raised by the caller)
                errors.append(error)

    try:
        for texts in modules:
            names.append([cache.key(text, repr(where)) for text in texts])
            for name, text in zip(names[-1], texts, strict=True):
                if threads == 1 and name not in codes:
                    compile_one(name, text)
                elif name not in codes and name not in workers:
                    workers[name] = Thread(target=compile_one, args=(name, text))
                    workers[name].start()
    finally:
        for worker in workers.values():
            worker.join()
    for error in errors:
        raise error
    _known.update((name, codes[name]) for own in names for name in own[1:])
    return [[codes[name] for name in own] for own in names]
