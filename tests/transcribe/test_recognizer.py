"""The public face: a recording becomes segments, a prompt becomes tokens."""

import io
import typing
from dataclasses import fields, replace

import numpy as np
import pytest

import eardrop
from eardrop.audio import SAMPLE_RATE
from eardrop.dialect import LLAMA_CPP
from eardrop.engine import Handle, Request, Token
from eardrop.search import Finish, Sample
from eardrop.transcribe import Options, Recognizer
from eardrop.transcribe.options import Wishes
from tests.pairs import DATA, pair, record


@pytest.fixture(scope="module")
def asr() -> typing.Iterator[Recognizer]:
    text, projector = pair()
    with eardrop.load(text, projector=projector) as asr:
        yield asr


def test_path_bytes_file_object_and_samples_give_the_same_text(asr: Recognizer) -> None:
    path = DATA / "ms100.wav"
    sources = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), record("ms100").samples]
    results = [asr.transcribe(source) for source in sources]
    assert len({result.text for result in results}) == 1
    assert results[0].text
    assert [result.source for result in results[:2]] == ["ms100.wav"] * 2


def test_a_transcript_is_limited_by_its_seconds_and_says_when_it_was_cut(asr: Recognizer) -> None:
    result = asr.transcribe(DATA / "speech3.wav")
    assert result.duration == pytest.approx(3.2, abs=0.01)
    (segment,) = result.segments
    assert (segment.start, segment.end) == (0.0, result.duration)
    assert len(segment.tokens) == asr.model.architecture.token_limit(result.duration) == 16 + 40
    assert "cut off after 56 tokens (length)" in result.warnings[0]
    short = asr.transcribe(DATA / "speech3.wav", max_tokens=3)
    assert short.segments[0].tokens == segment.tokens[:3]


def test_a_transcript_holds_no_control_tokens_and_no_unused_ones(asr: Recognizer) -> None:
    tokenizer = asr.model.tokenizer
    for clip in ("speech3", "ms100", "chirp1"):
        (segment,) = asr.transcribe(DATA / f"{clip}.wav").segments
        assert not any(tokenizer.is_control(token) for token in segment.tokens)
        assert not tokenizer.unused_mask()[list(segment.tokens)].any()
        assert segment.text == segment.text.strip()


@pytest.fixture
def asked(asr: Recognizer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, Handle]]:
    """Each request that reaches the engine, and its answer."""
    seen: list[tuple[Request, Handle]] = []
    submit = asr.engine.submit

    def spy(request: Request) -> Handle:
        seen.append((request, submit(request)))
        return seen[-1][1]

    monkeypatch.setattr(asr.engine, "submit", spy)
    return seen


def test_a_transcript_may_say_words_and_what_ends_it(asr: Recognizer, asked: list[tuple[Request, Handle]]) -> None:
    asr.transcribe(DATA / "ms100.wav", max_tokens=1)
    ((request, _),) = asked
    tokenizer = asr.model.tokenizer
    ends = {tokenizer.written(text) for text in ("<|im_end|>", "<|audio_start|>")}  # or the model wants to speak
    assert None not in ends
    assert request.stop is not None
    assert request.allowed is not None
    assert ends <= request.stop
    silent = tokenizer.control_mask() | tokenizer.unused_mask()
    assert set(np.flatnonzero(silent & request.allowed)) == request.stop
    assert request.allowed[~silent].all()


def test_what_was_wrong_with_a_recording_is_noted(asr: Recognizer) -> None:
    result = asr.transcribe((DATA / "speech3.wav").read_bytes()[:-20_000], max_tokens=1)
    assert "cut off" in result.notes[0]
    assert result.warnings[0] == result.notes[0]


def test_half_a_character_at_the_end_is_shown_as_one_that_is_damaged(
    asr: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        finish, looked = Finish.STOP, None

        def __iter__(self) -> typing.Iterator[Token]:
            return iter([Token(5, b"caf", -0.5, 1.0), Token(6, b"\xc3", -0.5, 1.0)])

        def cancel(self) -> None:
            pass

    monkeypatch.setattr(asr.engine, "submit", lambda request: Answer())
    assert asr.transcribe(DATA / "ms100.wav").text == "caf\ufffd"


def test_who_fails_while_he_is_told_cancels(asr: Recognizer, asked: list[tuple[Request, Handle]]) -> None:
    def fail(text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asr.transcribe(DATA / "speech3.wav", told=fail, max_tokens=2000)
    ((_, handle),) = asked
    assert sum(1 for _ in handle) < 2000
    assert handle.finish is Finish.CANCELLED


def test_generate_hands_down_what_it_was_asked(asr: Recognizer, asked: list[tuple[Request, Handle]]) -> None:
    search = Sample(temperature=2.0, seed=1)
    assert len(list(asr.generate("hello", search=search, max_tokens=2, dialect=LLAMA_CPP))) == 2
    ((request, _),) = asked
    assert (request.search, request.limit, request.dialect) == (search, 2, LLAMA_CPP)


@pytest.mark.parametrize("count", [1, 2, 160, 319])
def test_audio_too_short_to_hold_a_word_is_answered_empty_with_a_warning(asr: Recognizer, count: int) -> None:
    result = asr.transcribe(np.zeros(count, np.float32))
    assert (result.text, result.segments) == ("", ())
    assert result.warnings == ("the recording is shorter than 0.02 seconds and holds no word",)
    assert result.duration == count / SAMPLE_RATE


def test_a_window_longer_than_the_model_hears_is_refused(asr: Recognizer) -> None:
    with pytest.raises(eardrop.OptionError, match=r"a window of 400 s is too long: it holds 327\.84 s"):
        asr.transcribe(np.zeros(SAMPLE_RATE, np.float32), window=400)


def test_generate_answers_text_alone_and_audio_with_text(asr: Recognizer) -> None:
    assert len(list(asr.generate("hello", max_tokens=5))) == 5
    heard = [t.id for t in asr.generate("hello", system="Perform ASR.", audio=record("ms100").samples, max_tokens=5)]
    rows = asr.encode(record("ms100").samples)
    assert [t.id for t in asr.generate("hello", system="Perform ASR.", audio=rows, max_tokens=5)] == heard
    marked = asr.generate("<__media__>hello", system="Perform ASR.", audio=[rows], max_tokens=5)
    assert [t.id for t in marked] == heard


def test_generate_refuses_fewer_than_no_tokens_before_anyone_iterates(asr: Recognizer) -> None:
    with pytest.raises(eardrop.OptionError, match="max_tokens is -1, expected 0 or more"):
        asr.generate("hello", max_tokens=-1)
    assert list(asr.generate("hello", max_tokens=0)) == []


def test_generate_refuses_markers_without_recordings(asr: Recognizer) -> None:
    with pytest.raises(eardrop.OptionError, match="media markers"):
        asr.generate("<__media__><__media__>", audio=record("ms100").samples)


def test_closing_the_iterator_cancels(asr: Recognizer, asked: list[tuple[Request, Handle]]) -> None:
    tokens = asr.generate("hello", search=Sample(temperature=3.0, seed=1), max_tokens=2000)
    next(tokens)
    tokens.close()  # type: ignore[attr-defined]
    handle = asked[0][1]
    assert sum(1 for _ in handle) < 2000
    assert handle.finish is Finish.CANCELLED
    assert len(list(asr.generate("hello", max_tokens=2))) == 2


def test_user_text_spells_control_tokens_only_when_asked(asr: Recognizer) -> None:
    said = "<|im_end|>"
    plain = [t.id for t in asr.generate(said, max_tokens=6)]
    spelled = [t.id for t in asr.generate(said, max_tokens=6, parse_special=True)]
    assert plain != spelled


def test_a_misspelt_wish_is_a_type_error(asr: Recognizer) -> None:
    with pytest.raises(TypeError, match="max_token"):
        asr.transcribe(DATA / "ms100.wav", max_token=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wish", [{"max_tokens": 0}, {"max_seconds": 0.0}, {"max_seconds": float("nan")}, {"track": -1}]
)
def test_wishes_without_meaning_are_refused(wish: dict) -> None:
    with pytest.raises(eardrop.OptionError, match=next(iter(wish))):
        Options(**wish)


def test_keywords_and_options_are_the_same() -> None:
    hints = typing.get_type_hints(Wishes)
    assert hints == {wish.name: typing.get_type_hints(Options)[wish.name] for wish in fields(Options)}
    assert all(wish.metadata["help"] for wish in fields(Options))


def test_results_are_values(asr: Recognizer) -> None:
    result = asr.transcribe(DATA / "ms100.wav")
    assert replace(result) == result


def test_public_names_exist_and_are_listed() -> None:
    for name in eardrop.__all__:
        assert getattr(eardrop, name) is not None
    assert set(eardrop.__all__) == {"__version__", "read_audio", *eardrop._HOMES}
    assert dir(eardrop) == sorted(eardrop.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        eardrop.nothing_of_ours  # noqa: B018
