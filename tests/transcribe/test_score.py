"""A text that people have already, held against the recording: with the pair that ships."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import eardrop
from eardrop.audio import SAMPLE_RATE, read
from eardrop.engine import Request
from eardrop.hub.resolve import BUNDLED
from eardrop.transcribe import Recognizer, words_of
from eardrop.transcribe.words import sound
from tests.pairs import rewritten

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SAID = [
    pytest.param(EXAMPLES / example["audio"], example["text"], id=example["audio"])
    for example in map(json.loads, (EXAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    if example["text"]
]
FOX = EXAMPLES / "sentence.flac"
FOX_SAID = "They know that the fox called my neighbor at once, when Laura chose to her hill."


@pytest.fixture(scope="module")
def asr() -> Iterator[Recognizer]:
    with eardrop.load(BUNDLED, threads=1) as loaded:
        yield loaded


@pytest.mark.parametrize(("audio", "text"), SAID)
def test_words_lie_in_the_recording_in_order_and_cover_what_is_spoken(asr: Recognizer, audio: Path, text: str) -> None:
    samples = read(audio)
    segment = asr.score(audio, text).segment
    assert " ".join(word.text for word in segment.words) == segment.text == text
    edges = [0.0, *(edge for word in segment.words for edge in (word.start, word.end)), len(samples) / SAMPLE_RATE]
    assert edges == sorted(edges)
    assert (segment.start, segment.end) == (edges[1], edges[-2])
    assert all(word.end - word.start >= 0.05 for word in segment.words)
    heard = sound(samples, len(samples) // 160) > 0.5
    covered = np.zeros(len(heard), bool)
    for word in segment.words:
        covered[round(word.start * 100) : round(word.end * 100)] = True
    assert covered[heard].mean() > 0.9


def test_a_pause_of_the_speaker_lies_between_the_words(asr: Recognizer) -> None:
    words = {word.text: word for word in asr.score(*SAID[-1].values).segment.words}
    assert 1.5 < words["on,"].end < 1.7 < words["and"].start < 1.85


def test_what_the_model_writes_itself_scores_as_it_did_then(asr: Recognizer) -> None:
    own = asr.transcribe(FOX).segments[0]
    score = asr.score(FOX, own.text)
    assert score.segment.tokens == own.tokens
    assert score.segment.logprob == own.logprob  # to the bit: both on the exact path
    assert score.logprob <= own.logprob * len(own.tokens)


def test_what_was_said_scores_above_what_was_not(asr: Recognizer) -> None:
    said = asr.score(FOX, FOX_SAID)
    others = (FOX_SAID.replace("fox", "dog"), FOX_SAID.rpartition(" chose")[0], FOX_SAID + " Yes.")
    scores = [asr.score(FOX, text) for text in others]
    assert all(score.logprob < said.logprob - 1 for score in scores)
    changed = {word.text: word for word in scores[0].segment.words}
    assert changed["dog"].probability < 0.1 < changed["once,"].probability


def test_lines_of_subtitles_are_one_text(asr: Recognizer) -> None:
    assert asr.score(FOX, FOX_SAID.replace(" at", "  \n at")) == asr.score(FOX, FOX_SAID)


def test_the_words_of_a_decoded_text_are_those_of_the_text_given(asr: Recognizer, monkeypatch) -> None:
    asked: list[Request] = []
    submit = asr.engine.submit
    monkeypatch.setattr(asr.engine, "submit", lambda request: (asked.append(request), submit(request))[1])
    own, samples = asr.transcribe(FOX).segments[0], read(FOX)
    again = Request(asked[0].prompt, [samples], stop=asked[0].stop, allowed=asked[0].allowed, look=True)
    handle = submit(again)
    tokens = list(handle)
    assert handle.looked is not None
    assert words_of(tokens, handle.looked, samples) == asr.score(FOX, own.text).segment.words


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_empty_text_is_refused(asr: Recognizer, text: str) -> None:
    with pytest.raises(eardrop.OptionError, match="text is empty"):
        asr.score(FOX, text)


def test_a_text_that_is_too_long_for_its_recording_is_refused(asr: Recognizer) -> None:
    with pytest.raises(eardrop.OptionError, match=r"3\.94 seconds of audio hold at most 6\d; give the text"):
        asr.score(FOX, "they know " * 200)


def test_a_text_that_does_not_fit_into_the_context_is_refused(tmp_path: Path) -> None:
    text, projector = (next(BUNDLED.glob(name)) for name in ("eardrop-*.gguf", "mmproj-*.gguf"))
    short = rewritten(text, tmp_path / "short.gguf", facts={"lfm2.context_length": 80})
    with (
        eardrop.load(short, projector=projector, threads=1) as small,
        pytest.raises(eardrop.ContextFull, match=r"context has \(80\); give a shorter recording"),
    ):
        small.score(FOX, FOX_SAID)


def test_recordings_of_no_word_and_of_more_than_a_window_are_refused(asr: Recognizer) -> None:
    with pytest.raises(eardrop.AudioError, match=r"holds no word, expected at least 0\.02"):
        asr.score(np.zeros(100, np.float32), "Yes.")
    with pytest.raises(eardrop.AudioTooLong):
        asr.score(np.zeros(330 * SAMPLE_RATE, np.float32), "Yes.")


def test_control_tokens_are_no_part_of_a_text_but_spelled(asr: Recognizer) -> None:
    score = asr.score(FOX, "<|im_end|>")
    assert not any(asr.model.tokenizer.is_control(token) for token in score.segment.tokens)
    assert score.segment.text == "<|im_end|>"


def test_a_language_that_the_model_does_not_write_is_refused(asr: Recognizer) -> None:
    with pytest.raises(eardrop.OptionError, match="language"):
        asr.score(FOX, "はい", language="ja")
