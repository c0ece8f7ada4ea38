"""Windows: nothing that was heard is lost, nothing is too long, cuts lie in pauses, and memory stays."""

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import FRAME
from eardrop.errors import OptionError
from eardrop.ops import Float32
from eardrop.transcribe.windows import OVERLAP, PAD, Window, windows
from tests.transcribe.long_recordings import in_blocks, joined

SECOND = SAMPLE_RATE // FRAME  # 62 frames: near enough


class Loudness:
    """A detector to whom every frame that holds a sample above 0.1 is speech."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.float32)

    def push(self, samples: Float32) -> Float32:
        self._held = np.concatenate([self._held, samples])
        whole = len(self._held) // FRAME * FRAME
        frames, self._held = self._held[:whole].reshape(-1, FRAME), self._held[whole:]
        return (np.abs(frames).max(axis=1) > 0.1).astype(np.float32)

    def finish(self) -> Float32:
        return self.push(np.zeros(-len(self._held) % FRAME, np.float32))


def cut(samples: Float32, **wishes: float) -> list[Window]:
    return list(windows(in_blocks(samples, [SAMPLE_RATE]), detector=Loudness(), **wishes))


def told(frames: Iterable[int]) -> Float32:
    """Silence and speech in turn, each of so many frames; the speech isn't equally loud all along."""
    parts = [np.full(count * FRAME, 0.5 * (k % 2), np.float32) for k, count in enumerate(frames)]
    whole = np.concatenate([*parts, np.zeros(0, np.float32)])
    wave = 0.6 + 0.4 * np.sin(np.arange(len(whole)) / 2311)
    return (whole * wave * np.where(np.arange(len(whole)) % 2, 1, -1)).astype(np.float32)


RECORDINGS = st.lists(st.one_of(st.integers(3, 20), st.integers(20, 400), st.integers(400, 2500)), max_size=10).map(
    told
)


@settings(max_examples=25, deadline=None)
@given(
    RECORDINGS,
    st.sampled_from([(20.0, 30.0, 2.0), (5.0, 6.0, 1.0), (3.0, 4.0, 0.0), (12.0, 16.0, 1.5), (1.0, 30.0, 30.0)]),
    st.lists(st.integers(3_000, 40_000), min_size=1, max_size=4),
)
def test_what_was_heard_is_in_one_window_or_in_two_at_an_overlap(
    samples: Float32, wishes: tuple[float, float, float], lengths: list[int]
) -> None:
    target, longest, skip = wishes
    made = cut(samples, target=target, longest=longest, skip=skip)
    blocks = in_blocks(samples, lengths)
    again = list(windows(blocks, target=target, longest=longest, skip=skip, detector=Loudness()))
    assert [(w.start, w.stop, w.speech, w.seam) for w in again] == [(w.start, w.stop, w.speech, w.seam) for w in made]
    count = np.zeros(len(samples), int)
    for window in made:
        assert 0 <= window.start < window.stop <= len(samples)
        assert window.stop - window.start <= longest * SAMPLE_RATE
        np.testing.assert_array_equal(window.samples, samples[window.start : window.stop])
        assert window.speech or len(made) == 1
        assert all(window.start <= a < b <= window.stop for a, b in window.speech)
        count[window.start : window.stop] += 1
    doubled = np.zeros(len(samples), bool)
    for window, following in pairwise(made):
        assert following.start > window.start
        assert (following.start < window.stop) == (window.seam == "overlap")
        assert window.stop - following.start <= OVERLAP
        doubled[following.start : window.stop] = True
    assert not made or made[-1].seam == "pause"
    np.testing.assert_array_equal(count > 1, doubled)
    assert count.max(initial=0) <= 2
    loud = np.repeat(np.abs(samples[: len(samples) // FRAME * FRAME]).reshape(-1, FRAME).max(axis=1) > 0.1, FRAME)
    assert (count[: len(loud)][loud] >= 1).all()


def test_silence_longer_than_skip_is_left_out_but_for_a_pad() -> None:
    gap, pause = 3 * SECOND, SECOND
    first, second = cut(told([SECOND, 4 * SECOND, pause, 2 * SECOND, gap, 4 * SECOND, gap]), skip=2.0)
    assert first.start == 0
    assert len(first.speech) == 2
    assert first.stop == first.speech[-1][1] + PAD
    assert second.start == second.speech[0][0] - PAD
    assert second.stop == second.speech[0][1] + PAD


def test_cuts_lie_in_the_middle_of_the_pauses_that_make_windows_near_the_target() -> None:
    made = cut(told([0, *[5 * SECOND, SECOND] * 12]), target=18.0)
    assert [len(window.speech) for window in made] == [3, 3, 3, 3]
    for window, following in pairwise(made):
        assert window.stop == following.start
        assert abs(window.stop - window.speech[-1][1] - SECOND * FRAME / 2) <= FRAME


def test_a_long_pause_is_worth_a_detour() -> None:
    first, *_ = cut(told([0, 10 * SECOND, 12, 8 * SECOND, SECOND, 10 * SECOND, 12, 9 * SECOND]), target=12.0)
    assert len(first.speech) == 2


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    samples = told([0, 50 * SECOND])
    quiet = slice(24 * SAMPLE_RATE, 24 * SAMPLE_RATE + 900)
    samples[quiet] *= 0.01
    first, second = cut(samples)
    assert first.seam == "overlap"
    assert quiet.start <= (first.stop + second.start) / 2 <= quiet.stop
    assert first.stop - second.start == OVERLAP


def test_windows_come_while_the_recording_goes_on() -> None:
    given_out = 0

    def blocks() -> Iterator[Float32]:
        nonlocal given_out
        for _ in range(300):
            given_out += 1
            yield told([0, 62]) if given_out % 5 else np.zeros(SAMPLE_RATE, np.float32)

    first = next(windows(blocks(), longest=10.0, detector=Loudness()))
    assert first.stop <= 10 * SAMPLE_RATE
    assert given_out <= 25


def test_ten_hours_take_the_memory_of_a_few_windows() -> None:
    longest = 30.0
    second = told([0, 63])[:SAMPLE_RATE]

    def blocks() -> Iterator[Float32]:
        for k in range(36_000):
            if k == 34_000:
                tracemalloc.start()  # not before: it makes all three times as slow
            yield np.zeros_like(second) if k % 600 < 480 or k % 9 == 0 else second

    held = sum(len(window.speech) > 0 for window in windows(blocks(), longest=longest, detector=Loudness()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held > 60 * 120 / longest
    assert peak < 64_000 * (5 * longest + 10)


def test_a_day_of_digital_silence_is_nothing() -> None:
    zeros = np.zeros(SAMPLE_RATE, np.float32)

    class Deaf(Loudness):
        def push(self, samples: Float32) -> Float32:
            return zeros[: len(samples) // FRAME]  # fast: it's the memory and the end that are looked at

    assert not list(windows((zeros for _ in range(86_400)), detector=Deaf()))


def test_no_samples_are_no_windows() -> None:
    assert not list(windows([]))
    assert not list(windows([np.zeros(0, np.float32)]))


@pytest.mark.parametrize("samples", [240, 16_000, 30 * SAMPLE_RATE])
def test_a_recording_in_which_nobody_was_heard_is_for_the_model_to_decide(samples: int) -> None:
    sound = np.resize(np.float32([0.01, -0.01]), samples)
    (window,) = cut(sound)
    assert (window.start, window.stop, window.speech, window.seam) == (0, samples, (), "pause")


def test_of_a_long_one_only_the_first_window_is() -> None:
    sound = np.resize(np.float32([0.01, -0.01]), 95 * SAMPLE_RATE + 3)
    (window,) = cut(sound, longest=20.0)
    assert (window.start, window.stop, window.speech) == (0, 20 * SAMPLE_RATE, ())
    assert all(window.speech for window in cut(np.concatenate([sound, told([0, 200])])))


@pytest.mark.parametrize(
    "wishes",
    [{"longest": 3.0}, {"longest": float("nan")}, {"target": 0.0}, {"target": 31.0}, {"skip": -1.0}, {"skip": 31.0}],
)
def test_lengths_that_can_not_be_met_are_refused(wishes: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="expected"):
        cut(told([0, 10]), **wishes)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("target", "longest"), [(20.0, 30.0), (11.0, 16.0)])
def test_no_utterance_is_cut_where_pauses_are(seed: int, target: float, longest: float) -> None:
    samples, utterances = joined(120, seed=seed)
    made = list(windows(in_blocks(samples, [7001]), target=target, longest=longest))
    assert {window.seam for window in made} == {"pause"}
    slack = round(0.03 * SAMPLE_RATE)
    for utterance in utterances:
        holds = [w for w in made if w.start <= utterance.start + slack and utterance.stop - slack <= w.stop]
        assert len(holds) == 1, utterance
