"""The pool of threads: how many, hand-off, many callers, forks, signals, the interpreter's end."""

import os
import signal
import sys
import threading
import time
from ctypes import CDLL, c_void_p, cast
from textwrap import dedent

import numpy as np
import pytest
from child_processes import LAYER, ended, line, output, started

import convgrad as cg
from convgrad.cpu.jit import modules, threads
from convgrad.errors import SettingError

posix = pytest.mark.skipif(os.name != "posix", reason="the pool rests on pthreads")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cg.get_num_threads()
    yield
    cg.set_num_threads(before)


def test_the_number_set_is_the_number_got():
    for number in (3, np.int64(4), 1, 2):
        cg.set_num_threads(number)
        assert cg.get_num_threads() == number


@pytest.mark.parametrize("number", [0, -2, 2.0, "2", None, True], ids=repr)
def test_what_is_no_number_of_threads_is_refused(number):
    before = cg.get_num_threads()
    with pytest.raises(SettingError, match=r"set_num_threads: .* pass 1 or more"):
        cg.set_num_threads(number)
    assert cg.get_num_threads() == before


@posix
def test_the_pool_has_the_number_of_threads_less_the_caller():
    job = Meeting()
    for number in (4, 2, 3):
        cg.set_num_threads(number)
        job.run()
        names = [t for t in threading.enumerate() if t in threads._pool().threads]
        assert len(names) == number - 1
        assert all(t.daemon for t in names)


def test_one_thread_starts_no_pool():
    cg.set_num_threads(1)
    Meeting().run()
    assert threads._current.pool is None


def test_the_environment_sets_the_number():
    text = "import convgrad as cg; print(cg.get_num_threads())"
    assert output(text, before="", CONVGRAD_NUM_THREADS=" 3 ") == "3\n"


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5"])
def test_an_environment_that_is_no_number_is_refused_at_the_first_use(value):
    text = """
    import convgrad as cg
    for call in (cg.get_num_threads, lambda: cg.conv(*layer(), algorithm="implicit_gemm")):
        try:
            call()
        except cg.SettingError as error:
            print(error)
    cg.set_num_threads(2)
    print(cg.get_num_threads())
    """
    sentence = f"CONVGRAD_NUM_THREADS={value!r} is no number of threads\n"
    assert output(text, CONVGRAD_NUM_THREADS=value) == sentence * 2 + "2\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this platform")
def test_the_affinity_mask_is_respected():
    text = """
    import os
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    import convgrad as cg
    print(cg.get_num_threads())
    """
    assert output(text, before="") == "1\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this platform")
def test_a_mask_that_changes_is_respected():
    """The pool goes, and comes back on the processors of the new mask."""
    text = """
    import os, time
    from convgrad.cpu.jit import threads
    allowed = os.sched_getaffinity(0)
    x, w = layer()
    def pool():
        time.sleep(2 * threads.LOOK)
        assert right(x, w)
        return threads._pool()
    for mask in (allowed, {min(allowed)}, allowed, {max(allowed)}):
        os.sched_setaffinity(0, mask)
        found = pool()
        assert cg.get_num_threads() == len(mask)
        assert (0 if found is None else len(found.threads)) == len(mask) - 1
    cg.set_num_threads(3)
    for mask in ({min(allowed)}, {max(allowed)}):
        os.sched_setaffinity(0, mask)
        found = pool()
        assert all(os.sched_getaffinity(t.native_id) == mask for t in found.threads)
    print("done")
    """
    assert output(text) == "done\n"


def test_a_platform_without_affinity_counts_processors(monkeypatch):
    monkeypatch.delenv("CONVGRAD_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert threads._default_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads._default_threads() == 1


def test_a_platform_that_does_not_tell_its_affinity_counts_processors(monkeypatch):
    def denied(_):
        raise OSError("not permitted")

    monkeypatch.delenv("CONVGRAD_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", denied, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert threads._default_threads() == 5


# A part notes when it began and the memory that it works in, then sleeps, so that another thread
# takes the next part, even where there is one processor. Words: clock_gettime, usleep, its
# microseconds, then for each part seconds, nanoseconds and scratch.
MEETING_IR = """
define void @meeting(ptr %args, i64 %part, ptr %scratch) {
entry:
  %clock = load ptr, ptr %args
  %at.sleep = getelementptr i64, ptr %args, i64 1
  %sleep = load ptr, ptr %at.sleep
  %at.long = getelementptr i64, ptr %args, i64 2
  %long = load i32, ptr %at.long
  %three = mul i64 %part, 3
  %place = add i64 %three, 3
  %time = getelementptr i64, ptr %args, i64 %place
  %at.scratch = getelementptr i64, ptr %time, i64 2
  %none = call i32 %clock(i32 1, ptr %time)
  store ptr %scratch, ptr %at.scratch
  %slept = call i32 %sleep(i32 %long)
  ret void
}
"""


class Meeting:
    """A job whose parts say when they began, and on which thread's memory."""

    def __init__(self, parts=2, micros=20_000):
        libc = CDLL(None)
        words = [cast(getattr(libc, n), c_void_p).value for n in ("clock_gettime", "usleep")]
        self.words = np.array([*words, micros, *[0] * 3 * parts], np.int64)
        (self.function,) = modules.functions(MEETING_IR, ("meeting",))
        self.parts = parts

    def run(self):
        """When each part began, in seconds, and the address of its scratch."""
        threads.run(self.function, self.words.ctypes.data, self.parts)
        rows = self.words[3:].reshape(self.parts, 3)
        return rows[:, 0] + rows[:, 1] * 1e-9, rows[:, 2]


clocked = pytest.mark.skipif(sys.platform != "linux", reason="clock number 1 is Linux's")


@clocked
def test_parts_are_shared_among_the_threads():
    job = Meeting(parts=6)
    for number in (2, 3):
        cg.set_num_threads(number)
        assert max(len(set(job.run()[1])) for _ in range(5)) == number
    cg.set_num_threads(1)
    assert len(set(job.run()[1])) == 1


@clocked
def test_a_caller_that_finds_the_pool_busy_works_alone():
    cg.set_num_threads(2)
    long, short = Meeting(micros=400_000), Meeting(parts=3, micros=1000)
    short.run()
    other = threading.Thread(target=long.run)
    other.start()
    time.sleep(0.05)
    scratch = short.run()[1]
    assert other.is_alive()
    assert len(set(scratch)) == 1
    other.join()
    assert not set(scratch) & set(long.words[3:].reshape(2, 3)[:, 2])


@clocked
@pytest.mark.serial
def test_the_hand_off_does_not_wait_for_a_busy_python_thread():
    cg.set_num_threads(2)
    job, stop = Meeting(), threading.Event()
    job.run()
    before = sys.getswitchinterval()

    def busy():
        while not stop.is_set():
            sum(range(1000))

    python = threading.Thread(target=busy)
    sys.setswitchinterval(0.1)  # who waits for the lock waits this long
    try:
        python.start()
        delays = []
        for _ in range(9):
            began, scratch = job.run()
            assert len(set(scratch)) == 2
            delays.append(float(np.ptp(began)))
    finally:
        stop.set()
        sys.setswitchinterval(before)
        python.join()
    assert np.median(delays) < 1e-3, delays


def test_many_python_threads_compute_at_once_while_the_number_changes():
    text = """
    import sys, threading, time
    stop, wrong, done = time.monotonic() + 1.0, [], []
    def go(seed):
        x, w = layer(("float32", "float64")[seed % 2], seed=seed)
        want = maps(x, w, "direct")
        while time.monotonic() < stop:
            if not all((a == b).all() for a, b in zip(maps(x, w), want)):
                wrong.append(seed)
            done.append(seed)
    callers = [threading.Thread(target=go, args=(i,)) for i in range(6)]
    for t in callers: t.start()
    number = 1
    while time.monotonic() < stop:
        number = number % 4 + 1
        cg.set_num_threads(number)
        time.sleep(0.002)
    for t in callers: t.join()
    print(sorted(set(done)), wrong)
    """
    assert output(text) == "[0, 1, 2, 3, 4, 5] []\n"


def test_the_first_calls_may_come_from_many_threads(tmp_path):
    text = """
    import threading
    cg.set_num_threads(3)
    gate, results = threading.Barrier(8), []
    def go(seed):
        x, w = layer(seed=seed)
        gate.wait()
        got = maps(x, w)
        want = maps(x, w, "direct")
        results.append(all((a == b).all() for a, b in zip(got, want)))
    callers = [threading.Thread(target=go, args=(i,)) for i in range(8)]
    for t in callers: t.start()
    for t in callers: t.join()
    print(results == [True] * 8)
    """
    assert output(text, CONVGRAD_CACHE_DIR=str(tmp_path / "kernels")) == "True\n"


COMPUTING = """
import multiprocessing, os, sys, threading, time

def computing():
    def go(seed):
        x, w = layer(seed=seed)
        while True:
            maps(x, w)
    for i in range(3):
        threading.Thread(target=go, args=(i,), daemon=True).start()
    time.sleep(0.1)

def wait(pid):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    return "hangs"
"""


@forks
def test_a_fork_while_threads_compute():
    text = """
    cg.set_num_threads(3)
    computing()
    x, w = layer(seed=7)
    want = maps(x, w, "direct")
    codes = []
    for i in range(8):
        pid = os.fork()
        if pid == 0:
            same = all((a == b).all() for a, b in zip(maps(x, w), want))
            cg.set_num_threads(2)
            os._exit(0 if same and right(*layer(seed=i)) else 3)
        codes.append(wait(pid))
    print(codes, right(x, w))
    """
    assert output(text, LAYER + COMPUTING) == "[0, 0, 0, 0, 0, 0, 0, 0] True\n"


@forks
def test_a_fork_with_a_pool_that_waits_and_a_child_that_ends_like_a_program():
    text = """
    cg.set_num_threads(2)
    maps(*layer())
    pid = os.fork()
    if pid == 0:
        sys.exit(0 if right(*layer(seed=3)) and len(threading.enumerate()) == 2 else 3)
    print(wait(pid), right(*layer()))
    """
    assert output(text, LAYER + COMPUTING) == "0 True\n"


@forks
def test_a_fork_waits_for_a_kernel_that_is_being_compiled(tmp_path):
    text = """
    from convgrad.cpu.jit import compiler, modules
    maps(*layer())
    steps = [f"  %v{i} = fadd double %v{i - 1}, %x" for i in range(1, 12000)]
    head = ["define double @long(double %x) {", "  %v0 = fadd double %x, %x"]
    kernel = chr(10).join([*head, *steps, "  ret double %v11999", "}"])
    started = threading.Event()
    original = compiler.compile_text
    def compiling(text, where):
        started.set()
        return original(text, where)
    compiler.compile_text = compiling
    def compile_it():
        texts = [kernel, kernel.replace("fadd", "fmul")]
        modules.made([modules.Module((text,), lambda t=text: t) for text in texts], 2)
    other = threading.Thread(target=compile_it)
    other.start()
    started.wait()
    time.sleep(0.05)
    print(other.is_alive())
    pid = os.fork()
    if pid == 0:  # nothing of this is compiled yet
        os._exit(0 if right(*layer("float64")) else 3)
    print(wait(pid))
    other.join()
    """
    env = {"CONVGRAD_CACHE_DIR": str(tmp_path / "kernels")}
    assert output(text, LAYER + COMPUTING, **env) == "True\n0\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_while_threads_compute(method, tmp_path):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("the platform has no fork")
    text = f"""
    def work(seed):
        return right(*layer(seed=seed))
    if __name__ == "__main__":
        cg.set_num_threads(2)
        computing()
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            print(pool.map(work, range(4)), right(*layer()))
    """
    program = tmp_path / "program.py"  # a file, for spawn imports it again
    program.write_text(LAYER + COMPUTING + dedent(text), encoding="utf-8")
    text = f"import os, sys; os.execv(sys.executable, [sys.executable, {str(program)!r}])"
    assert output(text, before="") == "[True, True, True, True] True\n"


def test_the_interpreter_ends_while_the_pool_waits():
    text = """
    import threading
    cg.set_num_threads(4)
    print(right(*layer()), len(threading.enumerate()))
    """
    assert output(text) == "True 4\n"


def test_the_interpreter_ends_while_daemon_threads_compute():
    text = "cg.set_num_threads(3)\nmaps(*layer())\ncomputing()\nprint('end')\n"
    for _ in range(5):
        assert output(text, LAYER + COMPUTING) == "end\n"


def test_calls_work_while_the_interpreter_ends():
    text = """
    import atexit
    import sys
    import threading
    x, w = layer()
    want = maps(x, w, "direct")
    def late():
        same = all((a == b).all() for a, b in zip(maps(x, w), want))
        print(same, threading.active_count())
    cg.set_num_threads(2)
    maps(x, w)
    print(threading.active_count())
    atexit._run_exitfuncs()
    late()
    """
    assert output(text) == "2\nTrue 1\n"


@posix
def test_a_killed_process_leaves_a_cache_that_works(tmp_path):
    env = {"CONVGRAD_CACHE_DIR": str(tmp_path / "kernels"), "CONVGRAD_NUM_THREADS": "2"}
    text = "print('go')\nwhile True:\n    maps(*layer('float64')); print('on')\n"
    for words in (1, 2):  # in the middle of filling the cache, and of computing
        with started(text, **env) as process:
            assert [line(process) for _ in range(words)][-1] in ("go", "on")
            process.kill()
            process.wait(timeout=60)
            assert process.returncode == -signal.SIGKILL
    assert output("print(right(*layer('float64')))", **env) == "True\n"


@posix
def test_ctrl_c_ends_a_loop_of_calls():
    text = """
    cg.set_num_threads(2)
    x, w = layer()
    maps(x, w)
    print("go")
    while True:
        maps(x, w)
    """
    with started(text) as process:
        assert line(process) == "go"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode in (-signal.SIGINT, 130)


@posix
def test_calls_work_after_ctrl_c_was_caught():
    text = """
    cg.set_num_threads(2)
    x, w = layer()
    want = maps(x, w, "direct")
    for _ in range(20):
        try:
            print("go")
            while True:
                maps(x, w)
        except KeyboardInterrupt:
            print(all((a == b).all() for a, b in zip(maps(x, w), want)))
    """
    with started(text) as process:
        for i in range(20):
            assert line(process) == "go"
            time.sleep(0.001 * i)
            process.send_signal(signal.SIGINT)
            assert line(process) == "True"
        ended(process)


@posix
def test_thousands_of_interrupts_do_not_take_the_pool_away():
    # A lock that was taken in Python stays locked where the interrupt comes before the `try`.
    text = """
    import signal, time
    from convgrad.cpu.jit import threads
    cg.set_num_threads(2)
    x, w = layer()
    want = cg.conv(x, w, algorithm="direct")
    cg.conv(x, w, algorithm="implicit_gemm")
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    caught, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, 20e-6 + 2e-6 * (caught % 97))
            while True:
                cg.conv(x, w, algorithm="implicit_gemm")
        except KeyboardInterrupt:
            caught += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    pool = threads._pool()
    print(caught > 500, pool.state[threads.WORDS["BUSY"]], len(pool.threads))
    print((cg.conv(x, w, algorithm="implicit_gemm") == want).all())
    """
    assert output(text) == "True 0 1\nTrue\n"
