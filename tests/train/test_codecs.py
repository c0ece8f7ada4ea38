"""Speech that passes a codec stays speech, where it was."""

import numpy as np
import pytest

from eardrop.audio import SAMPLE_RATE
from train.augment import spoken_clip
from train.codecs import CODECS, Codec, Signal, coded, drawn_codec


def chirps(samples: int) -> Signal:
    """Two sweeps below 3 kHz with silence around them: nothing else is like it a little earlier or later."""
    seconds = np.arange(samples) / SAMPLE_RATE
    sweep = np.sin(2 * np.pi * (300 * seconds + 900 * seconds**2))
    return (0.3 * sweep * (np.sin(2 * np.pi * seconds) > 0)).astype(np.float32)


def best_shift(a: Signal, b: Signal) -> int:
    """By how many samples b is late."""
    n = 2 * len(a)
    likeness = np.fft.irfft(np.conj(np.fft.rfft(a, n)) * np.fft.rfft(b, n), n)
    shift = int(np.argmax(likeness))
    return shift if shift < len(a) else shift - n


@pytest.mark.parametrize("samples", [20_011, 2_400])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_was_coded_has_the_same_length_and_is_alike_at_the_same_place(codec: Codec, samples: int) -> None:
    signal = chirps(samples)
    for bit_rate in codec.bit_rates:
        heard = coded(signal, codec, bit_rate)
        assert heard.shape == signal.shape
        assert heard.dtype == np.float32
        assert np.abs(heard).max() <= 1
        shift = best_shift(signal, heard)
        assert abs(shift) <= 0.005 * SAMPLE_RATE
        assert np.corrcoef(signal[: samples - 80], np.roll(heard, -shift)[: samples - 80])[0, 1] > 0.8
        assert not np.array_equal(heard, signal)


@pytest.mark.parametrize("codec", [codec for codec in CODECS.values() if codec.rate == 8000])
def test_a_telephone_has_nothing_above_four_kilohertz(codec: Codec) -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(SAMPLE_RATE)).astype(np.float32)
    power = np.abs(np.fft.rfft(coded(noise, codec, codec.bit_rates[0]))) ** 2
    assert power[4200:].sum() < 0.01 * power.sum()


def test_every_codec_and_bit_rate_is_drawn() -> None:
    draw = np.random.default_rng(2)
    assert {drawn_codec(draw) for _ in range(600)} == {(c, rate) for c in CODECS.values() for rate in c.bit_rates}


def test_some_clips_pass_a_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = []
    monkeypatch.setattr("train.augment.coded", lambda signal, codec, rate: passed.append(codec) or signal)
    draw = np.random.default_rng(3)
    for _ in range(200):
        spoken_clip([(np.full(800, 9000, np.int16), "One.")], draw)
    assert 5 <= len(passed) <= 40
    for _ in range(50):
        spoken_clip([(np.full(800, 9000, np.int16), "One.")], draw, hardness=0.0)
    assert len(passed) <= 40
