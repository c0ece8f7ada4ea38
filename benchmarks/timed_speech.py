"""Synthetic speech whose word times are known: espeak-ng and flite say when each word begins and ends.

espeak-ng tells events: words, and phonemes, of which `_:` is a pause. Words that it speaks as one have one event; those
behind the first have no start, and the one before has no end. flite knows the segments of each word.
"""

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from eardrop.audio import SAMPLE_RATE
from train.engines import FliteWave, espeak_begun, espeak_say, flite_library, flite_voice
from train.text import CLOSED, KINDS, MOST_WORDS, is_held_out, spoken
from train.voices import VOICES

Span = tuple[float | None, float | None]  # seconds; None for what the engine doesn't tell
FLITE_VOICES = ("rms", "kal16", "slt", "awb")
SPOKEN_AS_WRITTEN = [kind for kind in CLOSED if kind not in ("plain", "letters")]  # needing no texts of others


@dataclass(frozen=True, eq=False)
class Timed:
    """A sentence as it is written, its samples (N,) at 16 kHz, and when each word was said."""

    group: str
    text: str
    samples: NDArray[np.float32]
    times: list[Span]


def timed(count: int, *, seed: int, noise: float = 0.001) -> Iterator[Timed]:
    """So many held-out sentences, engines in turn, silence around them; `noise` beside a peak of ½."""
    random, generator = Random(seed), np.random.default_rng(seed)
    voices = [voice.name for voice in VOICES if voice.engine == "espeak"]
    made = 0
    while made < count:
        kind = random.choices(SPOKEN_AS_WRITTEN, [CLOSED[kind] for kind in SPOKEN_AS_WRITTEN])[0]
        text = KINDS[kind](random)
        if not is_held_out(text) or len(text.split()) > MOST_WORDS or "." in text[:-1]:
            continue
        group = ("espeak-ng", "flite")[made % 2]
        voice = random.choice(voices if group == "espeak-ng" else FLITE_VOICES)
        samples, times = (_espeak if group == "espeak-ng" else _flite)(voice, spoken(kind, text), random)
        if len(times) == len(text.split()):
            made += 1
            yield _placed(Timed(group, text, samples, times), random, generator, noise)


def _placed(said: Timed, random: Random, generator: np.random.Generator, noise: float) -> Timed:
    """With silence before and behind, and noise over all of it."""
    before, behind = (round(random.uniform(*range_) * SAMPLE_RATE) for range_ in ((0, 0.6), (0.1, 0.6)))
    samples = np.pad(said.samples / np.abs(said.samples).max() / 2, (before, behind))
    samples += generator.normal(0, noise, len(samples))
    shift = before / SAMPLE_RATE
    times = [(None if a is None else a + shift, None if b is None else b + shift) for a, b in said.times]
    return Timed(said.group, said.text, samples.astype(np.float32), times)


def _resampled(samples: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = soxr.resample(samples.astype(np.float32) / 32768, rate, SAMPLE_RATE)
    return resampled


# espeak-ng

_END_OF_EVENTS, _WORD, _END, _PHONEME = 0, 1, 5, 7  # espeak_EVENT_TYPE


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("phoneme", ctypes.c_char * 8),
    )


class _Espeak:
    """espeak-ng: one per process, as its state is global."""

    _PHONEME_EVENTS = 1  # espeakINITIALIZE_PHONEME_EVENTS

    def __init__(self) -> None:
        self._c, self._hertz = espeak_begun(self._PHONEME_EVENTS)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._told = kind(self._tell)  # kept: the library holds no reference
        self._c.espeak_SetSynthCallback(self._told)

    def _tell(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_EVENTS:
            event = events[index]
            self._events.append((event.type, event.text_position, event.audio_position / 1000, event.phoneme))
            index += 1
        return 0

    def say(self, voice: str, text: str, random: Random) -> tuple[NDArray[np.float32], list[Span]]:
        self._pieces: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, int, float, bytes]] = []
        espeak_say(self._c, voice, text, random)
        return _resampled(np.concatenate(self._pieces), self._hertz), self._spans(text)

    def _spans(self, text: str) -> list[Span]:
        begins = [found.start() for found in re.finditer(r"\S+", text)]
        starts: list[float | None] = [None] * len(begins)
        ends: list[float | None] = [None] * len(begins)
        word = -1
        for kind, position, seconds, phoneme in self._events:
            if kind == _WORD:
                here = sum(begin <= max(position, 1) - 1 for begin in begins) - 1
                if word >= 0 and here == word + 1 and ends[word] is None:
                    ends[word] = seconds
                word = here
                starts[word] = seconds if starts[word] is None else starts[word]
            elif word >= 0 and ends[word] is None and (kind == _END or (kind == _PHONEME and phoneme[:2] == b"_:")):
                ends[word] = seconds
        return [(s, e if i + 1 == len(starts) or starts[i + 1] is not None else None) for i, (s, e) in
                enumerate(zip(starts, ends, strict=True))]  # fmt: skip


@cache
def _the_espeak() -> _Espeak:
    return _Espeak()


def _espeak(voice: str, text: str, random: Random) -> tuple[NDArray[np.float32], list[Span]]:
    return _the_espeak().say(voice, text, random)


# flite


class _Flite:
    """flite, and its utterances: words over syllables over segments."""

    _BEGIN = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"
    _END = b"R:SylStructure.daughtern.daughtern.R:Segment.end"
    _KINDS = (
        ("flite_synth_text", ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p)),
        ("utt_wave", ctypes.POINTER(FliteWave), (ctypes.c_void_p,)),
        ("utt_relation", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
        ("relation_head", ctypes.c_void_p, (ctypes.c_void_p,)),
        ("item_next", ctypes.c_void_p, (ctypes.c_void_p,)),
        ("ffeature_float", ctypes.c_float, (ctypes.c_void_p, ctypes.c_char_p)),
        ("delete_utterance", None, (ctypes.c_void_p,)),
    )

    def __init__(self) -> None:
        self._c = flite_library()
        for name, result, arguments in self._KINDS:
            getattr(self._c, name).restype, getattr(self._c, name).argtypes = result, arguments

    def say(self, name: str, text: str, random: Random) -> tuple[NDArray[np.float32], list[Span]]:
        c, voice = self._c, flite_voice(name, random)
        utterance = c.flite_synth_text(text.encode(), ctypes.cast(voice, ctypes.c_void_p))
        wave = c.utt_wave(utterance).contents
        samples = _resampled(np.ctypeslib.as_array(wave.samples, (wave.count,)).copy(), wave.rate)
        spans: list[Span] = []
        word = c.relation_head(c.utt_relation(utterance, b"Word"))
        while word:
            spans.append((c.ffeature_float(word, self._BEGIN), c.ffeature_float(word, self._END)))
            word = c.item_next(word)
        c.delete_utterance(utterance)
        return samples, spans


@cache
def _the_flite() -> _Flite:
    return _Flite()


def _flite(voice: str, text: str, random: Random) -> tuple[NDArray[np.float32], list[Span]]:
    return _the_flite().say(voice, text, random)
