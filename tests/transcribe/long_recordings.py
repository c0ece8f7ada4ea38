"""Long recordings made of short ones: where each begins and ends is known, so that a cut inside one shows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eardrop.audio import SAMPLE_RATE, read
from eardrop.ops import Float32

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Utterance:
    """What is said from one sample of a long recording to another."""

    start: int
    stop: int
    text: str


def spoken_examples() -> list[tuple[Float32, str]]:
    """The recordings of the repository in which somebody speaks."""
    rows = map(json.loads, (EXAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    return [(_trimmed(read(EXAMPLES / row["audio"])), row["text"]) for row in rows if row["text"]]


def joined(seconds: float, *, seed: int = 0, noise: float = 1e-3) -> tuple[Float32, list[Utterance]]:
    """The examples one after another in any order, pauses of 0.3 to 3 seconds between, faint noise under all of it."""
    rng = np.random.default_rng(seed)
    examples = spoken_examples()
    pieces: list[Float32] = []
    utterances: list[Utterance] = []
    at = 0
    while at < seconds * SAMPLE_RATE:
        pause = np.zeros(round(rng.uniform(0.3, 3) * SAMPLE_RATE), np.float32)
        samples, text = examples[rng.integers(len(examples))]
        start = at + len(pause)
        at = start + len(samples)
        pieces += [pause, samples]
        utterances.append(Utterance(start, at, text))
    whole = np.concatenate(pieces)
    return whole + np.float32(noise) * rng.standard_normal(len(whole)).astype(np.float32), utterances


def in_blocks(samples: Float32, lengths: list[int]) -> Iterator[Float32]:
    """The samples in blocks of these lengths, again and again."""
    at, turn = 0, 0
    while at < len(samples):
        length = lengths[turn % len(lengths)]
        yield samples[at : at + length]
        at, turn = at + length, turn + 1


def _trimmed(samples: Float32) -> Float32:
    """Without the silence at its ends, so that a pause is as long as it says."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]
