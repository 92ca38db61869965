"""Read numbers, text, lists, dicts and NumPy arrays out of a pickle, and run nothing.

A pickle is a program: it names functions and calls them.  Here every name that NumPy's own
pickles need stands for an object of this file that only keeps what it is given, so no function
of NumPy, or of anything else, is called from the pickle.  Any other name is an error.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from convgrad.errors import DataError

_NUMBER_TYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))
_LARGEST = 2**31 - 1
# What the unpickler raises on bytes that are not a well-formed pickle (the pickle module's docs).
_MALFORMED = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class PlainType:
    """A NumPy dtype as the pickle describes it, not yet believed."""

    code: Any = ""
    order: Any = "|"

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class PlainArray:
    """A NumPy array as the pickle describes it, not yet believed."""

    content: tuple[Any, ...] = ()  # once the state has come: (shape, type, is_fortran, bytes)

    def __init__(self, *content: Any) -> None:
        self.content = content

    def __setstate__(self, state: Any) -> None:
        _version, *content = state
        self.content = tuple(content)

    def to_numpy(self, what: str) -> np.ndarray:
        """The array, once its type, shape and number of bytes are found to agree.

        Raises DataError, which begins with `what`, for anything but whole numbers that do.
        """
        if len(self.content) != 4:
            raise DataError(f"{what}: the pickled array has no content; fetch the file again")
        shape, kind, fortran, data = self.content
        dtype = _number_type(kind, what)
        if not _is_shape(shape):
            raise DataError(f"{what}: the pickled array has no proper shape; fetch the file again")
        needed = math.prod(shape) * dtype.itemsize
        if not isinstance(data, (bytes, bytearray)) or len(data) != needed:
            had = f"{len(data):,}" if isinstance(data, (bytes, bytearray)) else "no"
            raise DataError(
                f"{what}: {had} bytes of numbers, where {dtype} of shape {shape} needs {needed:,}"
            )
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _is_shape(shape: Any) -> bool:
    """At most a table: a tuple of one or two sizes."""
    return (
        isinstance(shape, tuple)
        and len(shape) in (1, 2)
        and all(type(n) is int and 0 <= n <= _LARGEST for n in shape)
    )


def _number_type(kind: Any, what: str) -> np.dtype:
    if isinstance(kind, PlainType):
        code, order = _text(kind.code), _text(kind.order)
        if code in _NUMBER_TYPES and order in ("|", "<", ">", "="):
            return np.dtype(f"{order}{code}")
        raise DataError(f"{what}: numbers of type {order}{code}; needed are whole numbers")
    raise DataError(f"{what}: a pickled array without a type of numbers; fetch the file again")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else f"({type(value).__name__})"


class _Reconstruct:
    """numpy.core.multiarray._reconstruct(class, shape, type): the state follows."""

    __slots__ = ()

    def __call__(self, *_unused: Any) -> PlainArray:
        return PlainArray()


class _FromBuffer:
    """numpy.core.numeric._frombuffer(bytes, type, shape, order), of protocol 5."""

    __slots__ = ()

    def __call__(self, data: Any, kind: Any, shape: Any, order: Any) -> PlainArray:
        return PlainArray(shape, kind, order == "F", data)


class _Encode:
    """_codecs.encode(text, "latin1"): how Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("_codecs.encode of something else than latin1 text")
        return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): PlainArray,
    ("numpy", "dtype"): PlainType,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    ("_codecs", "encode"): _Encode(),
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream, encoding="bytes")  # text of Python 2 stays bytes
        self._path = path

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in _ALLOWED:
            return _ALLOWED[module_name, global_name]
        raise DataError(
            f"{self._path}: the pickle asks for {module_name}.{global_name}, which a file of "
            "images has no use for; nothing of it was run. Do not trust this file: fetch the "
            "original again"
        )


def read_plain_pickle(path: Path) -> object:
    """What the pickle holds: builtin containers and numbers, str, bytes, and PlainArray.

    Text of Python 2 comes as bytes.  Raises DataError if the file is empty, cut short, no
    pickle, or asks for anything that is not in the list above.
    """
    with path.open("rb") as stream:
        if not stream.peek(1):
            raise DataError(f"{path}: the file is empty; fetch it again")
        try:
            return _PlainUnpickler(stream, path).load()
        except DataError:
            raise
        except _MALFORMED as error:
            raise DataError(
                f"{path}: not a whole pickle ({error}): its {path.stat().st_size:,} bytes were "
                "cut short or are another kind of file; fetch it again"
            ) from error
