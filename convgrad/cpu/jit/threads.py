"""A small pool of threads that wait and work in generated code, without Python's lock.

A job is a function f(arguments, part, scratch) and a number of parts; whoever is free takes the
next part. Parts do not depend on the number of threads, so neither do results. The pool has one
job at a time: a caller that finds it busy does its parts alone, and so does one whose workers are
late, for a worker that has not begun when the last part is taken is not waited for.

Waiting rests on pthreads; where there are none (Windows), every job is done by its caller.
"""

import atexit
import ctypes
import operator
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Lock, Thread, local
from typing import Any, SupportsIndex

import numpy as np

from convgrad.cpu.jit import compiler
from convgrad.errors import SettingError

SCRATCH = 4 << 20  # bytes that each thread works in
SPINS = 400
# Places in the pool's state, in words of 8 bytes; the mutex and each condition have 128 bytes.
WORDS = {
    "GENERATION": 0, "OPEN": 1, "ACTIVE": 2, "NEXT": 3, "PARTS": 4, "FUNCTION": 5,
    "ARGUMENTS": 6, "STOP": 7, "BUSY": 8, "MUTEX": 16, "WORK": 32, "DONE": 48,
}  # fmt: skip

POOL_IR = """
define internal void @take(ptr %state, ptr %scratch) {
entry:
  %at.next = getelementptr i64, ptr %state, i64 NEXT
  %at.parts = getelementptr i64, ptr %state, i64 PARTS
  %at.function = getelementptr i64, ptr %state, i64 FUNCTION
  %at.arguments = getelementptr i64, ptr %state, i64 ARGUMENTS
  %parts = load i64, ptr %at.parts
  %function = load ptr, ptr %at.function
  %arguments = load ptr, ptr %at.arguments
  br label %again
again:
  %part = atomicrmw add ptr %at.next, i64 1 seq_cst
  %left = icmp slt i64 %part, %parts
  br i1 %left, label %work, label %end
work:
  call void %function(ptr %arguments, i64 %part, ptr %scratch)
  br label %again
end:
  ret void
}

; wait while the word at %place is %old, but not for long
define internal void @spin(ptr %place, i64 %old) {
entry:
  br label %look
look:
  %turn = phi i64 [ 0, %entry ], [ %following, %pause ]
  %now = load atomic i64, ptr %place seq_cst, align 8
  %same = icmp eq i64 %now, %old
  %patient = icmp slt i64 %turn, SPINS
  %go = and i1 %same, %patient
  %following = add i64 %turn, 1
  br i1 %go, label %pause, label %end
pause:
  PAUSE
  br label %look
end:
  ret void
}

define void @worker(ptr %state, ptr %scratch, ptr %lock, ptr %unlock, ptr %wait, ptr %wake) {
entry:
  %at.generation = getelementptr i64, ptr %state, i64 GENERATION
  %at.open = getelementptr i64, ptr %state, i64 OPEN
  %at.active = getelementptr i64, ptr %state, i64 ACTIVE
  %at.stop = getelementptr i64, ptr %state, i64 STOP
  %mutex = getelementptr i64, ptr %state, i64 MUTEX
  %work = getelementptr i64, ptr %state, i64 WORK
  %done = getelementptr i64, ptr %state, i64 DONE
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %now, %late ], [ %now, %finished ]
  call void @spin(ptr %at.generation, i64 %seen)
  call i32 %lock(ptr %mutex)
  br label %look
look:
  %now = load atomic i64, ptr %at.generation seq_cst, align 8
  %stop = load atomic i64, ptr %at.stop seq_cst, align 8
  %new = icmp ne i64 %now, %seen
  %over = icmp ne i64 %stop, 0
  %go = or i1 %new, %over
  br i1 %go, label %awake, label %sleep
sleep:
  call i32 %wait(ptr %work, ptr %mutex)
  br label %look
awake:
  br i1 %over, label %end, label %arrive
arrive:
  %open = load atomic i64, ptr %at.open seq_cst, align 8
  %is.open = icmp ne i64 %open, 0
  br i1 %is.open, label %job, label %late
late:
  call i32 %unlock(ptr %mutex)
  br label %idle
job:
  %more = atomicrmw add ptr %at.active, i64 1 seq_cst
  call i32 %unlock(ptr %mutex)
  call void @take(ptr %state, ptr %scratch)
  call i32 %lock(ptr %mutex)
  %before = atomicrmw sub ptr %at.active, i64 1 seq_cst
  %last = icmp eq i64 %before, 1
  br i1 %last, label %tell, label %finished.locked
tell:
  call i32 %wake(ptr %done)
  br label %finished.locked
finished.locked:
  call i32 %unlock(ptr %mutex)
  br label %finished
finished:
  br label %idle
end:
  call i32 %unlock(ptr %mutex)
  ret void
}

define void @serial(ptr %function, ptr %arguments, i64 %parts, ptr %scratch) {
entry:
  br label %next
next:
  %part = phi i64 [ 0, %entry ], [ %following, %next ]
  call void %function(ptr %arguments, i64 %part, ptr %scratch)
  %following = add i64 %part, 1
  %more = icmp slt i64 %following, %parts
  br i1 %more, label %next, label %end
end:
  ret void
}

; 1 if the job was done, 0 if the pool has another one
define i64 @submit(ptr %state, ptr %function, ptr %arguments, i64 %parts, ptr %scratch,
                    ptr %lock, ptr %unlock, ptr %wait, ptr %wake) {
entry:
  %at.generation = getelementptr i64, ptr %state, i64 GENERATION
  %at.open = getelementptr i64, ptr %state, i64 OPEN
  %at.active = getelementptr i64, ptr %state, i64 ACTIVE
  %at.next = getelementptr i64, ptr %state, i64 NEXT
  %at.parts = getelementptr i64, ptr %state, i64 PARTS
  %at.function = getelementptr i64, ptr %state, i64 FUNCTION
  %at.arguments = getelementptr i64, ptr %state, i64 ARGUMENTS
  %at.busy = getelementptr i64, ptr %state, i64 BUSY
  %mutex = getelementptr i64, ptr %state, i64 MUTEX
  %work = getelementptr i64, ptr %state, i64 WORK
  %done = getelementptr i64, ptr %state, i64 DONE
  %other = atomicrmw xchg ptr %at.busy, i64 1 seq_cst
  %free = icmp eq i64 %other, 0
  br i1 %free, label %begin, label %refuse
refuse:
  ret i64 0
begin:
  call i32 %lock(ptr %mutex)
  store i64 %parts, ptr %at.parts
  store ptr %function, ptr %at.function
  store ptr %arguments, ptr %at.arguments
  store i64 0, ptr %at.next
  store i64 1, ptr %at.open
  %old = atomicrmw add ptr %at.generation, i64 1 seq_cst
  call i32 %unlock(ptr %mutex)
  call i32 %wake(ptr %work)
  call void @take(ptr %state, ptr %scratch)
  call i32 %lock(ptr %mutex)
  store i64 0, ptr %at.open
  call i32 %unlock(ptr %mutex)
  %soon = load atomic i64, ptr %at.active seq_cst, align 8
  %none = icmp eq i64 %soon, 0
  br i1 %none, label %leave, label %patience
patience:
  call void @spin(ptr %at.active, i64 %soon)
  call i32 %lock(ptr %mutex)
  br label %check
check:
  %active = load atomic i64, ptr %at.active seq_cst, align 8
  %some = icmp ne i64 %active, 0
  br i1 %some, label %sleep, label %end
sleep:
  call i32 %wait(ptr %done, ptr %mutex)
  br label %check
end:
  call i32 %unlock(ptr %mutex)
  br label %leave
leave:
  store atomic i64 0, ptr %at.busy seq_cst, align 8
  ret i64 1
}

define void @halt(ptr %state, ptr %lock, ptr %unlock, ptr %wake) {
entry:
  %at.stop = getelementptr i64, ptr %state, i64 STOP
  %mutex = getelementptr i64, ptr %state, i64 MUTEX
  %work = getelementptr i64, ptr %state, i64 WORK
  call i32 %lock(ptr %mutex)
  store atomic i64 1, ptr %at.stop seq_cst, align 8
  call i32 %wake(ptr %work)
  call i32 %unlock(ptr %mutex)
  ret void
}
"""
PAUSE = {
    "x86": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "arm": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
}
POINTER = ctypes.c_void_p


@cache
def _generated() -> tuple[Callable[..., None], ...]:
    """worker, submit, halt and serial."""
    call, declaration = PAUSE["arm" if compiler.target().level == "neon" else "x86"]
    text = (POOL_IR + declaration).replace("PAUSE", call).replace("SPINS", str(SPINS))
    for name, place in WORDS.items():
        text = text.replace(f"i64 {name}\n", f"i64 {place}\n")
    names = ("worker", "submit", "halt", "serial")
    worker, submit, halt, serial = compiler.functions(text, names)
    return (
        ctypes.CFUNCTYPE(None, *[POINTER] * 6)(worker),
        ctypes.CFUNCTYPE(ctypes.c_int64, *[POINTER] * 3, ctypes.c_int64, *[POINTER] * 5)(submit),
        ctypes.CFUNCTYPE(None, *[POINTER] * 4)(halt),
        ctypes.CFUNCTYPE(None, POINTER, POINTER, ctypes.c_int64, POINTER)(serial),
    )


class Scratch:
    """SCRATCH bytes that begin on a cache line; pages are taken when they are first written."""

    def __init__(self) -> None:
        self.array = np.zeros(SCRATCH + 64, np.uint8)
        self.address = -(-self.array.ctypes.data // 64) * 64


class Pool:
    """Threads that wait for jobs; `run` gives them one and works along.

    What must not be left half done, whatever a signal interrupts, is done in generated code.
    """

    def __init__(self, workers: int) -> None:
        self.posix = ctypes.CDLL(None)
        self.waiting = [
            ctypes.cast(getattr(self.posix, name), POINTER).value
            for name in (
                "pthread_mutex_lock", "pthread_mutex_unlock",
                "pthread_cond_wait", "pthread_cond_broadcast",
            )
        ]  # fmt: skip
        self.state = np.zeros(64, np.int64)
        self.posix.pthread_mutex_init(self._place("MUTEX"), None)
        self.posix.pthread_cond_init(self._place("WORK"), None)
        self.posix.pthread_cond_init(self._place("DONE"), None)
        self.scratch = [Scratch() for _ in range(workers + 1)]
        self.caller = -1  # the processor that the last job was given from
        self.worker, self.submit, self.halt, _ = _generated()
        self.threads = [
            Thread(target=self._work, args=(own,), daemon=True) for own in self.scratch[1:]
        ]
        for thread in self.threads:
            thread.start()

    def run(self, function: int, arguments: int, parts: int) -> bool:
        """Whether the job was done; if not, the pool has another one."""
        self._make_way()
        done = self.submit(
            self.state.ctypes.data, function, arguments, parts, self.scratch[0].address,
            *self.waiting,
        )  # fmt: skip
        return done == 1

    def _make_way(self) -> None:
        """Keep the threads off the caller's processor, where Linux likes to wake them.

        They would wait there until the caller has done their work, while others lie idle.
        """
        if not hasattr(os, "sched_setaffinity"):
            return
        here = self.posix.sched_getcpu()
        if here == self.caller:
            return
        self.caller = here
        others = os.sched_getaffinity(0) - {here}
        for thread in self.threads:
            if others and thread.native_id is not None:
                with suppress(OSError):  # the thread has ended, or may not be moved
                    os.sched_setaffinity(thread.native_id, others)

    def stop(self) -> None:
        """Let the threads end when they have no job, and wait until they have."""
        lock, unlock, _, wake = self.waiting
        self.halt(self.state.ctypes.data, lock, unlock, wake)
        for thread in self.threads:
            thread.join()

    def _work(self, scratch: Scratch) -> None:
        """A thread's life; its frame keeps the memory that it works in, to the very end."""
        self.worker(self.state.ctypes.data, scratch.address, *self.waiting)

    def _place(self, name: str) -> Any:
        return POINTER(self.state.ctypes.data + 8 * WORDS[name])


class _Current:
    """The pool of this process, made when a job first needs it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.pool: Pool | None = None
        self.asked: int | None = None
        self.own = local()

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
    """How many threads a call may use: set_num_threads, CONVGRAD_NUM_THREADS, or all processors."""
    if _current.asked is not None:
        return _current.asked
    return _default_threads(os.environ.get("CONVGRAD_NUM_THREADS", "").strip())


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


@cache
def _default_threads(asked: str) -> int:
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise SettingError(f"CONVGRAD_NUM_THREADS={asked!r} is no number of threads")
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(function: int, arguments: int, parts: int, threaded: bool = True) -> None:
    """f(arguments, part, scratch) for every part, on the pool's threads and this one."""
    if (
        threaded and parts > 1 and os.name == "posix" and get_num_threads() > 1
        and _pool().run(function, arguments, parts)
    ):  # fmt: skip
        return
    if parts:
        serial, scratch = _generated()[3], _own_scratch()
        serial(function, arguments, parts, scratch.address)


def _pool() -> Pool:
    pool = _current.pool
    if pool is None:
        with _current.lock:
            pool = _current.pool
            if pool is None:
                pool = _current.pool = Pool(get_num_threads() - 1)
    return pool


def _own_scratch() -> Scratch:
    own = _current.own
    if not hasattr(own, "scratch"):
        own.scratch = Scratch()
    return own.scratch
