"""Where memory ends fewer texts are said at once, and every one is what it would have been."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from eardrop.backends import observed
from eardrop.backends.numpy import NumpyBackend
from eardrop.gguf import open_gguf
from eardrop.loading import load_model
from eardrop.model.decoder import embed
from eardrop.model.shape import decoder_shape
from eardrop.ops import Op
from eardrop.ops.backend import Backend
from eardrop.search import Batch, Choice, Finish, Greedy, Look, Search, Stop, Task
from tests.pairs import pair

PROMPTS = ([5, 6, 7], [8, 9], [1, 2, 3, 4], [30, 20, 10], [7, 7, 7])
LIMIT = 21
Wish = Callable[[int], dict[str, Any]]  # what else the task of this number wishes


class Full(NumpyBackend):
    """Has memory for so many rows of all caches, and for results of so many rows of logits."""

    def __init__(self, *, cached: float = np.inf, logits: float = np.inf) -> None:
        super().__init__()
        self.cached, self.logits, self.refused = cached, logits, 0

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self._allocate(shape[0] * shape[1] if len(shape) == 4 else 0, self.cached)
        return super().zeros(shape, dtype)

    def pick(self, logits: Any, allowed: Any = None) -> Any:
        self._allocate(len(logits), self.logits)
        return super().pick(logits, allowed)

    def _allocate(self, rows: int, most: float) -> None:
        if rows > most:
            self.refused += 1
            raise MemoryError(f"no {rows} rows")


@pytest.fixture(autouse=True)
def _caches_grow_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eardrop.search.batch.ROWS", 8)


class Said:
    """What became of some tasks that were submitted together, `slots` at once."""

    def __init__(self, backend: Backend, slots: int, wish: Wish = lambda number: {}) -> None:
        model = load_model(*pair(), backend)

        def prepare(prompts: Sequence[Any]) -> list[Any]:
            return [embed(model.decoder, [np.array(prompt, np.int32)], backend) for prompt in prompts]

        batch = Batch(model.decoder, backend, prepare, slots=slots)
        self.made, self.order = batch.slots, list[int]()
        self.texts, self.ends = ([[] for _ in PROMPTS] for _ in range(2))
        for number, prompt in enumerate(PROMPTS):
            batch.submit(self._task(batch, number, {"prompt": prompt, "search": Greedy()} | wish(number)))
        batch.run()
        assert {len(ends) for ends in self.ends} == {1}
        self.slots = batch.slots

    def _task(self, batch: Batch, number: int, wishes: dict[str, Any]) -> Task:
        def end(how: Any) -> None:
            self.ends[number].append(how)
            self.order.append(number)
            if all(self.ends):
                batch.close()

        say = lambda choice: self.texts[number].append(choice.token)  # noqa: E731
        return Task(stop=Stop(frozenset(), LIMIT), say=say, end=end, **wishes)


VOCABULARY = decoder_shape(open_gguf(pair()[0])).vocabulary
EXPECTED = Said(NumpyBackend(), slots=len(PROMPTS)).texts


@pytest.mark.parametrize(
    ("backend", "slots"),
    [
        (Full(cached=3 * 32), 2),  # two slots and the spare one, of the rows that a text comes to
        (Full(cached=2 * 32), 1),
        (Full(logits=2), 2),
        (Full(logits=1), 1),
        (Full(cached=3 * 32, logits=1), 1),
    ],
)
def test_texts_are_the_same_however_often_they_were_interrupted(backend: Full, slots: int) -> None:
    said = Said(backend, slots=5)
    assert backend.refused
    assert (said.slots, said.texts) == (slots, EXPECTED)
    assert said.ends == [[Finish.LENGTH]] * len(PROMPTS)


def test_a_text_that_does_not_fit_alone_ends_with_the_error_and_what_it_said() -> None:
    said = Said(Full(cached=2 * 16), slots=3)
    assert [type(end) for (end,) in said.ends] == [MemoryError] * len(PROMPTS)
    assert all(text and text == expected[: len(text)] for text, expected in zip(said.texts, EXPECTED, strict=True))


def test_there_are_no_more_slots_than_memory_bears() -> None:
    assert Said(Full(cached=9 * 32), slots=400).made == 25
    with pytest.raises(MemoryError):
        Said(Full(cached=8), slots=4)


def wishing(looks: dict[int, np.ndarray]) -> Wish:
    """Where a text looked, its draft, its mask."""
    wishes = {
        0: {"look": Look(1, 1, partial(looks.__setitem__, 0))},
        1: {"look": Look(0, 1, partial(looks.__setitem__, 1)), "draft": EXPECTED[1][:12]},
        2: {"draft": [*EXPECTED[2][:9], 1, *EXPECTED[2][10:]]},
        3: {"allowed": np.arange(VOCABULARY) % 2 == 0},
    }
    return lambda number: wishes.get(number, {})


LOOKS: dict[int, np.ndarray] = {}
WISHED = Said(NumpyBackend(), 5, wishing(LOOKS))


def failing_once(name: str, number: int) -> Backend:
    """Memory ends in the call of this number of an operation."""
    left = [number]

    def around(op: Op, call: Callable[..., Any], given: dict[str, Any]) -> Any:
        left[0] -= op.name == name
        if left[0] == 0 and op.name == name:
            raise MemoryError
        return call(**given)

    return observed(NumpyBackend(), around)


@pytest.mark.parametrize(
    ("name", "number"),
    [*(("attention_weights", number) for number in range(1, 13)), *(("pick", number) for number in range(1, 29, 3))],
)
def test_what_was_asked_of_a_text_is_kept_wherever_it_is_interrupted(name: str, number: int) -> None:
    looks: dict[int, np.ndarray] = {}
    said = Said(failing_once(name, number), 5, wishing(looks))
    assert said.slots == 2
    assert said.texts == WISHED.texts
    assert looks.keys() == LOOKS.keys()
    for number, looked in looks.items():
        np.testing.assert_allclose(looked, LOOKS[number], atol=1e-6)


def test_who_was_interrupted_comes_before_those_who_waited() -> None:
    everyone = list(range(len(PROMPTS)))
    assert Said(Full(logits=1), slots=2).order == everyone  # in a step
    assert Said(failing_once("pick", 3), slots=5).order == everyone  # in the prompt of the third


class Exhausting:
    """A search of a caller's own that never has enough memory."""

    def begin(self) -> "Exhausting":
        return self

    def choose(self, best: Choice, logits: Any, allowed: Any) -> Choice:
        raise MemoryError


def test_a_search_that_takes_all_memory_ends_alone() -> None:
    greedy: Search = Greedy()
    said = Said(NumpyBackend(), 5, lambda number: {"search": Exhausting() if number == 2 else greedy})
    assert [type(end) is MemoryError for (end,) in said.ends] == [False, False, True, False, False]
    assert [text for number, text in enumerate(said.texts) if number != 2] == EXPECTED[:2] + EXPECTED[3:]
