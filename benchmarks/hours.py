"""Ten hours in one go: memory and speed must not change with the length of a recording.

    python benchmarks/hours.py RECORDING… --hours 10

The recordings are played again and again, with pauses, through a file object that never holds more than one of them.
A line is printed for each hour: resident memory at its end and the most so far, seconds it took, words written.
"""

import argparse
import io
import struct
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np

import eardrop
from eardrop.audio import SAMPLE_RATE

PAUSE = np.zeros(round(0.8 * SAMPLE_RATE), np.int16)
OPEN = 0xFFFFFFFF  # the length of a WAV that goes on


class Endless(io.RawIOBase):
    """A WAV of so many seconds, made while it is read; it can't be rewound."""

    name = "endless.wav"

    def __init__(self, recordings: list[Path], seconds: float) -> None:
        self._left = round(seconds * SAMPLE_RATE) * 2
        self._parts = self._bytes([(eardrop.read_audio(path) * 32767).astype("<i2") for path in recordings])
        header = struct.pack(
            "<4sI8sIHHIIHH4sI", b"RIFF", OPEN, b"WAVEfmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, b"data", OPEN
        )
        self._held = header

    def _bytes(self, sounds: list[np.ndarray]) -> Iterator[bytes]:
        for sound in cycle(sounds):
            yield np.concatenate([sound, PAUSE]).tobytes()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, count: int = -1) -> bytes:  # type: ignore[override]
        while len(self._held) < count and self._left > 0:
            part = next(self._parts)[: self._left]
            self._left -= len(part)
            self._held += part
        given, self._held = self._held[:count], self._held[count:]
        return given


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("-m", "--model", help="default: the pair that ships")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=3600.0, help="seconds of sound between two lines")
    wishes = parser.parse_args()
    with eardrop.load(wishes.model) as asr:
        source = Endless(wishes.recordings, wishes.hours * 3600)
        wanted, began, words, warnings = wishes.every, time.monotonic(), 0, 0
        for segment in asr.stream(source):  # type: ignore[arg-type]
            words, warnings = words + len(segment.text.split()), warnings + len(segment.warnings)
            if segment.end >= wanted:
                spent, began = time.monotonic() - began, time.monotonic()
                print(
                    f"{wanted / 60:6.0f} min: {memory('VmRSS')} MiB, most {memory('VmHWM')} MiB;"
                    f" {spent:.1f} s, {wishes.every / spent:.0f} x real time; {words} words, {warnings} warnings",
                    flush=True,
                )
                wanted += wishes.every


def memory(name: str) -> int:
    """MiB of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name))) // 1024


if __name__ == "__main__":
    main()
