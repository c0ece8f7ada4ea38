"""Texts that are known before: forced ones, drafts that may be wrong, and where the model looked."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.dialect import LLAMA_CPP
from eardrop.engine import Engine, Handle, Model, Request, Token
from eardrop.errors import OptionError
from eardrop.loading import load_model
from eardrop.model import decoder
from eardrop.search import Finish, Forced, Sample
from eardrop.stages import timing
from eardrop.text import MEDIA, prompt
from tests.pairs import pair, record, rewritten

LIMIT = 40  # more than two groups of the exact path

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(scope="module", params=[name for name, choice in BACKENDS.items() if choice.missing() is None])
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(*pair(), BACKENDS[request.param].make())


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[Engine]:
    with Engine(model, streams=3) as engine:
        yield engine


@pytest.fixture(scope="module")
def said(engine: Engine) -> list[Token]:
    return list(engine.submit(spoken(engine)))


def spoken(engine: Engine, **more: Any) -> Request:
    parts = prompt(engine.model.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=LLAMA_CPP)
    return replace(Request(parts, [record("speech3").samples], limit=LIMIT, dialect=LLAMA_CPP), **more)


def forced(engine: Engine, tokens: Sequence[int], **more: Any) -> Request:
    return spoken(engine, search=Forced(tokens), draft=np.int32(tokens), limit=len(tokens), stop=frozenset(), **more)


def ids(tokens: Sequence[Token] | Handle) -> list[int]:
    return [token.id for token in tokens]


def assert_same(engine: Engine, got: Sequence[Token], expected: Sequence[Token]) -> None:
    """To the bit where the exact path is; elsewhere rows together are summed in another order."""
    assert ids(got) == ids(expected)
    if engine.model.backend.name == "cpu":
        assert got == expected
    for name in ("logprob", "margin"):
        values = ([getattr(token, name) for token in tokens] for tokens in (got, expected))
        np.testing.assert_allclose(*values, atol=1e-4)


def test_a_forced_text_is_as_likely_as_when_it_was_the_models_own(engine: Engine, said: list[Token]) -> None:
    handle = engine.submit(forced(engine, ids(said)))
    assert_same(engine, list(handle), said)
    assert handle.finish is Finish.LENGTH


def test_a_forced_text_is_said_whatever_the_model_would_say(engine: Engine, said: list[Token]) -> None:
    tokens = np.random.default_rng(3).integers(300, 900, 35).tolist()
    together = list(engine.submit(forced(engine, tokens)))
    assert ids(together) == tokens
    stepwise = engine.submit(replace(forced(engine, tokens), draft=None))
    assert_same(engine, together, list(stepwise))
    assert all(token.margin < 0 for token in together if token.id not in ids(said))


@pytest.mark.parametrize("wrong", [None, 0, 1, 15, 16, 17, 30, LIMIT - 1])
def test_a_draft_changes_nothing_wherever_it_is_wrong(engine: Engine, said: list[Token], wrong: int | None) -> None:
    draft = np.int32(ids(said))
    if wrong is not None:
        draft[wrong] = 300 if draft[wrong] != 300 else 301
    assert_same(engine, list(engine.submit(spoken(engine, draft=draft))), said)


@pytest.mark.parametrize("length", [0, 1, 16, 17])
def test_a_draft_may_be_the_begin_alone_or_go_on_behind_the_end(engine: Engine, said: list[Token], length: int) -> None:
    draft = np.int32(ids(said))
    assert_same(engine, list(engine.submit(spoken(engine, draft=draft[:length]))), said)
    short = list(engine.submit(spoken(engine, draft=draft, limit=length + 1)))
    assert_same(engine, short, said[: length + 1])


def runs_of_the_decoder(engine: Engine, said: list[Token], draft: Sequence[int]) -> int:
    """What a text costs behind its prompt, of one token each or of several."""
    runs: list[str] = []
    with timing(lambda name, seconds: runs.append(name)):
        assert_same(engine, list(engine.submit(spoken(engine, draft=np.int32(draft)))), said)
    return runs.count("token") + runs.count("tokens")


def test_a_draft_saves_steps(engine: Engine, said: list[Token]) -> None:
    assert runs_of_the_decoder(engine, said, []) == LIMIT - 1
    assert runs_of_the_decoder(engine, said, ids(said)) == -(-LIMIT // 16)
    for right in (0, 10, 33):
        assert runs_of_the_decoder(engine, said, [*ids(said)[:right], 300]) <= LIMIT - right + right // 16


@pytest.mark.parametrize("wavers", ["other", "more", "fewer", "others"])
def test_behind_a_place_where_it_was_wrong_a_draft_goes_on_saving_steps(
    engine: Engine, said: list[Token], wavers: str
) -> None:
    right = ids(said)
    draft = {
        "other": [*right[:9], 300, *right[10:]],
        "more": [*right[:9], 300, 301, *right[9:]],
        "fewer": [*right[:9], *right[11:]],
        "others": [*right[:9], 300, 301, *right[11:]],
    }[wavers]
    assert runs_of_the_decoder(engine, said, draft) <= 7  # three groups of sixteen, and what one mistake costs


def test_where_a_text_looked_is_the_same_however_it_was_said(engine: Engine, said: list[Token]) -> None:
    stepped = engine.submit(spoken(engine, look=True))
    assert stepped.looked is None
    assert_same(engine, list(stepped), said)
    rows = len(engine.encode(record("speech3").samples, dialect=LLAMA_CPP))
    heads = sum(mixer.heads for mixer in engine.model.decoder.shape.mixers if hasattr(mixer, "heads"))
    assert stepped.looked is not None
    assert stepped.looked.shape == (LIMIT, heads, rows)
    wrong = np.int32([*ids(said)[:20], 300])
    for request in (forced(engine, ids(said), look=True), spoken(engine, draft=wrong, look=True)):
        handle = engine.submit(request)
        list(handle)
        np.testing.assert_allclose(handle.looked, stepped.looked, atol=1e-5)


def test_where_a_text_looked_is_the_attention_of_one_pass_over_all_of_it(engine: Engine, said: list[Token]) -> None:
    request = spoken(engine, look=True)
    handle = engine.submit(request)
    list(handle)
    before = len(request.prompt[0])
    (rows,) = engine._batch.prepare([request])
    w, ops = engine.model.decoder, engine.model.backend
    whole = ops.concatenate([rows, decoder.embed(w, [np.int32(ids(said)[:-1])], ops)])
    streams = decoder.Streams(w.shape, ops, slots=1, rows=len(whole), kv=engine._batch.kv)
    looks = decoder.Looks((before, before + handle.looked.shape[2]))
    first = len(rows) - 1
    decoder.prefill(w, [whole], streams, [streams.join()], ops, logits_for=[range(first, len(whole))], looks=looks)
    np.testing.assert_allclose(handle.looked, np.concatenate(looks.seen), atol=1e-4)


def test_looking_back_disturbs_nobody_beside(engine: Engine, said: list[Token]) -> None:
    drawn = Sample(temperature=2.0, seed=5)
    alone = ids(engine.submit(spoken(engine, search=drawn)))
    looking = [engine.submit(spoken(engine, look=True, limit=limit)) for limit in (3, 9)]
    beside = engine.submit(spoken(engine, search=drawn))
    assert [ids(handle) for handle in looking] == [ids(said)[:3], ids(said)[:9]]
    assert ids(beside) == alone


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_the_shortest_texts_tell_where_they_looked(engine: Engine, limit: int) -> None:
    handle = engine.submit(spoken(engine, look=True, limit=limit))
    assert len(list(handle)) == limit
    assert handle.looked is not None
    assert len(handle.looked) == limit


def test_a_text_that_was_cancelled_or_not_asked_tells_nothing(engine: Engine) -> None:
    handle = engine.submit(spoken(engine, look=True, limit=None))
    next(handle)
    handle.cancel()
    list(handle)
    assert handle.finish is Finish.CANCELLED
    assert handle.looked is None
    other = engine.submit(spoken(engine, limit=2))
    list(other)
    assert other.looked is None


def test_texts_that_fill_the_context(tmp_path, engine: Engine, said: list[Token]) -> None:
    rows = sum(map(len, spoken(engine).prompt[::2])) + 41
    short = rewritten(pair()[0], tmp_path / "short.gguf", facts={"lfm2.context_length": rows + 20})
    with Engine(load_model(short, pair()[1], engine.model.backend)) as small:
        handle = small.submit(spoken(small, look=True, limit=None))
        assert len(list(handle)) == 21
        assert handle.finish is Finish.CONTEXT
        assert handle.looked is not None
        assert len(handle.looked) == 21
        for look in (False, True):
            for request in (spoken(small, limit=None, draft=np.int32(ids(said))), forced(small, ids(said))):
                handle = small.submit(replace(request, look=look))
                assert_same(small, list(handle), said[:21])
                assert handle.finish is Finish.CONTEXT
        assert len(ids(small.submit(spoken(small, limit=3)))) == 3


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"prompt": [np.int32([1])], "audio": [], "look": True}, "0 places for recordings, expected 1 to see"),
        ({"draft": np.int32([960])}, "holds token 960"),
        ({"draft": np.int64([1])}, "int64"),
    ],
)
def test_wishes_that_cannot_be_are_refused(engine: Engine, wish: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        engine.submit(spoken(engine, **wish))
