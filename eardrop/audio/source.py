"""Where the bytes of a recording come from: a path, a pipe, a file object, bytes.

Paths are opened here, by Python, and never shown to FFmpeg: it gets a `Handed`, an object with bytes and no name.
"""

import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.errors import AudioError
from eardrop.printable import printable

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | npt.NDArray[np.generic]

STDIN = "-"
SPOOL_LIMIT = 4 << 30  # bytes of a pipe kept in a temporary file, where a container must be read from its end
NAME_LIMIT = 120  # characters of a file name in a message

# Two letters or more, so that a Windows drive is none. "subfile,,start" is FFmpeg's own form.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(:|,,)")
_NOT_FILES = (
    (stat.S_ISDIR, "is a folder: give a recording in it"),
    (stat.S_ISCHR, "is a device, which has no end: give a file, or pipe a recording into '-'"),
    (stat.S_ISBLK, "is a device: give a file"),
    (stat.S_ISSOCK, "is a socket: give a file, or pipe a recording into '-'"),
)


def name_of(source: Source) -> str:
    """How messages call a source: its file name, "standard input", "bytes", "array" or "file object"."""
    if isinstance(source, np.ndarray):
        return "array"
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        return "standard input" if path == STDIN else _shown(path)
    name = getattr(source, "name", None)
    return _shown(name) if isinstance(name, str) else "file object"


def _shown(path: str) -> str:
    return printable(Path(path).name or path, most=NAME_LIMIT)


class Handed:
    """The bytes of a file, as FFmpeg may see them: `read`, and where the file can do it `seek` and `tell`; no name.

    Owns    the bytes read ahead by `peek` from a file that can't be rewound.
    Always  gives at most as many bytes as asked for: PyAV copies what it gets without a look at the room it has.
    Never   lets an exception pass through FFmpeg, which would lose a KeyboardInterrupt: a failing read looks like
            the end of the file, and `check` raises what had happened.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rewinds = _rewinds(file)
        self._start = file.tell() if self._rewinds else 0  # a file object may be handed over in its middle
        self._ahead = b""
        self._failure: BaseException | None = None
        self._reached = 0  # bytes read, of which a pipe has no others

    def seekable(self) -> bool:
        return self._rewinds

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end of the file, left to be read again."""
        while len(self._ahead) < count and (more := self._taken(count - len(self._ahead))):
            self._ahead += more
        self.check()
        seen = self._ahead[:count]
        if self._rewinds:
            self._ahead = b""
            self._file.seek(self._start)
        return seen

    def read(self, count: int) -> bytes:
        if self._ahead:
            given, self._ahead = self._ahead[:count], self._ahead[count:]
        else:
            given = self._taken(count)
        self._reached += len(given)
        return given

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset + self._start * (whence == os.SEEK_SET), whence) - self._start
        except (OSError, ValueError, OverflowError):  # to a place before the start, or beyond what a file can have
            return -1
        except BaseException as failure:
            self._failure = failure
            return -1

    def tell(self) -> int:
        return self._file.tell() - self._start

    def size(self) -> int:
        """Bytes in the whole; of a pipe, which doesn't know, those read so far."""
        if not self._rewinds:
            return self._reached
        here, size = self.tell(), self.seek(0, os.SEEK_END)
        self.seek(here)
        return size

    def check(self) -> None:
        """Raise what a read had raised."""
        if self._failure is not None:
            raise self._failure

    def _taken(self, count: int) -> bytes:
        if self._failure is not None:
            return b""
        try:
            given = self._file.read(count)
            if not isinstance(given, bytes | bytearray | memoryview) or len(given) > count:
                raise AudioError(f"{name_of(self._file)} gives no bytes: open it in binary mode ('rb'), blocking")
            return bytes(given)
        except BaseException as failure:
            self._failure = failure
            return b""


def _rewinds(file: BinaryIO) -> bool:
    """Whether the file can go back. A pipe can't; an object without `seekable` is taken at its methods."""
    if not (hasattr(file, "seek") and hasattr(file, "tell")):
        return False
    return file.seekable() if hasattr(file, "seekable") else True


@contextmanager
def opened(source: Source) -> Iterator[Handed]:
    """A source that isn't an array, opened for FFmpeg; a file object of the caller is left open."""
    title = name_of(source)
    try:
        with _file(source, title) as file:
            yield Handed(file)
    except OSError as failure:
        raise AudioError(
            f"{title} can't be read: {failure.strerror or failure}; check the path and your rights"
        ) from None


@contextmanager
def _file(source: Source, title: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        if path == STDIN:
            yield _standard_input()
        else:
            _expect_file(path, title)
            with Path(path).open("rb") as file:
                yield file
    elif isinstance(source, np.ndarray) or not hasattr(source, "read"):
        found = type(source).__name__
        raise AudioError(f"audio is of type {found}, expected a path, bytes, a binary file object or an array")
    else:
        yield source


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise AudioError("standard input is closed: pipe a recording into it, or give a file")
    if sys.stdin.isatty():
        raise AudioError("standard input is a terminal: pipe a recording into it, or give a file")
    return sys.stdin.buffer


def _expect_file(path: str, title: str) -> None:
    """Refuse what isn't a file or a named pipe before it is opened: opening a device can have effects."""
    if not path:  # it would be the current folder
        raise AudioError("the name of a recording is empty: give a file")
    try:
        kind = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if _ADDRESS.match(path):
            raise AudioError(
                f"{printable(path, most=NAME_LIMIT)} is an address: eardrop opens files only; fetch it first"
            ) from None
        raise AudioError(f"{printable(path, most=NAME_LIMIT)} doesn't exist: check the path") from None
    for is_kind, reason in _NOT_FILES:
        if is_kind(kind):
            raise AudioError(f"{title} {reason}")


@contextmanager
def rewindable(handed: Handed, title: str) -> Iterator[Handed]:
    """The same bytes, spooled to a temporary file that has no name, where they come from a pipe."""
    if handed.seekable():
        yield handed
        return
    import tempfile  # not at the start: few recordings come through pipes

    with tempfile.TemporaryFile(prefix="eardrop-") as spool:
        while chunk := handed.read(1 << 20):
            if spool.tell() + len(chunk) > SPOOL_LIMIT:
                raise AudioError(
                    f"{title} is a pipe of more than {SPOOL_LIMIT >> 30} GiB, in a container that is read from its "
                    "end: save it to a file"
                )
            spool.write(chunk)
        handed.check()
        spool.seek(0)
        yield Handed(spool)
