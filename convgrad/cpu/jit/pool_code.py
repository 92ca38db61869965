"""The generated code of the pool: how threads wait and work without Python's lock.

A program is jobs one after the other, laid out in memory once (`STEP`) and then run by one call:
`perform` copies each job's arguments to its stack, fills in what differs from call to call
(`GIVEN`), and runs all parts. So callers on many threads share a program.
"""

import ctypes
import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from convgrad.cpu.jit import compiler, modules
from convgrad.cpu.jit.compiler import POINTER

SPINS = 400  # looks before a thread goes to sleep: some ten microseconds
# Places in the pool's state, in words of 8 bytes; the mutex and each condition have 128 bytes.
WORDS = {
    "GENERATION": 0, "OPEN": 1, "ACTIVE": 2, "NEXT": 3, "PARTS": 4, "FUNCTION": 5,
    "ARGUMENTS": 6, "STOP": 7, "BUSY": 8, "LOCK": 9, "UNLOCK": 10, "WAIT": 11, "WAKE": 12,
    "SCRATCH": 13, "MUTEX": 16, "WORK": 32, "DONE": 48,
}  # fmt: skip
# The words of a step of a program; one whose function is 0 ends it. Template: the arguments, padded
# to whole eights; fills: COUNT times (word of the arguments, number in GIVEN, bytes to add).
STEP = {
    "FUNCTION_OF_STEP": 0, "PARTS_OF_STEP": 1, "THREADED": 2, "TEMPLATE": 3, "LENGTH": 4,
    "FILLS": 5, "COUNT": 6,
}  # fmt: skip
ROOM = 96  # words of arguments that a kernel may have
# The words that a call gives to a program. An array is given as the place where its address stands.
GIVEN = {
    "FIRST": 0, "SECOND": 1, "OUT": 2, "BIAS": 3, "BETWEEN": 4, "ACCUMULATE": 5, "SCALE": 6,
    "OWN": 7, "POOL": 8,
}  # fmt: skip
ARRAYS = 4  # the first four of them are arrays

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

define void @worker(ptr %state, ptr %scratch) {
entry:
  %at.lock = getelementptr i64, ptr %state, i64 LOCK
  %at.unlock = getelementptr i64, ptr %state, i64 UNLOCK
  %at.wait = getelementptr i64, ptr %state, i64 WAIT
  %at.wake = getelementptr i64, ptr %state, i64 WAKE
  %lock = load ptr, ptr %at.lock
  %unlock = load ptr, ptr %at.unlock
  %wait = load ptr, ptr %at.wait
  %wake = load ptr, ptr %at.wake
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

; the jobs of a program in order
define void @perform(ptr %program, ptr %given) {
entry:
  %arguments = alloca [ROOM x i64], align 64
  %values = alloca [VALUES x i64]
  br label %resolve
resolve:
  %index = phi i64 [ 0, %entry ], [ %index.next, %resolved ]
  %at.given = getelementptr i64, ptr %given, i64 %index
  %plain = load i64, ptr %at.given
  %is.array = icmp slt i64 %index, ARRAYS
  br i1 %is.array, label %array, label %resolved
array:
  %place = inttoptr i64 %plain to ptr
  %address = load i64, ptr %place
  br label %resolved
resolved:
  %value = phi i64 [ %plain, %resolve ], [ %address, %array ]
  %at.value = getelementptr i64, ptr %values, i64 %index
  store i64 %value, ptr %at.value
  %index.next = add i64 %index, 1
  %unresolved = icmp slt i64 %index.next, VALUES
  br i1 %unresolved, label %resolve, label %begin
begin:
  %at.scratch = getelementptr i64, ptr %given, i64 OWN
  %at.pool = getelementptr i64, ptr %given, i64 POOL
  %scratch = load ptr, ptr %at.scratch
  %pool = load ptr, ptr %at.pool
  %pooled = icmp ne ptr %pool, null
  br label %next
next:
  %step = phi ptr [ %program, %begin ], [ %step.next, %done ]
  %at.parts = getelementptr i64, ptr %step, i64 PARTS_OF_STEP
  %at.threaded = getelementptr i64, ptr %step, i64 THREADED
  %at.template = getelementptr i64, ptr %step, i64 TEMPLATE
  %at.words = getelementptr i64, ptr %step, i64 LENGTH
  %at.fills = getelementptr i64, ptr %step, i64 FILLS
  %at.count = getelementptr i64, ptr %step, i64 COUNT
  %function = load ptr, ptr %step
  %last = icmp eq ptr %function, null
  br i1 %last, label %end, label %prepare
prepare:
  %parts = load i64, ptr %at.parts
  %threaded = load i64, ptr %at.threaded
  %template = load ptr, ptr %at.template
  %words = load i64, ptr %at.words
  %fills = load ptr, ptr %at.fills
  %count = load i64, ptr %at.count
  br label %copy
copy:
  %word = phi i64 [ 0, %prepare ], [ %word.next, %copy ]
  %from = getelementptr i64, ptr %template, i64 %word
  %to = getelementptr i64, ptr %arguments, i64 %word
  %eight = load <8 x i64>, ptr %from, align 8
  store <8 x i64> %eight, ptr %to, align 8
  %word.next = add i64 %word, 8
  %more.words = icmp slt i64 %word.next, %words
  br i1 %more.words, label %copy, label %fill
fill:
  %entry.number = phi i64 [ 0, %copy ], [ %entry.next, %filling ]
  %unfilled = icmp slt i64 %entry.number, %count
  br i1 %unfilled, label %filling, label %run
filling:
  %three = mul i64 %entry.number, 3
  %at.word = getelementptr i64, ptr %fills, i64 %three
  %at.which = getelementptr i64, ptr %at.word, i64 1
  %at.offset = getelementptr i64, ptr %at.word, i64 2
  %field = load i64, ptr %at.word
  %which = load i64, ptr %at.which
  %offset = load i64, ptr %at.offset
  %at.base = getelementptr i64, ptr %values, i64 %which
  %base = load i64, ptr %at.base
  %filled = add i64 %base, %offset
  %at.field = getelementptr i64, ptr %arguments, i64 %field
  store i64 %filled, ptr %at.field
  %entry.next = add i64 %entry.number, 1
  br label %fill
run:
  %wide = icmp sgt i64 %parts, 1
  %apt = icmp ne i64 %threaded, 0
  %both = and i1 %wide, %apt
  %shared = and i1 %both, %pooled
  br i1 %shared, label %share, label %alone
share:
  %given.away = call i64 @submit(ptr %pool, ptr %function, ptr %arguments, i64 %parts)
  %was.done = icmp ne i64 %given.away, 0
  br i1 %was.done, label %done, label %alone
alone:
  call void @serial(ptr %function, ptr %arguments, i64 %parts, ptr %scratch)
  br label %done
done:
  %step.next = getelementptr i64, ptr %step, i64 STEP_WORDS
  br label %next
end:
  ret void
}

define void @serial(ptr %function, ptr %arguments, i64 %parts, ptr %scratch) {
entry:
  %some = icmp sgt i64 %parts, 0
  br i1 %some, label %next, label %end
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
define i64 @submit(ptr %state, ptr %function, ptr %arguments, i64 %parts) {
entry:
  %at.lock = getelementptr i64, ptr %state, i64 LOCK
  %at.unlock = getelementptr i64, ptr %state, i64 UNLOCK
  %at.wait = getelementptr i64, ptr %state, i64 WAIT
  %at.wake = getelementptr i64, ptr %state, i64 WAKE
  %at.scratch = getelementptr i64, ptr %state, i64 SCRATCH
  %lock = load ptr, ptr %at.lock
  %unlock = load ptr, ptr %at.unlock
  %wait = load ptr, ptr %at.wait
  %wake = load ptr, ptr %at.wake
  %scratch = load ptr, ptr %at.scratch
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

define void @halt(ptr %state) {
entry:
  %at.lock = getelementptr i64, ptr %state, i64 LOCK
  %at.unlock = getelementptr i64, ptr %state, i64 UNLOCK
  %at.wake = getelementptr i64, ptr %state, i64 WAKE
  %lock = load ptr, ptr %at.lock
  %unlock = load ptr, ptr %at.unlock
  %wake = load ptr, ptr %at.wake
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


class Generated(NamedTuple):
    """The functions of POOL_IR. Two ways into `perform`: with Python's lock let go, or held."""

    worker: Callable[[int, int], None]
    submit: Callable[[int, int, int, int], int]
    halt: Callable[[int], None]
    serial: Callable[[int, int, int, int], None]
    perform: Callable[[int, bytes], None]
    perform_at_once: Callable[[int, bytes], None]


@cache
def generated() -> Generated:
    """The functions, compiled or from the cache."""
    call, declaration = PAUSE["arm" if compiler.target().level == "neon" else "x86"]
    text = (POOL_IR + declaration).replace("PAUSE", call)
    numbers = {**WORDS, **GIVEN, **STEP, "SPINS": SPINS, "ROOM": ROOM, "ARRAYS": ARRAYS}
    for name, number in (numbers | {"VALUES": len(GIVEN), "STEP_WORDS": len(STEP)}).items():
        text = re.sub(rf"\b{name}\b", str(number), text)
    worker, submit, halt, serial, perform = modules.functions(
        text, ("worker", "submit", "halt", "serial", "perform")
    )
    number = ctypes.c_int64
    return Generated(
        ctypes.CFUNCTYPE(None, POINTER, POINTER)(worker),
        ctypes.CFUNCTYPE(number, POINTER, POINTER, POINTER, number)(submit),
        ctypes.CFUNCTYPE(None, POINTER)(halt),
        ctypes.CFUNCTYPE(None, POINTER, POINTER, number, POINTER)(serial),
        ctypes.CFUNCTYPE(None, POINTER, POINTER)(perform),
        ctypes.PYFUNCTYPE(None, POINTER, POINTER)(perform),
    )
