"""What is timed: convgrad itself, and the libraries beside it, one file for each.

`installed` gives the peers that are there, ready for a number of threads, and a sentence for each
that is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from convgrad.bench.peers import jax_jit, pytorch, scipy_fft
from convgrad.bench.peers.library import Library
from convgrad.errors import SettingError

MODULES = {"PyTorch": "torch", "JAX": "jax", "SciPy": "scipy"}
MAKERS = {"PyTorch": pytorch.libraries, "JAX": jax_jit.libraries, "SciPy": scipy_fft.libraries}


def names(text: str) -> tuple[str, ...]:
    """`pytorch,jax` → the peers' names as they write them; `none` → no peers, `all` → all."""
    if text in ("all", "none"):
        return tuple(MODULES) if text == "all" else ()
    known = {name.lower(): name for name in MODULES}
    words = [word.strip().lower() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise SettingError(f"--peers is {text!r}; choose from {', '.join(known)}, all or none")
    return tuple(known[word] for word in words)


def installed(wanted: Sequence[str], threads: int) -> tuple[list[Library], dict[str, str]]:
    """The wanted libraries that are installed, and why each other one is left out."""
    found, missing = [], {}
    for name in wanted:
        if find_spec(MODULES[name]) is None:
            missing[name] = f"{name} is not installed, so convgrad is not compared with it"
        else:
            found += MAKERS[name](threads)
    return found, missing
