"""What decoding in child processes costs: × real time here and there, and how long a child takes to start.

    python benchmarks/decoders.py [--seconds 600]

here     `blocks` in this process
1 child  one recording at a time, through `Decoders(1)`
2        two recordings at a time, read by two threads, through `Decoders(2)`: seconds of both ÷ time

Speech of examples/, repeated, in each format. The best of five, in turns; the time to the first block is the median.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soxr

from eardrop.audio import SAMPLE_RATE, blocks, read
from eardrop.audio.apart import Decoders
from eardrop.bench.machine import describe, versions

SPEECH = Path(__file__).parent.parent / "examples" / "harbour.flac"
FORMATS = (  # name, container, encoder, rate, channels
    ("MP3, 44.1 kHz, stereo", "mp3", "libmp3lame", 44_100, 2),
    ("M4A (AAC), 44.1 kHz, stereo", "ipod", "aac", 44_100, 2),
    ("FLAC, 16 kHz, mono", "flac", "flac", SAMPLE_RATE, 1),
)
TURNS = 5


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    seconds = parser.parse_args().seconds
    known = describe() | versions()
    print(f"{known['processor']}, {known['cores']} cores, Python {known['python']}, av {known['av']}, ", end="")
    print(f"{datetime.now(UTC).date()}; {seconds} s each\n")
    print("| | here | 1 child | 2 |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder, Decoders(1) as one, Decoders(2) as two:
        for name, container, encoder, rate, channels in FORMATS:
            path = Path(folder) / encoder
            write(path, container, encoder, rate, channels, seconds)
            ways: tuple[Callable[[], None], ...] = (
                lambda path=path: drained(blocks(path)),  # type: ignore[misc]
                lambda path=path: drained(one.blocks(path)),  # type: ignore[misc]
                lambda path=path: together(two, path),  # type: ignore[misc]
            )
            times = [[timed(way) for way in ways] for _ in range(TURNS)]
            best = [min(column) for column in zip(*times, strict=True)]
            speeds = (factor * seconds / spent for factor, spent in zip((1, 1, 2), best, strict=True))
            print(f"| {name} |" + "|".join(f" {speed:,.0f} × " for speed in speeds) + "|")
        print(f"\nA new child's first block after {statistics.median(starts(path)) * 1000:.0f} ms, ", end="")
        with Decoders(1) as warm:
            drained(warm.blocks(path, end=1.0))
            print(f"one in use after {timed(lambda: drained(warm.blocks(path, end=1.0))) * 1000:.1f} ms.")


def write(path: Path, container: str, encoder: str, rate: int, channels: int, seconds: int) -> None:
    """The speech, repeated, as a file."""
    speech = read(SPEECH)
    speech = soxr.resample(np.tile(speech, seconds * SAMPLE_RATE // len(speech) + 1), SAMPLE_RATE, rate)
    speech = speech[: seconds * rate]
    with av.open(str(path), "w", format=container) as muxed:
        stream = muxed.add_stream(encoder, rate=rate, layout=("mono", "stereo")[channels - 1])
        for frame in frames(np.repeat(speech, channels), rate, channels):
            muxed.mux(stream.encode(frame))
        muxed.mux(stream.encode(None))


def frames(packed: npt.NDArray[np.float32], rate: int, channels: int) -> Iterator[av.AudioFrame]:
    """Interleaved samples in frames."""
    for start in range(0, len(packed), 1024 * channels):
        frame = av.AudioFrame.from_ndarray(
            packed[np.newaxis, start : start + 1024 * channels], format="flt", layout=("mono", "stereo")[channels - 1]
        )
        frame.rate, frame.pts = rate, start // channels
        yield frame


def drained(samples: Iterator[object]) -> None:
    """Read to the end, and do nothing with it."""
    for _ in samples:
        pass


def together(decoders: Decoders, path: Path) -> None:
    """Two readings at once."""
    threads = [threading.Thread(target=lambda: drained(decoders.blocks(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def starts(path: Path) -> Iterator[float]:
    """Seconds from nothing to the first block."""
    for _ in range(TURNS):
        started = time.perf_counter()
        with Decoders(1) as decoders:
            next(decoders.blocks(path))
            yield time.perf_counter() - started


def timed(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
