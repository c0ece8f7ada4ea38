"""Log-mel features: known values, every length, and what must not depend on what."""

from dataclasses import replace

import numpy as np
import pytest

from eardrop.audio import LFM2, SAMPLE_RATE, WHISPER, log_mel
from eardrop.audio import log_mel as function
from eardrop.audio.log_mel import FRAMES_AT_ONCE, mel_bank


def tones(count: int) -> np.ndarray:
    """The specification's test signal."""
    i = np.arange(count)
    swell = np.sin(2 * np.pi * 2500 * i / SAMPLE_RATE) * (i % 1600) / 1600
    return (0.3 * np.sin(2 * np.pi * 300 * i / SAMPLE_RATE) + 0.2 * swell).astype(np.float32)


def test_the_specifications_signal_has_its_values() -> None:
    mel = log_mel(tones(8000)).T
    assert mel.shape == (128, 51)
    expected = {(0, 0): 5.02376, (0, 10): 1.15871, (10, 25): -0.21995, (64, 7): -0.58586, (127, 49): 0.66021}
    for place, value in {**expected, (5, 50): 0.0, (40, 0): 2.60854}.items():
        assert mel[place] == pytest.approx(value, abs=5e-5)
    assert np.abs(mel).sum() == pytest.approx(4767.23, abs=0.05)


def test_the_filter_bank_is_slaneys_with_area_one() -> None:
    bank = mel_bank(LFM2)
    assert bank.shape == (128, 257)
    assert np.count_nonzero(bank) == 504
    assert bank.any(axis=1).all()
    assert bank[0].nonzero()[0].tolist() == [1]
    assert bank[0, 1] == pytest.approx(0.02837754)
    assert bank.sum() == pytest.approx(4.090488, abs=1e-5)


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 3), (1, 3), (319, 3), (320, 3), (480, 4), (16_000, 101), (16_159, 101), (16_160, 102)]
)
def test_there_is_a_frame_per_hop_and_one_more_of_zeros(samples: int, frames: int) -> None:
    mel = log_mel(tones(samples))
    assert mel.shape == (frames, 128)
    assert mel.dtype == np.float32
    assert np.isfinite(mel).all()
    assert not mel[-1].any()


def test_every_bin_is_standardised_over_the_frames_but_the_last() -> None:
    mel = log_mel(np.random.default_rng(1).standard_normal(16_000).astype(np.float32))[:-1]
    np.testing.assert_allclose(mel.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(mel.std(axis=0, ddof=1), 1, atol=1e-4)


def test_digital_silence_is_exactly_zero() -> None:
    assert not log_mel(np.zeros(48_000, np.float32)).any()


def test_long_audio_is_transformed_in_pieces_that_leave_no_seam() -> None:
    samples = np.random.default_rng(2).standard_normal(160 * (FRAMES_AT_ONCE + 40)).astype(np.float32)
    raw = replace(LFM2, finish=np.array)  # energies before they are standardised
    whole, tail = log_mel(samples, raw), log_mel(samples[160 * (FRAMES_AT_ONCE - 20) :], raw)
    np.testing.assert_allclose(whole[FRAMES_AT_ONCE - 10 :], tail[10:], rtol=1e-5)


@pytest.mark.parametrize(("fft", "window", "hop", "mels"), [(64, 64, 16, 5), (400, 400, 160, 80), (1024, 601, 97, 200)])
def test_any_sizes_work(fft: int, window: int, hop: int, mels: int) -> None:
    config = replace(LFM2, fft=fft, window=window, hop=hop, mels=mels)
    assert log_mel(tones(5000), config).shape == (5000 // hop + 1, mels)


def test_whispers_window_is_always_thirty_seconds() -> None:
    for count in (1, 16_000, 480_000):
        mel = log_mel(tones(count), WHISPER)
        assert mel.shape == (3000, 80)
        assert mel.max() - mel.min() <= 2.0 + 1e-6


def test_the_package_exports_the_function_not_its_module() -> None:
    assert callable(function)
