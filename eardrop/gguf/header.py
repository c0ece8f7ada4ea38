"""The header of a GGUF file, checked before a byte of it is believed.

    "GGUF"  version u32  tensors i64  facts i64                                         little-endian throughout
    fact    × facts      key: string, kind u32, value
    tensor  × tensors    name: string, dimensions u32, ne i64 × dimensions (fastest first), format u32, offset u64
    padding to general.alignment (32 unless stated)
    blocks of each tensor in that order, each padded to the alignment; offsets count from here

    string  bytes u64, UTF-8         array  kind u32, count u64, elements

Files come from strangers. Every length is compared with the bytes that are left before it is used, so nothing is
allocated that the file doesn't hold; the number of things and the size of the whole header have limits far above
those of real models, so that a huge file can't become a far larger heap of Python objects.
Source: ggml's docs/gguf.md; the refusals are those of llama.cpp's reader, and a few more.
"""

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import ModelFileError
from eardrop.gguf.facts import ARRAY, BOOL, KINDS, STRING, U32, Fact, Kind
from eardrop.gguf.formats import FORMATS, REMOVED, BlockFormat
from eardrop.gguf.tensor import rows_and_width
from eardrop.printable import printable

VERSIONS = (2, 3)  # the same bytes; 3 only allowed big-endian files to exist
DEFAULT_ALIGNMENT = 32
MOST_ALIGNMENT = 1 << 16
MOST_HEADER_BYTES = 1 << 26  # a real one has 5 MB, nearly all of it vocabulary
MOST_THINGS = 1 << 16  # facts, and tensors; real models have 30 and 650
MOST_KEY_BYTES = (1 << 16) - 1
MOST_NAME_BYTES = 63
MOST_DIMENSIONS = 4
MOST_VALUES = 1 << 60  # of a tensor; as bytes and as float32 they still fit 64 bits
LEAST_FACT_BYTES = 8 + 1 + 4 + 1  # a key of one letter and a value of one byte
LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8

_U32, _U64, _I64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q")

# What else people hand over, by its first bytes.
_FOREIGN = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), meaning)
    for pattern, meaning in (
        (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (rb"\s*<(!doctype|html|\?xml|head)", "a web page; the download went wrong, fetch the file again"),
        (rb".{8}\{\s*\"", "a safetensors file; convert it to GGUF first"),
        (rb"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF first"),
        (rb"\x80[\x02-\x05]", "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF first"),
        (rb"lmgg|fmgg|tjgg|algg", "a model file older than GGUF; convert the model anew"),
        (rb"\x1f\x8b", "a gzip archive; unpack it first"),
        (rb"\x00{4}", "a download that was not finished; fetch the file again"),
    )
)


class Cursor:
    """The bytes of a header from front to back; what isn't there can't be taken."""

    def __init__(self, mapped: mmap.mmap, path: Path) -> None:
        self.mapped, self.path, self.at = mapped, path, 0
        self.end = min(len(mapped), MOST_HEADER_BYTES)

    def refuse(self, message: str) -> ModelFileError:
        return ModelFileError(f"{printable(str(self.path))}: {message}")

    def skip(self, size: int, what: str) -> int:
        """Move past `size` bytes and say where they start."""
        if size > self.end - self.at:
            end = "the file ends" if self.end == len(self.mapped) else "the header must end"
            raise self.refuse(
                f"{what} needs {size:,} bytes at offset {self.at:,}, but {end} at {self.end:,};"
                " it is cut off or damaged, fetch it again"
            )
        start, self.at = self.at, self.at + size
        return start

    def number(self, kind: struct.Struct, what: str) -> int:
        number: int = kind.unpack_from(self.mapped, self.skip(kind.size, what))[0]
        return number

    def count(self, least_bytes: int, what: str) -> int:
        """A count of things that need at least `least_bytes` each."""
        count, most = self.number(_I64, f"the number of {what}"), (self.end - self.at) // least_bytes
        if not 0 <= count <= min(most, MOST_THINGS):
            raise self.refuse(
                f"claims {count:,} {what} in {self.end:,} bytes, and at most {MOST_THINGS:,} are allowed;"
                " it is cut off or damaged, fetch it again"
            )
        return count

    def string(self, what: str, most: int = MOST_HEADER_BYTES) -> str:
        size = self.number(_U64, what)
        if size > most:
            raise self.refuse(f"{what} claims {size:,} bytes; at most {most:,} are allowed")
        start = self.skip(size, what)
        return self._text(self.mapped[start : self.at], what)

    def strings(self, count: int, what: str) -> list[str]:
        """`count` strings, without a call for each: a vocabulary and its merges are 130,000."""
        mapped, at, end, size_at, texts = self.mapped, self.at, self.end, _U64.unpack_from, list[str]()
        try:
            for _ in range(count):
                start = at + 8
                stop = start + size_at(mapped, at)[0]
                if stop > end:
                    break
                texts.append(mapped[start:stop].decode())
                at = stop
        except (UnicodeDecodeError, struct.error):
            pass
        self.at = at
        if len(texts) < count:
            self.string(what)  # raises: it reads the string that stopped us, and says what is wrong with it
        return texts

    def elements(self, kind: Kind, count: int, what: str) -> NDArray[Any]:
        """`count` numbers, copied: facts outlive the mapping and want alignment."""
        dtype = np.dtype(kind.dtype)
        start = self.skip(count * dtype.itemsize, what)
        stored = np.frombuffer(self.mapped, np.uint8 if kind is BOOL else dtype, count, start)
        values = stored != 0 if kind is BOOL else stored.copy()  # any byte but 0 is true, as in ggml
        values.flags.writeable = False
        return values

    def _text(self, utf8: bytes, what: str) -> str:
        try:
            return utf8.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse(f"{what} is not UTF-8: {error.reason} at byte {error.start}; convert it anew") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a header says about one tensor; `offset` counts from the start of the data."""

    name: str
    shape: tuple[int, ...]
    format: BlockFormat
    offset: int

    @property
    def rows(self) -> int:
        return rows_and_width(self.shape)[0]

    @property
    def row_bytes(self) -> int:
        return self.format.row_bytes(rows_and_width(self.shape)[1])


@dataclass(frozen=True)
class Header:
    """Facts, entries, and where the data start; `entries` are in file order and their names differ."""

    facts: dict[str, Fact]
    entries: list[Entry]
    alignment: int
    data_start: int


def read_header(mapped: mmap.mmap, path: Path) -> Header:
    """The header of a mapped file. Raises ModelFileError, which names the file, the key or tensor, and the reason."""
    cursor = Cursor(mapped, path)
    _check_magic(cursor)
    n_entries = cursor.count(LEAST_TENSOR_BYTES, "tensors")
    facts = _read_facts(cursor, cursor.count(LEAST_FACT_BYTES, "facts"))
    entries = [_read_entry(cursor) for _ in range(n_entries)]
    alignment = _alignment(cursor, facts)
    return Header(facts, entries, alignment, padded(cursor.at, alignment))


def padded(size: int, alignment: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // alignment) * alignment


def shown(text: str) -> str:
    """A stranger's name, fit for one line of a message."""
    return printable(text, most=100) or "''"


def _check_magic(cursor: Cursor) -> None:
    first = cursor.mapped[:64]
    if first[:4] != b"GGUF":
        meaning = next(
            (meaning for pattern, meaning in _FOREIGN if pattern.match(first)), "something else; give another"
        )
        raise cursor.refuse(f"is no GGUF file but looks like {meaning}")
    cursor.skip(4, "the magic")
    version = cursor.number(_U32, "the version")
    if version & 0xFFFF == 0:
        raise cursor.refuse("is a big-endian GGUF file; eardrop reads little-endian ones, convert it")
    if version not in VERSIONS:
        raise cursor.refuse(f"has GGUF version {version}, expected {' or '.join(map(str, VERSIONS))}; convert it anew")


def _read_facts(cursor: Cursor, count: int) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for _ in range(count):
        key = cursor.string("a key", MOST_KEY_BYTES)
        if not key:
            raise cursor.refuse("has a key without a name; it is damaged, fetch it again")
        if key in facts:
            raise cursor.refuse(f"key {shown(key)} appears twice; convert the model anew")
        facts[key] = _read_value(cursor, f"key {shown(key)}")
    return facts


def _read_kind(cursor: Cursor, what: str) -> Kind:
    number = cursor.number(_U32, what)
    if number not in KINDS:
        raise cursor.refuse(f"{what} is of the unknown kind {number}; the file is damaged, or needs a newer eardrop")
    return KINDS[number]


def _read_value(cursor: Cursor, what: str) -> Fact:
    kind = _read_kind(cursor, what)
    if kind is ARRAY:
        return _read_array(cursor, what)
    if kind is STRING:
        return Fact(kind, cursor.string(what))
    return Fact(kind, cursor.elements(kind, 1, what)[0].item())


def _read_array(cursor: Cursor, what: str) -> Fact:
    kind = _read_kind(cursor, what)
    if kind is ARRAY:
        raise cursor.refuse(f"{what} is an array of arrays, which no reader accepts; convert the model anew")
    count = cursor.number(_U64, what)
    return Fact(kind, cursor.strings(count, what) if kind is STRING else cursor.elements(kind, count, what))


def _read_entry(cursor: Cursor) -> Entry:
    name = cursor.string("a tensor's name", MOST_NAME_BYTES)
    what = f"tensor {shown(name)}"
    shape, form = _read_shape(cursor, what), _read_format(cursor, what)
    width = rows_and_width(shape)[1]
    if width % form.block:
        raise cursor.refuse(f"{what} has rows of {width:,} values, {form.name} needs a multiple of {form.block}")
    return Entry(name, shape, form, cursor.number(_U64, what))


def _read_shape(cursor: Cursor, what: str) -> tuple[int, ...]:
    dimensions = cursor.number(_U32, what)
    if dimensions > MOST_DIMENSIONS:
        raise cursor.refuse(f"{what} has {dimensions:,} dimensions; at most {MOST_DIMENSIONS} are allowed")
    ne = [cursor.number(_I64, what) for _ in range(dimensions)]
    if any(size < 0 for size in ne) or prod(max(size, 1) for size in ne) > MOST_VALUES:
        raise cursor.refuse(f"{what} has the impossible size {ne}; the file is damaged, fetch it again")
    return tuple(reversed(ne))


def _read_format(cursor: Cursor, what: str) -> BlockFormat:
    number = cursor.number(_U32, what)
    if number in REMOVED:
        raise cursor.refuse(f"{what} is {REMOVED[number]}, a format llama.cpp gave up; quantize the model anew")
    if number not in FORMATS:
        raise cursor.refuse(f"{what} is of the unknown format {number}; the file is damaged, or needs a newer eardrop")
    return FORMATS[number]


def _alignment(cursor: Cursor, facts: Mapping[str, Fact]) -> int:
    fact = facts.get("general.alignment", Fact(U32, DEFAULT_ALIGNMENT))
    if not is_alignment(fact):
        raise cursor.refuse(
            f"general.alignment is {shown(str(fact.value))} ({fact.kind.name});"
            f" expected a u32, a power of two up to {MOST_ALIGNMENT:,}"
        )
    assert isinstance(fact.value, int)
    return fact.value


def is_alignment(fact: Fact) -> bool:
    """Whether a fact may be the alignment of a file."""
    value = fact.value
    return fact.kind is U32 and isinstance(value, int) and 0 < value <= MOST_ALIGNMENT and value & (value - 1) == 0
