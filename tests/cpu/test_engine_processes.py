"""Threads, forks, signals and exits around the engine: no hang, no crash, no wrong number."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import convgrad as cg

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (4, 16, 20, 20)).astype(np.float32)
W = RNG.integers(-3, 4, (24, 16, 3, 3)).astype(np.float32)

LAYER = """
import sys, threading, time
import numpy as np
import convgrad as cg
x, w = np.ones((4, 16, 40, 40), np.float32), np.ones((24, 16, 3, 3), np.float32)
def layer():
    return cg.conv(x, w, algorithm="implicit_gemm")
expected = layer()
"""


def layer():
    return cg.conv(X, W, padding=1, algorithm="implicit_gemm")


def program(text, **env):
    """A program that runs the layer, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", LAYER + textwrap.dedent(text)], cwd=ROOT, timeout=60,
        capture_output=True, encoding="utf-8", check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CONVGRAD_NUM_THREADS": "2", **env},
    )  # fmt: skip


@pytest.fixture
def two_threads():
    before = cg.get_num_threads()
    cg.set_num_threads(2)
    yield
    cg.set_num_threads(before)


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", True])
def test_a_number_of_threads_that_is_none_is_refused(number):
    with pytest.raises(cg.SettingError, match="set_num_threads"):
        cg.set_num_threads(number)


@pytest.mark.parametrize(("asked", "words"), [("3", "3"), ("0", "SettingError"), ("x", "'x'")])
def test_the_environment_decides_how_many_threads_there_are(asked, words):
    done = program("print(cg.get_num_threads())", CONVGRAD_NUM_THREADS=asked)
    assert words in done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity to set")
def test_the_affinity_mask_is_respected():
    done = program(
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(cg.get_num_threads())",
        CONVGRAD_NUM_THREADS="",
    )
    cores = len(os.sched_getaffinity(0))
    assert done.stdout.strip() in ("1", str(cores)), done.stderr  # cached before the mask: cores


@pytest.mark.usefixtures("two_threads")
def test_many_callers_at_once():
    expected, wrong = layer(), []

    def call():
        for _ in range(100):
            if not np.array_equal(layer(), expected):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def in_child(expected, queue):
    queue.put(all(np.array_equal(layer(), expected) for _ in range(5)))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.usefixtures("two_threads")
def test_a_process_started_in_the_middle_computes_too(method):
    expected, context = layer(), multiprocessing.get_context(method)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            layer()

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(3 if method == "fork" else 1):
            queue = context.Queue()
            child = context.Process(target=in_child, args=(expected, queue))
            child.start()
            assert queue.get(timeout=60)
            child.join(60)
            assert child.exitcode == 0
    finally:
        stop.set()
        other.join(60)


@pytest.mark.parametrize("still", ["pass", "threading.Thread(target=forever, daemon=True).start()"])
def test_an_interpreter_ends_while_threads_wait_or_work(still):
    done = program(f"""
        def forever():
            while True:
                layer()
        {still}
        time.sleep(0.1)
        assert (layer() == expected).all()
        print("done")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent")
def test_ctrl_c_ends_a_loop_of_calls_and_nothing_else():
    text = textwrap.dedent("""
        try:
            print("ready", flush=True)
            while True:
                layer()
        except KeyboardInterrupt:
            assert (layer() == expected).all()
            print("stopped")
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", LAYER + text], cwd=ROOT, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CONVGRAD_NUM_THREADS": "2"},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    said, complaint = child.communicate(timeout=60)
    assert (child.returncode, said, complaint) == (0, "stopped\n", "")


def test_without_llvmlite_the_reference_algorithms_run_and_say_so_once():
    done = subprocess.run(
        [
            sys.executable, "-c",
            "import sys; sys.modules['llvmlite'] = None\n" + LAYER.replace(
                ', algorithm="implicit_gemm"', ""
            ) + "layer()\nassert (expected == 16 * 9).all()\n"
            "try:\n    cg.conv(x, w, algorithm='implicit_gemm')\n"
            "except cg.AlgorithmError as error:\n    print(error)\n",
        ],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr.count("RuntimeWarning") == 1
    assert "the slower reference algorithms run instead" in done.stderr
    assert "implicit_gemm declines this: llvmlite cannot be loaded" in done.stdout


def test_importing_convgrad_does_not_load_llvmlite():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, convgrad; print('llvmlite' in sys.modules)"],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "False\n"
