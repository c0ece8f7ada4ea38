"""The log-mel front end, clip by clip: its formulas are those of `audio/log_mel.py`."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from eardrop.audio.log_mel import LFM2, WHISPER, MelConfig
from eardrop.audio.log_mel import log_mel as log_mel_of
from eardrop.ops.record import ROUNDED, Arithmetic, Case, Cost, Float32, Int32, Op, normal, ragged, spans


def framed(offsets: Int32, config: MelConfig) -> Int32:
    """The offsets behind `log_mel`: of frames, where those given are of samples."""
    return ragged(*(config.frames(int(count)) for count in np.diff(offsets)))


def log_mel(samples: Float32, offsets: Int32, config: MelConfig) -> Float32:
    """What the encoder hears of each clip.

    samples  (N,) of all clips, at config.rate
    returns  (T, M), the rows `framed(offsets, config)`
    """
    return np.concatenate([log_mel_of(samples[clip], config) for clip in spans(offsets)])


def log_mel_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """Nothing, less than a frame, silence among others, other bins, another front end."""
    for lengths, config, label in (
        ((0,), LFM2, "nothing"),
        ((1, 319, 320, 321), LFM2, "short"),
        ((480, 16_000, 5_007), LFM2, "several"),
        ((3_000, 4_000), replace(LFM2, mels=64), "few bins"),
        ((70_000,), LFM2, "long"),
        ((2_000,), WHISPER, "whisper"),
    ):
        samples, offsets = normal(rng, sum(lengths)) * np.float32(0.1), ragged(*lengths)
        if label == "several":
            samples[offsets[1] : offsets[2]] = 0
        yield Case(label, {"samples": samples, "offsets": offsets, "config": config})


def log_mel_cost(samples: Float32, offsets: Int32, config: MelConfig) -> Cost:
    """A real transform of each frame, and a weight or two for each of its bins."""
    frames, transform = int(framed(offsets, config)[-1]), 2.5 * config.fft * math.log2(config.fft)
    return Cost(frames * (transform + 3.0 * config.fft), 4.0 * (len(samples) + frames * config.mels))


LOG_MEL = Op(
    "log_mel", log_mel, log_mel_cases, dict.fromkeys(Arithmetic, ROUNDED), log_mel_cost, host=("offsets", "config")
)
