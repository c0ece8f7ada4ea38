"""A GGUF model as named facts and tensors, from one file or several.

Opening reads the header and maps the rest: a tensor is a view of the mapping, and a page is read when it is touched.
Where each tensor lies is settled here, once, before anyone can touch it; after that a view is only as safe as the
file under it, which is why `GgufFile.check_unchanged` exists.

A split model is PREFIX-00001-of-0000N.gguf and its siblings. The first file holds all the facts; each file says
which part it is (split.no, from 0) of how many (split.count), and the first how many tensors there are in all.
"""

import mmap
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, TypeVar, overload

import numpy as np

from eardrop.errors import ModelFileError
from eardrop.gguf.facts import Fact, Value
from eardrop.gguf.header import Entry, Header, padded, read_header, shown
from eardrop.gguf.tensor import GgufTensor
from eardrop.printable import printable

T = TypeVar("T")
D = TypeVar("D")


class _Missing:
    """The default of a fact that has none."""


MISSING: Final = _Missing()

_NAMES: dict[type, str] = {
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list of strings",
    np.ndarray: "an array",
}


def open_gguf(path: str | os.PathLike[str]) -> "GgufFile":
    """Open a GGUF model; of a split one give the first file, the others are found beside it by name.

    Raises ModelFileError, whose one line names the file, what is wrong with it, and the next move.
    """
    return GgufFile(_with_siblings(_read_part(Path(path))))


class GgufFile:
    """The facts and tensors of one model.

    Owns    the mappings of its files. Tensors are views that keep them alive, so one in use stays valid after `close`.
    Always  what `tensors` lists (in file order) lay inside the file when it was opened.
    Never   notices by itself that somebody rewrites the file: `check_unchanged` does, and belongs before each use.

    typed_facts  the same facts with their kinds, as `write_gguf` takes them
    paths        its files, the first one first
    total_bytes  their size
    """

    def __init__(self, parts: "list[_Part]") -> None:
        self.path = parts[0].path
        self.paths = tuple(part.path for part in parts)
        self.total_bytes = sum(part.identity.size for part in parts)
        self.typed_facts: Mapping[str, Fact] = MappingProxyType(parts[0].facts)
        self.facts: Mapping[str, Value] = MappingProxyType({key: fact.value for key, fact in parts[0].facts.items()})
        tensors = chain.from_iterable(part.tensors.items() for part in parts)
        self.tensors: Mapping[str, GgufTensor] = MappingProxyType(dict(tensors))
        self.closed = False
        self._identities = {part.path: part.identity for part in parts}
        self._mappings = [part.mapping for part in parts]

    @overload
    def fact(self, key: str, type_: type[T]) -> T: ...
    @overload
    def fact(self, key: str, type_: type[T], default: D) -> T | D: ...

    def fact(self, key: str, type_: type[T], default: D | _Missing = MISSING) -> T | D:
        """The fact called `key`, which must be a `type_`: int, float, bool, str, list (of str) or np.ndarray."""
        found = self.facts.get(key)
        if found is None and not isinstance(default, _Missing):
            return default
        if found is None:
            raise self._refuse(f"has no key {shown(key)}; give another file, or convert the model anew")
        if not isinstance(found, type_) or type(found) is bool is not type_:  # a bool is an int only to Python
            raise self._refuse(
                f"key {shown(key)} should be {_NAMES[type_]}, found {_NAMES[type(found)]}:"
                f" {shown(str(found))}; convert the model anew"
            )
        return found

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> GgufTensor:
        """The tensor called `name`; where `shape` is given, it must have that shape (NumPy's order)."""
        found = self.tensors.get(name)
        if found is None:
            raise self._refuse(f"has no tensor {shown(name)}; give another file, or convert the model anew")
        if shape is not None and found.shape != shape:
            raise self._refuse(f"tensor {shown(name)} is {found.shape}, expected {shape}; convert the model anew")
        return found

    def check_unchanged(self) -> None:
        """Raise ModelFileError if a file is no longer what was opened.

        A mapped file that shrank kills the process that reads the missing part (SIGBUS), and one rewritten in place
        holds other weights: neither may be used.
        """
        for path, before in self._identities.items():
            try:
                now = _Identity.of(path.stat())
            except OSError as error:
                raise _refuse(path, f"was opened and is gone ({error.strerror}); load it again") from None
            if now != before:
                raise _refuse(
                    path, f"has changed since it was opened ({before.size:,} bytes, now {now.size:,}); load it again"
                )

    def changed(self) -> bool:
        """Whether `check_unchanged` would raise."""
        try:
            self.check_unchanged()
        except ModelFileError:
            return True
        return False

    def close(self) -> None:
        """Let go of the mappings; one that a tensor in use still needs stays until that is dropped."""
        self.tensors, self._mappings = MappingProxyType({}), []
        self.closed = True

    def give_back(self) -> None:
        """Let the system take back the memory of what was read so far; what is read again comes again."""
        for mapping in self._mappings:
            if hasattr(mmap, "MADV_DONTNEED"):
                mapping.madvise(mmap.MADV_DONTNEED)

    def _refuse(self, message: str) -> ModelFileError:
        return _refuse(self.path, f"is closed and {message}" if self.closed else message)

    def __enter__(self) -> "GgufFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<GgufFile {printable(str(self.path))}: {len(self.facts)} facts, {len(self.tensors)} tensors>"


@dataclass(frozen=True)
class _Identity:
    """Which file it was and in which state."""

    size: int
    changed_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Identity":
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


@dataclass(frozen=True)
class _Part:
    """One file: a whole model or one split of it."""

    path: Path
    identity: _Identity
    facts: dict[str, Fact]
    tensors: dict[str, GgufTensor]
    mapping: mmap.mmap

    def whole(self, key: str, default: int) -> int:
        """The whole number called `key`."""
        value = self.facts[key].value if key in self.facts else default
        if type(value) is not int:  # not isinstance: a bool is no count
            raise _refuse(self.path, f"key {key} should be a whole number, found {shown(str(value))}")
        return value


def _refuse(path: Path, message: str) -> ModelFileError:
    return ModelFileError(f"{printable(str(path))}: {message}")


def _read_part(path: Path) -> _Part:
    mapped, identity = _map(path)
    header = read_header(mapped, path)
    tensors: dict[str, GgufTensor] = {}
    for tensor in _place(mapped, path, header):
        if tensor.name in tensors:
            raise _refuse(path, f"tensor {shown(tensor.name)} appears twice; convert the model anew")
        tensors[tensor.name] = tensor
    return _Part(path, identity, header.facts, tensors, mapped)


def _map(path: Path) -> tuple[mmap.mmap, _Identity]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # asked first: opening a pipe would wait for a writer
            raise _refuse(path, f"is {'a folder' if path.is_dir() else 'no regular file'}; give a .gguf file")
        with path.open("rb") as file:
            identity = _Identity.of(os.fstat(file.fileno()))
            if identity.size == 0:
                raise _refuse(path, "is empty; fetch it again")
            mapped = mmap.mmap(file.fileno(), identity.size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte in it, or a file that just shrank
        raise _refuse(path, f"can't be opened: {getattr(error, 'strerror', None) or error}; check the path") from None
    _wish_for_large_pages(mapped)
    return mapped, identity


def _wish_for_large_pages(mapped: mmap.mmap) -> None:
    """Let what is read from the disk now lie in pages of 2 MiB, for all who map the file later, too.

    A page of 4 KiB costs its first reader some microseconds in the kernel: a second for a gigabyte. Files that are in
    memory already stay as they are. What can't be had is no loss.
    """
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel or a file system without them
            mapped.madvise(mmap.MADV_HUGEPAGE)


def _place(mapped: mmap.mmap, path: Path, header: Header) -> Iterator[GgufTensor]:
    """The views: tensors must lie one behind another, without gap or overlap, inside the file."""
    everything, expected = np.frombuffer(mapped, np.uint8), 0
    for entry in header.entries:
        size = entry.rows * entry.row_bytes
        if entry.offset != expected:
            raise _refuse(
                path, f"tensor {shown(entry.name)} lies at offset {entry.offset:,} of the data, expected {expected:,}"
            )
        start = header.data_start + expected
        if size and start + size > len(everything):
            raise _refuse(path, _cut_off(entry, start + size, len(everything)))
        yield GgufTensor(
            entry.name, entry.shape, entry.format, everything[start : start + size].reshape(entry.rows, entry.row_bytes)
        )
        expected += padded(size, header.alignment)


def _cut_off(entry: Entry, end: int, file_bytes: int) -> str:
    return (
        f"tensor {shown(entry.name)} ({entry.format.name}, {entry.shape}) ends at byte {end:,}, but the file at"
        f" {file_bytes:,}; it is cut off, fetch it again"
    )


_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def _with_siblings(first: _Part) -> list[_Part]:
    """The parts of a model, each checked to be the part its name says."""
    name, count = _SPLIT_NAME.fullmatch(first.path.name), first.whole("split.count", 1)
    if (number := first.whole("split.no", 0)) != 0:
        start = f"{name['stem']}-00001-of-{name['count']}.gguf" if name else "the first"
        raise _refuse(first.path, f"is part {number + 1} of {count} of a split model; give {printable(start)}")
    if count == 1:
        return [first]
    if name is None or (int(name["number"]), int(name["count"])) != (1, count):
        raise _refuse(
            first.path,
            f"is part 1 of {count} of a split model, so its name must end in -00001-of-{count:05}.gguf;"
            " name the parts as they were published",
        )
    siblings = (first.path.with_name(f"{name['stem']}-{k:05}-of-{count:05}.gguf") for k in range(2, count + 1))
    parts = [first, *map(_read_part, siblings)]
    _check_splits(parts)
    return parts


def _check_splits(parts: list[_Part]) -> None:
    home: dict[str, Path] = {}
    for number, part in enumerate(parts):
        found = part.whole("split.no", -1), part.whole("split.count", -1)
        if found != (number, len(parts)):
            raise _refuse(
                part.path,
                f"says split.no, split.count = {found}, expected {(number, len(parts))}; fetch the parts again",
            )
        for name in part.tensors:
            if name in home:
                raise _refuse(part.path, f"tensor {shown(name)} is in {home[name].name}, too; fetch the parts again")
            home[name] = part.path
    total = parts[0].whole("split.tensors.count", -1)
    if total != len(home):
        raise _refuse(
            parts[0].path, f"says split.tensors.count = {total}, found {len(home)} in all parts; fetch them again"
        )
