"""What speaks against a text, and where a window is cut to try again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eardrop.audio import SAMPLE_RATE
from eardrop.search import Finish
from eardrop.transcribe.repair import FASTEST, faults, halves, repeated, weight
from eardrop.transcribe.windows import Window

SECOND = SAMPLE_RATE


def told(text: str, *, speech: float, finish: Finish | None = Finish.STOP, seconds: float | None = None) -> list[str]:
    found = faults(text, finish, 7, speech=speech, seconds=seconds or speech)
    assert all(fault.weight > 0 for fault in found)
    return [fault.told for fault in found]


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        ("Turn on the light.", 1.5),
        ("No no no no.", 2.0),
        ("Yes.", 0.4),
        ("Well.", 3.9),
        ("", 0.4),
        ("", 0.0),
        ("ha " * 7, 1.5),
    ],
)
def test_what_people_say_is_believed(text, speech):
    assert told(text, speech=speech) == []


@pytest.mark.parametrize(
    ("text", "speech", "expected"),
    [
        ("", 2.0, ["nothing was written, though somebody seems to speak for 2.0 s"]),
        ("Hello there.", 10.0, ["only 2 words were written for 10.0 s of speech"]),
        ("a b c d e f g h i j k l m n o p q r s t u", 2.0, ["21 words were written for 2.0 s"]),
        ("So " + "thank you " * 20, 4.0, ['"thank you" stands 20 times in 4.0 s', "41 words were written for 4.0 s"]),
    ],
)
def test_what_can_not_be_is_told(text, speech, expected):
    assert told(text, speech=speech) == expected


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.CONTEXT, None])
def test_a_text_without_an_end_was_cut_off(finish):
    assert told("Hello.", speech=1.0, finish=finish) == [f"the text was cut off after 7 tokens ({finish})"]


def test_repeats_for_which_there_was_time_are_only_looked_at_twice():
    found = faults("no " * 12, Finish.STOP, 12, speech=6.0, seconds=6.0)
    assert [fault.told for fault in found] == [""]
    assert weight(found) > 0


def test_unknown_speech_is_judged_by_the_window():
    assert told("", speech=0.0, seconds=20.0) == []
    assert told("word " * int(4 + FASTEST * 2), speech=0.0, seconds=2.0)


@pytest.mark.parametrize(
    ("text", "phrase", "times"),
    [
        ("a b a b a b a b", "a b", 4),
        ("x x x x x x x x", "x", 8),
        ("Thank you. Thank you, thank you! Thank you.", "Thank you.", 4),
        ("so a b c a b c a b c a b c end", "a b c", 4),
        ("x x x x x x x", None, 0),
        ("a b a b a b c d", None, 0),
        ("", None, 0),
    ],
)
def test_repeats(text, phrase, times):
    found = repeated(text.split())
    assert (found and found.phrase, found.times if found else 0) == (phrase, times)


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_what_repeats_stands_there(words):
    found = repeated(words)
    if found:
        assert " ".join([found.phrase] * found.times) in " ".join(words)
        assert found.words == found.times * len(found.phrase.split())


def window(seconds: float, *speech: tuple[float, float], start: float = 10.0, seam="pause") -> Window:
    samples = np.random.default_rng(3).normal(0, 0.1, round(seconds * SECOND)).astype(np.float32)
    first = round(start * SECOND)
    spans = tuple((round((start + a) * SECOND), round((start + b) * SECOND)) for a, b in speech)
    return Window(first, first + len(samples), samples, spans, seam)


def test_a_window_is_halved_in_the_longest_pause_of_its_middle():
    whole = window(10.0, (0.2, 0.5), (2.0, 4.0), (4.2, 6.0), (7.0, 9.8))
    first, second = halves(whole)
    assert first.stop == second.start == round(16.5 * SECOND)
    assert (first.start, second.stop) == (whole.start, whole.stop)
    assert first.speech + second.speech == whole.speech
    assert np.array_equal(np.concatenate([first.samples, second.samples]), whole.samples)


def test_without_a_pause_it_is_halved_where_it_is_quietest():
    whole = window(8.0, (0.0, 8.0), seam="overlap")
    whole.samples[5 * SECOND : 5 * SECOND + SECOND // 4] *= 0.01
    first, second = halves(whole)
    assert 15.0 <= first.stop / SECOND <= 15.25
    assert (first.seam, second.seam) == ("pause", "overlap")
    assert first.speech[0][1] == second.speech[0][0] == first.stop


def test_what_is_short_is_not_halved():
    assert halves(window(1.9, (0.0, 1.9))) == []
    assert len(halves(window(2.1))) == 2


@given(st.floats(2.0, 30.0), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=5))
def test_halves_are_the_whole(seconds, cuts):
    ends = sorted({round(end, 3) for cut in cuts for end in cut})
    whole = window(seconds, *((a * seconds, b * seconds) for a, b in zip(ends[::2], ends[1::2], strict=False)))
    first, second = halves(whole)
    quarter = len(whole.samples) // 4
    assert whole.start + quarter <= first.stop == second.start <= whole.stop - quarter
    assert len(first.samples) + len(second.samples) == len(whole.samples)
