"""The blocks of recordings, decoded in child processes with limits: a decoder that crashes takes nothing with it.

    with Decoders(processes=2) as decoders:
        for block in decoders.blocks(path): ...        as `blocks` of eardrop.audio gives them

For corpora and servers, whose recordings are strangers'. A child decodes one recording at a time and is then given the
next; `child` is its side. A new interpreter, not multiprocessing's: nothing of the caller's program is imported again.
"""

import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import TypeAlias, Unpack

import numpy as np

from eardrop import errors
from eardrop.audio.child import BLOCK, DONE, FAILED, FOUND, HEADER, OUT_OF_MEMORY, Request
from eardrop.audio.rate import SAMPLE_RATE
from eardrop.audio.read import Blocks, RawPCM, Reading, Source, blocks, channels
from eardrop.audio.samples import Findings, Float32
from eardrop.audio.source import STDIN, name_of
from eardrop.errors import AudioError, Cancelled, EardropError, EngineClosed, OptionError
from eardrop.printable import printable

MEMORY = 2 << 30  # bytes of addresses, of which a child has 0.3 GB from the start and seldom needs more
AHEAD = 1 << 20  # bytes that a child may be ahead of its reader, where the system lets us say; 16 s
LONGEST = 1 << 20  # bytes of a frame: a block has 64,000
PATIENCE = 1.0  # seconds in which a child that is ended, or closed its pipe, is gone

_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from eardrop.audio.child import main; main(int(sys.argv[1]))"
_OURS = ("/dev/", "/proc/")  # paths that mean something else to another process
_FATES = {
    "SIGKILL": "was killed, for its memory perhaps",
    "SIGXCPU": "took too much processor time",
    f"code {OUT_OF_MEMORY}": "ran out of memory",
}

_ERRORS = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EardropError)
}

Frame: TypeAlias = tuple[bytes, bytes]


class Decoders:
    """Child processes that decode recordings. Safe to share between threads; close it, or use it as a context.

    processes  recordings decoded at the same time; a further one waits until one of them has ended or was closed
    memory     bytes of addresses that a child may have, a recording given as bytes among them (POSIX)

    The children end with this process, however it ends. A child that dies is replaced.
    """

    def __init__(self, processes: int = 2, *, memory: int = MEMORY) -> None:
        if processes < 1:
            raise OptionError(f"processes is {processes!r}, expected at least 1")
        self._home = os.getpid()
        self._closed = False
        self._changed = threading.Condition()
        self._children = [_Child(memory) for _ in range(processes)]
        for child in self._children:  # now, that they import while the caller has other things to do
            child.start()

    def blocks(self, source: Source, **keywords: Unpack[Reading]) -> Blocks:
        """The blocks of a recording: samples, notes, errors and keywords are those of `blocks` in eardrop.audio.

        Paths and bytes are decoded in a child; arrays, file objects, pipes and standard input can't be sent there and
        are read here. The child is at most some seconds ahead of its reader, and is taken from the first block to the
        last: closing the iterator earlier ends it, and another is started when it is needed.

        Raises AudioError, too, where the child dies; OptionError where this thread waits for a child while it is
        itself reading from all of them; Cancelled after `close`; EngineClosed in a process forked from this one.
        """
        here = blocks(source, **keywords)  # opens nothing, and checks the keywords now
        sent = _sendable(source)
        if sent is None:
            return here
        found = Findings()
        return Blocks(self._samples((sent, _folder(), keywords), name_of(source), found), found)

    def channels(self, source: Source, *, track: int | None = None, raw: RawPCM | None = None) -> int:
        """How many channels a recording has, looked at in a child: `channels` of eardrop.audio, errors and all."""
        if _sendable(source) is None:
            return channels(source, track=track, raw=raw)
        heard = self.blocks(source, track=track, raw=raw, end=1 / SAMPLE_RATE)
        for _ in heard:  # one
            pass
        assert heard.channels is not None
        return heard.channels

    def close(self) -> None:
        """End the children at once; who still reads from one gets Cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for child in self._children:
            child.end()

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _samples(self, request: Request, title: str, found: Findings) -> Generator[Float32, None, None]:
        with self._lent() as child:
            try:
                child.ask(request)
                while (frame := child.answer())[0] != DONE:
                    block = _understood(frame, found)
                    if block is not None:
                        yield block
                        child.reader = threading.get_ident()  # an iterator may wander
            except _LostError as lost:
                if self._closed:
                    raise Cancelled("the decoders were closed while a recording was read") from None
                raise AudioError(
                    f"{title} can't be read: the process that decoded it {lost}; convert it to WAV, or give another"
                ) from None

    @contextmanager
    def _lent(self) -> Iterator["_Child"]:
        """A child for one recording. It ends with it, unless it has said its last word on it."""
        _expect_home(self._home)
        child = self._taken()
        try:
            yield child
        finally:
            if child.busy:
                child.end()
            with self._changed:
                child.reader = None
                self._changed.notify()

    def _taken(self) -> "_Child":
        me = threading.get_ident()
        with self._changed:
            while not self._closed:
                free = next((child for child in self._children if child.reader is None), None)
                if free is not None:
                    free.start()
                    free.reader = me
                    return free
                if all(child.reader == me for child in self._children):
                    raise OptionError(
                        f"this thread reads {len(self._children)} recordings at once already, as many as there are "
                        "processes, and would wait for itself: raise processes, or close one"
                    )
                self._changed.wait()
        raise Cancelled("the decoders are closed: make others")


def _sendable(source: Source) -> str | bytes | None:
    """A source that means the same to a child; None for those that don't."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | os.PathLike):
        return None
    path = os.fsdecode(source)
    ours = path == STDIN or Path(path).is_fifo() or str(Path(path).absolute()).startswith(_OURS)
    return None if ours else path


def _folder() -> str | None:
    """Where relative paths begin, for the child."""
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


def _expect_home(pid: int) -> None:
    if os.getpid() != pid:
        raise EngineClosed("the decoders belong to the process this one was forked from: make others here")


class _LostError(Exception):
    """A child that won't answer; the message is what became of it."""


def _understood(frame: Frame, found: Findings) -> Float32 | None:
    """A block, if the frame is one; findings are written down, an error is raised as itself."""
    kind, payload = frame
    try:
        if kind == BLOCK:
            return np.frombuffer(payload, "<f4").astype(np.float32)  # which may be written to
        said = json.loads(payload)
        if kind == FOUND:
            found.notes[:] = [printable(note) for note in said["notes"]]
            found.announced = None if said["announced"] is None else float(said["announced"])
            found.channels = None if said["channels"] is None else int(said["channels"])
            return None
        error, message = _ERRORS[said[0]], printable(said[1])
    except (ValueError, LookupError, TypeError):
        raise _LostError("gave nonsense") from None
    raise error(message)


def _fate(process: "subprocess.Popen[bytes]") -> str:
    """What became of a process that says no more."""
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return "gave nonsense"
    end = Signals(-code).name if code < 0 else f"code {code}"
    return _FATES.get(end, f"died ({end})")


class _Child:
    """A process that decodes, and the pipes to it.

    reader  the thread that reads from it; None while it is free
    busy    it has been asked, and has not said its last word
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._home = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self.reader: int | None = None
        self.busy = False

    def start(self) -> None:
        """See to it that there is a process."""
        if self._process is not None and self._process.poll() is None:
            return
        self.end()
        places = [str(Path(place).absolute()) for place in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _PROGRAM, str(self._memory), *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a crashing library has to say is for nobody
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each thread of it takes addresses
            process_group=0,  # Ctrl-C is for the parent
        )
        _widen(self._process)

    def ask(self, request: Request) -> None:
        """Send what to decode."""
        self.busy = True
        with self._pipes() as process:
            assert process.stdin is not None
            pickle.dump(request, process.stdin)
            process.stdin.flush()

    def answer(self) -> Frame:
        """The next frame."""
        with self._pipes() as process:
            assert process.stdout is not None
            kind, size = HEADER.unpack(process.stdout.read(HEADER.size))
            payload = process.stdout.read(min(size, LONGEST))
            if len(payload) != size:
                raise EOFError
        self.busy = kind not in (DONE, FAILED)
        return kind, payload

    def end(self) -> None:
        """End the process: it has nothing to lose. Others may be waiting for its answer, and get a _LostError."""
        process, self._process, self.busy = self._process, None, False
        if process is None or os.getpid() != self._home:
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # it hangs in the system, and goes when it wakes
            process.wait(PATIENCE)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was to be written goes nowhere
                pipe.close()

    @contextmanager
    def _pipes(self) -> Iterator["subprocess.Popen[bytes]"]:
        _expect_home(self._home)
        process = self._process
        if process is None:
            raise _LostError("was ended")
        try:
            yield process
        except (OSError, EOFError, struct.error, ValueError):  # ValueError: a pipe closed by another thread
            raise _LostError(_fate(process)) from None


def _widen(process: "subprocess.Popen[bytes]") -> None:
    """Let the child be AHEAD of its reader. Elsewhere a pipe holds a second or so."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:
        return
    assert process.stdout is not None
    with suppress(OSError):  # the system's allowance for pipes is used up
        fcntl(process.stdout, F_SETPIPE_SZ, AHEAD)
