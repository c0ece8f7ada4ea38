"""What windows cost: utterances joined into long recordings, transcribed whole, beside each of them alone.

    python benchmarks/longform.py MANIFEST --minutes 6 30

MANIFEST has a JSON object a line with `audio` and `text` (`python -m train report` makes one); utterances are joined
with pauses of 0.3 to 1.5 s until a recording is as long as wanted. Printed for each length: word error rates of both
ways, words that are doubled or lost at the seams of windows, and how far segments lie from where somebody speaks.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import eardrop
from eardrop.audio import SAMPLE_RATE
from eardrop.ops import Float32
from eardrop.tools.normalize import NORMALIZERS
from eardrop.transcribe import Recognizer
from eardrop.transcript import Result
from eardrop.transcript.align import Counts, align, count

PAUSES = 0.3, 1.5  # seconds


@dataclass(frozen=True)
class Said:
    """An utterance, and where it lies in the long recording, in samples."""

    text: str
    samples: Float32
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.samples)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-m", "--model", help="default: the pair that ships")
    parser.add_argument("--minutes", type=float, nargs="+", default=[6.0, 30.0])
    parser.add_argument("--group", default="seen voices", help="of the manifest's rows (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", action="store_true", help="print what differs")
    wishes = parser.parse_args()
    with eardrop.load(wishes.model) as asr:
        for minutes in wishes.minutes:
            said = joined(wishes.manifest, wishes.group, minutes * 60, np.random.default_rng(wishes.seed))
            print(row(asr, said, minutes, show=wishes.show), flush=True)


def joined(manifest: Path, group: str, seconds: float, draw: np.random.Generator) -> list[Said]:
    """Utterances one after another, drawn anew when all were said."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("group", group) == group and row["text"]]
    said: list[Said] = []
    at = 0
    while at < seconds * SAMPLE_RATE:
        for index in draw.permutation(len(rows)):
            at += round(draw.uniform(*PAUSES) * SAMPLE_RATE)
            samples = eardrop.read_audio(manifest.parent / rows[index]["audio"])
            said.append(Said(rows[index]["text"], samples, at))
            at = said[-1].stop
            if at >= seconds * SAMPLE_RATE:
                break
    return said


def row(asr: Recognizer, said: Sequence[Said], minutes: float, *, show: bool) -> str:
    """One line of the table."""
    whole = np.zeros(said[-1].stop + SAMPLE_RATE, np.float32)
    for one in said:
        whole[one.start : one.stop] = one.samples
    started = time.perf_counter()
    result = asr.transcribe(whole)
    spent = time.perf_counter() - started
    alone = [one.text if isinstance(one, Result) else "" for one in asr.transcribe_many([one.samples for one in said])]
    apart = sum((errors(one.text, heard) for one, heard in zip(said, alone, strict=True)), Counts())
    together = errors(" ".join(one.text for one in said), result.text)
    if show:
        differences(said, alone, result)
    return (
        f"{minutes:g} min: {len(said)} utterances, {len(result.segments)} segments, {len(result.warnings)} warnings;"
        f" word error rate {100 * (together.rate or 0):.2f} % in windows, {100 * (apart.rate or 0):.2f} % alone;"
        f" segments begin within {off(said, result):.2f} s of speech (95 %); {minutes * 60 / spent:.0f} x real time"
    )


def errors(reference: str, heard: str) -> Counts:
    normal = NORMALIZERS["basic"]  # Whisper's English one joins numbers across sentences
    return count(align(normal(reference).split(), normal(heard).split()))


def off(said: Sequence[Said], result: Result) -> float:
    """The 95th percentile of seconds between a segment's ends and the nearest end of an utterance."""
    starts = np.array([one.start for one in said]) / SAMPLE_RATE
    stops = np.array([one.stop for one in said]) / SAMPLE_RATE
    gaps = [np.abs(starts - segment.start).min() for segment in result.segments]
    gaps += [np.abs(stops - segment.end).min() for segment in result.segments]
    return float(np.percentile(gaps, 95))


def differences(said: Sequence[Said], alone: Sequence[str], result: Result) -> None:
    """Each segment beside what was said in its time, where they differ."""
    for segment in result.segments:
        inside = [i for i, one in enumerate(said) if segment.start - 0.3 < one.start / SAMPLE_RATE < segment.end]
        expected = " ".join(alone[i] for i in inside)
        if re.sub(r"\W", "", expected).lower() != re.sub(r"\W", "", segment.text).lower():
            print(f"{segment.start:.2f} to {segment.end:.2f}", *segment.warnings, file=sys.stderr)
            print(f"  alone  {expected}\n  window {segment.text}", file=sys.stderr)


if __name__ == "__main__":
    main()
