"""Kernels that are under way while their caller goes on, and who waits for them."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu.backend import CpuBackend
from eardrop.backends.cpu.flow import kernel, loop, repeat
from eardrop.backends.cpu.operations import acquired, fetch_add
from eardrop.backends.cpu.team import pause
from eardrop.backends.cpu.types import I64, PTR
from eardrop.backends.cpu.vector import Value, const
from eardrop.ops.work import Work
from tests.given_up import given_up

ITEMS = 100

pytestmark = pytest.mark.usefixtures("impatient")


@kernel("behind_a_gate", y=PTR, begun=PTR, gate=PTR)
def behind_a_gate(p: Any, lo: Value, hi: Value) -> None:
    """Say that it has begun, wait for the gate, add one to each item."""
    fetch_add(p.begun, const(I64, 1))
    for _ in repeat(lambda: acquired(p.gate) == 0):
        pause(p.gate)
    for i in loop(lo, hi):
        fetch_add(p.y + i * 8, const(I64, 1))


class Gate:
    """A kernel's arguments; it stands still until somebody opens."""

    def __init__(self) -> None:
        self.y, self.begun, self.gate = np.zeros(ITEMS, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)

    def begin(self, backend: CpuBackend) -> None:
        """Call it, and see that somebody else has taken it up."""
        backend._run(behind_a_gate, [self.y, self.begun, self.gate], ITEMS, 1)
        self.awaited()

    def awaited(self) -> None:
        """It has begun."""
        while not self.begun[0]:
            time.sleep(0)

    def open(self) -> None:
        """Let it go on."""
        self.gate[0] = 1

    def open_soon(self) -> threading.Thread:
        """Let it go on after whoever reads too early has read."""
        thread = threading.Timer(0.05, self.open)
        thread.start()
        return thread

    @property
    def done(self) -> bool:
        return bool((self.y == 1).all())


@pytest.fixture
def backend() -> Iterator[CpuBackend]:
    made = CpuBackend(2)
    yield made
    made._team.close()


def test_a_call_is_under_way_when_it_returns_and_done_when_the_block_ends(backend: CpuBackend) -> None:
    gate = Gate()
    with backend.ahead():
        gate.begin(backend)
        assert not gate.y.any()
        gate.open()
    assert gate.done


def test_without_ahead_a_call_is_done_when_it_returns(backend: CpuBackend) -> None:
    gate = Gate()
    with backend.ahead(), backend.ahead():
        pass
    gate.open_soon()
    gate.begin(backend)
    assert gate.done


def test_nobody_goes_ahead_alone() -> None:
    gate, alone = Gate(), CpuBackend(1)
    with alone.ahead():
        gate.open_soon()
        gate.begin(alone)
        assert gate.done


def test_a_call_waits_for_the_one_before(backend: CpuBackend) -> None:
    x = np.random.default_rng(0).standard_normal((2_000, 512), dtype=np.float32)
    norm = np.ones(256, np.float32), np.zeros(256, np.float32)

    def chain() -> np.ndarray:
        y = x
        for _ in range(30):
            y = backend.glu(y)
            y = backend.layer_norm(y, *norm, 1e-5)
            y = backend.add(y, y, 0.5).reshape(-1, 512)
            y = backend.swiglu(np.repeat(backend.download(y), 2, axis=0), x[: 2 * len(y)])[: len(x)]
        return np.array(backend.download(y))

    expected = chain()
    for _ in range(5):
        with backend.ahead():
            np.testing.assert_array_equal(chain(), expected)


READING: dict[str, Callable[[CpuBackend, np.ndarray], Any]] = {
    "download": lambda backend, x: backend.download(x).copy(),
    "upload": lambda backend, x: backend.upload(x),
    "concatenate": lambda backend, x: backend.concatenate([x, x]),
    "write": lambda backend, x: backend.write(x, x),
    "a copy for a kernel": lambda backend, x: backend._contiguous(x[::2]),
    "what has no kernel": lambda backend, x: backend._fall_back(np.copy, x),
    "capture": lambda backend, x: backend.capture(lambda: ()),
}


@pytest.mark.parametrize("reading", READING)
def test_whoever_reads_on_the_host_waits(backend: CpuBackend, reading: str) -> None:
    gate = Gate()
    with backend.ahead():
        gate.begin(backend)
        gate.open_soon()
        READING[reading](backend, gate.y)
        assert gate.done


def test_what_a_call_under_way_reads_is_kept(backend: CpuBackend) -> None:
    gate = Gate()
    theirs = np.zeros(ITEMS, np.int64)
    alive = weakref.ref(theirs)
    with backend.ahead():
        backend._run(behind_a_gate, [theirs, gate.begun, gate.gate], ITEMS, 1)
        del theirs
        assert alive() is not None
        gate.open()
        backend.download(gate.y)
        assert alive() is None


def test_other_threads_compute_when_the_call_under_way_is_done(backend: CpuBackend) -> None:
    gate, x = Gate(), np.random.default_rng(0).standard_normal((3, 64), dtype=np.float32)
    expected = backend.glu(x)
    with ThreadPoolExecutor(1) as pool:
        with backend.ahead():
            gate.begin(backend)
            theirs = pool.submit(backend.glu, x)
            time.sleep(0.02)
            assert not theirs.done()
            gate.open()
        np.testing.assert_array_equal(theirs.result(), expected)


def test_an_error_leaves_nothing_under_way(backend: CpuBackend) -> None:
    gate = Gate()

    def fail() -> None:
        with backend.ahead():
            gate.begin(backend)
            gate.open_soon()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert gate.done
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(backend.glu, np.ones((1, 64), np.float32)).result() is not None


def test_a_call_under_way_can_be_stopped(backend: CpuBackend) -> None:
    gate, wanted = Gate(), [True]
    x = np.random.default_rng(0).standard_normal((3, 64), dtype=np.float32)
    expected = backend.glu(x)
    with given_up(), Work(lambda: wanted[0]) as work, backend.ahead():
        gate.begin(backend)
        wanted[0] = False
        work.nudge()
        gate.open()
        backend.glu(x)
        raise AssertionError("the next kernel ran")
    assert gate.y.sum() == 1  # the chunk that was taken
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(backend.glu, x).result(), expected)


def test_work_that_ends_with_a_call_under_way_says_that_it_was_stopped(backend: CpuBackend) -> None:
    gate, wanted = Gate(), [True]
    with given_up(), Work(lambda: wanted[0]) as work:
        with backend.ahead():
            gate.begin(backend)
            wanted[0] = False
            work.nudge()
            gate.open()
        assert work.stop is None
    assert not gate.done
