"""Who speaks when: the detector's numbers don't depend on blocks or levels, and spans hold what was heard."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import FRAME, ON, Spans, SpectralDetector, SpectralFeatures, is_silent
from eardrop.ops import Float32


def voice(seconds: float, *, pitch: float = 120.0, seed: int = 0) -> Float32:
    """Syllables: harmonics under two formants, four times a second, with gaps between."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(seed)
    bend = pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    sound = np.zeros(len(t))
    for harmonic in range(1, 30):
        hertz = harmonic * pitch
        formants = np.exp(-(((hertz - 600) / 250) ** 2)) + 0.4 * np.exp(-(((hertz - 1800) / 300) ** 2)) + 0.02
        sound += formants * np.sin(2 * np.pi * harmonic * np.cumsum(bend) / SAMPLE_RATE + rng.uniform(0, 6))
    return (0.1 * sound * np.maximum(0, np.sin(2 * np.pi * 4 * t)) ** 0.5).astype(np.float32)


def hiss(seconds: float, level: float = 0.002, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def heard(samples: Float32, cuts: list[int] | None = None) -> Float32:
    detector = SpectralDetector()
    found = [detector.push(block) for block in np.split(samples, sorted(cuts or []))]
    return np.concatenate([*found, detector.finish()])


def between(*seconds: float) -> Float32:
    """Silence, speech, silence, … under hiss."""
    parts = [voice(s) if k % 2 else np.zeros(round(s * SAMPLE_RATE), np.float32) for k, s in enumerate(seconds)]
    clean = np.concatenate(parts)
    return clean + hiss(len(clean) / SAMPLE_RATE)[: len(clean)]


def share(samples: Float32, start: float, stop: float) -> float:
    """The share of the frames between two seconds that are called speech."""
    at = slice(round(start * SAMPLE_RATE / FRAME), round(stop * SAMPLE_RATE / FRAME))
    return float((heard(samples)[at] >= ON).mean())


SOME = between(1.5, 2, 1.3, 1.1, 0.7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(SOME)), max_size=30))
def test_the_numbers_do_not_depend_on_the_blocks(cuts: list[int]) -> None:
    np.testing.assert_array_equal(heard(SOME, cuts), heard(SOME))


@pytest.mark.parametrize("samples", [0, 1, 240, 255, 256, 257, 4096, 4097, 16_000, 48_001])
def test_every_frame_that_was_begun_has_a_probability(samples: int) -> None:
    probabilities = heard(np.resize(SOME, samples))
    assert len(probabilities) == -(-samples // FRAME)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("gain", [0.01, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_speech_is_heard_on_every_level_and_offset(gain: float, offset: float) -> None:
    samples = np.float32(gain) * SOME + np.float32(offset)
    assert share(samples, 1.6, 3.4) > 0.9
    assert share(samples, 5.0, 5.8) > 0.8
    assert share(samples, 0.2, 1.2) < 0.1


def test_clipped_speech_is_heard() -> None:
    assert share(np.clip(SOME * 50, -1, 1), 1.6, 3.4) > 0.9


def test_speech_from_the_first_sample_on_is_heard() -> None:
    assert share(between(0, 2, 2), 0, 1.9) > 0.8


def test_faint_speech_that_goes_on_at_the_first_sample_is_heard_from_there() -> None:
    clean = 0.05 * voice(3)
    spoken = np.concatenate([clean, np.zeros(SAMPLE_RATE, np.float32)]) + hiss(4)
    for start in range(0, 32_000, 1_000):
        sounding = np.flatnonzero(np.abs(clean[start:]) > 0.002)[0]
        assert np.flatnonzero(heard(spoken[start:]) >= ON)[0] * FRAME <= sounding + FRAME


@pytest.mark.parametrize("silence", [0.3, 0.5, 0.7, 0.9])
def test_a_word_after_digital_silence_is_heard_from_its_beginning(silence: float) -> None:
    nothing = np.zeros(round(silence * SAMPLE_RATE), np.float32)
    tail, word = voice(0.1, seed=1), voice(1.5)
    probabilities = heard(np.concatenate([tail, nothing, word, nothing]))
    begun = (len(tail) + len(nothing)) // FRAME
    assert (probabilities[begun - 2 : begun + 6] >= ON).sum() >= 5


def test_an_offset_at_the_first_sample_is_no_speech() -> None:
    assert heard(hiss(5) + np.float32(0.5))[:20].max() < ON


def test_digital_silence_holds_no_speech_and_noise_none_for_long() -> None:
    assert heard(np.zeros(5 * SAMPLE_RATE, np.float32)).max() < ON
    assert (heard(hiss(20, 0.05)) >= ON).mean() < 0.1


def test_memory_does_not_grow() -> None:
    features = SpectralFeatures()
    for _ in range(40):
        features.push(hiss(1))
    assert len(features._held) <= 2 * FRAME * 18
    assert len(features._minima) <= 24


def test_silence_is_what_dither_may_do_on_any_offset() -> None:
    assert is_silent(np.zeros(0, np.float32))
    assert is_silent(np.full(100, 0.3, np.float32))
    assert is_silent(np.tile(np.float32([-1, 0, 1]) / 2**15, 50))
    assert not is_silent(hiss(0.1, 0.001))


def spans_of(probabilities: list[float], **wishes: float) -> list[tuple[int, int]]:
    spans = Spans(**{"on": 0.5, "off": 0.3, "least": 2, "hang": 3, **wishes})  # type: ignore[arg-type]
    ended = list(spans.push(np.array(probabilities, np.float32)))
    return [(a // FRAME, b // FRAME) for a, b in [*ended, *([spans.current] if spans.current else [])]]


def test_a_span_begins_high_goes_on_low_and_bridges_short_gaps() -> None:
    assert spans_of([0, 0.6, 0.6, 0.4, 0, 0, 0.4, 0, 0, 0]) == [(1, 7)]
    assert spans_of([0, 0.6, 0.6, 0, 0, 0, 0.4, 0.6, 0.6]) == [(1, 3), (7, 9)]


def test_a_click_is_no_span() -> None:
    assert spans_of([0, 0.9, 0, 0, 0.9, 0]) == []


@given(st.lists(st.sampled_from([0.0, 0.4, 0.9]), max_size=60))
def test_no_span_begins_before_what_is_decided(probabilities: list[float]) -> None:
    spans = Spans(least=2, hang=3)
    for probability in probabilities:
        now, current = spans.now, spans.current
        ended = list(spans.push(np.array([probability], np.float32)))
        for start, _ in [*ended, *([spans.current] if spans.current else [])]:
            assert start >= now or (current is not None and start == current[0])
