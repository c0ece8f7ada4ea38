"""Memory for results, used again: fresh pages cost more time than many operations need to fill them.

A room is free when nobody but its table refers to it: NumPy's views count as references to the array they view. All
share one table, but for what is recorded: a captured step writes the same rooms at each replay, so it has its own.
"""

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 16  # below that the allocator of the system has memory at hand
MOST_FREE = 64 << 20  # bytes kept for nobody: most of what encoding a window of thirty seconds needs

LINE = 64  # bytes that the cache fetches together: of two, a register is filled in twice the time

_ALONE = 2  # references to memory that nobody uses: its room's, and the one that asks


class Room(NamedTuple):
    """Memory, and where in it a line of the cache begins."""

    memory: npt.NDArray[np.uint8]
    start: int

    @property
    def free(self) -> bool:
        """Whether no array lies in it."""
        return sys.getrefcount(self.memory) == _ALONE


@dataclass(eq=False)
class Rooms:
    """A table of rooms, by their size: thousands are asked for in a second. `most_free` bytes are kept for nobody."""

    most_free: float = math.inf
    by_size: dict[int, list[Room]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, shape: tuple[int, ...], kind: np.dtype[Any], nbytes: int) -> npt.NDArray[Any]:
        """An array of anything at a multiple of 64 bytes, in a room that is free."""
        with self.lock:
            room = self._free(_size(nbytes))
            return np.ndarray(shape, kind, room.memory, room.start)

    def hold(self, x: Any) -> bool:
        """Whether an array lies in a room of this table."""
        return isinstance(x, np.ndarray) and any(
            x.base is room.memory for room in self.by_size.get(_extent(x.base), ())
        )

    def clear(self) -> None:
        """Give back what nobody uses."""
        with self.lock:
            self._drop()

    def _free(self, size: int) -> Room:
        alike = self.by_size.setdefault(size, [])
        for room in alike:
            if room.free:
                return room
        unused = (len(room.memory) for rooms in self.by_size.values() for room in rooms if room.free)
        if sum(unused) > self.most_free:
            self._drop()
        memory = np.empty(size, np.uint8)
        alike.append(Room(memory, _first_line(memory)))
        return alike[-1]

    def _drop(self) -> None:
        for rooms in self.by_size.values():
            rooms[:] = [room for room in rooms if not room.free]


_shared = Rooms(MOST_FREE)
_here = threading.local()  # `rooms`: those of what this thread records


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of anything, at a multiple of 64 bytes."""
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    if nbytes < SMALLEST:
        memory = np.empty(nbytes + LINE, np.uint8)
        return np.ndarray(shape, kind, memory, _first_line(memory))
    rooms: Rooms = getattr(_here, "rooms", _shared)
    return rooms.take(shape, kind, nbytes)


@contextmanager
def apart(rooms: Rooms) -> Iterator[None]:
    """Let what this thread computes lie in these rooms alone."""
    _here.rooms = rooms
    try:
        yield
    finally:
        del _here.rooms


def clear() -> None:
    """Give back what nobody uses."""
    _shared.clear()


def _size(nbytes: int) -> int:
    """Sizes in steps of an eighth to a quarter, so that recordings of about the same length share rooms."""
    step = 1 << max(0, nbytes.bit_length() - 3)
    return -(-nbytes // step) * step + LINE


def _first_line(memory: npt.NDArray[np.uint8]) -> int:
    return int(-memory.__array_interface__["data"][0] % LINE)  # .ctypes takes three times as long


def _extent(x: Any) -> int:
    return x.nbytes if isinstance(x, np.ndarray) else 0
