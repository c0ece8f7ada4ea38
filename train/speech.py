"""Training speech on disk: shards of 200 sentences, each made from the seed and its own number alone.

    speech/00042.pcm   int16, mono, 16 kHz, one sentence after the other
    speech/00042.json  [kind, text, voice, samples] of each; written last, so a shard that has one is complete

Shards can be made by many processes at once, in any order, and while a model trains on those that are there.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeAlias

import numpy as np

from eardrop.audio import SAMPLE_RATE
from train.engines import Samples, say
from train.text import CLOSED, PROSE, WIDE, Sentence, sentences
from train.voices import OFTEN, Group, Voice, draw_voice

SENTENCES = 200  # in a shard: about ten minutes
MIXES = ((60, CLOSED), (300, WIDE), (1_000_000, PROSE))  # up to which shard what is said
MOST_SECONDS = 12.0


@dataclass(frozen=True)
class Utterance:
    """One sentence, said."""

    kind: str
    text: str
    voice: str
    samples: Samples


def said(sentence: Sentence, voice: Voice, random: Random) -> Utterance:
    """A sentence in a voice."""
    samples = say(voice.engine, voice.name, sentence.spoken, random)
    return Utterance(sentence.kind, sentence.text, f"{voice.engine}/{voice.name}", samples)


def is_usable(utterance: Utterance) -> bool:
    """Whether an engine said something, and not more than a batch holds."""
    return SAMPLE_RATE * 0.15 < len(utterance.samples) < SAMPLE_RATE * MOST_SECONDS


def utterances(seed: str, mix: Mapping[str, int], group: Group, *, held_out: bool) -> Iterator[Utterance]:
    """Speech without end, the same for the same seed."""
    random = Random(seed)
    for sentence in sentences(random, mix, held_out=held_out):
        utterance = said(sentence, draw_voice(random, group), random)
        if is_usable(utterance):
            yield utterance


def make_shard(folder: Path, seed: int, number: int) -> float:
    """Make a shard unless it is there; its seconds."""
    index, pcm = folder / f"{number:05}.json", folder / f"{number:05}.pcm"
    if not index.exists():
        mix = next(mix for stop, mix in MIXES if number < stop)
        made = list(islice(utterances(f"{seed}/{number}", mix, "seen", held_out=False), SENTENCES))
        pcm.write_bytes(b"".join(utterance.samples.astype("<i2").tobytes() for utterance in made))
        rows = [[utterance.kind, utterance.text, utterance.voice, len(utterance.samples)] for utterance in made]
        temporary = index.with_suffix(".part")
        temporary.write_text(json.dumps(rows), encoding="utf-8")
        temporary.replace(index)
    return pcm.stat().st_size / 2 / SAMPLE_RATE


def make_shards(folder: Path, seed: int, count: int, *, processes: int) -> Iterator[tuple[int, float]]:
    """Make the shards 0 … count − 1 that are missing; tells how many are there, and their seconds, after each."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    with ProcessPoolExecutor(processes) as pool:
        for done, length in enumerate(pool.map(partial(make_shard, folder, seed), range(count)), 1):
            seconds += length
            yield done, seconds


_Place: TypeAlias = tuple["np.memmap[tuple[int], np.dtype[np.int16]]", int, int, str]


class Corpus:
    """The shards that are there, memory-mapped, or the first of them; `refresh` finds those that came since."""

    def __init__(self, folder: Path, shards: int | None = None) -> None:
        self._folder, self._shards = folder, shards
        self._known: set[str] = set()
        self._closed: list[_Place] = []
        self._prose: list[_Place] = []

    def refresh(self) -> None:
        """Take in the shards that came since."""
        for index in sorted(self._folder.glob("*.json"))[: self._shards]:
            if index.name not in self._known:
                self._known.add(index.name)
                samples = np.memmap(index.with_suffix(".pcm"), "<i2", "r")
                start = 0
                for kind, text, voice, count in json.loads(index.read_text(encoding="utf-8")):
                    places = self._closed if kind in CLOSED else self._prose
                    places += [(samples, start, start + count, text)] * OFTEN.get(voice, 1)
                    start += count

    def draw(self, draw: np.random.Generator, prose: float | None = None) -> tuple[Samples, str]:
        """A sentence and its text: of everyday prose with that probability, by default as much as there is."""
        share = len(self._prose) / (len(self._closed) + len(self._prose)) if prose is None else prose
        places = self._prose if self._prose and draw.random() < share else self._closed
        samples, start, stop, text = places[int(draw.integers(len(places)))]
        return np.asarray(samples[start:stop]), text
