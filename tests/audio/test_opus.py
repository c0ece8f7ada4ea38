"""Opus: what was said comes back, at its time, small, and the same each time."""

import numpy as np

from eardrop.audio import OPUS_BIT_RATE, SAMPLE_RATE, encode_opus, read


def chirps() -> list[np.ndarray]:
    """Three seconds of silence with a tone from 1.5 to 2 s, in blocks of a second."""
    samples = np.zeros(3 * SAMPLE_RATE, np.float32)
    time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    samples[3 * SAMPLE_RATE // 2 : 2 * SAMPLE_RATE] = 0.5 * np.sin(2 * np.pi * 440 * time)
    return np.split(samples, 3)


def test_a_sound_is_where_it_was() -> None:
    written = encode_opus(chirps(), most=1 << 20)
    assert written is not None
    heard = read(written)
    loud = np.flatnonzero(np.abs(heard) > 0.25) / SAMPLE_RATE
    assert abs(len(heard) / SAMPLE_RATE - 3) < 0.03  # whole frames of 20 ms
    assert abs(loud[0] - 1.5) < 0.01
    assert abs(loud[-1] - 2.0) < 0.01
    assert len(written) < 3 * OPUS_BIT_RATE / 8 + 2000
    assert encode_opus(chirps(), most=1 << 20) == written


def test_what_is_too_large_is_not_made() -> None:
    assert encode_opus(chirps(), most=2000) is None


def test_a_single_sample_is_a_recording() -> None:
    assert encode_opus([np.zeros(1, np.float32)], most=1 << 20)
