"""A program is a table of kernel calls; a team of threads runs it, outside the GIL, in one foreign call.

    record (64 bytes)   code, arguments, chunks, items in a chunk, items, next chunk (atomic), –, –
    sync (8 lines)      go │ arrived │ job: program, records, team, arrived before │ quit │ nap, yield

Threads take chunks of a record from its counter until none is left, then wait for each other: a thread that lost its
core for a while takes fewer. Counters of barriers only grow, so none is ever reset under a thread that still reads it.
Between programs threads spin for a moment, then nap, longer and longer up to a millisecond.
"""

import ctypes
import os
import struct
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, repeat, when
from eardrop.backends.cpu.maths import smaller
from eardrop.backends.cpu.operations import acquired, fetch_add
from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import I64, PTR, Type
from eardrop.backends.cpu.vector import Builder, Operation, Value, const, intrinsic

RECORD = 64
CODE, ARGUMENTS, CHUNKS, CHUNK, ITEMS, NEXT = range(0, 48, 8)
GO, ARRIVED, JOB, QUIT, NAP = range(0, 5 * 64, 64)
YIELD = NAP + 8
SPINS = 20_000  # between programs: about half a millisecond
SPINS_TOGETHER = 2_000  # within one
MOST_NAP = 1000  # microseconds
TAKEN = 1 << 62  # more than any record has chunks


def _emit_call(b: Builder, target: Target, type_: Type, code: Value, *operands: Value) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [operand.held.type for operand in operands])  # results are dropped
    b.call(b.inttoptr(code.held, kind.as_pointer()), [operand.held for operand in operands])
    return code.held


def _not_interpreted(*operands: Any) -> Any:
    raise AssertionError("the team is compiled only; interpreted kernels are called one by one")


call = Operation("call", lambda code, *others: code, _emit_call, _not_interpreted, even=False)


def _emit_pause(b: Builder, target: Target, type_: Type, p: Value) -> Any:
    if target.triple.startswith("aarch64"):
        intrinsic(b, "llvm.aarch64.hint", ir.VoidType(), ir.Constant(ir.IntType(32), 1))
    else:
        intrinsic(b, "llvm.x86.sse2.pause", ir.VoidType())
    return p.held


pause = Operation("pause", lambda p: p, _emit_pause, lambda p: p, even=False)


def _run(job: SimpleNamespace, sync: Value) -> None:
    """What every thread of the team does for a program."""
    expected = Variable(job.before)
    for i in loop(0, job.records):
        _take_chunks(job.program + i * RECORD)
        expected.value = expected.value + job.team
        fetch_add(sync + ARRIVED, const(I64, 1))
        spins = Variable(const(I64, 0))
        for _ in repeat(lambda: acquired(sync + ARRIVED) < expected.value):
            pause(sync)
            spins.value = spins.value + 1
            for _ in when(const(I64, SPINS_TOGETHER) < spins.value):  # more threads than cores: let one work
                call((sync + YIELD).load(I64, align=8))


def _take_chunks(record: Value) -> None:
    """Run chunks of a record as long as there are any."""
    code, chunks, chunk, items = (record.load(I64, at, align=8) for at in (CODE, CHUNKS, CHUNK, ITEMS))
    arguments = record.load(PTR, ARGUMENTS, align=8)
    mine = Variable(fetch_add(record + NEXT, const(I64, 1)))
    for _ in repeat(lambda: mine.value < chunks):
        first = mine.value * chunk
        call(code, arguments, first, smaller(first + chunk, items))
        mine.value = fetch_add(record + NEXT, const(I64, 1))


def _job(sync: Value) -> SimpleNamespace:
    line = sync + JOB
    program = line.load(PTR, 0, align=8)
    records, team, before = (line.load(I64, at, align=8) for at in (8, 16, 24))
    return SimpleNamespace(program=program, records=records, team=team, before=before)


@kernel("launch", sync=PTR, program=PTR, records=I64, team=I64)
def launch(p: Any, lo: Value, hi: Value) -> None:
    """Tell the others, and do a share."""
    for i in loop(0, p.records):
        (p.program + i * RECORD).store(const(I64, 0), NEXT, align=8)
    line, before = p.sync + JOB, (p.sync + ARRIVED).load(I64, align=8)
    line.store(p.program, 0, align=8)
    for at, number in ((8, p.records), (16, p.team), (24, before)):
        line.store(number, at, align=8)
    fetch_add(p.sync + GO, const(I64, 1))
    _run(SimpleNamespace(program=p.program, records=p.records, team=p.team, before=before), p.sync)


@kernel("serve", sync=PTR)
def serve(p: Any, lo: Value, hi: Value) -> None:
    """A thread's whole life."""
    seen = Variable(lo)
    for _ in repeat(lambda: acquired(p.sync + QUIT) == 0):
        idle, nap = Variable(const(I64, 0)), Variable(const(I64, 1))
        for _ in repeat(lambda: acquired(p.sync + GO) == seen.value):
            pause(p.sync)
            idle.value = idle.value + 1
            for _ in when(const(I64, SPINS) < idle.value):
                call((p.sync + NAP).load(I64, align=8), nap.value)
                nap.value = smaller(nap.value * 2, MOST_NAP)
        seen.value = seen.value + 1
        for _ in when(acquired(p.sync + QUIT) == 0):
            _run(_job(p.sync), p.sync)


def aligned(nbytes: int) -> npt.NDArray[np.uint8]:
    """Zeros at a multiple of 64."""
    room = np.zeros(nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + nbytes]


@dataclass
class Program:
    """Kernel calls in order. What their arguments point at is kept alive here."""

    calls: list[tuple[Kernel, list[int], int, int]] = field(default_factory=list)  # arguments, items, chunk
    kept: list[Any] = field(default_factory=list)
    records: npt.NDArray[np.int64] | None = None  # (calls, 8), once `freeze` has made them

    def add(self, kernel_: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        """One more call, over `items` items handed out `chunk` at a time. Arguments are arrays or numbers."""
        assert len(arguments) == len(kernel_.parameters), f"{kernel_.name} takes {list(kernel_.parameters)}"
        self.kept.append(arguments)
        self.calls.append((kernel_, [word(argument) for argument in arguments], items, max(1, chunk)))

    def freeze(self, compiler: Compiler) -> "Program":
        """Make the records, with the kernels' code; no call can be added any more."""
        records = aligned(RECORD * len(self.calls)).view(np.int64).reshape(-1, 8)
        for record, (kernel_, arguments, items, chunk) in zip(records, self.calls, strict=True):
            words = np.array(arguments, np.int64)
            self.kept.append(words)
            record[:5] = compiler.address(kernel_), word(words), -(-items // chunk), chunk, items
        self.records = records
        return self

    def stop(self) -> None:
        """End it early, from any thread; what it computes is void, and it can't be run again.

        Chunks that threads have taken are finished. Its records come to an end of chunks, so the team passes every
        barrier as always. First the number of chunks, then the counter: a thread that has read the old number has it
        from after `launch` reset the counter.
        """
        assert self.records is not None, "a program is frozen before it is stopped"
        self.records[:, CHUNKS // 8] = 0
        self.records[:, NEXT // 8] = TAKEN


_FLOAT, _BITS = struct.Struct("<fxxxx"), struct.Struct("<q")


def word(argument: Any) -> int:
    """Eight bytes of an argument: an address, a whole number, or a float32's bits."""
    if isinstance(argument, np.ndarray):
        return int(argument.__array_interface__["data"][0])  # .ctypes takes three times as long
    return _BITS.unpack(_FLOAT.pack(argument))[0] if isinstance(argument, float) else int(argument)


class Team:
    """Threads that run programs together with the thread that calls `run`. One program at a time."""

    def __init__(self, compiler: Compiler, threads: int) -> None:
        self._compiler, self._size = compiler, threads
        self._launch = _callable(compiler.address(launch))
        self._lock = threading.Lock()
        self._job = np.zeros(4, np.int64)  # the arguments of `launch`
        self._job_at = word(self._job)
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._sync = aligned(5 * 64).view(np.int64)
        self._sync_at = word(self._sync)
        self._sync[NAP // 8], self._sync[YIELD // 8] = _waits()
        words, serve_ = np.array([self._sync.ctypes.data], np.int64), _callable(self._compiler.address(serve))
        threads = [
            threading.Thread(target=serve_, args=(words.ctypes.data, 0, 0), name=f"eardrop-cpu-{i}", daemon=True)
            for i in range(1, self._size)
        ]
        for thread in threads:
            thread.start()
        self.close = weakref.finalize(self, _dismiss, self._sync, threads, words, self._compiler, os.getpid())

    def run(self, program: Program) -> None:
        """Run a frozen program."""
        records = program.records
        assert records is not None, "a program is frozen before it is run"
        with self._lock:
            if os.getpid() != self._process:  # a fork has no threads but the one that forked
                self.close.detach()
                self._start()
            self._job[:] = self._sync_at, word(records), len(records), self._size
            self._launch(self._job_at, 0, 0)


def _callable(address: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)


def _waits() -> tuple[int, int]:
    """The C library's nap of microseconds (on Windows of milliseconds: long enough), and its yield."""
    if sys.platform == "win32":
        library = ctypes.CDLL("kernel32")
        functions = library.Sleep, library.SwitchToThread
    else:
        library = ctypes.CDLL(None)
        functions = library.usleep, library.sched_yield
    nap, yield_ = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions)
    return nap, yield_


def _dismiss(sync: npt.NDArray[np.int64], threads: list[threading.Thread], *kept: Any) -> None:
    """Send the threads home; `kept` is what they still read, and last the process they live in."""
    if os.getpid() == kept[-1]:
        sync[QUIT // 8] = 1
        sync[GO // 8] += 1
        for thread in threads:
            thread.join()
