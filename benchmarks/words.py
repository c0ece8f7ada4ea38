"""How far off word times are: synthetic speech with known times, and recordings that have them.

    python -m benchmarks.words                     from the repository's root, with libespeak-ng1 and libflite1
    EARDROP_AUDIO=FOLDER python -m benchmarks.words        with the recordings of FOLDER/timing, too

The true text is forced, so that what is measured is the times and not the recognition. Prints, for each group and
method, median and 95th percentile of |error| of starts and ends in milliseconds, and the median error itself.
"""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import eardrop
from benchmarks.timed_speech import Span, Timed, timed
from eardrop.audio import SAMPLE_RATE
from eardrop.bench.machine import describe, versions
from eardrop.engine import Token
from eardrop.transcribe import Recognizer, words_of
from eardrop.transcribe.score import forced
from eardrop.transcribe.words import listened, spelled

DOMAIN = 15.0  # seconds: longer recordings than the model that ships was made for
Times = list[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Heard:
    """A text, its tokens and where the model looked for them, (tokens, heads, R)."""

    truth: Timed
    tokens: Sequence[Token]
    looked: NDArray[np.float32]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="a pair of files; without it the one that ships")
    parser.add_argument("--sentences", type=int, default=400, help="synthetic ones (default: 400)")
    parser.add_argument("--noise", type=float, default=0.001, help="beside a peak of a half (default: 0.001)")
    wishes = parser.parse_args()
    with eardrop.load(wishes.model) as asr:
        truths = [*timed(wishes.sentences, seed=11, noise=wishes.noise), *_recorded()]
        heard = [_heard(asr, truth) for truth in truths]
        known = describe() | versions()
        print(f"{asr.model.name}, {known['processor']}, {known['cores']} cores, {datetime.now(UTC).date()}\n")
    print("| group | words | method | start, median | 95 % | bias | end, median | 95 % | bias |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for group in dict.fromkeys(truth.group for truth in truths):
        for name, method in METHODS.items():
            print(_line(group, name, [(one.truth.times, method(one)) for one in heard if one.truth.group == group]))
    return 0


def _recorded() -> Iterator[Timed]:
    """Recordings whose words have times, by how these were found."""
    folder = Path(os.environ.get("EARDROP_AUDIO", "/nowhere"))
    manifest = folder / "manifest.jsonl"
    for row in map(json.loads, manifest.read_text(encoding="utf-8").splitlines() if manifest.exists() else ()):
        if row.get("words"):
            words = json.loads((folder / row["words"]).read_text(encoding="utf-8"))["words"]
            said = " ".join(word["word"] for word in words).lower()
            group = "recorded digits, joined" if row["file"].startswith("digits") else "recorded speech"
            if row["duration"] > DOMAIN:
                group = f"one recording of {row['duration']:.0f} s"
            times: list[Span] = [(word["start"], word["end"]) for word in words]
            yield Timed(group, said[:1].upper() + said[1:] + ".", eardrop.read_audio(folder / row["file"]), times)


def _heard(asr: Recognizer, truth: Timed) -> Heard:
    tokens, looked = forced(asr.engine, truth.samples, truth.text, language="en")
    return Heard(truth, tokens[:-1], looked[:-1])


def _line(group: str, name: str, pairs: Sequence[tuple[Sequence[Span], Times]]) -> str:
    off: dict[int, list[float]] = defaultdict(list)
    for true, found in pairs:
        for one, other in zip(true, found, strict=True):
            for side in (0, 1):
                edge = one[side]
                if edge is not None:
                    off[side].append(1000 * (other[side] - edge))
    cells = [
        f"{value:.0f}" for side in (0, 1)
        for value in (*np.percentile(np.abs(off[side]), (50, 95)), np.median(off[side]))
    ]  # fmt: skip
    return f"| {group} | {len(off[1]):,} | {name} | " + " | ".join(cells) + " |"


# The methods


def _ours(
    one: Heard, *, looked: NDArray[np.float32] | None = None, samples: NDArray[np.float32] | None = None
) -> Times:
    found = words_of(
        one.tokens, one.looked if looked is None else looked, one.truth.samples if samples is None else samples
    )
    return [(word.start, word.end) for word in found]


def _all_heads(one: Heard) -> Times:
    return _ours(one, looked=_normal(one.looked).mean(axis=1, keepdims=True))


def _without_sound(one: Heard) -> Times:
    return _ours(one, samples=np.zeros_like(one.truth.samples))


def _normal(looked: NDArray[np.float32]) -> NDArray[np.float32]:
    share = looked + np.float32(1e-12)
    normal: NDArray[np.float32] = share / share.sum(axis=2, keepdims=True)
    return normal


def _time_warping(one: Heard, *, width: int) -> Times:
    """As openai/whisper's timing.py, with our heads: standardised over the tokens, filtered, averaged, warped."""
    share = listened(one.looked)
    share = (share - share.mean(axis=0)) / (share.std(axis=0) + 1e-9)
    padded = np.pad(share, [(0, 0), (width // 2, width // 2)], mode="reflect" if share.shape[1] > width else "edge")
    share = np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=1), axis=-1)
    begins = [*_warped(-share), len(one.truth.samples) / SAMPLE_RATE]
    times = []
    for _, inside in spelled([token.piece for token in one.tokens], "en"):
        letters = [token for token in inside if one.tokens[token].piece.strip(b" .,?!'")] or inside
        times.append((begins[letters[0]], begins[letters[-1] + 1]))
    return times


def _warped(cost: NDArray[np.float64]) -> list[float]:
    """Seconds at which the path first comes to each token; whisper's recursion, ties and all."""
    tokens, rows = cost.shape
    sums = np.full((tokens + 1, rows + 1), np.inf)
    came = np.zeros((tokens + 1, rows + 1), np.int64)
    sums[0, 0], came[0], came[:, 0] = 0, 2, 1
    for row in range(1, rows + 1):
        for token in range(1, tokens + 1):
            ways = (sums[token - 1, row - 1], sums[token - 1, row], sums[token, row - 1])
            came[token, row] = int(np.argmin(ways))
            sums[token, row] = cost[token - 1, row - 1] + min(ways)
    at, token, row = [0.0] * tokens, tokens, rows
    while token > 0 and row > 0:
        at[token - 1] = (row - 1) * 0.08
        back = came[token, row]
        token, row = token - (back != 2), row - (back != 1)
    return at


METHODS: Mapping[str, Callable[[Heard], Times]] = {
    "chosen heads, pauses": _ours,
    "all heads, pauses": _all_heads,
    "chosen heads alone": _without_sound,
    "time warping, filter 7": lambda one: _time_warping(one, width=7),
    "time warping, filter 1": lambda one: _time_warping(one, width=1),
}

if __name__ == "__main__":
    raise SystemExit(main())
