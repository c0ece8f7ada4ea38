"""What happens to speech before the model hears it: pace, room, band, noise, codec, pauses; and what is no speech."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from eardrop.audio import SAMPLE_RATE
from train.codecs import Signal, coded, drawn_codec

Draw = np.random.Generator

NOISES = 96  # in the bank, eight seconds each
NOISE_SECONDS = 8
CODED = 0.1  # the share of worsened clips that pass a codec; more would take more than three per cent of a step


@dataclass(frozen=True)
class Span:
    """A text and the samples in which it is said."""

    text: str
    start: int
    stop: int


@dataclass(frozen=True)
class Clip:
    """A recording as the model hears it; no spans in one without speech."""

    samples: Signal
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(span.text for span in self.spans)


def spoken_clip(parts: Sequence[tuple[NDArray[np.int16], str]], draw: Draw, *, hardness: float = 1.0) -> Clip:
    """Sentences one after the other with pauses around them, in one room, band and noise.

    hardness  0 … 1, the share of clips to which any of that may happen
    """
    pace = draw.uniform(0.88, 1.14) if draw.random() < 0.6 else 1.0
    pieces: list[Signal] = []
    spans, at = [], 0
    for samples, text in parts:
        voice, silence = _paced(samples, pace), np.zeros(_pause(draw), np.float32)
        spans.append(Span(text, at + len(silence), at + len(silence) + len(voice)))
        pieces += [silence, voice]
        at = spans[-1].stop
    signal = np.concatenate([*pieces, np.zeros(_pause(draw), np.float32)])
    if draw.random() < hardness:
        signal = _worsened(signal, draw)
    return Clip(signal, tuple(spans))


def silent_clip(draw: Draw) -> Clip:
    """A sound without speech: noise, music, or nothing at all."""
    length = int(SAMPLE_RATE * draw.uniform(0.4, 6.0))
    if draw.random() < 0.15:
        return Clip(np.zeros(length, np.float32), ())
    return Clip(_noise(length, draw) * np.float32(10 ** draw.uniform(-3, -0.5)), ())


def _pause(draw: Draw) -> int:
    return int(SAMPLE_RATE * min(1.2, 0.05 + draw.exponential(0.2)))


def _paced(samples: NDArray[np.int16], pace: float) -> Signal:
    """Faster and higher, or slower and lower."""
    signal = samples.astype(np.float32) / np.float32(32768)
    if pace == 1.0:
        return signal
    places = np.arange(0, len(signal) - 1, pace)
    return np.asarray(np.interp(places, np.arange(len(signal)), signal), np.float32)


def _worsened(signal: Signal, draw: Draw) -> Signal:
    """A room, a band and a colour, in one filter; then noise, a level, and a codec."""
    if draw.random() < 0.75:
        n = -(-(len(signal) + SAMPLE_RATE // 4) // 2048) * 2048
        response = _room(n, draw) * _colour(n, draw)
        signal = np.fft.irfft(np.fft.rfft(signal, n) * response, n)[: len(signal)].astype(np.float32)
    loudness = float(np.sqrt(np.mean(signal**2))) + 1e-8
    if draw.random() < 0.6:
        signal = signal + _noise(len(signal), draw) * np.float32(loudness * 10 ** (-draw.uniform(3, 40) / 20))
    level = 10 ** draw.uniform(-2, -0.3) / (float(np.abs(signal).max()) + 1e-8)
    signal = np.asarray(np.clip(signal * np.float32(level * (1 if draw.random() < 0.95 else 3)), -1, 1))
    return coded(signal, *drawn_codec(draw)) if draw.random() < CODED else signal


def _room(n: int, draw: Draw) -> NDArray[np.complex64] | float:
    """The response of a room: the direct sound, and noise that dies away."""
    if draw.random() < 0.5:
        return 1.0
    decay = SAMPLE_RATE * draw.uniform(0.02, 0.15)
    tail = draw.standard_normal(SAMPLE_RATE // 4).astype(np.float32)
    tail *= np.exp(-np.arange(len(tail), dtype=np.float32) / decay)
    tail *= draw.uniform(0.05, 0.7) / np.float32(np.sqrt(np.sum(tail**2)))
    tail[0] = 1.0
    return np.asarray(np.fft.rfft(tail, n), np.complex64)


def _colour(n: int, draw: Draw) -> Signal:
    """A smooth curve of loudness over frequency, at times cut off above or below."""
    hertz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    knots = np.array([0, 150, 400, 1000, 2000, 4000, 8000])
    gain = 10 ** (np.interp(hertz, knots, draw.normal(0, 4, len(knots))) / 20)
    if draw.random() < 0.25:
        gain *= hertz < draw.uniform(3200, 7000)
    if draw.random() < 0.25:
        gain *= hertz > draw.uniform(60, 300)
    return np.asarray(gain, np.float32)


# Sounds without speech, of about unit loudness


def _noise(length: int, draw: Draw) -> Signal:
    """A stretch of the bank."""
    noise = bank(int(draw.integers(NOISES)))
    return np.take(noise, np.arange(length) + draw.integers(len(noise)), mode="wrap")


@cache
def bank(number: int) -> Signal:
    """(N,) one of NOISES sounds, each kind in its turn."""
    makers = list(SOUNDS.values())
    return sound(makers[number % len(makers)], np.random.default_rng(number))


def sound(maker: Callable[[Draw], NDArray[np.float64]], draw: Draw) -> Signal:
    """One sound of unit loudness."""
    made = maker(draw)
    return np.asarray(made / (np.sqrt(np.mean(made**2)) + 1e-12), np.float32)


_N = SAMPLE_RATE * NOISE_SECONDS
_SECONDS = np.arange(_N) / SAMPLE_RATE


def _coloured(draw: Draw) -> NDArray[np.float64]:
    """White to brown noise, of a band."""
    hertz = np.fft.rfftfreq(_N, 1 / SAMPLE_RATE)
    shape = np.maximum(hertz, 20) ** -draw.uniform(0, 1.2)
    if draw.random() < 0.4:
        shape *= np.exp(-(((hertz - draw.uniform(200, 6000)) / draw.uniform(200, 2000)) ** 2))
    spectrum = shape * (draw.standard_normal(len(hertz)) + 1j * draw.standard_normal(len(hertz)))
    return np.fft.irfft(spectrum, _N)


def _gusts(draw: Draw) -> NDArray[np.float64]:
    """Noise that swells and fades."""
    knots = draw.uniform(0.02, 1, 40) ** 2
    return _coloured(draw) * np.interp(_SECONDS, np.linspace(0, NOISE_SECONDS, 40), knots)


def _hum(draw: Draw) -> NDArray[np.float64]:
    """Mains or an engine, with overtones."""
    base = draw.choice([50, 60, 100, draw.uniform(30, 200)])
    tones = sum(draw.uniform() / k * np.sin(2 * np.pi * (base * k * _SECONDS + draw.uniform())) for k in range(1, 12))
    return np.asarray(tones + 0.1 * draw.standard_normal(_N))


def _clicks(draw: Draw) -> NDArray[np.float64]:
    """Keys, steps, crackle: short noises at random moments."""
    made = 0.003 * draw.standard_normal(_N)
    for _ in range(int(draw.integers(10, 120))):
        length = int(draw.integers(20, 1200))
        at = int(draw.integers(_N - length))
        made[at : at + length] += (
            draw.standard_normal(length) * np.exp(-np.linspace(0, 6, length)) * draw.uniform(0.1, 1)
        )
    return made


def _music(draw: Draw) -> NDArray[np.float64]:
    """Chords and a melody of plucked or held tones."""
    made = np.zeros(_N)
    beat = draw.uniform(0.18, 0.6)
    scale = 55 * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24, 28, 31, 36]) / 12) * draw.uniform(1, 2)
    decay = draw.uniform(0.5, 6)
    for start in np.arange(0, NOISE_SECONDS - beat, beat):
        at, length = int(start * SAMPLE_RATE), int(SAMPLE_RATE * min(beat * draw.integers(1, 5), NOISE_SECONDS - start))
        seconds = _SECONDS[:length]
        for pitch in draw.choice(scale, int(draw.integers(1, 4))):
            tone = sum(np.sin(2 * np.pi * pitch * k * seconds) * draw.uniform() / k for k in range(1, 7))
            made[at : at + length] += tone * np.exp(-decay * seconds)
    return made


def _sweeps(draw: Draw) -> NDArray[np.float64]:
    """Sirens and beeps."""
    rate, width = draw.uniform(0.2, 4), draw.uniform(0, 600)
    phase = np.cumsum(draw.uniform(300, 2500) + width * np.sin(2 * np.pi * rate * _SECONDS)) / SAMPLE_RATE
    gate = (np.sin(2 * np.pi * draw.uniform(0.3, 3) * _SECONDS) > draw.uniform(-1, 0.5)).astype(np.float64)
    return np.asarray(np.sin(2 * np.pi * phase) * gate + 0.02 * draw.standard_normal(_N))


SOUNDS: Mapping[str, Callable[[Draw], NDArray[np.float64]]] = {
    "noise": _coloured,
    "gusts": _gusts,
    "hum": _hum,
    "clicks": _clicks,
    "music": _music,
    "sweeps": _sweeps,
}
