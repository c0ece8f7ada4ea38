"""The speech engines: text to samples, through their libraries, as that is ten times faster than a process each."""

import ctypes
import re
import subprocess
import tempfile
import wave
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from eardrop.audio import SAMPLE_RATE
from eardrop.errors import ModelFileError
from train.debian import LIBRARIES

Samples = NDArray[np.int16]  # (N,), mono, 16 kHz


def library(name: str) -> ctypes.CDLL:
    """A library of its package, else where the system finds it; others may need its symbols."""
    path = LIBRARIES / name
    return ctypes.CDLL(str(path) if path.exists() else name, mode=ctypes.RTLD_GLOBAL)


def say(engine: str, voice: str, text: str, random: Random) -> Samples:
    """What a voice says, at a pace and a pitch drawn from `random`, without the silence around it."""
    return trimmed(_SAY[engine](voice, text, random))


def trimmed(samples: Samples) -> Samples:
    """Without what is fainter than a hundredth of the peak at both ends, but for 20 ms."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > np.abs(samples.astype(np.int32)).max(initial=0) / 100)
    if not len(loud):
        return samples[:0]
    edge = SAMPLE_RATE // 50
    return samples[max(0, loud[0] - edge) : loud[-1] + edge]


def _resampled(samples: Samples, rate: int) -> Samples:
    if rate == SAMPLE_RATE:
        return samples
    resampled: Samples = soxr.resample(samples, rate, SAMPLE_RATE)
    return resampled


# espeak-ng


def espeak_begun(events: int = 0) -> tuple[ctypes.CDLL, int]:
    """The library, and how many samples a second it gives; `events` are its options for those it tells."""
    for name in ("libpcaudio.so.0", "libsonic.so.0"):
        if (LIBRARIES / name).exists():
            library(name)
    c, data = library("libespeak-ng.so.1"), LIBRARIES / "espeak-ng-data"
    retrieval = 1  # AUDIO_OUTPUT_RETRIEVAL
    return c, c.espeak_Initialize(retrieval, 0, str(data.parent).encode() if data.exists() else None, events)


def espeak_say(c: ctypes.CDLL, voice: str, text: str, random: Random) -> None:
    """Tell the callback what a voice says, at a pace, a pitch and a range that are drawn."""
    if c.espeak_SetVoiceByName(voice.encode()):
        raise ModelFileError(f"espeak-ng has no voice {voice}; install espeak-ng-data 1.51")
    rate, pitch, range_, utf8 = 1, 3, 4, 1  # espeak_PARAMETER, espeakCHARS_UTF8
    for parameter, drawn in ((rate, (120, 225)), (pitch, (20, 85)), (range_, (25, 75))):
        c.espeak_SetParameter(parameter, random.randrange(*drawn), 0)
    said = text.encode()
    c.espeak_Synth(said, len(said) + 1, 0, 0, 0, utf8, None, None)
    c.espeak_Synchronize()


class _Espeak:
    """espeak-ng: one per process, as its state is global."""

    def __init__(self) -> None:
        self._c, self._hertz = espeak_begun()
        self._pieces: list[Samples] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._heard = kind(self._hear)  # kept: the library holds no reference
        self._c.espeak_SetSynthCallback(self._heard)

    def _hear(self, samples: Any, count: int, events: object) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, voice: str, text: str, random: Random) -> Samples:
        self._pieces = []
        espeak_say(self._c, voice, text, random)
        return _resampled(np.concatenate([np.zeros(0, np.int16), *self._pieces]), self._hertz)


@cache
def _espeak() -> _Espeak:
    return _Espeak()


# flite


class FliteWave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("rate", ctypes.c_int),
        ("count", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class FliteVoice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


@cache
def flite_library() -> ctypes.CDLL:
    """The library, begun once."""
    c = library("libflite.so.1")
    for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
        library(name)
    c.flite_init()
    c.flite_feat_set_float.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float)
    return c


@cache
def _flite_registered(name: str) -> Any:
    register = getattr(library(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
    register.restype, register.argtypes = ctypes.POINTER(FliteVoice), (ctypes.c_char_p,)
    return register(None)


def flite_voice(name: str, random: Random) -> Any:
    """A pointer to a FliteVoice, at a pace that is drawn."""
    voice = _flite_registered(name)
    flite_library().flite_feat_set_float(voice.contents.features, b"duration_stretch", random.uniform(0.8, 1.25))
    return voice


class _Flite:
    """flite: voices at a stretch of their own pace; its diphone voices at a pitch, too."""

    def __init__(self) -> None:
        self._c = flite_library()
        self._c.flite_text_to_wave.restype = ctypes.POINTER(FliteWave)
        self._c.flite_text_to_wave.argtypes = (ctypes.c_char_p, ctypes.POINTER(FliteVoice))
        self._c.delete_wave.argtypes = (ctypes.POINTER(FliteWave),)

    def say(self, voice: str, text: str, random: Random) -> Samples:
        spoken = flite_voice(voice, random)
        features = spoken.contents.features
        if voice.startswith("kal"):
            self._c.flite_feat_set_float(features, b"int_f0_target_mean", random.uniform(75, 130))
        made = self._c.flite_text_to_wave(text.encode(), spoken)
        samples = np.ctypeslib.as_array(made.contents.samples, (made.contents.count,)).copy()
        rate = made.contents.rate
        self._c.delete_wave(made)
        return _resampled(samples, rate)


@cache
def _flite() -> _Flite:
    return _Flite()


# SVOX Pico


class _Pico:
    """SVOX Pico, a voice a language, at its own pace and pitch in percent."""

    def __init__(self, language: str) -> None:
        from ttspico import TtsEngine  # an extra of the recipe, built from source

        self._engine = TtsEngine(language)

    def say(self, text: str, random: Random) -> Samples:
        self._engine.rate = random.randrange(80, 130)
        self._engine.pitch = random.randrange(80, 121)
        return np.frombuffer(self._engine.speak(text) or b"", np.int16)  # at 16 kHz


@cache
def _pico(language: str) -> _Pico:
    return _Pico(language)


# festival, for tests only: a process for each sentence


def _festival(voice: str, text: str, random: Random) -> Samples:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "said.wav"
        plain = re.sub(r'["\\]', "", text)
        script = f'(utt.save.wave (utt.synth (Utterance Text "{plain}")) "{target}")'
        subprocess.run(["festival", "--batch", f"(voice_{voice})", script], check=True, capture_output=True)
        with wave.open(str(target)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return _resampled(samples, file.getframerate())


_SAY: Mapping[str, Callable[[str, str, Random], Samples]] = {
    "espeak": lambda voice, text, random: _espeak().say(voice, text, random),
    "flite": lambda voice, text, random: _flite().say(voice, text, random),
    "pico": lambda voice, text, random: _pico(voice).say(text, random),
    "festival": _festival,
}
