"""Programs and the threads that run them."""

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu.backend import CpuBackend
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel, kernel, loop
from eardrop.backends.cpu.maths import smaller
from eardrop.backends.cpu.operations import fetch_add
from eardrop.backends.cpu.target import chosen
from eardrop.backends.cpu.team import Program, Team
from eardrop.backends.cpu.types import I64, PTR
from eardrop.backends.cpu.vector import Value, const
from eardrop.dialect import REFERENCE
from eardrop.engine import Engine, Request
from eardrop.loading import load_model
from eardrop.ops.linear import random_weight
from eardrop.text import prompt
from tests.pairs import pair

COMPILER = Compiler(chosen())


@kernel("tally", seen=PTR, chunks=PTR)
def tally(p: Any, lo: Value, hi: Value) -> None:
    """Count each item, and the chunks."""
    fetch_add(p.chunks, const(I64, 1))
    for i in loop(lo, hi):
        fetch_add(p.seen + i * 8, const(I64, 1))


@kernel("doubled", y=PTR, n=I64)
def doubled(p: Any, lo: Value, hi: Value) -> None:
    """Each number becomes the sum of itself and its neighbour, as the record before left them."""
    for i in loop(lo, hi):
        here = p.y + i * 8
        here.store(here.load(I64) * 2 + smaller(i, p.n))


def run(team: Team, *calls: tuple[Any, list[Any], int, int]) -> None:
    program = Program()
    for call in calls:
        program.add(*call)
    team.run(program.freeze(team))


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize(("items", "chunk"), [(0, 1), (1, 1), (7, 3), (1000, 7), (5, 100)])
def test_every_item_is_done_once(threads: int, items: int, chunk: int) -> None:
    team, seen, chunks = Team(COMPILER, threads), np.zeros(max(1, items), np.int64), np.zeros(1, np.int64)
    for _ in range(20):
        run(team, (tally, [seen, chunks], items, chunk))
    assert (seen[:items] == 20).all()
    assert chunks[0] == 20 * -(-items // chunk)
    team.close()


def test_a_record_begins_when_the_one_before_is_done() -> None:
    team, y = Team(COMPILER, 3), np.zeros(64, np.int64)
    program = Program()
    for _ in range(10):
        program.add(doubled, [y, 3], 64, 1)
    program.freeze(team)
    for _ in range(50):
        y[:] = 1
        team.run(program)
        expected = np.ones(64, np.int64)
        for _ in range(10):
            expected = expected * 2 + np.minimum(np.arange(64), 3)
        assert np.array_equal(y, expected)
    team.close()


def test_threads_have_names_and_go_home() -> None:
    team = Team(COMPILER, 3)
    named = [thread for thread in threading.enumerate() if thread.name.startswith("eardrop-cpu-")]
    assert {"eardrop-cpu-1", "eardrop-cpu-2"} <= {thread.name for thread in named}
    before = len(named)
    team.close()
    assert sum(thread.is_alive() for thread in named) <= before - 2


def test_a_team_that_everyone_forgot_goes_home() -> None:
    team = Team(COMPILER, 2)
    threads = set(threading.enumerate())
    del team
    gc.collect()
    assert any(not thread.is_alive() for thread in threads)


def test_several_threads_may_ask_one_team() -> None:
    team, seen, chunks = Team(COMPILER, 2), np.zeros(10, np.int64), np.zeros(1, np.int64)
    asking = [
        threading.Thread(target=lambda: [run(team, (tally, [seen, chunks], 10, 2)) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert (seen == 200).all()
    team.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_gets_a_team_of_its_own() -> None:
    team, seen, chunks = Team(COMPILER, 2), np.zeros(10, np.int64), np.zeros(1, np.int64)
    run(team, (tally, [seen, chunks], 10, 2))
    child = os.fork()
    if child == 0:
        run(team, (tally, [seen, chunks], 10, 2))
        os._exit(0 if (seen == 2).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (seen == 1).all()
    team.close()


def test_a_captured_step_replays_kernels_and_references_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(CpuBackend, "add")  # its kernel
    backend = CpuBackend(2)
    rng = np.random.default_rng(0)
    w, v = (backend.weight(random_weight(rng, name, 64, 64)) for name in ("Q8_0", "F16"))
    norm = np.ones(64, np.float32)

    def step(x: np.ndarray) -> np.ndarray:
        hidden = backend.linear(backend.rms_norm(x, norm, 1e-5), w)
        return backend.linear(backend.add(hidden, hidden, 0.5), v)

    x = backend.upload(rng.standard_normal((2, 64), dtype=np.float32))
    replay = backend.capture(step, x)
    for _ in range(3):
        fresh = rng.standard_normal((2, 64), dtype=np.float32)
        backend.write(x, fresh)
        got = np.array(replay())
        np.testing.assert_array_equal(got, step(fresh))


def elsewhere(work: Callable[[], Any]) -> Any:
    """What another thread makes of it, before this one goes on."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_what_other_threads_compute_meanwhile_is_not_captured() -> None:
    backend, theirs = CpuBackend(1), []
    x = np.ones((2, 64), np.float32)

    def step(x: np.ndarray) -> np.ndarray:
        y = backend.glu(x)
        theirs.append(elsewhere(lambda: backend.glu(x)))
        return backend.add(y, y)

    replay = backend.capture(step, x)
    theirs[0][:] = 7
    replay()
    assert (theirs[0] == 7).all()


def test_what_was_made_of_one_threads_rows_serves_no_other() -> None:
    rng, meanwhile = np.random.default_rng(3), []

    class Interrupted(CpuBackend):
        def _run(self, kernel: Kernel, *others: Any) -> None:
            super()._run(kernel, *others)
            if meanwhile:
                elsewhere(meanwhile.pop())

    backend = Interrupted(1)
    w = backend.weight(random_weight(rng, "Q8_0", 64, 64))
    x, z = (rng.standard_normal((1, 64), dtype=np.float32) for _ in range(2))
    alone = backend.linear(x, w)
    backend.write(x, x)  # what was made of it is forgotten
    meanwhile.append(lambda: backend.linear(z, w))
    np.testing.assert_array_equal(backend.linear(x, w), alone)
    assert not meanwhile


def test_every_operation_has_a_kernel_and_what_falls_back_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CpuBackend(1).lacking == ()
    monkeypatch.delattr(CpuBackend, "glu")
    assert CpuBackend(1).lacking == ("glu",)


@pytest.mark.skipif(not os.environ.get("EARDROP_TEST_LONG"), reason="a minute: `make test-long` runs it")
def test_interpreted_kernels_answer_as_compiled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for jit in ("1", "0"):
        monkeypatch.setenv("EARDROP_JIT", jit)
        model = load_model(*pair(), CpuBackend(1))
        with Engine(model, streams=1) as engine:
            parts = prompt(model.tokenizer, system=None, user=["hi"], dialect=REFERENCE)
            answers.append([token.id for token in engine.submit(Request(parts, limit=2))])
    assert answers[0] == answers[1]
