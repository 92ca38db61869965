"""Python processes that a test starts, speaks with, and never leaves behind."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import convgrad

ROOT = Path(convgrad.__file__).parents[1]
SECONDS = 60  # of silence that count as a hang, on a machine that is busy with other tests

# What the children compute: a layer whose y, dx and dw are cut into parts for the pool.
LAYER = """
import numpy as np
import convgrad as cg

def layer(dtype="float32", batch=2, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (batch, 8, 16, 16)).astype(dtype)
    w = rng.integers(-3, 4, (16, 8, 3, 3)).astype(dtype)
    return x, w

def maps(x, w, name="implicit_gemm"):
    y = cg.conv(x, w, algorithm=name)
    dx = cg.input_grad(x.shape, w, y, algorithm=name)
    return y, dx, cg.weight_grad(x, w.shape, y, algorithm=name)

def right(x, w, name="implicit_gemm"):
    got, want = maps(x, w, name), maps(x, w, "direct")
    return all((a == b).all() for a, b in zip(got, want, strict=True))
"""


@contextmanager
def started(text: str, before: str = LAYER, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `text` after `before`; it is killed where the test leaves it running."""
    clean = {k: v for k, v in os.environ.items() if k != "CONVGRAD_NUM_THREADS"}
    program = before + textwrap.dedent(text)
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program],
        env=clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8", start_new_session=True,
    )  # fmt: skip
    watch = Timer(SECONDS, _kill, [process])
    watch.start()
    try:
        yield process
    finally:
        watch.cancel()
        _kill(process)
        process.communicate()


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process, and those that it forked, which would keep its pipes open."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def ended(process: subprocess.Popen[str]) -> str:
    """What the process printed; it must end by itself, with exit code 0 and without a message."""
    out, err = process.communicate(timeout=2 * SECONDS)
    assert (process.returncode, err) == (0, ""), f"exit code {process.returncode}: {err}\n{out}"
    return out


def output(text: str, before: str = LAYER, **env: str) -> str:
    """What a process prints that runs `text` (see `started` and `ended`)."""
    with started(text, before, **env) as process:
        return ended(process)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that the process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
