"""Live captions: the steps that drafts save, and how late words come.

    python benchmarks/live.py RECORDING…

Each recording is heard twice, a second at a time: with the last hypothesis as a draft, and decoded anew. Both must
write the same after every update. Steps are runs of the decoder behind the prompt, of one token or of a draft's
sixteen. Then all of them are played in real time, one after another, and for each committed word the delay is printed
between its end in the sound (as `--words` estimates it) and the moment at which it was committed; flicker is the share
of words that were shown as volatile and then changed.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import eardrop
from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import SpectralDetector
from eardrop.ops import Float32
from eardrop.stages import timing
from eardrop.transcribe import Live, Options, Recognizer
from eardrop.transcribe.live import Captions, Hypothesis

BLOCK = SAMPLE_RATE // 10  # samples that are played at a time


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("-m", "--model", help="default: the pair that ships")
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--window", type=float, help="most seconds of an utterance")
    parser.add_argument("--joined", action="store_true", help="join all recordings to one utterance without pauses")
    wishes = parser.parse_args()
    sounds = [eardrop.read_audio(path) for path in wishes.recordings]
    if wishes.joined:
        sounds = [np.concatenate(sounds)]
    with eardrop.load(wishes.model) as asr:
        steps = [saved(asr, samples, wishes.every, wishes.window) for samples in sounds]
        drafted, anew = (sum(counts) for counts in zip(*steps, strict=True))
        print(f"decode steps: {drafted:,} with drafts, {anew:,} anew: {anew / max(1, drafted):.1f} times fewer")
        played = [play(asr, samples, wishes.every, wishes.window) for samples in sounds]
        delays = np.concatenate([one.delays for one in played])
        if len(delays):
            p50, p95 = np.percentile(delays, (50, 95))
            print(f"latency of {len(delays)} words: {p50:.2f} s median, {p95:.2f} s at 95 %, played in real time")
        shown, changed = (sum(counts) for counts in zip(*[(one.shown, one.changed) for one in played], strict=True))
        print(f"flicker: {changed} of {shown} volatile words changed ({100 * changed / max(1, shown):.0f} %)")


def saved(asr: Recognizer, samples: Float32, every: float, window: float | None) -> tuple[int, int]:
    """Decode steps with drafts and anew; both must write the same."""
    counts, texts = [], []
    for drafts in (True, False):
        captions = Captions(asr.engine, Options(window=window), SpectralDetector())
        steps, seen = [], []
        with timing(lambda name, seconds, steps=steps: steps.append(name)):
            for start in range(0, len(samples), round(every * SAMPLE_RATE)):
                captions.feed(samples[start : start + round(every * SAMPLE_RATE)])
                captions.update()
                seen.append((captions.committed, captions.volatile))
                if not drafts and captions._open:
                    captions._open.hypothesis = Forgetful(captions._open.hypothesis.tokens)
            captions.update(over=True)
        counts.append(steps.count("token") + steps.count("tokens"))
        texts.append([*seen, captions.committed])
    assert texts[0] == texts[1], "a draft changed the text"
    return counts[0], counts[1]


class Forgetful(Hypothesis):
    """A hypothesis that is no draft."""

    @property
    def ids(self) -> np.ndarray:
        return np.zeros(0, np.int32)


@dataclass
class Played:
    """What was seen of one recording in real time."""

    delays: list[float]
    shown: int
    changed: int


def play(asr: Recognizer, samples: Float32, every: float, window: float | None) -> Played:
    """Feed samples as a microphone would."""
    ends = [word.end for segment in asr.stream(samples, words=True) for word in segment.words]
    committed: list[float] = []
    volatile: list[list[str]] = []
    begun = time.monotonic()

    def told(live: Live) -> None:
        words = live.committed.split()
        committed.extend([time.monotonic() - begun] * (len(words) - len(committed)))
        volatile.append([*words, *live.volatile.split()])

    with asr.live(every=every, told=told, window=window) as live:
        for number, start in enumerate(range(0, len(samples), BLOCK), start=1):
            time.sleep(max(0.0, begun + number * BLOCK / SAMPLE_RATE - time.monotonic()))
            live.feed(samples[start : start + BLOCK])
        final = live.finish().text.split()
    shown, changed = flicker(volatile, final)
    return Played([at - end for at, end in zip(committed, ends, strict=False)], shown, changed)


def flicker(shown: Sequence[Sequence[str]], final: Sequence[str]) -> tuple[int, int]:
    """Words that were shown, each place once for each text there, and those that aren't the final ones."""
    seen = {(place, word) for words in shown for place, word in enumerate(words)}
    return len(seen), sum(place >= len(final) or final[place] != word for place, word in seen)


if __name__ == "__main__":
    main()
