"""From a recording to segments: order, attempts, seams, what was skipped, cancelling."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

import eardrop
from eardrop.audio import SAMPLE_RATE
from eardrop.engine import Token
from eardrop.errors import Cancelled
from eardrop.search import Finish
from eardrop.transcribe import Options, Progress
from eardrop.transcribe import transcription as room
from eardrop.transcribe.transcription import Transcription
from eardrop.transcribe.windows import Window
from eardrop.transcript import Result
from tests.examples import BUNDLED, EXAMPLES, joined
from tests.pairs import DATA, pair

SECOND = SAMPLE_RATE


class Handle:
    """An answer of a script."""

    def __init__(self, text: str, finish: Finish) -> None:
        words = text.replace(" ", "\0 ").split("\0") if text else []
        self._tokens = iter([Token(index, word.encode(), -0.5, 1.0) for index, word in enumerate(words)])
        self.finish, self.cancelled, self.looked = finish, False, None

    def __iter__(self) -> Iterator[Token]:
        return self._tokens

    def cancel(self) -> None:
        self.cancelled = True


class Scripted:
    """An engine that answers by how many seconds it is asked about."""

    def __init__(self, script: Callable[[float], str | tuple[str, Finish]]) -> None:
        with eardrop.load(pair()[0]) as asr:
            self.model = asr.model
        self.script, self.asked, self.handles = script, [], []

    def submit(self, request: object) -> Handle:
        seconds = len(request.audio[0]) / SAMPLE_RATE  # type: ignore[attr-defined]
        self.asked.append(seconds)
        answer = self.script(seconds)
        self.handles.append(Handle(*((answer, Finish.STOP) if isinstance(answer, str) else answer)))
        return self.handles[-1]


def window(start: float, stop: float, *, seam: str = "pause", spoken: bool = True) -> Window:
    first, last = round(start * SECOND), round(stop * SECOND)
    return Window(first, last, np.ones(last - first, np.float32), ((first, last),) if spoken else (), seam)  # type: ignore[arg-type]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """What a script's engine makes of these windows of a recording of 60 s."""

    def transcribed(script, *cut: Window, told=lambda progress: None, ahead: int = 3, **options) -> Result:
        def windows(blocks, **limits) -> Iterator[Window]:
            for _ in blocks:
                pass
            yield from cut

        monkeypatch.setattr(room, "windows", windows)
        engine = script if isinstance(script, Scripted) else Scripted(script)
        source = np.zeros(60 * SECOND, np.float32)
        return Transcription(engine, source, Options(**options), ahead, told).result()  # type: ignore[arg-type]

    return transcribed


def test_segments_come_in_order_with_the_times_of_their_speech(heard):
    result = heard(lambda seconds: f"{seconds:g} seconds here.", window(2, 3), window(10, 12), window(20, 23))
    assert [(one.start, one.end, one.text) for one in result.segments] == [
        (2, 3, "1 seconds here."), (10, 12, "2 seconds here."), (20, 23, "3 seconds here."),
    ]  # fmt: skip
    assert result.skipped == ((0, 2), (3, 10), (12, 20), (23, 60))
    assert result.coverage == 1.0
    assert result.duration == 60


def test_no_more_windows_are_asked_about_at_a_time_than_wanted(heard):
    engine = Scripted(lambda seconds: "one two.")
    seen = []
    cut = [window(at, at + 1) for at in range(0, 20, 2)]
    heard(engine, *cut, told=lambda progress: seen.append(len(engine.asked)) if progress.segment else None, ahead=4)
    assert seen == [4, 5, 6, 7, 8, 9, 10, 10, 10, 10]


def test_a_window_that_is_empty_though_somebody_speaks_is_split(heard):
    result = heard(lambda seconds: "" if seconds > 7 else "it is all here.", window(0, 8))
    assert [segment.text for segment in result.segments] == ["it is all here."] * 2
    assert result.warnings == ()
    assert result.segments[0].end == result.segments[1].start


def test_what_stays_wrong_is_told_once_and_counted(heard):
    engine = Scripted(lambda seconds: "")
    result = heard(engine, window(0, 8))
    assert [segment.text for segment in result.segments] == [""]
    assert result.warnings == ("nothing was written, though somebody seems to speak for 8.0 s",)
    assert result.coverage == 0.0
    assert len(engine.asked) == 1 + 2 + 4


def test_a_loop_is_split_and_real_repeats_survive(heard):
    looped = heard(lambda seconds: ("on and on " * 40, Finish.LENGTH) if seconds > 7 else "it went on.", window(0, 8))
    assert [segment.text for segment in looped.segments] == ["it went on."] * 2
    said = heard(lambda seconds: "no " * round(seconds * 2), window(0, 8))
    assert said.text == ("no " * 16).strip()
    assert said.warnings == ()


def test_the_attempt_with_less_against_it_is_kept(heard):
    result = heard(lambda seconds: ("the whole text of it" if seconds > 5 else "", Finish.LENGTH), window(0, 8))
    assert [segment.text for segment in result.segments] == ["the whole text of it"]
    assert result.warnings == ("the text was cut off after 5 tokens (length)",)


def test_a_limit_that_was_wished_is_not_tried_again(heard):
    engine = Scripted(lambda seconds: ("one two three", Finish.LENGTH))
    result = heard(engine, window(0, 8), max_tokens=3)
    assert len(engine.asked) == 1
    assert "cut off after 3 tokens" in result.warnings[0]


def test_words_of_an_overlap_have_one_owner(heard):
    texts = {3.0: "we went to the old hou", 2.0: "the old house by the sea", 2.5: "and home again"}
    cut = window(0, 3, seam="overlap"), window(1.5, 3.5), window(5, 7.5)
    result = heard(texts.__getitem__, *cut)
    assert [segment.text for segment in result.segments] == ["we went to the old", "house by the sea", "and home again"]
    assert [len(segment.tokens) for segment in result.segments] == [5, 4, 3]
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("before", "after", "rest"),
    [
        ("雨 が 降る 。 静か な 夜 で", "か な 夜 で し た 。", "した。"),
        ("雨 が 降る 。 静か な 夜 で", "かな 夜 でし た 。", "でした。"),  # a token of which a half was said
        ("雨 が", "雨 が", ""),
    ],
)
def test_signs_of_an_overlap_have_one_owner_where_no_space_is_written(before: str, after: str, rest: str):
    first, second = (
        room.Heard(cut, tuple(Token(i, piece.encode(), -0.5, 1.0) for i, piece in enumerate(pieces.split())), None)
        for cut, pieces in ((window(0, 3, seam="overlap"), before), (window(1.5, 3.5), after))
    )
    first, second = room.joined(first, second, lambda sample: sample / SECOND, "ja")
    assert (first.text, second.text) == (before.replace(" ", ""), rest)
    assert first.faults == ()


def test_a_seam_where_no_word_is_common_is_told(heard):
    texts = {3.0: "we went to the old", 2.0: "by the great sea"}
    cut = window(0, 3, seam="overlap"), window(1.5, 3.5)
    assert heard(texts.__getitem__, *cut).warnings == ()  # "the" is common
    texts[2.0] = "by a great sea"
    result = heard(texts.__getitem__, *cut)
    assert result.warnings == ("there is no pause at 2.2 s: words there may be doubled or lost",)
    assert result.text == "we went to the old by a great sea"


def test_a_seam_in_a_stretch_is_told_by_the_time_of_the_whole(heard):
    texts = {3.0: "we went to the old", 2.0: "by a great sea"}
    result = heard(texts.__getitem__, window(0, 3, seam="overlap"), window(1.5, 3.5), start=20.0)
    assert result.warnings == ("there is no pause at 22.2 s: words there may be doubled or lost",)


def test_a_recording_that_ends_at_a_seam_keeps_its_last_window(heard):
    assert heard(lambda seconds: "the very end", window(0, 3, seam="overlap")).text == "the very end"


def test_a_long_recording_in_which_nobody_is_heard_says_so(heard):
    result = heard(lambda seconds: "maybe", window(0, 10, spoken=False))
    assert result.warnings == ("nobody seems to speak in it; only its beginning was transcribed",)


def test_progress_tells_what_is_written_and_what_is_done(heard):
    seen: list[Progress] = []
    heard(lambda seconds: "one two three four", window(0, 2), window(4, 6), told=seen.append)
    assert [progress.text for progress in seen[:5]] == ["one", "one two", "one two three", "one two three four", ""]
    assert [progress.done for progress in seen] == [0, 0, 0, 0, 2, 2, 2, 2, 2, 6]
    assert [progress.segment.start for progress in seen if progress.segment] == [0, 4]
    assert {progress.source for progress in seen} == {"array"}


def test_closing_a_stream_cancels_what_was_asked(heard, monkeypatch):
    engine = Scripted(lambda seconds: "one two")
    monkeypatch.setattr(room, "windows", lambda blocks, **limits: iter([window(0, 2), window(4, 6), window(8, 9)]))
    stream = Transcription(engine, np.zeros(SECOND, np.float32), Options(), ahead=3).segments()  # type: ignore[arg-type]
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert [handle.cancelled for handle in engine.handles] == [True] * 3


def test_a_callback_that_fails_ends_the_transcription(heard):
    def fail(progress: Progress) -> None:
        raise RuntimeError("the caller's own")

    engine = Scripted(lambda seconds: "one two")
    with pytest.raises(RuntimeError, match="the caller's own"):
        heard(engine, window(0, 2), window(4, 6), told=fail)
    assert all(handle.cancelled for handle in engine.handles)


def test_cancelling_from_another_thread_ends_it():
    with eardrop.load(pair()[0]) as asr:
        noise = np.random.default_rng(1).normal(0, 0.2, 400 * SECOND).astype(np.float32)
        transcription = Transcription(asr.engine, noise, Options(), 2)
        threading.Timer(0.3, transcription.cancel).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            transcription.result()
        assert time.monotonic() - started < 5


def test_many_recordings_are_what_each_is_alone_in_their_order():
    names = ["ms100", "speech3", "none", "ms20", "chirp1"]
    files = [DATA / f"{name}.wav" for name in names]
    with eardrop.load(pair()[0]) as asr:
        results = list(asr.transcribe_many(iter(files), batch=3, max_tokens=6))
        alone = [asr.transcribe(file, max_tokens=6) for file in files if file.exists()]
    assert isinstance(results[2], eardrop.AudioError)
    together = [result for result in results if isinstance(result, Result)]
    assert [(one.source, one.text, one.duration) for one in together] == [
        (one.source, one.text, one.duration) for one in alone
    ]


def test_texts_decoded_together_are_those_decoded_one_by_one():
    files = [path for path, _ in EXAMPLES]
    with eardrop.load(BUNDLED, streams=8) as together, eardrop.load(BUNDLED, streams=1) as alone:
        batched = list(together.transcribe_many(files, batch=8))
        single = [alone.transcribe(file) for file in files]
        assert [result.segments for result in batched] == [result.segments for result in single]  # type: ignore[union-attr]
        whole = joined(EXAMPLES, pause=0.7)
        assert together.transcribe(whole).segments == alone.transcribe(whole).segments


def test_leaving_many_recordings_cancels_the_rest():
    with eardrop.load(pair()[0]) as asr:
        noise = np.random.default_rng(1).normal(0, 0.2, 200 * SECOND).astype(np.float32)
        results = asr.transcribe_many([DATA / "ms20.wav", *[noise] * 6], batch=2)
        assert isinstance(next(results), Result)
        started = time.monotonic()
        results.close()  # type: ignore[attr-defined]
        assert time.monotonic() - started < 5
        assert asr.transcribe(DATA / "ms20.wav").segments


def test_a_batch_of_none_is_refused():
    engine = SimpleNamespace(streams=2)
    with pytest.raises(eardrop.OptionError, match="batch is 0, expected at least 1"):
        eardrop.Recognizer(engine).transcribe_many([], batch=0)  # type: ignore[arg-type]
