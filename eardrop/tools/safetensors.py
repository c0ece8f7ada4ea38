"""A safetensors file → named tensors, read piece by piece. The files are strangers: everything is checked first.

    8 bytes    N, the length of the header, little-endian
    N bytes    JSON: {name: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, …, "__metadata__": …}
    the rest   the values, little-endian, row by row; tensors one behind another, without gap or overlap

https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from eardrop.errors import ModelFileError
from eardrop.gguf import BF16, F16, F32, BlockFormat
from eardrop.gguf.formats import Floats
from eardrop.printable import printable

MOST_JSON_BYTES = 100_000_000  # of a header, as the format's own library has it; a tokenizer has some 5 MB
SLAB = 1 << 20  # values read at a time

# The formats of weights are GGUF's plain ones; of the others, which no network of ours holds, the size alone is known.
_WEIGHTS = {"F32": F32, "F16": F16, "BF16": BF16}
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}

Json: TypeAlias = dict[str, Any]


def refuse(path: Path, message: str) -> ModelFileError:
    """The error of a file of a checkpoint."""
    return ModelFileError(f"{printable(str(path))}: {message}")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, its values still there.

    dtype  as the file calls it
    start  of its values, in bytes from the beginning of the file
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Path
    start: int

    @property
    def _format(self) -> BlockFormat:
        if self.dtype not in _WEIGHTS:
            raise refuse(self.path, f"tensor {printable(self.name)} is {self.dtype}, expected {' or '.join(_WEIGHTS)}")
        return _WEIGHTS[self.dtype]

    def slabs(self, row: int) -> Iterator[Floats]:
        """The values from front to back as (rows, row) float32, some megabytes at a time.

        Raises ModelFileError for a dtype that isn't a weight's, for values that aren't finite, and where the file ends.
        """
        form, left = self._format, math.prod(self.shape)
        assert form.dequantize is not None
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left:
                count = min(left, max(1, SLAB // row) * row)
                raw = file.read(count * form.block_bytes)
                if len(raw) < count * form.block_bytes:
                    raise refuse(self.path, f"ended within {printable(self.name)}, it changed while it was read")
                values = form.dequantize(np.frombuffer(raw, form.layout)).reshape(-1, row)
                if not np.isfinite(values).all():
                    raise refuse(self.path, f"tensor {printable(self.name)} holds values that aren't finite")
                yield values
                left -= count

    def values(self) -> Floats:
        """All of them, float32 of `shape`; for small tensors."""
        return np.concatenate([*self.slabs(1), np.empty((0, 1), np.float32)]).reshape(self.shape)


def read_json(path: Path) -> Json:
    """A file that holds one JSON object. Raises ModelFileError for everything else."""
    require_file(path)
    if path.stat().st_size > MOST_JSON_BYTES:
        raise refuse(path, f"has {path.stat().st_size:,} bytes, expected at most {MOST_JSON_BYTES:,}")
    return _parsed(path, path.read_bytes(), "")


def require_file(path: Path) -> None:
    """Raise ModelFileError for what isn't there or is no regular file."""
    if not path.is_file():
        raise refuse(path, "no such file; give the folder of a published checkpoint, with all of its files")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file, by name, each checked to lie in it. Raises ModelFileError for a file that is none."""
    require_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > min(MOST_JSON_BYTES, size - 8):
            raise refuse(path, f"is no safetensors file, or cut off within its header ({size:,} bytes); fetch it again")
        header = _parsed(path, file.read(length), "the header ")
    header.pop("__metadata__", None)
    entries = sorted((_entry(path, name, entry) for name, entry in header.items()), key=lambda entry: entry[1:])
    return dict(_placed(path, entries, start=8 + length, size=size))


def _parsed(path: Path, text: bytes, what: str) -> Json:
    try:
        parsed = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise refuse(path, f"{what}is no JSON: {printable(str(error), most=100)}; fetch it again") from None
    if not isinstance(parsed, dict):
        raise refuse(path, f"{what}is no JSON object; fetch it again")
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """An object whose keys are all different: of two tensors of one name none is the right one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _entry(path: Path, name: str, entry: object) -> tuple[StoredTensor, int, int]:
    """A tensor, and where its values begin and end."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if dtype in _BYTES and all(
            type(n) is int and n >= 0 for n in (*shape, begin, end)
        ):
            if end - begin == math.prod(shape) * _BYTES[dtype]:
                return StoredTensor(name, tuple(shape), dtype, path, begin), begin, end
    shown = printable(str(entry), most=120)
    raise refuse(
        path, f"tensor {printable(name, most=80)} is described as {shown}, which makes no sense; fetch it again"
    )


def _placed(
    path: Path, entries: list[tuple[StoredTensor, int, int]], *, start: int, size: int
) -> Iterator[tuple[str, StoredTensor]]:
    expected = 0
    for tensor, begin, end in entries:
        if begin != expected:
            raise refuse(
                path,
                f"tensor {printable(tensor.name)} lies at {begin:,} of the data, expected {expected:,}; fetch it again",
            )
        if start + end > size:
            raise refuse(
                path,
                f"tensor {printable(tensor.name)} ends at byte {start + end:,}, but the file at {size:,};"
                " it is cut off, fetch it again",
            )
        yield tensor.name, StoredTensor(tensor.name, tensor.shape, tensor.dtype, path, start + begin)
        expected = end
    if start + expected != size:
        raise refuse(path, f"its tensors end at byte {start + expected:,}, but the file at {size:,}; fetch it again")
