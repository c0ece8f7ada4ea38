"""Named facts and tensors into a GGUF file, version 3; the layout is drawn in header.py.

The header holds the place of every tensor, so names, shapes and formats are told first; the blocks follow tensor by
tensor, made when their turn comes, so that a model larger than memory can be written. The file appears under its
name when it is complete: whoever has the old one mapped keeps the old one.
"""

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import OptionError
from eardrop.gguf.facts import ARRAY, STRING, U32, Fact, Value
from eardrop.gguf.formats import BlockFormat
from eardrop.gguf.header import (
    DEFAULT_ALIGNMENT,
    MOST_ALIGNMENT,
    MOST_DIMENSIONS,
    MOST_KEY_BYTES,
    MOST_NAME_BYTES,
    VERSIONS,
    is_alignment,
    padded,
)
from eardrop.gguf.tensor import GgufTensor, rows_and_width


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that is made while it is written.

    pieces  called once, when its turn comes; gives the blocks from front to back as arrays of any shape, whose bytes
            are written as they lie in memory (so quantised blocks as uint8, plain values as little-endian numbers)
    """

    name: str
    shape: tuple[int, ...]
    format: BlockFormat
    pieces: Callable[[], Iterable[NDArray[Any]]]

    @classmethod
    def of(cls, tensor: "GgufTensor | PlannedTensor") -> "PlannedTensor":
        if isinstance(tensor, PlannedTensor):
            return tensor
        return cls(tensor.name, tensor.shape, tensor.format, lambda: (tensor.raw,))

    @property
    def nbytes(self) -> int:
        rows, width = rows_and_width(self.shape)
        return rows * self.format.row_bytes(width)


def write_gguf(
    path: str | os.PathLike[str],
    facts: Mapping[str, Value | Fact],
    tensors: Iterable[GgufTensor | PlannedTensor] = (),
) -> None:
    """Write a GGUF file; facts and tensors keep their order.

    A plain int is written as u32 (or what holds it), a plain float as f32; `u16(5)` and its like say otherwise.
    Needs memory for one tensor, or for one piece of it. An existing file is replaced at the end, at once.
    """
    typed = {key: Fact.of(value) for key, value in facts.items()}
    plans = [PlannedTensor.of(tensor) for tensor in tensors]
    _check(typed, plans)
    with replacing(Path(path)) as file:
        alignment = _alignment(typed)
        file.write(b"".join(_header(typed, plans, alignment)))
        _pad(file, alignment)
        for plan in plans:
            _write_blocks(file, plan)
            _pad(file, alignment)


def file_bytes(facts: Mapping[str, Value | Fact], tensors: Iterable[GgufTensor | PlannedTensor] = ()) -> int:
    """The size of the file that `write_gguf` would write."""
    typed = {key: Fact.of(value) for key, value in facts.items()}
    plans = [PlannedTensor.of(tensor) for tensor in tensors]
    alignment = _alignment(typed)
    header = sum(map(len, _header(typed, plans, alignment)))
    return padded(header, alignment) + sum(padded(plan.nbytes, alignment) for plan in plans)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all went well, and vanishes when not."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the renaming could leave an empty file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check(facts: Mapping[str, Fact], plans: list[PlannedTensor]) -> None:
    for key in facts:
        if not 0 < len(key.encode()) <= MOST_KEY_BYTES:
            raise OptionError(f"key {key[:40]!r} has {len(key.encode()):,} bytes; expected 1 to {MOST_KEY_BYTES:,}")
    for name, times in Counter(plan.name for plan in plans).items():
        if times > 1:
            raise OptionError(f"tensor {name} is given {times} times; a GGUF file holds each name once")
    for plan in plans:
        _check_plan(plan)


def _check_plan(plan: PlannedTensor) -> None:
    if len(plan.name.encode()) > MOST_NAME_BYTES:
        raise OptionError(f"tensor {plan.name} has a name of more than {MOST_NAME_BYTES} bytes; shorten it")
    if len(plan.shape) > MOST_DIMENSIONS:
        raise OptionError(f"tensor {plan.name} has the shape {plan.shape}; at most {MOST_DIMENSIONS} dimensions fit")
    if (width := rows_and_width(plan.shape)[1]) % plan.format.block:
        raise OptionError(
            f"tensor {plan.name} has rows of {width} values; {plan.format.name} needs a multiple of {plan.format.block}"
        )


def _alignment(facts: Mapping[str, Fact]) -> int:
    fact = facts.get("general.alignment", Fact(U32, DEFAULT_ALIGNMENT))
    if not is_alignment(fact):
        raise OptionError(f"general.alignment is {fact}; expected a u32, a power of two up to {MOST_ALIGNMENT:,}")
    assert isinstance(fact.value, int)
    return fact.value


def _header(facts: Mapping[str, Fact], plans: list[PlannedTensor], alignment: int) -> Iterator[bytes]:
    yield b"GGUF" + struct.pack("<IQQ", VERSIONS[-1], len(plans), len(facts))
    for key, fact in facts.items():
        yield _string(key)
        yield from _value(fact)
    offset = 0
    for plan in plans:
        yield _string(plan.name)
        yield struct.pack(f"<I{len(plan.shape)}Q", len(plan.shape), *reversed(plan.shape))
        yield struct.pack("<IQ", plan.format.ggml_id, offset)
        offset += padded(plan.nbytes, alignment)


def _string(text: str) -> bytes:
    utf8 = text.encode()
    return struct.pack("<Q", len(utf8)) + utf8


def _value(fact: Fact) -> Iterator[bytes]:
    if isinstance(fact.value, list | np.ndarray):
        yield struct.pack("<IIQ", ARRAY.id, fact.kind.id, len(fact.value))
    else:
        yield struct.pack("<I", fact.kind.id)
    if fact.kind is STRING:
        yield from map(_string, fact.value if isinstance(fact.value, list) else [str(fact.value)])
    else:
        yield np.asarray(fact.value, fact.kind.dtype).tobytes()


def _write_blocks(file: BinaryIO, plan: PlannedTensor) -> None:
    start = file.tell()
    for piece in plan.pieces():
        file.write(np.ascontiguousarray(piece).data)
    written = file.tell() - start
    assert written == plan.nbytes, f"{plan.name}: {written:,} bytes were made, {plan.nbytes:,} announced"


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))
