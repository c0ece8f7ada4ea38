"""Live captions: what is committed stays, drafts change nothing, utterances end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eardrop
from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import FRAME, SpectralDetector
from eardrop.engine import Token
from eardrop.transcribe import Options
from eardrop.transcribe.live import Captions, behind
from tests.examples import BUNDLED, EXAMPLES, joined

SECOND = SAMPLE_RATE


@pytest.mark.parametrize(
    ("committed", "words", "rest"),
    [
        ("", "a b c", "a b c"),
        ("a b", "a b c", "c"),
        ("a b", "a x b c", "c"),
        ("a b", "a c d", "d"),
        ("the old house", "an old house by the sea", "by the sea"),
        ("a b c", "", ""),
        ("a b c", "a b", ""),
        ("no no", "no no no", "no"),
    ],
)
def test_what_follows_committed_words(committed, words, rest):
    words = words.split()
    assert words[behind(committed.split(), words) :] == rest.split()


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_words_that_begin_with_what_is_committed_go_on_behind_it(committed, more):
    assert behind(committed, committed + more) == len(committed)


class Loud:
    """Speech is what is louder than nothing."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.float32)

    def push(self, samples):
        self._held = np.concatenate([self._held, samples])
        whole = len(self._held) // FRAME
        frames, self._held = self._held[: whole * FRAME].reshape(whole, FRAME), self._held[whole * FRAME :]
        return (np.abs(frames).max(axis=1) > 0.1).astype(np.float32)

    def finish(self):
        return np.zeros(0, np.float32)


class Scripted:
    """An engine that hears a word in each second of sound; the last one may still change."""

    def __init__(self, *, wavering: bool = True) -> None:
        with eardrop.load(BUNDLED) as asr:
            self.model = asr.model
        self.wavering, self.drafts, self.seconds = wavering, [], []

    def submit(self, request):
        seconds = len(request.audio[0]) / SECOND
        self.drafts.append([] if request.draft is None else request.draft.tolist())
        self.seconds.append(seconds)
        words = [f" w{i}" for i in range(int(seconds))]
        if self.wavering and words:
            words[-1] += f"?{seconds:.1f}"
        tokens = [Token(i, word.encode(), -0.1, 1.0) for i, word in enumerate(words)]
        return _Answer(tokens)


class _Answer:
    def __init__(self, tokens) -> None:
        self._tokens = tokens

    def __iter__(self):
        return iter(self._tokens)

    def cancel(self) -> None:
        pass


def speech(seconds: float) -> np.ndarray:
    return np.full(round(seconds * SECOND), 0.5, np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SECOND), np.float32)


def captions(engine: Scripted, **options) -> Captions:
    return Captions(engine, Options(**options), Loud(), ends=0.8)  # type: ignore[arg-type]


def test_words_are_committed_once_two_hypotheses_agree():
    heard = captions(Scripted())
    seen = []
    for _ in range(4):
        heard.feed(speech(1.0))
        heard.update()
        seen.append((heard.committed, [word.partition("?")[0] for word in heard.volatile.split()]))
    assert seen == [("", ["w0"]), ("", ["w0", "w1"]), ("w0", ["w1", "w2"]), ("w0 w1", ["w2", "w3"])]


def test_the_last_hypothesis_is_the_next_draft():
    engine = Scripted(wavering=False)
    heard = captions(engine)
    for _ in range(3):
        heard.feed(speech(1.0))
        heard.update()
    assert [len(draft) for draft in engine.drafts] == [0, *[int(seconds) for seconds in engine.seconds[:-1]]]


def test_a_silence_ends_an_utterance_and_its_sound_is_forgotten():
    engine = Scripted(wavering=False)
    heard = captions(engine)
    for part in (silence(1.0), speech(2.0), silence(1.0), speech(3.0), silence(1.0)):
        heard.feed(part)
        heard.update()
    assert [(round(one.start, 1), round(one.end, 1)) for one in heard.segments] == [(0.7, 3.0), (3.8, 7.0)]
    assert heard.volatile == ""
    assert heard.committed == "w0 w1 w0 w1 w2"
    assert len(heard._held) < 2 * SECOND


def test_a_short_pause_belongs_to_the_utterance():
    heard = captions(Scripted(wavering=False))
    for part in (speech(2.0), silence(0.5), speech(2.0), silence(1.0)):
        heard.feed(part)
        heard.update()
    assert len(heard.segments) == 1


def test_who_never_pauses_is_cut_at_the_window():
    engine = Scripted(wavering=False)
    heard = captions(engine, window=6)
    for _ in range(20):
        heard.feed(speech(1.0))
        heard.update()
    heard.update(over=True)
    assert max(engine.seconds) <= 6 + 2
    assert len(heard.segments) >= 3
    spans = [(one.start, one.end) for one in heard.segments]
    assert spans == sorted(spans)


def test_what_is_committed_is_never_taken_back():
    class Fickle(Scripted):
        def submit(self, request):
            answer = super().submit(request)
            turn = len(self.seconds) // 2  # changes its mind about everything, every other time
            answer._tokens = [Token(t.id, t.piece + str(turn).encode(), -0.1, 1.0) for t in answer._tokens]
            return answer

    heard, seen = captions(Fickle(wavering=False)), [""]
    for _ in range(12):
        heard.feed(speech(0.7))
        heard.update()
        assert heard.committed.startswith(seen[-1])
        seen.append(heard.committed)
    heard.update(over=True)
    assert heard.committed.startswith(seen[-1])
    assert len(set(seen)) > 2


def test_silence_alone_is_never_asked_about():
    engine = Scripted()
    heard = captions(engine)
    for _ in range(5):
        heard.feed(silence(1.0))
        heard.update()
    heard.update(over=True)
    assert engine.seconds == []
    assert heard.segments == []


def test_drafts_give_the_text_of_decoding_anew():
    with eardrop.load(BUNDLED) as asr:
        samples = joined(EXAMPLES[:4], pause=0.5)
        drafted = Captions(asr.engine, Options(), SpectralDetector(), ends=0.8)
        anew = Captions(asr.engine, Options(), SpectralDetector(), ends=0.8)
        for start in range(0, len(samples), SECOND):
            for heard in (drafted, anew):
                heard.feed(samples[start : start + SECOND])
                heard.update()
            if anew._open:
                assert drafted._open.hypothesis.words == anew._open.hypothesis.words
                anew._open.hypothesis = type(anew._open.hypothesis)()  # forgets its draft
        drafted.update(over=True)
        assert drafted.committed


def test_live_captions_run_beside_the_caller():
    told = []
    with eardrop.load(BUNDLED) as asr, asr.live(every=0.5, told=lambda live: told.append(live.committed)) as live:
        samples = joined(EXAMPLES[:2], pause=1.5)
        for start in range(0, len(samples), SECOND // 4):
            live.feed(samples[start : start + SECOND // 4])
        result = live.finish()
    assert result.text == live.committed
    assert len(result.segments) >= 2
    assert told
    with pytest.raises(eardrop.EngineClosed, match="the captions were finished"):
        live.feed(samples[:10])


def test_what_goes_wrong_while_writing_is_told_to_who_feeds():
    with eardrop.load(BUNDLED) as asr:
        live = asr.live()
        asr.close()
        live.feed(joined(EXAMPLES[:1], pause=0.5))
        with pytest.raises(eardrop.EngineClosed):
            live.finish()


@pytest.mark.parametrize("wishes", [{"every": 0.0}, {"ends": -1.0}])
def test_seconds_that_can_not_be_are_refused(wishes):
    with eardrop.load(BUNDLED) as asr, pytest.raises(eardrop.OptionError, match="expected more than 0"):
        asr.live(**wishes)
