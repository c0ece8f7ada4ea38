"""Whether words are as often right as their probability says: synthetic speech through noise, the model that ships.

    python -m benchmarks.calibration [--plot calibration.png]     from the repository's root; libespeak-ng1, libflite1

Each text is transcribed, aligned with what was said (capitals and marks aside), and its words are sorted by their
probability, reckoned in three ways of its tokens'. ece: what a bin's mean probability is off its share of right words,
weighted by words. Brier: mean square of probability − right. area: the chance that a right word has the higher
probability of two (under the ROC curve); it says how well errors are found, whatever the scale.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import eardrop
from benchmarks.timed_speech import Timed, timed
from eardrop.bench import plot
from eardrop.bench.machine import describe, versions
from eardrop.dialect import REFERENCE
from eardrop.engine import Request
from eardrop.text import MEDIA, prompt
from eardrop.transcribe import Recognizer
from eardrop.transcribe.words import spelled
from eardrop.transcript.align import align

NOISES = (0.001, 0.02, 0.05, 0.1)  # beside a peak of a half
BINS = 10

WAYS: Mapping[str, Callable[[NDArray[np.float64]], float]] = {  # a word's tokens' log-probabilities → its own
    "least certain token": lambda logprobs: float(logprobs.min()),
    "geometric mean": lambda logprobs: float(logprobs.mean()),
    "product": lambda logprobs: float(logprobs.sum()),
}


def main() -> int:
    """Measure and print; draw where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="a pair of files; without it the one that ships")
    parser.add_argument("--sentences", type=int, default=200, help="for each level of noise (default: 200)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=".png or .svg")
    wishes = parser.parse_args()
    if wishes.plot:
        plot.check(wishes.plot)
    with eardrop.load(wishes.model) as asr:
        truths = chain.from_iterable(timed(wishes.sentences, seed=21, noise=noise) for noise in NOISES)
        judged = [word for truth in truths for word in _judged(asr, truth)]
        known = describe() | versions()
        title = f"{asr.model.name}, {known['processor']}, {datetime.now(UTC).date()}"
    right = np.array([word[0] for word in judged])
    ways = {name: np.exp([way(word[1]) for word in judged]) for name, way in WAYS.items()}
    print(f"{title}: {len(right):,} words, {right.mean():.1%} right\n")
    _print_summary(right, ways)
    _print_bins(right, ways["product"])
    if wishes.plot:
        _draw(wishes.plot, right, ways, title)
    return 0


def _judged(asr: Recognizer, truth: Timed) -> Iterator[tuple[bool, NDArray[np.float64]]]:
    """Each word written: whether it is right, and its tokens' log-probabilities."""
    model = asr.model
    parts = prompt(model.tokenizer, system=model.architecture.prompts["en"], user=[MEDIA], dialect=REFERENCE)
    limit = model.architecture.token_limit(len(truth.samples) / 16_000)
    tokens = list(asr.engine.submit(Request(parts, [truth.samples], limit=limit, stop=model.stop_tokens)))
    written = list(spelled([token.piece for token in tokens], "en"))
    pairs = align([_plain(word) for word in truth.text.split()], [_plain(word) for word, _ in written])
    heard = (said == word for said, word in pairs if word is not None)
    for is_right, (_, members) in zip(heard, written, strict=True):
        yield is_right, np.array([tokens[member].logprob for member in members])


def _plain(word: str) -> str:
    return re.sub(r"[^a-z']", "", word.lower())


def _bins(right: NDArray[np.bool_], probability: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Of each tenth: mean probability, share of right words, words."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    inside = [place == tenth for tenth in range(BINS)]
    return [(float(probability[b].mean()), float(right[b].mean()), int(b.sum())) for b in inside if b.any()]


def _print_summary(right: NDArray[np.bool_], ways: Mapping[str, NDArray[np.float64]]) -> None:
    print("| probability of a word | ece | Brier | area |\n| --- | ---: | ---: | ---: |")
    for name, probability in ways.items():
        ece = sum(abs(mean - share) * words for mean, share, words in _bins(right, probability)) / len(right)
        brier = float(np.mean((probability - right) ** 2))
        print(f"| {name} | {ece:.3f} | {brier:.3f} | {_area(right, probability):.3f} |")


def _area(right: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    """The chance that a right word is held likelier than a wrong one; ties count half."""
    good, bad = np.sort(probability[right]), probability[~right]
    below, upto = np.searchsorted(good, bad, "left"), np.searchsorted(good, bad, "right")
    return float(1 - (below + upto).sum() / 2 / (len(good) * len(bad))) if len(good) and len(bad) else 1.0


def _print_bins(right: NDArray[np.bool_], probability: NDArray[np.float64]) -> None:
    print("\n| mean probability | right | words |\n| ---: | ---: | ---: |")
    for mean, share, words in _bins(right, probability):
        print(f"| {mean:.2f} | {share:.2f} | {words:,} |")


def _draw(path: Path, right: NDArray[np.bool_], ways: Mapping[str, Sequence[float]], title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, probability in ways.items():
        points = _bins(right, np.asarray(probability))
        axes.plot([mean for mean, _, _ in points], [share for _, share, _ in points], marker="o", label=name)
    axes.set_xlabel("mean probability of the words in a tenth")
    axes.set_ylabel("share of them that is right")
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    raise SystemExit(main())
