"""A program is a table of kernel calls; a team of threads runs it, outside the GIL, in one foreign call.

    record (64 bytes)   code, arguments, chunks, items in a chunk, items, shares, –, –
    share (a line)      the next chunk of one thread's share (atomic)
    sync (5 lines)      go │ arrived │ job: program, records, team, arrived before │ quit │ nap, yield

Each thread begins with its own share of a record, chunks that follow each other: so it reads memory as one stream, and
finds in its cache what it wrote before. Then it takes what is left of the others' shares, and waits for the others: a
thread that lost its core for a while does less. Counters of barriers only grow, so none is ever reset under a thread
that still reads it.
Between programs threads spin for a moment, then nap, longer and longer up to a millisecond.
"""

import ctypes
import os
import struct
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, repeat, when
from eardrop.backends.cpu.maths import smaller
from eardrop.backends.cpu.operations import acquired, fetch_add
from eardrop.backends.cpu.rooms import Rooms
from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import I64, PTR, Type
from eardrop.backends.cpu.vector import Builder, Operation, Value, const, intrinsic
from eardrop.ops.work import stoppable

RECORD = 64
CODE, ARGUMENTS, CHUNKS, CHUNK, ITEMS, SHARES = range(0, 48, 8)
LINE = 64
GO, ARRIVED, JOB, QUIT, NAP = range(0, 5 * LINE, LINE)
YIELD = NAP + 8
SPINS = 20_000  # between programs: about half a millisecond
SPINS_TOGETHER = 2_000  # within one
MOST_NAP = 1000  # microseconds
TAKEN = 1 << 62  # more than any record has chunks
MOST_ARGUMENTS = 32  # of a kernel


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
        record = job.program + i * RECORD
        for turn in loop(0, job.team):
            _take_chunks(record, (job.me + turn) % job.team, job.team)
        expected.value = expected.value + job.team
        fetch_add(sync + ARRIVED, const(I64, 1))
        spins = Variable(const(I64, 0))
        for _ in repeat(lambda: acquired(sync + ARRIVED) < expected.value):
            pause(sync)
            spins.value = spins.value + 1
            for _ in when(const(I64, SPINS_TOGETHER) < spins.value):  # more threads than cores: let one work
                call((sync + YIELD).load(I64, align=8))


def _take_chunks(record: Value, share: Value, team: Value) -> None:
    """Run chunks of a share of a record as long as there are any."""
    code, chunks, chunk, items = (record.load(I64, at, align=8) for at in (CODE, CHUNKS, CHUNK, ITEMS))
    arguments, counter = record.load(PTR, ARGUMENTS, align=8), _counter(record, share)
    end, mine = chunks * (share + 1) // team, Variable(fetch_add(counter, const(I64, 1)))
    for _ in repeat(lambda: mine.value < end):
        first = mine.value * chunk
        call(code, arguments, first, smaller(first + chunk, items))
        mine.value = fetch_add(counter, const(I64, 1))


def _counter(record: Value, share: Value) -> Value:
    return record.load(PTR, SHARES, align=8) + share * LINE


def _job(sync: Value, me: Value) -> SimpleNamespace:
    line = sync + JOB
    program = line.load(PTR, 0, align=8)
    records, team, before = (line.load(I64, at, align=8) for at in (8, 16, 24))
    return SimpleNamespace(program=program, records=records, team=team, before=before, me=me)


@kernel("begin", sync=PTR, program=PTR, records=I64, team=I64)
def begin(p: Any, lo: Value, hi: Value) -> None:
    """Tell the others."""
    for i in loop(0, p.records):
        record = p.program + i * RECORD
        chunks = record.load(I64, CHUNKS, align=8)
        for share in loop(0, p.team):
            _counter(record, share).store(chunks * share // p.team, align=8)
    line, before = p.sync + JOB, (p.sync + ARRIVED).load(I64, align=8)
    line.store(p.program, 0, align=8)
    for at, number in ((8, p.records), (16, p.team), (24, before)):
        line.store(number, at, align=8)
    fetch_add(p.sync + GO, const(I64, 1))


@kernel("finish", sync=PTR)
def finish(p: Any, lo: Value, hi: Value) -> None:
    """Do the share of whoever began, and wait for the others."""
    _run(_job(p.sync, const(I64, 0)), p.sync)


@kernel("launch", sync=PTR, program=PTR, records=I64, team=I64)
def launch(p: Any, lo: Value, hi: Value) -> None:
    """Both."""
    begin.body(p, lo, hi)
    finish.body(p, lo, hi)


@kernel("serve", sync=PTR, me=I64)
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
            _run(_job(p.sync, p.me), p.sync)


def aligned(nbytes: int) -> npt.NDArray[np.uint8]:
    """Zeros at a multiple of 64."""
    room = np.zeros(nbytes + 64, np.uint8)
    start = -word(room) % 64
    return room[start : start + nbytes]


@dataclass
class Program:
    """Kernel calls in order. What their arguments point at is kept alive here, as arrays or as the rooms they lie in.

    rooms  of what is recorded: a result that nobody reads any more makes room for a later one, at each replay anew
    """

    rooms: Rooms | None = None
    calls: list[tuple[Kernel, list[int], int, int]] = field(default_factory=list)  # arguments, items, chunk
    kept: list[Any] = field(default_factory=list)
    records: npt.NDArray[np.int64] | None = None  # (calls, 8), once `freeze` has made them
    shares: npt.NDArray[np.int64] | None = None  # (calls, team, 8)
    at: int = 0  # the address of the records

    def add(self, kernel_: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        """One more call, over `items` items handed out `chunk` at a time. Arguments are arrays or numbers."""
        assert len(arguments) == len(kernel_.parameters), f"{kernel_.name} takes {list(kernel_.parameters)}"
        self.kept.append([x for x in arguments if self.rooms is None or not self.rooms.hold(x)])
        self.calls.append((kernel_, [word(argument) for argument in arguments], items, max(1, chunk)))

    def freeze(self, team: "Team") -> "Program":
        """Make the records, with the kernels' code and a share for each of the team; no call can be added any more."""
        count, threads = len(self.calls), team.threads
        both = aligned((RECORD + LINE * threads) * count)
        self.at = word(both)
        shares_at = self.at + RECORD * count
        self.records = both[: RECORD * count].view(np.int64).reshape(count, -1)
        self.shares = both[RECORD * count :].view(np.int64).reshape(count, threads, -1)
        for i, (kernel_, arguments, items, chunk) in enumerate(self.calls):
            words = np.array(arguments, np.int64)
            self.kept.append(words)
            chunks, shares = -(-items // chunk), shares_at + i * threads * LINE
            self.records[i, :6] = team.compiler.address(kernel_), word(words), chunks, chunk, items, shares
        return self

    @property
    def count(self) -> int:
        """Its records."""
        return 0 if self.records is None else len(self.records)

    def stop(self) -> None:
        """End it early, from any thread; what it computes is void, and it can't be run again.

        Chunks that threads have taken are finished. Its records come to an end of chunks, so the team passes every
        barrier as always. First the number of chunks, then the counters: a thread that has read the old number has it
        from after `launch` reset them.
        """
        assert self.records is not None, "a program is frozen before it is stopped"
        assert self.shares is not None
        self.records[:, CHUNKS // 8] = 0
        self.shares[:] = TAKEN


class Single:
    """A call, run at once; then the next, in the same memory: making a `Program` takes longer than many kernels run.

    Belongs to one thread. What `stoppable` asks on it computes nothing.
    """

    count = 1

    def __init__(self, team: "Team") -> None:
        self._team = team
        shares = LINE * team.threads
        self._memory = aligned(RECORD + shares + 8 * MOST_ARGUMENTS)
        self.at, self._bytes = word(self._memory), self._memory.data
        self._record = self._memory[:RECORD].view(np.int64)
        self._shares = self._memory[RECORD:][:shares].view(np.int64)
        self._arguments_from = RECORD + shares
        self._kept: Sequence[Any] = ()  # the arguments, until the call is over
        self._turn = 0  # which call it is: one that is over must not end a later one
        self._lock = threading.RLock()  # whoever stops a call may collect garbage, which may stop it, too

    def write(self, kernel_: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        """Make ready a call over `items` items, handed out `chunk` at a time."""
        assert len(arguments) == len(kernel_.parameters), f"{kernel_.name} takes {list(kernel_.parameters)}"
        words, chunk = [word(argument) for argument in arguments], max(1, chunk)
        code, chunks, start = self._team.compiler.address(kernel_), -(-items // chunk), self._arguments_from
        self._kept = arguments
        with self._lock:
            self._turn += 1
            _WORDS[len(words)].pack_into(self._bytes, start, *words)
            _WORDS[6].pack_into(self._bytes, 0, code, self.at + start, chunks, chunk, items, self.at + RECORD)

    def run(self) -> None:
        """Do it, unless nobody wants it any more."""
        with self._stoppable():
            self._team.run(self)
        self._kept = ()

    def begin(self) -> None:
        """Let the others do it, unless nobody wants it any more; until `finish` the team does nothing else."""
        self._guard = self._stoppable()
        self._guard.__enter__()
        self._team.begin(self)

    def finish(self) -> None:
        """Help them, and wait for them."""
        self._team.finish()
        self._guard.__exit__()
        self._kept = ()

    def _stoppable(self) -> stoppable:
        return stoppable(partial(self._stop, self._turn))

    def _stop(self, turn: int) -> None:
        """End a call early: see `Program.stop`."""
        with self._lock:
            if turn == self._turn:
                self._record[CHUNKS // 8] = 0
                self._shares[:] = TAKEN


class Calls:
    """The calls of one thread, one after another. Ahead, a call is under way while the thread makes the next one ready.

    What it gives is there after `wait` then, or when the next call is made: kernels wait for each other as always.
    """

    def __init__(self, team: "Team") -> None:
        self._alone = team.threads == 1
        self._next, self._other = Single(team), Single(team)
        self._under_way: Single | None = None
        self._ahead = False

    def run(self, kernel_: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        """A call, over `items` items handed out `chunk` at a time, unless nobody wants it any more."""
        single = self._next
        single.write(kernel_, arguments, items, chunk)
        self.wait()
        if not self._ahead:
            single.run()
            return
        single.begin()
        self._under_way, self._next, self._other = single, self._other, single

    def wait(self) -> None:
        """Finish what is under way."""
        single, self._under_way = self._under_way, None
        if single:
            single.finish()

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Go ahead while the block lasts, where there is somebody to do the work meanwhile."""
        before, self._ahead = self._ahead, not self._alone
        try:
            yield
        finally:
            self._ahead = before
            self.wait()


_FLOAT, _BITS = struct.Struct("<f4x"), struct.Struct("<q")
_WORDS = [struct.Struct(f"<{count}q") for count in range(MOST_ARGUMENTS + 1)]


def word(argument: Any) -> int:
    """Eight bytes of an argument: an address, a whole number, or a float32's bits."""
    if isinstance(argument, np.ndarray):
        return int(argument.__array_interface__["data"][0])  # .ctypes takes three times as long
    return _BITS.unpack(_FLOAT.pack(argument))[0] if isinstance(argument, float) else int(argument)


class Team:
    """Threads that run programs together with the thread that calls `run`. One program at a time."""

    def __init__(self, compiler: Compiler, threads: int) -> None:
        self.compiler, self.threads = compiler, threads
        self._launch, self._begin, self._finish = (
            _callable(compiler.address(each)) for each in (launch, begin, finish)
        )
        self._lock = threading.Lock()
        self._job = np.zeros(4, np.int64)  # the arguments of `launch`: `sync` and the three of a job
        self._job_at = word(self._job)
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._sync = aligned(5 * LINE).view(np.int64)
        self._sync_at = word(self._sync)
        self._sync[NAP // 8], self._sync[YIELD // 8] = _waits()
        serve_ = _callable(self.compiler.address(serve))
        words = np.array([[self._sync_at, i] for i in range(self.threads)])
        threads = [
            threading.Thread(target=serve_, args=(word(words[i]), 0, 0), name=f"eardrop-cpu-{i}", daemon=True)
            for i in range(1, self.threads)
        ]
        for thread in threads:
            thread.start()
        self.close = weakref.finalize(
            self, _dismiss, self._lock, self._sync, threads, words, self.compiler, os.getpid()
        )

    def run(self, program: Program | Single) -> None:
        """Run a program; one of several calls is frozen before."""
        with self._lock:
            self._write(program)
            self._launch(self._job_at, 0, 0)

    def begin(self, program: Program | Single) -> None:
        """Let the others run a program. The thread that began must `finish` it before the team can do anything else."""
        self._lock.acquire()
        try:
            self._write(program)
            self._begin(self._job_at, 0, 0)
        except BaseException:
            self._lock.release()
            raise

    def finish(self) -> None:
        """Run it with them, to its end."""
        self._finish(self._job_at, 0, 0)
        self._lock.release()

    def _write(self, program: Program | Single) -> None:
        assert program.at, "a program is frozen before it is run"
        if os.getpid() != self._process:  # a fork has no threads but the one that forked
            self.close.detach()
            self._start()
        _WORDS[4].pack_into(self._job.data, 0, self._sync_at, program.at, program.count, self.threads)


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


def _dismiss(lock: threading.Lock, sync: npt.NDArray[np.int64], threads: list[threading.Thread], *kept: Any) -> None:
    """Send the threads home; `kept` is what they still read, and last the process they live in."""
    if os.getpid() == kept[-1]:
        with lock:  # between two programs: at a barrier the others would wait for whoever went
            sync[QUIT // 8] = 1
            sync[GO // 8] += 1
        for thread in threads:
            thread.join()
