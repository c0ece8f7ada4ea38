"""Recordings to measure with."""

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eardrop.audio import SAMPLE_RATE


def write_wav(path: Path, samples: npt.NDArray[np.int16]) -> Path:
    """Samples (n,), mono, 16 kHz, as a WAV file of 16 bits: its path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
