"""Programs that are ended early, and what stays sound."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu.backend import CpuBackend
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import kernel, loop, repeat
from eardrop.backends.cpu.operations import acquired, fetch_add
from eardrop.backends.cpu.target import chosen
from eardrop.backends.cpu.team import Program, Team, pause
from eardrop.backends.cpu.types import I64, PTR
from eardrop.backends.cpu.vector import Value, const
from eardrop.ops.work import Work
from tests.given_up import given_up

COMPILER = Compiler(chosen())
ITEMS = 10_000

pytestmark = pytest.mark.usefixtures("impatient")


@kernel("gated", seen=PTR, begun=PTR, gate=PTR)
def gated(p: Any, lo: Value, hi: Value) -> None:
    """Say that it has begun, wait for the gate, count each item."""
    fetch_add(p.begun, const(I64, 1))
    for _ in repeat(lambda: acquired(p.gate) == 0):
        pause(p.gate)
    for i in loop(lo, hi):
        fetch_add(p.seen + i * 8, const(I64, 1))


class Gate:
    """A kernel's arguments, and the other side of its gate."""

    def __init__(self, *, open_: bool = False) -> None:
        self.seen, self.begun, self.gate = np.zeros(ITEMS, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.gate[0] = open_

    @property
    def arguments(self) -> list[Any]:
        return [self.seen, self.begun, self.gate]

    def meanwhile(self, act: Callable[[], None]) -> threading.Thread:
        """Once the kernel has begun, act; then open the gate."""

        def wait() -> None:
            while not self.begun[0]:
                pass
            act()
            self.gate[0] = 1

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread


def program(team: Team, gate: Gate, records: int) -> Program:
    made = Program()
    for _ in range(records):
        made.add(gated, gate.arguments, ITEMS, 1)
    return made.freeze(team)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_stopped_program_ends_with_the_chunks_that_were_taken(threads: int) -> None:
    team, gate = Team(COMPILER, threads), Gate()
    made = program(team, gate, records=3)
    other = gate.meanwhile(made.stop)
    team.run(made)
    other.join()
    assert 1 <= gate.seen.sum() <= threads
    again = Gate(open_=True)
    team.run(program(team, again, records=3))  # the team is as it was
    assert (again.seen == 3).all()
    team.close()


def test_a_program_stopped_before_it_is_run_does_nothing() -> None:
    team, gate = Team(COMPILER, 2), Gate(open_=True)
    made = program(team, gate, records=2)
    made.stop()
    team.run(made)
    assert gate.seen.sum() == 0
    team.close()


def test_a_backend_stops_the_kernel_that_is_under_way_and_goes_on_with_other_work() -> None:
    backend, gate, wanted = CpuBackend(2), Gate(), [True]
    x = np.random.default_rng(0).standard_normal((3, 64), np.float32)
    expected = backend.glu(x)
    with given_up(), Work(lambda: wanted[0]) as work:

        def give_up() -> None:
            wanted[0] = False
            work.nudge()

        other = gate.meanwhile(give_up)
        backend._run(gated, gate.arguments, ITEMS, 1)
        other.join()
        assert gate.seen.sum() <= 2
        backend.glu(x)
        raise AssertionError("the next kernel ran")
    np.testing.assert_array_equal(backend.glu(x), expected)


def test_who_stops_a_kernel_too_late_stops_no_later_one() -> None:
    backend, first, second, stops = CpuBackend(2), Gate(), Gate(), list[Any]()
    with Work(lambda: True) as work:
        others = [first.meanwhile(lambda: stops.append(work.stop)), second.meanwhile(lambda: stops[0]())]
        for gate in (first, second):
            backend._run(gated, gate.arguments, ITEMS, 1)
        assert work.stop is None
    for other, gate in zip(others, (first, second), strict=True):
        other.join()
        assert (gate.seen == 1).all()


def test_a_call_with_a_word_too_few_is_not_made() -> None:
    with pytest.raises(AssertionError, match="gated takes"):
        CpuBackend(1)._run(gated, Gate(open_=True).arguments[:-1], ITEMS, 1)


def test_a_capture_that_is_stopped_leaves_the_backend_able_to_capture() -> None:
    backend, gate, wanted = CpuBackend(2), Gate(), [True]
    x = np.random.default_rng(0).standard_normal((3, 64), np.float32)

    def step(x: Any) -> Any:
        backend._run(gated, gate.arguments, ITEMS, 1)
        return backend._fall_back(np.negative, x)  # a reference wants to see what the kernel gives, so it is run

    with given_up(), Work(lambda: wanted[0]) as work:
        other = gate.meanwhile(lambda: (wanted.__setitem__(0, False), work.nudge()))
        backend.capture(step, x)
    other.join()
    replay = backend.capture(backend.glu, x)
    expected = backend.glu(x)
    np.testing.assert_array_equal(replay(), expected)


def test_interpreted_kernels_heed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARDROP_JIT", "0")
    backend, wanted = CpuBackend(1), [True]
    x = np.ones((1, 64), np.float32)
    with given_up(), Work(lambda: wanted[0]):
        backend.glu(x)
        wanted[0] = False
        backend.glu(x)
        raise AssertionError("the next kernel ran")
