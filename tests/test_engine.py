"""The engine: many requests at once, each as if it were alone; ends, errors, cancelling, closing."""

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from eardrop import engine as engine_module
from eardrop.backends import BACKENDS, observed
from eardrop.backends.cpu.backend import CpuBackend
from eardrop.backends.numpy import NumpyBackend
from eardrop.dialect import LLAMA_CPP, REFERENCE
from eardrop.engine import Engine, Model, Request, _Listener
from eardrop.errors import AudioError, AudioTooLong, ContextFull, EngineClosed, ModelFileError, OptionError
from eardrop.gguf import GgufFile
from eardrop.loading import load_model
from eardrop.search import Finish, Greedy, Sample, Stop, Task
from eardrop.search.batch import MOST_STEPS
from eardrop.text import MEDIA, prompt
from tests.pairs import pair, record, rewritten

MODEL = load_model(*pair(), BACKENDS["numpy"].make())
RUNNING = [name for name, choice in BACKENDS.items() if choice.missing() is None]

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def engine():
    with Engine(MODEL, streams=3) as engine:
        yield engine


def spoken(clip: str = "speech3", limit: int | None = 8, **more) -> Request:
    parts = prompt(MODEL.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=LLAMA_CPP)
    return Request(parts, [record(clip).samples], limit=limit, dialect=LLAMA_CPP, **more)


def written(text: str, limit: int | None = 8, **more) -> Request:
    return Request(prompt(MODEL.tokenizer, system=None, user=[text], dialect=LLAMA_CPP), limit=limit, **more)


def ids(handle) -> list[int]:
    return [token.id for token in handle]


@contextmanager
def together(engine: Engine) -> Iterator[None]:
    """What is submitted in the block is admitted at once."""
    begun, done = threading.Event(), threading.Event()
    errand = threading.Thread(target=engine._batch.call, args=[lambda: (begun.set(), done.wait())], daemon=True)
    errand.start()
    begun.wait()
    try:
        yield
    finally:
        done.set()
        errand.join()


def test_greedy_tokens_are_llama_cpps_up_to_the_first_near_tie(engine: Engine) -> None:
    gold = record("speech3")
    said = ids(engine.submit(spoken(limit=24)))
    differ = [i for i, (mine, theirs) in enumerate(zip(said, gold.greedy, strict=False)) if mine != theirs]
    assert not differ or gold.margin[differ[0]] <= 0.027
    assert len(said) >= 9


def test_requests_together_equal_each_alone(engine: Engine) -> None:
    requests = [spoken(clip) for clip in ("ms20", "speech3", "ms100")] + [written("hello"), written("the harbour", 3)]
    alone = [ids(engine.submit(request)) for request in requests]
    handles = [engine.submit(request) for request in requests]  # five for three slots: two wait and join later
    assert [ids(handle) for handle in handles] == alone
    assert [handle.finish for handle in handles] == [Finish.LENGTH] * 5


def test_the_front_end_has_as_many_mels_as_the_encoder_hears() -> None:
    assert MODEL.front_end.mels == 128
    deaf = replace(MODEL.encoder, shape=replace(MODEL.encoder.shape, mels=80))
    assert replace(MODEL, encoder=deaf).front_end.mels == 80


def test_text_only_prompts_are_answered(engine: Engine) -> None:
    tokens = list(engine.submit(written("hello there")))
    assert len(tokens) == 8
    assert all(token.piece == MODEL.tokenizer.piece(token.id) for token in tokens)
    assert all(token.logprob <= 0 <= token.margin for token in tokens)


def test_a_stop_token_ends_the_text_and_is_not_part_of_it(engine: Engine) -> None:
    free = ids(engine.submit(written("hello")))
    handle = engine.submit(written("hello", stop=frozenset({free[4]})))
    assert ids(handle) == free[: free.index(free[4])]
    assert handle.finish is Finish.STOP


def test_a_mask_leaves_only_what_is_allowed(engine: Engine) -> None:
    allowed = np.zeros(960, bool)
    allowed[[300, 301]] = True
    masked, free = engine.submit(written("hello", allowed=allowed)), engine.submit(written("hello"))
    assert set(ids(masked)) <= {300, 301}
    assert ids(free) == ids(engine.submit(written("hello")))


def test_a_mask_is_that_of_its_request_and_not_of_the_one_before(engine: Engine) -> None:
    for first in (300, 400, 500):
        allowed = np.zeros(960, bool)
        allowed[[first, first + 1]] = True
        assert set(ids(engine.submit(written("hello", allowed=allowed)))) <= {first, first + 1}


def test_a_limit_of_nothing_says_nothing(engine: Engine) -> None:
    handle = engine.submit(written("hello", limit=0))
    assert ids(handle) == []
    assert handle.finish is Finish.LENGTH


def test_streams_draw_each_with_their_own_seed(engine: Engine) -> None:
    search = Sample(temperature=2.0, seed=5)
    alone = ids(engine.submit(written("hello", search=search)))
    together = [engine.submit(written("hello", search=search)) for _ in range(2)]
    assert [ids(handle) for handle in together] == [alone, alone]
    assert ids(engine.submit(written("hello", search=Sample(temperature=2.0, seed=6)))) != alone


def test_encoded_rows_may_stand_for_samples(engine: Engine) -> None:
    rows = engine.encode(record("speech3").samples, dialect=LLAMA_CPP)
    assert rows.shape == (41, 128)
    request = spoken()
    assert ids(engine.submit(Request(request.prompt, [rows], limit=8))) == ids(engine.submit(request))


def test_cancel_stops_a_text_within_a_step(engine: Engine) -> None:
    handle = engine.submit(written("hello", limit=None))
    said = [next(handle) for _ in range(3)]
    handle.cancel()
    rest = list(handle)
    assert handle.finish is Finish.CANCELLED
    assert len(said) + len(rest) < 2000
    assert len(ids(engine.submit(written("hello")))) == 8


def test_the_encoders_memory_is_given_back_before_the_first_text_and_kept_from_then_on(monkeypatch) -> None:
    given = []
    monkeypatch.setattr(GgufFile, "give_back", lambda file: given.append(file.path))
    with Engine(MODEL) as engine:
        ids(engine.submit(written("a")))
        assert not given
        for _ in range(2):
            ids(engine.submit(spoken()))
    assert given == [pair()[1]]


def test_a_waiting_request_can_be_cancelled() -> None:
    with Engine(MODEL, streams=1) as engine:
        first, second = engine.submit(written("hello", limit=None)), engine.submit(written("hello"))
        next(first)
        second.cancel()
        assert ids(second) == []
        assert second.finish is Finish.CANCELLED
        first.cancel()


def test_a_text_that_fills_the_context_says_so(tmp_path) -> None:
    short = rewritten(pair()[0], tmp_path / "short.gguf", facts={"lfm2.context_length": 40})
    with Engine(load_model(short, pair()[1], BACKENDS["numpy"].make())) as engine:
        handle = engine.submit(written("hello", limit=None))
        count = len(ids(handle))
        assert handle.finish is Finish.CONTEXT
        prompt_rows = sum(len(part) for part in written("hello").prompt)
        assert count == 40 - prompt_rows + 1  # the last token said needs no row
        with pytest.raises(ContextFull, match="40"):
            ids(engine.submit(spoken()))
        assert len(ids(engine.submit(written("hi", limit=2)))) == 2


def test_long_texts_outgrow_the_first_caches_without_a_trace(engine: Engine) -> None:
    long = ids(engine.submit(written("hello", limit=300)))
    assert len(long) == 300
    assert ids(engine.submit(written("hello", limit=300))) == long


def test_steps_are_captured_anew_where_caches_moved() -> None:
    class Counting(NumpyBackend):
        captured = 0

        def capture(self, step, *slots):
            self.captured += 1
            return super().capture(step, *slots)

    model = load_model(*pair(), Counting())
    with Engine(model, streams=1) as engine:
        ids(engine.submit(written("hello", limit=8)))
        ids(engine.submit(written("hello", limit=8)))
        assert model.backend.captured == 1
        ids(engine.submit(written("hello", limit=300)))  # beyond the rows that caches begin with
        assert model.backend.captured == 2


def test_as_many_clips_are_encoded_together_as_the_backend_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    plain = engine_module.encode

    def counted(w, mels, ops, **options):
        counts.append(len(mels))
        return plain(w, mels, ops, **options)

    monkeypatch.setattr(engine_module, "encode", counted)
    clips = [np.zeros(4_000, np.float32) + n for n in range(5)]
    for seconds, expected in ((60, [5]), (0.5, [2, 2, 1]), (0.1, [1] * 5)):
        backend = NumpyBackend()
        backend.together_seconds = seconds
        counts.clear()
        _Listener(load_model(*pair(), backend)).encoded(clips, REFERENCE)
        assert counts == expected


def test_texts_are_the_same_where_a_step_has_rows_for_more_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [written("a", limit=3), spoken(limit=9), written("bc", limit=5), written("def", limit=12), written("g")]

    def answered() -> list[list[int]]:
        with Engine(load_model(*pair(), CpuBackend(2)), streams=5) as engine:
            with together(engine):
                handles = [engine.submit(request) for request in asked]
            return [ids(handle) for handle in handles]

    exact = answered()
    counts: list[int] = []
    monkeypatch.setattr(CpuBackend, "step_rows", lambda self, streams: counts.append(streams) or 8)
    assert answered() == exact
    assert {5, 4, 3} <= set(counts)


def test_no_more_captured_steps_are_kept_than_their_memory_allows() -> None:
    kept = weakref.WeakSet()

    class Remembered(NumpyBackend):
        def capture(self, step, *slots):
            replay = super().capture(step, *slots)
            kept.add(replay)
            return replay

    streams = MOST_STEPS + 2
    with Engine(load_model(*pair(), Remembered()), streams=streams) as engine:
        with together(engine):
            handles = [engine.submit(written("hello", limit=4 + 4 * n)) for n in range(streams)]
        counts = []
        for handle in handles:  # each ends before the next: a step for as many as are left follows
            ids(handle)
            engine._batch.call(gc.collect)
            counts.append(len(kept))
    assert max(counts) == MOST_STEPS


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (Request([np.int32([1]), MEDIA]), OptionError, "1 places for recordings, and 0 were given"),
        (Request([MEDIA], [np.zeros((3, 5), np.float32)]), OptionError, "(3, 5)"),
        (Request([MEDIA], [np.zeros(328 * 16_000, np.float32)]), AudioTooLong, "328.00 seconds, and one window"),
        (Request([MEDIA], [np.zeros(16_000, np.int16)]), OptionError, "array of int16, expected an array of float32"),
        (Request([MEDIA], [[0.0, 1.0]]), OptionError, "a recording is list"),  # type: ignore[list-item]
        (Request([MEDIA], [np.full(16_000, np.nan, np.float32)]), AudioError, "NaN"),
        (Request([MEDIA], [np.full((3, 128), np.inf, np.float32)]), AudioError, "infinity"),
        (Request([np.int32([3, 960])]), OptionError, "holds token 960, and the vocabulary has 0 to 959"),
        (Request([np.int32([-1])]), OptionError, "holds token -1"),
        (Request([np.int64([1])]), OptionError, "int64 (1,), expected MEDIA or token ids (n,) of int32"),
        (Request([[1, 2]]), OptionError, "a part of the prompt is list"),  # type: ignore[list-item]
        (Request([np.int32([1])], limit=-1), OptionError, "the limit is -1"),
    ],
)
def test_requests_that_cannot_be_are_refused_at_once(engine: Engine, request_: Request, error, words: str) -> None:
    with pytest.raises(error) as caught:
        engine.submit(request_)
    assert words in str(caught.value)


def test_an_error_while_decoding_reaches_its_caller_and_the_loop_goes_on() -> None:
    trouble = {"now": False}

    def around(op, call, arguments):
        if trouble["now"] and op.name == "swiglu":
            raise ZeroDivisionError("a broken operation")
        return call(**arguments)

    with Engine(replace(MODEL, backend=observed(MODEL.backend, around))) as engine:
        expected = ids(engine.submit(written("hello")))
        handle = engine.submit(written("hello", limit=None))
        next(handle)
        trouble["now"] = True
        with pytest.raises(ZeroDivisionError, match="a broken operation"):
            list(handle)
        with pytest.raises(ZeroDivisionError):
            list(handle)
        trouble["now"] = False
        assert ids(engine.submit(written("hello"))) == expected


def test_a_request_that_cannot_be_prepared_fails_alone(engine: Engine) -> None:
    good, bad, prepare = written("hello"), written("goodbye"), engine._batch.prepare

    def failing(requests):
        if bad in requests:
            raise IndexError("a part that isn't there")
        return prepare(requests)

    engine._batch.prepare = failing
    with together(engine):
        handles = [engine.submit(request) for request in (good, bad, good)]
    expected = ids(handles[0])
    with pytest.raises(IndexError):
        ids(handles[1])
    assert ids(handles[2]) == expected


class Failing:
    """A search that breaks: when it begins, or at a token."""

    def __init__(self, at: int) -> None:
        self._left = at

    def begin(self) -> "Failing":
        if self._left == 0:
            raise ArithmeticError("no beginning")
        return self

    def choose(self, best, logits, allowed):
        self._left -= 1
        if self._left == 0:
            raise ArithmeticError("no choice")
        return best


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_search_that_fails_ends_its_own_text_and_no_other(engine: Engine, at: int) -> None:
    expected = ids(engine.submit(written("hello")))
    handles = [engine.submit(written("hello", **more)) for more in ({}, {"search": Failing(at)}, {})]
    assert ids(handles[0]) == expected
    with pytest.raises(ArithmeticError, match="no beginning" if at == 0 else "no choice"):
        ids(handles[1])
    assert ids(handles[2]) == expected


def test_nobody_waits_for_a_loop_that_was_torn_down_while_it_prepared(monkeypatch) -> None:
    def torn(thread) -> None:
        assert thread.exc_type is KeyboardInterrupt

    monkeypatch.setattr(threading, "excepthook", torn)
    with Engine(MODEL) as engine:

        def prepare(requests):
            raise KeyboardInterrupt  # no Exception, as a panic of a library is none

        engine._batch.prepare = prepare
        with pytest.raises(EngineClosed):
            ids(engine.submit(written("hello")))


def test_a_model_that_computes_no_numbers_says_so_instead_of_a_text() -> None:
    def around(op, call, arguments):
        result = call(**arguments)
        return result * np.float32(np.nan) if op.name == "swiglu" else result

    with Engine(replace(MODEL, backend=observed(MODEL.backend, around))) as engine:
        handle = engine.submit(written("hello"))
        with pytest.raises(ModelFileError, match="NaN"):
            ids(handle)


def test_one_recording_is_heard_in_both_dialects_at_once() -> None:
    samples = record("speech3").samples
    with Engine(MODEL, streams=3) as engine:
        prepare = engine._batch.prepare
        requests = [Request([MEDIA], [samples], dialect=dialect) for dialect in (REFERENCE, LLAMA_CPP)]
        heard = [np.array(rows) for rows in prepare(requests)]
        alone = [engine.encode(samples, dialect=request.dialect) for request in requests]
    for mine, expected in zip(heard, alone, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert not np.array_equal(*alone)


@pytest.mark.parametrize("wish", [{"streams": 0}, {"streams": -1}, {"kv": "int8"}, {"kv": "nothing"}])
def test_an_engine_that_could_never_answer_is_refused(wish: dict) -> None:
    with pytest.raises(OptionError, match=next(iter(wish))):
        Engine(MODEL, **wish)


def test_closing_tells_whoever_waits() -> None:
    engine = Engine(MODEL, streams=1)
    going, waiting = engine.submit(written("hello", limit=None)), engine.submit(written("hello"))
    next(going)
    engine.close()
    for handle in (going, waiting):
        with pytest.raises(EngineClosed, match="load the model again"):
            list(handle)
    with pytest.raises(EngineClosed):
        engine.submit(written("hello"))
    engine.close()


def test_a_request_that_comes_too_late_is_told_so() -> None:
    engine = Engine(MODEL)
    engine.close()
    late = Task(written("hello"), Greedy(), Stop(frozenset()), lambda choice: None, ended := [].append)
    engine._batch.submit(late)
    assert isinstance(ended.__self__[0], EngineClosed)
    with pytest.raises(EngineClosed):
        engine._batch.call(lambda: None)


def test_an_engine_that_everyone_forgot_stops_its_thread() -> None:
    engine = Engine(MODEL)
    thread, gone = engine._thread, weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    thread.join(5)
    assert not thread.is_alive()


def test_whoever_holds_an_answer_holds_its_engine() -> None:
    handle = Engine(MODEL).submit(written("hello"))
    gc.collect()
    assert len(ids(handle)) == 8


def test_an_answer_that_everyone_forgot_keeps_no_engine() -> None:
    handle = Engine(MODEL).submit(written("hello", limit=None))
    next(handle)
    thread, gone = handle._engine._thread, weakref.ref(handle._engine)
    del handle
    gc.collect()
    assert gone() is None
    thread.join(5)
    assert not thread.is_alive()


def watched(model: Model, before) -> tuple[Model, list[str]]:
    """The model, `before(name)` called as each operation begins, and the operations that have ended."""
    ended: list[str] = []

    def around(op, call, arguments):
        before(op.name)
        result = call(**arguments)
        ended.append(op.name)
        return result

    return replace(model, backend=observed(model.backend, around)), ended


@pytest.mark.parametrize("name", RUNNING)
def test_cancelled_at_any_operation_no_other_ends_and_the_next_answer_is_right(name: str) -> None:
    submitted, handles, moment = threading.Event(), [], -1

    def cancel(operation: str) -> None:
        if len(ended) == moment:
            submitted.wait()
            handles[-1].cancel()

    model, ended = watched(load_model(*pair(), BACKENDS[name].make()), cancel)
    with Engine(model) as engine:
        expected = ids(engine.submit(spoken("ms100", limit=2)))
        for at in range(0, len(ended), 13):
            ended.clear()
            submitted.clear()
            moment = at
            handles.append(engine.submit(spoken("ms100", limit=2)))
            submitted.set()
            said = ids(handles[-1])
            assert said == expected[: len(said)]
            assert handles[-1].finish is Finish.CANCELLED
            engine._batch.call(lambda: None)  # by then the loop has let go
            assert len(ended) == at
            moment = -1
            assert ids(engine.submit(spoken("ms100", limit=2))) == expected


def test_an_answer_is_cancelled_at_once_while_those_it_shares_work_with_go_on() -> None:
    held, release, holding = threading.Event(), threading.Event(), False

    def hold(operation: str) -> None:
        if holding and operation == "rel_attention":
            held.set()
            release.wait()

    model, _ = watched(MODEL, hold)
    with Engine(model, streams=3) as engine:
        expected = ids(engine.submit(spoken("ms100")))
        holding = True
        with together(engine):
            first, second = (engine.submit(spoken(clip)) for clip in ("speech3", "ms100"))
        held.wait()
        first.cancel()
        assert ids(first) == []  # the encoder is at work on both
        assert first.finish is Finish.CANCELLED
        release.set()
        assert ids(second) == expected


class Pressed(Exception):
    """Ctrl-C, as it comes to whoever waits."""


def test_encoding_is_given_up_when_its_caller_is_interrupted() -> None:
    def press(*signal_: object) -> None:
        raise Pressed

    def hold(operation: str) -> None:
        if operation == "rel_attention" and not pressed.is_set():
            pressed.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            gone.wait()

    pressed, gone = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGUSR1, press)
    model, ended = watched(MODEL, hold)
    try:
        with Engine(model) as engine:
            with pytest.raises(Pressed):
                engine.encode(record("speech3").samples)
            gone.set()
            engine._batch.call(lambda: None)
            assert ended
            assert "rel_attention" not in ended
            assert engine.encode(record("speech3").samples).shape == (41, 128)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closing_ends_what_is_under_way() -> None:
    begun, closed = threading.Event(), threading.Event()
    model, ended = watched(MODEL, lambda operation: (begun.set(), closed.wait()))
    engine = Engine(model)
    handle = engine.submit(spoken())
    begun.wait()
    engine.close()
    closed.set()
    with pytest.raises(EngineClosed):
        ids(handle)
    engine._thread.join(5)
    assert ended == []


def test_many_threads_share_one_engine(engine: Engine) -> None:
    expected = ids(engine.submit(spoken("ms100")))
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(ids(engine.submit(spoken("ms100"))))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 6


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_the_engine_says_that_it_cannot(engine: Engine) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            engine.submit(written("hello"))
            os.write(writer, b"answered")
        except EngineClosed as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(reader, 1000)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_answer_carried_over_a_fork_says_that_it_stayed_behind(engine: Engine) -> None:
    handle = engine.submit(written("hello", limit=None))
    next(handle)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            list(handle)
            os.write(writer, b"answered")
        except EngineClosed as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(reader, 1000)
    handle.cancel()


def test_a_model_file_that_changed_is_refused_before_the_next_request(tmp_path) -> None:
    text = rewritten(pair()[0], tmp_path / "text.gguf")
    with Engine(load_model(text, pair()[1], BACKENDS["numpy"].make())) as engine:
        assert ids(engine.submit(written("hello", limit=1)))
        with text.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(ModelFileError, match=r"text\.gguf"):
            engine.submit(written("hello"))
