"""A small pool of threads that wait and work in generated code, without Python's lock.

A job is a function f(arguments, part, scratch) and a number of parts; whoever is free takes the
next part. Parts do not depend on the number of threads, so neither do results. The pool has one
job at a time: a caller that finds it busy does its parts alone, and so does one whose workers are
late, for a worker that has not begun when the last part is taken is not waited for.

A program is jobs one after the other, run by one call into generated code (`pool_code`).

Waiting rests on pthreads; where there are none (Windows), every job is done by its caller.
"""

import atexit
import ctypes
import operator
import os
from contextlib import suppress
from struct import Struct
from threading import Lock, Thread, local
from time import monotonic
from typing import Any, SupportsIndex

import numpy as np

from convgrad import memory
from convgrad.cpu.jit.compiler import POINTER
from convgrad.cpu.jit.pool_code import WORDS, generated
from convgrad.errors import SettingError

SCRATCH = 4 << 20  # bytes that each thread works in
KEPT = 256 << 10  # bytes between the jobs of a program that a thread keeps from call to call
LOOK = 0.05  # seconds between two looks at the affinity mask and the environment
_pack_given = Struct("=6Qd2Q").pack


class Scratch:
    """SCRATCH bytes that begin on a cache line, and KEPT bytes for what jobs leave one another.

    Pages are taken when they are first written.
    """

    def __init__(self) -> None:
        self.array = np.zeros(SCRATCH + KEPT + 64, np.uint8)
        self.address = -(-self.array.ctypes.data // 64) * 64
        self.kept = self.address + SCRATCH


class Pool:
    """Threads that wait for jobs; a caller gives them one and works along.

    What must not be left half done, whatever a signal interrupts, is done in generated code.
    """

    def __init__(self, workers: int) -> None:
        self.posix = ctypes.CDLL(None)
        self.scratch = [Scratch() for _ in range(workers + 1)]
        self.state = np.zeros(64, np.int64)
        self.address = self.state.ctypes.data
        for name, function in (
            ("LOCK", "pthread_mutex_lock"), ("UNLOCK", "pthread_mutex_unlock"),
            ("WAIT", "pthread_cond_wait"), ("WAKE", "pthread_cond_broadcast"),
        ):  # fmt: skip
            found = ctypes.cast(getattr(self.posix, function), POINTER).value
            self.state[WORDS[name]] = found or 0
        self.state[WORDS["SCRATCH"]] = self.scratch[0].address
        self.posix.pthread_mutex_init(self._place("MUTEX"), None)
        self.posix.pthread_cond_init(self._place("WORK"), None)
        self.posix.pthread_cond_init(self._place("DONE"), None)
        self.caller = -1  # the processor that the last job was given from
        self.threads = [
            Thread(target=self._work, args=(own,), daemon=True) for own in self.scratch[1:]
        ]
        for thread in self.threads:
            thread.start()

    def run(self, function: int, arguments: int, parts: int) -> bool:
        """Whether the job was done; if not, the pool has another one."""
        self.make_way()
        return generated().submit(self.address, function, arguments, parts) == 1

    def make_way(self) -> None:
        """Keep the threads off the caller's processor, where Linux likes to wake them.

        They would wait there until the caller has done their work, while others lie idle.
        """
        if not hasattr(os, "sched_setaffinity"):
            return
        here = self.posix.sched_getcpu()
        if here == self.caller:
            return
        self.caller = here
        others = _processors() - {here}
        for thread in self.threads:
            if others and thread.native_id is not None:
                with suppress(OSError):  # the thread has ended, or may not be moved
                    os.sched_setaffinity(thread.native_id, others)

    def stop(self) -> None:
        """Let the threads end when they have no job, and wait until they have."""
        generated().halt(self.address)
        for thread in self.threads:
            thread.join()

    def _work(self, scratch: Scratch) -> None:
        """A thread's life; its frame keeps the memory that it works in, to the very end."""
        generated().worker(self.address, scratch.address)

    def _place(self, name: str) -> Any:
        return POINTER(self.address + 8 * WORDS[name])


class _Own(local):
    """What a calling thread has: its scratch, and what it saw when it last looked.

    Linux gives each thread a mask of its own.
    """

    scratch: Scratch | None = None
    mask: frozenset[int] | None = None
    number = 1
    until = 0.0


class _Current:
    """The pool of this process, made when a job first needs it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.pool: Pool | None = None
        self.asked: int | None = None
        self.own = _Own()

    def close(self) -> None:
        with self.lock:
            pool, self.pool = self.pool, None
        if pool is not None:
            pool.stop()

    def forget(self) -> None:
        """In a forked child: the pool's threads are the parent's."""
        self.lock, self.pool = Lock(), None


_current = _Current()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_current.forget)


def get_num_threads() -> int:
    """How many threads a call may use: set_num_threads, CONVGRAD_NUM_THREADS, or all processors.

    All processors: those that the calling thread may run on now.
    """
    return _current.asked or _default_threads()


def set_num_threads(number: SupportsIndex) -> None:
    """Use `number` threads from now on, this one counted. Results do not depend on it."""
    whole = not isinstance(number, bool | np.bool_) and hasattr(number, "__index__")
    if not whole or operator.index(number) < 1:
        raise SettingError(f"set_num_threads: {number!r} is no number of threads; pass 1 or more")
    number = operator.index(number)
    _current.asked = number  # before the pool is closed, so that no other of the old size is made
    pool = _current.pool
    if pool is not None and len(pool.threads) != number - 1:
        _current.close()


atexit.register(set_num_threads, 1)  # no thread can be started any more


def _default_threads() -> int:
    asked = os.environ.get("CONVGRAD_NUM_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise SettingError(f"CONVGRAD_NUM_THREADS={asked!r} is no number of threads")
        return int(asked)
    return len(_processors())


def _processors() -> frozenset[int]:
    """The processors that this thread may run on; all of them where the system has no masks."""
    if hasattr(os, "sched_getaffinity"):
        with suppress(OSError):
            return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _look(own: _Own) -> None:
    """See how many threads there may be now. A pool whose caller may run elsewhere is made anew."""
    mask = _processors()
    if own.mask is not None and mask != own.mask:
        _current.close()
    own.mask, own.until = mask, monotonic() + LOOK
    own.number = _current.asked or _default_threads()


def run(function: int, arguments: int, parts: int, threaded: bool = True) -> None:
    """f(arguments, part, scratch) for every part, on the pool's threads and this one."""
    pool = _pool() if threaded and parts > 1 else None
    if pool is None or not pool.run(function, arguments, parts):
        generated().serial(function, arguments, parts, _own_scratch().address)


def perform(
    program: int, threaded: bool, between: int, first: int, second: int, out: int, bias: int,
    accumulate: bool, scale: float,
) -> None:  # fmt: skip
    """Run a program on arrays that are given by the places where their addresses stand.

    between: bytes that its jobs leave one another. A program that is not threaded is a matter of
    microseconds, and keeps Python's lock: getting it back can take a thousand times as long.
    """
    own = _current.own.scratch
    if own is None:
        own = _own_scratch()
    kept, pool = own.kept, None
    if between > KEPT:
        large = memory.empty((between,), np.dtype(np.uint8))
        kept = large.ctypes.data
    if threaded:
        pool = _pool()
        if pool is not None:
            pool.make_way()
    run_it = generated().perform if threaded else generated().perform_at_once
    run_it(program, _pack_given(
        first, second, out, bias, kept, accumulate, scale, own.address,
        0 if pool is None else pool.address,
    ))  # fmt: skip


def _pool() -> Pool | None:
    """The threads that work along, or None where the caller is alone."""
    if os.name != "posix":
        return None
    own = _current.own
    if monotonic() >= own.until:
        _look(own)
    number = _current.asked or own.number
    if number == 1:
        return None
    pool = _current.pool
    if pool is None:
        with _current.lock:
            pool = _current.pool
            if pool is None:
                pool = _current.pool = Pool(number - 1)
    return pool


def _own_scratch() -> Scratch:
    own = _current.own
    if own.scratch is None:
        own.scratch = Scratch()
    return own.scratch
