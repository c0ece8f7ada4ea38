"""Log-mel features: what the encoder hears (spec: LFM2-Audio front end; formulas of librosa and NeMo).

One function serves any front end of this family. What differs between models is a `MelConfig` row: sizes, window,
padding, and `finish`, which turns mel energies into features. Shapes: N samples, T frames, M mel bins, F bins of
the spectrum (fft // 2 + 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.audio.rate import SAMPLE_RATE

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]

GUARDS = (2.0**-24, 1e-5)  # added to energies, no floor, and to deviations
FRAMES_AT_ONCE = 64  # float64 windows of 256 KB stay in the second cache: twice as fast as a recording at once


@dataclass(frozen=True)
class MelConfig:
    """One front end: how samples become frames of M features."""

    fft: int  # transform length, samples
    window: int  # samples under the Hann window, centred in `fft`
    hop: int  # samples from one frame to the next
    mels: int  # M
    finish: Callable[[Float64], Float64]  # mel energies (T, M) → features (T', M)
    hann: Literal["symmetric", "periodic"]
    padding: Literal["constant", "reflect"]  # what stands before the first and after the last sample
    preemphasis: float = 0.0  # y[n] = x[n] − preemphasis · x[n − 1]
    clip: int = 0  # samples that shorter audio is padded to with zeros
    rate: int = SAMPLE_RATE
    added: int = 0  # frames that `finish` adds

    @property
    def least_samples(self) -> int:
        """Two whole hops: below that a deviation is undefined. `log_mel` pads shorter audio with zeros."""
        return 2 * self.hop

    def frames(self, samples: int) -> int:
        """T of a clip of so many samples."""
        return max(samples, self.least_samples, self.clip) // self.hop + self.added


def per_feature(energies: Float64) -> Float64:
    """Natural log, each mel bin standardised over the clip, and one frame of zeros at the end.

    The guards are NeMo's. Sums run in float64: the float32 mean of digital silence is off by 1e-6, and dividing that by
    1e-5 shows.
    """
    to_energies, to_deviations = GUARDS
    logs = np.log(energies + to_energies)
    logs -= logs[0]  # a constant bin is 0 then, and stays exactly 0
    standard = (logs - logs.mean(axis=0)) / (logs.std(axis=0, ddof=1) + to_deviations)
    return np.concatenate([standard, np.zeros((1, energies.shape[1]))])


def below_peak(energies: Float64) -> Float64:
    """Whisper's scaling: decades, at most eight below the clip's loudest value, about −1 to 1."""
    logs = np.log10(np.maximum(energies, 1e-10))
    return np.asarray((np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0)


LFM2 = MelConfig(512, 400, 160, 128, per_feature, "symmetric", "constant", preemphasis=0.97, added=1)
WHISPER = MelConfig(400, 400, 160, 80, below_peak, "periodic", "reflect", clip=30 * SAMPLE_RATE)


def log_mel(samples: Float32, config: MelConfig = LFM2) -> Float32:
    """Log-mel features of one clip.

    samples  (N,) float32, mono, at `config.rate`, in about [−1, 1]; below two hops zeros are appended
    returns  (T, M) float32. LFM2: T = N // 160 + 1, frame t centred at sample 160·t, the last frame 0 and fed
             to the encoder all the same

    Agrees with llama.cpp and liquid-audio to 3e-5 of a standard deviation on speech; they transform in float32.
    """
    least = max(config.least_samples, config.clip)
    signal = np.pad(samples, (0, max(0, least - len(samples)))).astype(np.float32, copy=False)
    valid = len(signal) // config.hop
    signal = np.pad(_emphasized(signal, config.preemphasis), config.fft // 2, mode=config.padding)
    starts = np.lib.stride_tricks.sliding_window_view(signal, config.fft)[:: config.hop][:valid]
    window, (bins, weights, firsts) = hann_window(config), _triangles(config)
    energies = np.empty((valid, config.mels))
    for at in range(0, valid, FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(starts[at : at + FRAMES_AT_ONCE] * window)
        power = spectrum.real**2 + spectrum.imag**2
        energies[at : at + FRAMES_AT_ONCE] = np.add.reduceat(power[:, bins] * weights, firsts, axis=1)
    return config.finish(energies).astype(np.float32)


def _emphasized(signal: Float32, amount: float) -> Float32:
    """The pre-emphasis, in float32 as both references have it; the first sample stays."""
    if not amount:
        return signal
    return np.append(signal[:1], signal[1:] - np.float32(amount) * signal[:-1])


@lru_cache(maxsize=8)
def hann_window(config: MelConfig) -> Float64:
    """(fft,) the Hann window, in the middle of the transform."""
    span = config.window - (config.hann == "symmetric")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / span)
    before = (config.fft - config.window) // 2
    return np.pad(hann, (before, config.fft - config.window - before))


@lru_cache(maxsize=8)
def mel_bank(config: MelConfig) -> Float32:
    """(M, F) triangles on Slaney's mel scale from 0 Hz to half the rate, each of area one."""
    edges = _hertz(np.linspace(0.0, _mel(config.rate / 2), config.mels + 2))
    bins = np.arange(config.fft // 2 + 1) * config.rate / config.fft
    low, centre, high = (edges[i : i + config.mels, None] for i in range(3))
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)


@lru_cache(maxsize=8)
def _triangles(config: MelConfig) -> tuple[npt.NDArray[np.intp], Float64, npt.NDArray[np.intp]]:
    """The bank without its zeros, mel by mel: each one's bins, their weights, and where each mel's begin.

    No product of matrices: a BLAS lets its threads spin 50 ms behind one, and they take the cores from the encoder.
    """
    bank = mel_bank(config)
    kept = bank > 0
    kept[:, 0] |= ~kept.any(axis=1)  # a triangle between two bins holds none: one of weight 0
    mels, bins = np.nonzero(kept)
    return bins, bank[mels, bins].astype(np.float64), np.flatnonzero(np.diff(mels, prepend=-1))


# Slaney's scale: linear to 1 kHz (15 mel), then logarithmic, 27 mel to the factor 6.4.
_LINEAR, _BREAK_HERTZ, _BREAK_MEL, _STEP = 200.0 / 3.0, 1000.0, 15.0, np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HERTZ:
        return hertz / _LINEAR
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _STEP)


def _hertz(mel: Float64) -> Float64:
    return np.where(mel < _BREAK_MEL, mel * _LINEAR, _BREAK_HERTZ * np.exp((mel - _BREAK_MEL) * _STEP))
