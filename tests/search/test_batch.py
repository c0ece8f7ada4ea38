"""The decode loop by itself: every task is told its end once, and work that nobody waits for ends."""

import itertools
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.errors import Cancelled, EngineClosed
from eardrop.loading import load_model
from eardrop.model.decoder import embed
from eardrop.ops.work import heed, stoppable
from eardrop.search import Batch, Choice, Finish, Greedy, Search, Stop, Task
from tests.pairs import pair

MODEL = load_model(*pair(), BACKENDS["numpy"].make())

pytestmark = pytest.mark.usefixtures("impatient")


def prepare(prompts: Sequence[Any]) -> list[Any]:
    return [embed(MODEL.decoder, [np.array(prompt, np.int32)], MODEL.backend) for prompt in prompts]


class Loop:
    """A batch on its thread, and what its tasks were told."""

    def __init__(self) -> None:
        self.batch = Batch(MODEL.decoder, MODEL.backend, prepare, slots=2)
        self.thread = threading.Thread(target=self.batch.run, daemon=True)
        self.said: dict[Task, list[int]] = defaultdict(list)
        self.ends: dict[Task, list[Finish | BaseException]] = defaultdict(list)
        self._ended = threading.Condition()
        self.thread.start()

    def submit(self, limit: int | None = 3, search: Search | None = None, **more: Any) -> Task:
        task = Task(
            [5, 6, 7], search or Greedy(), Stop(frozenset(), limit), lambda choice: None, lambda end: None, **more
        )
        task.say = lambda choice: self.said[task].append(choice.token)
        task.end = lambda end: self._end(task, end)
        self.batch.submit(task)
        return task

    def _end(self, task: Task, end: Finish | BaseException) -> None:
        with self._ended:
            self.ends[task].append(end)
            self._ended.notify_all()

    def end(self, task: Task) -> Finish | BaseException:
        """What the task was told, waited for."""
        with self._ended:
            self._ended.wait_for(lambda: self.ends[task])
        return self.ends[task][0]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.batch.close()
    loop.thread.join(5)
    assert not loop.thread.is_alive()
    assert {len(ends) for ends in loop.ends.values()} <= {1}, "an end is told once"


def waiting_for(stop: threading.Event, work: Callable[[], Any]) -> Callable[..., Any]:
    """Work that says when it has begun and does not end unless it heeds."""

    def endless(*given: Any) -> Any:
        stop.set()
        while True:
            work()

    return endless


def test_tasks_end_at_their_limits_and_are_told_once(loop: Loop) -> None:
    tasks = [loop.submit(limit) for limit in (0, 1, 3, 2, 5)]  # for two slots
    assert [loop.end(task) for task in tasks] == [Finish.LENGTH] * 5
    assert [len(loop.said[task]) for task in tasks] == [0, 1, 3, 2, 5]
    assert loop.said[tasks[2]] == loop.said[tasks[4]][:3]


def test_a_cancelled_task_ends_while_its_prompt_is_prepared(loop: Loop) -> None:
    begun = threading.Event()
    loop.batch.prepare = waiting_for(begun, heed)
    task = loop.submit()
    begun.wait()
    loop.batch.cancel(task)
    assert loop.end(task) is Finish.CANCELLED
    loop.batch.prepare = prepare
    assert loop.end(loop.submit()) is Finish.LENGTH


def test_a_text_cancelled_between_steps_says_no_other_token(loop: Loop) -> None:
    task = loop.submit(limit=None)
    while not loop.said[task]:
        time.sleep(0.001)
    said = loop.batch.call(lambda: (loop.batch.cancel(task), len(loop.said[task]))[1])
    assert loop.end(task) is Finish.CANCELLED
    assert len(loop.said[task]) == said


def test_tasks_prepared_together_are_given_up_when_the_last_is_cancelled(loop: Loop) -> None:
    begun, prepared, heeded = threading.Event(), [], itertools.count()

    def endless(prompts: Sequence[Any]) -> list[Any]:
        prepared.append(len(prompts))
        begun.set()
        while True:
            next(heeded)
            heed()

    hold, held = threading.Event(), threading.Event()
    errand = threading.Thread(target=loop.batch.call, args=[lambda: (held.set(), hold.wait())], daemon=True)
    errand.start()
    held.wait()
    loop.batch.prepare = endless
    first, second = loop.submit(), loop.submit()
    hold.set()
    errand.join()
    begun.wait()
    loop.batch.cancel(first)
    seen = next(heeded)
    while next(heeded) < seen + 10:  # the work is the other's too: it goes on
        time.sleep(0.001)
    loop.batch.cancel(second)
    assert {loop.end(first), loop.end(second)} == {Finish.CANCELLED}
    assert prepared == [2]  # neither began anew alone


@pytest.mark.parametrize("ended_by", ["cancel", "close"])
def test_a_kernel_that_is_under_way_is_told_to_stop(loop: Loop, ended_by: str) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def kernel(prompts: Sequence[Any]) -> list[Any]:
        with stoppable(stopped.set):
            begun.set()
            stopped.wait()
        return prepare(prompts)

    loop.batch.prepare = kernel
    task = loop.submit()
    begun.wait()
    {"cancel": lambda: loop.batch.cancel(task), "close": loop.batch.close}[ended_by]()
    assert isinstance(loop.end(task), Finish if ended_by == "cancel" else EngineClosed)
    assert loop.said[task] == []


def test_closing_ends_work_that_is_under_way(loop: Loop) -> None:
    begun = threading.Event()
    loop.batch.prepare = waiting_for(begun, heed)
    preparing, later = loop.submit(), loop.submit()
    begun.wait()
    loop.batch.close()
    loop.thread.join()
    assert isinstance(loop.end(preparing), EngineClosed)
    assert isinstance(loop.end(later), EngineClosed)
    assert isinstance(loop.end(loop.submit()), EngineClosed)  # too late
    with pytest.raises(EngineClosed):
        loop.batch.call(lambda: None)


def test_closing_tells_whoever_waits_for_an_errand(loop: Loop) -> None:
    begun = threading.Event()
    threading.Thread(target=lambda: (begun.wait(), loop.batch.close()), daemon=True).start()
    with pytest.raises(EngineClosed):
        loop.batch.call(waiting_for(begun, heed))


def test_an_errand_gives_its_result_or_its_error(loop: Loop) -> None:
    assert loop.batch.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        loop.batch.call(lambda: 1 // 0)
    assert loop.batch.call(lambda: threading.current_thread()) is loop.thread


def test_an_errand_whose_caller_is_interrupted_is_given_up(loop: Loop) -> None:
    class Pressed(Exception):
        """Ctrl-C, as it comes to whoever waits."""

    def press(*signal_: object) -> None:
        raise Pressed

    before, begun = signal.signal(signal.SIGUSR1, press), threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    try:
        threading.Thread(target=lambda: (begun.wait(), signal.pthread_kill(main, signal.SIGUSR1)), daemon=True).start()
        with pytest.raises(Pressed):
            loop.batch.call(waiting_for(begun, heed))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert loop.batch.call(lambda: 7) == 7


class Refusing:
    """A search of a caller's own that raises what the loop raises itself."""

    def begin(self) -> "Refusing":
        return self

    def choose(self, best: Choice, logits: Any, allowed: Any) -> Choice:
        raise Cancelled("by the search")


def test_an_error_of_a_search_is_its_callers_whatever_its_class(loop: Loop) -> None:
    failing, good = loop.submit(search=Refusing()), loop.submit()
    end = loop.end(failing)
    assert isinstance(end, Cancelled)
    assert str(end) == "by the search"
    assert loop.end(good) is Finish.LENGTH
