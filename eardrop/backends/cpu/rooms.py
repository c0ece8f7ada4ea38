"""Memory for results, used again: fresh pages cost more time than many operations need to fill them.

A room is free when nobody but this table refers to it: NumPy's views count as references to the array they view.
"""

import math
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 16  # below that the allocator of the system has memory at hand
MOST_FREE = 128 << 20  # bytes kept for nobody: what encoding a window of thirty seconds needs

_ALONE = 3  # references to a room that nobody uses: the table's, the loop's, and the one that asks

_rooms: dict[int, list[npt.NDArray[np.uint8]]] = {}  # by their size: thousands are asked for in a second
_lock = threading.Lock()


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of anything, at a multiple of 64 bytes where it is large."""
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, kind)
    with _lock:
        room = _taken(_size(nbytes))
    start = -room.ctypes.data % 64
    return room[start : start + nbytes].view(kind).reshape(shape)


def clear() -> None:
    """Give back what nobody uses."""
    with _lock:
        _drop_free()


def _size(nbytes: int) -> int:
    """Sizes in steps of an eighth to a quarter, so that recordings of about the same length share rooms."""
    step = 1 << max(0, nbytes.bit_length() - 3)
    return -(-nbytes // step) * step + 64


def _taken(size: int) -> npt.NDArray[np.uint8]:
    alike = _rooms.setdefault(size, [])
    for room in alike:
        if sys.getrefcount(room) == _ALONE:
            return room
    if sum(len(room) for rooms in _rooms.values() for room in rooms if sys.getrefcount(room) == _ALONE) > MOST_FREE:
        _drop_free()
    room = np.empty(size, np.uint8)
    alike.append(room)
    return room


def _drop_free() -> None:
    for rooms in _rooms.values():
        rooms[:] = [room for room in rooms if sys.getrefcount(room) > _ALONE]
