"""Memory of results is used again, and never under somebody who still reads it."""

import numpy as np
import pytest

from eardrop.backends.cpu import backend, rooms

LARGE = (64, 1024)  # of float32: four times what is kept


@pytest.fixture(autouse=True)
def no_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_shared", rooms.Rooms(rooms.MOST_FREE))


def every() -> list[np.ndarray]:
    return [room.memory for alike in rooms._shared.by_size.values() for room in alike]


def test_a_result_that_nobody_holds_gives_its_memory_to_the_next() -> None:
    first = rooms.empty(LARGE)
    place = first.ctypes.data
    del first
    assert rooms.empty(LARGE).ctypes.data == place


def test_memory_that_a_view_still_reads_is_left_alone() -> None:
    first = rooms.empty(LARGE)
    first[:] = 3
    part = first[5:7, ::2]
    del first
    other = rooms.empty(LARGE)
    other[:] = 4
    assert (part == 3).all()


def test_arrays_have_the_shape_and_type_asked_for_and_are_aligned() -> None:
    kinds = (((3, 5), np.float32), (LARGE, np.int32), ((1 << 17,), np.uint8), ((0, 4), np.float32))
    held = [rooms.empty((rows,)) for rows in range(1, 40)]  # the allocator goes from place to place
    assert all(array.ctypes.data % 64 == 0 for array in held)
    for shape, dtype in kinds:
        array = rooms.empty(shape, dtype)
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous


def test_memory_that_nobody_uses_is_bounded_and_can_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms._shared, "most_free", 1 << 20)
    for rows in range(64, 640, 64):
        rooms.empty((rows, 1024))
    assert sum(map(len, every())) <= (1 << 20) + 2 * (640 << 12)  # and the two last
    held = rooms.empty(LARGE)
    rooms.clear()
    assert len(every()) == 1
    del held
    rooms.clear()
    assert not every()


def test_a_captured_step_uses_its_own_rooms_again_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    lent: list[rooms.Rooms] = []
    monkeypatch.setattr(backend, "apart", lambda own: lent.append(own) or rooms.apart(own))
    cpu, x = backend.CpuBackend(threads=2), np.ones(LARGE, np.float32)

    def step(start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = cpu.add(start, start)
        last = first
        for _ in range(9):
            last = cpu.add(last, x)
        return first, last

    replay = cpu.capture(step, x)
    (own,) = lent
    assert sum(map(len, own.by_size.values())) == 3  # the results, and one that is written when the last has been read
    meanwhile = cpu.add(x, x)
    for start in (1, 5):
        x[:] = start
        first, last = replay()
        assert (first == 2 * start).all()
        assert (last == 11 * start).all()
    assert (meanwhile == 2).all()
    assert not any(own.hold(array) for array in (x, meanwhile))
