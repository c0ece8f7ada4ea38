"""The child's side of `apart`: takes requests, decodes, gives frames. It imports what decoding needs.

    request   a pickle on standard input: the source, the parent's folder, the keywords of `blocks`
    frame     what it is (a byte), its length, its bytes; on what was standard output

Frames are no pickles: the child has met the recording, and its word can't be trusted any more than that.
"""

import json
import os
import pickle
import queue
import signal
import struct
import threading
import time
from contextlib import closing, suppress
from typing import Any, BinaryIO, NoReturn, TypeAlias

from eardrop.audio.read import DAY, Blocks, Reading, Source, blocks, name_of
from eardrop.audio.samples import Float32
from eardrop.errors import AudioError, EardropError
from eardrop.printable import printable

Request: TypeAlias = tuple[Source, str | None, Reading]

HEADER = struct.Struct("<cI")
BLOCK, FOUND, FAILED, DONE = b"b", b"f", b"e", b"d"  # samples; JSON of findings; JSON of [class, message]; nothing

CPU_SECONDS = 30  # of processor time for a block, which takes milliseconds
SLOWEST = 10.0  # × real time at which what lies before a start is decoded, at the least
OUT_OF_MEMORY = 12  # exit code, ENOMEM


def main(memory: int) -> NoReturn:
    """Answer requests until standard input ends: with the parent, or by its wish. `memory` is bytes of addresses."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    answers, asked = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # whatever else writes to standard output would garble the frames,
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # and a link to /dev/stdin would take requests for sound
    import av  # noqa: F401  now, while nobody waits
    import soxr  # noqa: F401

    _lower("RLIMIT_CORE", 0)
    _lower("RLIMIT_AS", memory)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked, requests), daemon=True).start()
    while True:
        _Answer(answers).give(*requests.get())


def _listen(pipe: BinaryIO, requests: "queue.SimpleQueue[Request]") -> None:
    """Read requests beside the decoding, so that a parent that has gone is noticed in the midst of it."""
    code = 1
    try:
        while True:
            requests.put(pickle.load(pipe))
    except EOFError:
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        os._exit(code)


class _Answer:
    """One recording as frames."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._told = ""

    def give(self, source: Source, folder: str | None, keywords: Reading) -> None:
        if folder is not None:
            with suppress(OSError):  # then a relative path doesn't exist, which is what will be said
                os.chdir(folder)
        _allow(CPU_SECONDS + min(keywords.get("start", 0.0), keywords.get("max_seconds", DAY)) / SLOWEST)
        try:
            with closing(blocks(source, **keywords)) as heard:
                try:
                    for block in heard:
                        self._tell(heard)
                        self._send(BLOCK, _bytes(block))
                        _allow(CPU_SECONDS)
                finally:
                    self._tell(heard)
            self._send(DONE)
        except EardropError as error:
            self._send_json(FAILED, [type(error).__name__, str(error)])
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:  # a mistake of ours, or of a library's: the next recording may fare better
            what = printable(f"{type(error).__name__}: {error}", most=200)
            message = f"{name_of(source)} can't be read ({what}): convert it to WAV, or give another"
            self._send_json(FAILED, [AudioError.__name__, message])

    def _tell(self, heard: Blocks) -> None:
        """Send what was found out since the last time."""
        found = {"notes": heard.notes, "announced": heard.announced, "channels": heard.channels}
        if self._told != str(found):
            self._told = str(found)
            self._send_json(FOUND, found)

    def _send_json(self, kind: bytes, value: Any) -> None:
        self._send(kind, json.dumps(value).encode())

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        self._pipe.write(HEADER.pack(kind, len(payload)) + payload)
        self._pipe.flush()


def _bytes(block: Float32) -> bytes:
    return block.astype("<f4", copy=False).tobytes()


def _allow(seconds: float) -> None:
    """So much processor time from now on: what takes more is stuck, and the system ends it with SIGXCPU."""
    _lower("RLIMIT_CPU", int(time.process_time() + seconds) + 1)


def _lower(name: str, most: int) -> None:
    """A limit of this process, as far as the system has it and its own is not lower. It can be moved again."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    which = getattr(resource, name)
    _, hard = resource.getrlimit(which)
    with suppress(ValueError, OSError, OverflowError):  # macOS knows some limits by name alone
        resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
