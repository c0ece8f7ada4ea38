"""Object code goes into memory: what a linker does for one kernel.

A kernel calls nothing and knows only its own constants. So the sections of its object (ELF64 for x86-64) are laid one
behind another, and there is one kind of relocation: the distance from a place to a section, in 32 bits. What has
anything else, or is for another processor or system, is left to LLVM's linker, which takes longer to load than to work.

Source: System V Application Binary Interface, chapter 4 (object files), and its AMD64 supplement, §4.4 (relocation).
"""

import ctypes
import mmap
import struct
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_OBJECT = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_X86_64 = struct.pack("<HH", 1, 62)  # relocatable, for this machine; at 16
_TABLE, _COUNT = struct.Struct("<Q"), struct.Struct("<H")  # of sections: where, at 40, and how many, at 60

_SECTION = np.dtype(
    {
        "names": ["type", "flags", "offset", "size", "link", "info", "align"],
        "formats": ["<u4", "<u8", "<u8", "<u8", "<u4", "<u4", "<u8"],
        "offsets": [4, 8, 24, 32, 40, 44, 48],
        "itemsize": 64,
    }
)
_SYMBOL = np.dtype([("name", "<u4"), ("kind", "<u2"), ("section", "<u2"), ("value", "<i8"), ("size", "<i8")])
_RELOCATION = np.dtype([("place", "<i8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

_CONTENT, _SYMBOLS, _RELOCATIONS = 1, 2, 4  # types of sections
_WRITTEN, _IN_MEMORY = 1, 2  # flags of sections
_PC32 = 2  # symbol + addend − place, in 32 bits

Bytes = npt.NDArray[np.uint8]
Table = npt.NDArray[np.void]


@dataclass(frozen=True, eq=False)
class Placed:
    """Code in memory, which may be run and no longer be written."""

    address: int  # of the function
    memory: mmap.mmap  # the code is there as long as this is


def placed(code: bytes, name: str) -> Placed | None:
    """The function of this name in memory; None for what only a true linker can place.

    code  that LLVM made here, or that was compared with its digest: it is believed
    """
    if sys.platform != "linux" or code[:7] != _OBJECT or code[16:20] != _X86_64:
        return None
    try:
        return _placed(code, name)
    except (ValueError, IndexError, OverflowError, struct.error, OSError):  # an object as we know none, or no memory
        return None


def _placed(code: bytes, name: str) -> Placed | None:
    sections = np.frombuffer(code, _SECTION, *_COUNT.unpack_from(code, 60), *_TABLE.unpack_from(code, 40))
    loaded = [number for number, section in enumerate(sections) if section["flags"] & _IN_MEMORY]
    if any(sections[number]["type"] != _CONTENT or sections[number]["flags"] & _WRITTEN for number in loaded):
        return None
    starts, size = _laid_out(sections, loaded)
    image = np.zeros(size, np.uint8)
    for number in loaded:
        content = _table(code, sections[number], np.dtype(np.uint8))
        image[starts[number] :][: len(content)] = content
    (symbols_at,) = np.flatnonzero(sections["type"] == _SYMBOLS)
    symbols = _table(code, sections[symbols_at], _SYMBOL)
    for section in sections[sections["type"] == _RELOCATIONS]:
        if not _relocate(image, starts, section["info"], _table(code, section, _RELOCATION), symbols):
            return None
    function = symbols[_names(code, sections[sections[symbols_at]["link"]], symbols).index(name.encode())]
    return _runnable(image, int(starts[function["section"]] + function["value"]))


def _table(code: bytes, section: np.void, row: np.dtype) -> Table:
    return np.frombuffer(code, row, int(section["size"]) // row.itemsize, int(section["offset"]))


def _names(code: bytes, strings: np.void, symbols: Table) -> list[bytes]:
    held = code[strings["offset"] :][: strings["size"]]
    return [held[start : held.index(0, start)] for start in symbols["name"].tolist()]


def _laid_out(sections: Table, loaded: list[int]) -> tuple[npt.NDArray[np.int64], int]:
    """Where each section begins in memory, −1 for those that don't come there, and the bytes of all."""
    starts, size = np.full(len(sections), -1, np.int64), 0
    for number in loaded:
        align = max(1, int(sections[number]["align"]))
        starts[number] = -(-size // align) * align
        size = int(starts[number] + sections[number]["size"])
    return starts, size


def _relocate(image: Bytes, starts: npt.NDArray[np.int64], into: int, relocations: Table, symbols: Table) -> bool:
    """Write the distances into a section; whether all are of the one kind, to what is in memory."""
    meant = symbols[relocations["symbol"]]
    if (relocations["kind"] != _PC32).any() or starts[into] < 0 or (meant["section"] >= len(starts)).any():
        return False
    homes = starts[meant["section"]]
    if (homes < 0).any():
        return False
    places = starts[into] + relocations["place"]
    distances = homes + meant["value"] + relocations["addend"] - places
    image[places[:, None] + np.arange(4)] = distances.astype("<i4").view(np.uint8).reshape(-1, 4)
    return True


def _runnable(image: Bytes, function: int) -> Placed | None:
    """The image in pages of its own, which are never writable and executable at a time; None where that is refused."""
    memory = mmap.mmap(
        -1, len(image), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE
    )
    memory[:] = image.tobytes()
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(start, len(image), mmap.PROT_READ | mmap.PROT_EXEC):
        return None
    return Placed(start + function, memory)
