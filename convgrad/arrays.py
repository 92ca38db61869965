"""Arrays in and out: which kinds and dtypes are taken, and how a result gets the input's kind.

NumPy arrays are used as they lie. CPU arrays of PyTorch, JAX and others cross through DLPack or
`__array_interface__` without a copy; PyTorch's bfloat16 crosses as a uint16 view. A framework is
touched only if the caller has imported it already.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from convgrad.errors import ArrayError, DTypeError

FLOATING = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
CPU_DEVICE = 1  # DLPack's kDLCPU

Array = Any  # a NumPy array, or a CPU array of another library


@dataclass(frozen=True)
class Kind:
    """A family of arrays, the way back into it, and how its arrays change their dtype."""

    name: str
    restore: Callable[[np.ndarray], Array]
    cast: str = "{name}.astype(numpy.{dtype})"


NUMPY = Kind("NumPy", lambda array: array)


def to_numpy(call: str, name: str, value: Array) -> tuple[np.ndarray, Kind]:
    """`value` as a NumPy array over the same memory, and its kind.

    Raises ArrayError, with what to do, for what has no CPU memory to look at.
    """
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise ArrayError(f"{call}: {name} is a masked array; pass {name}.filled(0) or its data")
        return np.asarray(value), NUMPY
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and isinstance(value, torch.Tensor):
        return _from_torch(call, name, value, torch)
    if jax is not None and isinstance(value, jax.Array):
        return _from_jax(call, name, value, jax)
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(call, name, value)
    if hasattr(value, "__array_interface__") and not isinstance(value, np.generic):
        return np.asarray(value), NUMPY
    if value is None:
        raise ArrayError(f"{call}: {name} is None; pass an array")
    raise ArrayError(
        f"{call}: {name} is a {type(value).__name__}, not an array; pass numpy.asarray({name})"
    )


def listed(call: str, name: str, value: Any) -> np.ndarray:
    """A nested list of numbers as an array; raises ArrayError where its rows do not fit."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArrayError(f"{call}: {name} is no array: {error}") from None


def _from_torch(call: str, name: str, tensor: Any, torch: Any) -> tuple[np.ndarray, Kind]:
    if tensor.requires_grad:
        raise ArrayError(
            f"{call}: {name} requires grad, and convgrad's functions are not recorded by "
            f"PyTorch's autograd; pass {name}.detach(), or call convgrad from a "
            "torch.autograd.Function"
        )
    if _has_tangent(tensor, torch):
        raise ArrayError(
            f"{call}: {name} carries a forward-mode tangent, which would be lost; "
            "pass its primal, and the tangent to convgrad.jvp"
        )
    if tensor.device.type == "meta":
        raise ArrayError(f"{call}: {name} is on meta, which holds no numbers; pass a CPU tensor")
    if tensor.device.type != "cpu":
        raise ArrayError(f"{call}: {name} is on {tensor.device}; pass {name}.cpu()")
    if tensor.layout != torch.strided:
        raise ArrayError(f"{call}: {name} is {tensor.layout}; pass {name}.to_dense()")
    if name == "out" and (tensor.is_conj() or tensor.is_neg()):
        raise ArrayError(
            f"{call}: out is a view that conjugates or negates what is written; "
            "pass the tensor it was made from"
        )
    kind = Kind("PyTorch", _to_torch, "{name}.to(torch.{dtype})")
    try:
        tensor = tensor.resolve_conj().resolve_neg()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.uint16).numpy().view(bfloat16()), kind
        return tensor.numpy(), kind
    except TypeError as error:
        raise DTypeError(f"{call}: {name} is {tensor.dtype}; {_ask(name, kind)}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ArrayError(f"{call}: {name} holds no numbers that can be read: {reason}") from error


def _has_tangent(tensor: Any, torch: Any) -> bool:
    """Whether a forward-mode tangent would be lost; beneath autograd's dispatch nothing is."""
    autograd = torch._C.DispatchKey.AutogradFunctionality
    beneath = torch._C._dispatch_tls_is_dispatch_key_excluded(autograd)
    return not beneath and torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None


def _to_torch(array: np.ndarray) -> Any:
    torch = sys.modules["torch"]
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _from_jax(call: str, name: str, value: Any, jax: Any) -> tuple[np.ndarray, Kind]:
    if isinstance(value, jax.core.Tracer):
        raise ArrayError(
            f"{call}: {name} is being traced by JAX and has no numbers yet; "
            "call convgrad outside jit and grad, or through jax.pure_callback"
        )
    if any(device.platform != "cpu" for device in value.devices()):
        raise ArrayError(f"{call}: {name} is on {value.devices()}; pass jax.device_get({name})")

    def restore(array: np.ndarray) -> Any:
        result = jax.numpy.asarray(array)
        if result.dtype != array.dtype:
            raise DTypeError(
                f"{call}: JAX would turn the {array.dtype} result into {result.dtype}; "
                "enable jax_enable_x64, as the input was made with it"
            )
        return result

    return np.asarray(value), Kind("JAX", restore, "{name}.astype(jax.numpy.{dtype})")


def _from_dlpack(call: str, name: str, value: Any) -> tuple[np.ndarray, Kind]:
    if not hasattr(value, "__dlpack_device__"):
        raise ArrayError(f"{call}: {name} has __dlpack__ but no __dlpack_device__; pass an array")
    device = value.__dlpack_device__()
    if device[0] != CPU_DEVICE:
        raise ArrayError(
            f"{call}: {name} is on DLPack device {tuple(map(int, device))}, not on the CPU; "
            "copy it to the CPU first"
        )
    try:
        array = np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError) as error:
        raise ArrayError(f"{call}: {name} cannot be read through DLPack: {error}") from error
    if not hasattr(value, "__array_namespace__"):
        return array, NUMPY
    namespace = value.__array_namespace__()
    return array, Kind(getattr(namespace, "__name__", type(value).__name__), namespace.from_dlpack)


def bfloat16() -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def floating_dtype(call: str, name: str, dtype: np.dtype[Any], kind: Kind = NUMPY) -> np.dtype[Any]:
    """The dtype in native byte order; raises DTypeError unless convgrad computes in it."""
    if not _is_floating(dtype):
        raise DTypeError(f"{call}: {name} is {dtype.name}; {_ask(name, kind)}")
    return dtype.newbyteorder("=")


@lru_cache(maxsize=256)
def _is_floating(dtype: np.dtype[Any]) -> bool:
    return dtype.name in FLOATING


def _ask(name: str, kind: Kind) -> str:
    return (
        f"convgrad computes in {', '.join(FLOATING)}: pass "
        f"{kind.cast.format(name=name, dtype='float32')}, "
        "or float64 where integers above 16,777,216 must stay exact"
    )


def dtype_of(call: str, dtype: Any) -> np.dtype[Any]:
    """A dtype by name or object, "bfloat16" included; raises DTypeError for any other."""
    found = None
    if isinstance(dtype, str | np.dtype | type):
        try:
            found = bfloat16() if str(dtype) == "bfloat16" else np.dtype(dtype)
        except TypeError:
            found = None
    if found is None or not _is_floating(found):
        raise DTypeError(f"{call}: dtype={dtype!r}, but it must be one of {', '.join(FLOATING)}")
    return found.newbyteorder("=")


def common_dtype(call: str, arrays: dict[str, np.ndarray], kind: Kind) -> np.dtype[Any]:
    """The one dtype that all arrays have; raises DTypeError naming the two that differ."""
    dtypes = {name: floating_dtype(call, name, a.dtype, kind) for name, a in arrays.items()}
    (first, dtype), *rest = dtypes.items()
    for name, other in rest:
        if other != dtype:
            raise DTypeError(
                f"{call}: {first} is {dtype.name} but {name} is {other.name}; "
                f"pass {kind.cast.format(name=name, dtype=dtype.name)} or the other way round"
            )
    return dtype


def common_kind(call: str, kinds: dict[str, Kind]) -> Kind:
    """The one kind that all operands are of; raises ArrayError naming the two that differ."""
    (first, kind), *rest = kinds.items()
    for name, other in rest:
        if other.name != kind.name:
            raise ArrayError(
                f"{call}: {first} is a {kind.name} array but {name} is a {other.name} array; "
                "pass all of one kind"
            )
    return kind


def native(array: np.ndarray) -> np.ndarray:
    """The array in native byte order (a copy only if it is not)."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_out(call: str, out: np.ndarray, operands: dict[str, np.ndarray | None]) -> None:
    """Raise ArrayError unless `out` can be written without touching an operand."""
    if not out.flags.writeable:
        raise ArrayError(f"{call}: out is read-only; pass a writeable array")
    if _overlaps_itself(out):
        raise ArrayError(f"{call}: cells of out share memory (strides {out.strides}); pass a copy")
    for name, operand in operands.items():
        if operand is not None and share_memory(out, operand):
            raise ArrayError(f"{call}: out overlaps {name} in memory; pass a separate array")


def apart(out: np.ndarray, first: np.ndarray, second: np.ndarray, third: Any = None) -> bool:
    """Whether `out` can be written and lies before or behind each of the other arrays.

    The cheap half of `check_out`, which tells what is wrong, if anything.
    """
    near = np.may_share_memory
    return out.flags.writeable and not (
        near(out, first) or near(out, second) or (third is not None and near(out, third))
    )


def share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have a cell in common; True where finding out would take too long."""
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return np.may_share_memory(a, b)


def _overlaps_itself(array: np.ndarray) -> bool:
    reach = array.itemsize
    axes = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    for step, n in axes:
        if step < reach:
            return array.size > 0
        reach += step * (n - 1)
    return False
