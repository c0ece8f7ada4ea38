"""A job that is killed again and again: every recording must be done once, none lost, none transcribed twice.

    python benchmarks/kills.py --files 1000 --kills 20

Short recordings, each with sound of its own, are transcribed into a folder with --resume; the process is killed at
random moments and started again. Printed: how many outputs there are, and how many recordings were begun again though
they were finished.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

import eardrop
from eardrop.audio import SAMPLE_RATE

EXAMPLE = Path(__file__).parent.parent / "examples" / "command.flac"


def main() -> None:
    """Print what was found; exit code 1 if anything was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--patience", type=float, default=6.0, help="seconds a process lives at most (default: 6)")
    parser.add_argument("--seed", type=int, default=1)
    wishes = parser.parse_args()
    draw = random.Random(wishes.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "in", Path(scratch) / "out"
        make(folder, wishes.files)
        again, killed, began = 0, 0, time.monotonic()
        done: set[str] = set()
        while True:
            lives = 1.0 + draw.random() * (wishes.patience - 1.0) if killed < wishes.kills else None
            begun, code = run(folder, out, lives)
            again += len(begun & done)
            done = {path.with_suffix(".wav").name for path in out.glob("*.json")}
            print(f"{len(done)} of {wishes.files} after {killed + 1} processes", flush=True)
            if code == 0:
                break
            killed += 1
        spent = time.monotonic() - began
        print(f"{killed} kills, {len(done)} of {wishes.files} outputs, {again} begun again, {spent:.0f} s")
        sys.exit(len(done) != wishes.files or again > 0)


def make(folder: Path, count: int) -> None:
    """Recordings that differ in one sample."""
    folder.mkdir()
    samples = (eardrop.read_audio(EXAMPLE) * 32767).astype("<i2")
    for number in range(count):
        samples[:2] = np.frombuffer(number.to_bytes(4, "little"), "<i2")
        with wave.open(str(folder / f"{number:05}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes(samples.tobytes())


def run(folder: Path, out: Path, lives: float | None) -> tuple[set[str], int | None]:
    """One process: the recordings whose text it began, and its exit code, None if it was killed."""
    words = ["transcribe", str(folder), "-o", str(out), "-f", "json", "--resume", "--progress", "json"]
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen([sys.executable, "-m", "eardrop", *words], stderr=log) as job:
            try:
                code = job.wait(lives)
            except subprocess.TimeoutExpired:
                job.kill()
                code = None
        log.seek(0)
        lines = [line for line in log.read().splitlines() if line.startswith("{") and line.endswith("}")]
    told = map(json.loads, lines)  # what a process found done it tells, too
    return {line["source"] for line in told if line["event"] == "progress"}, code


if __name__ == "__main__":
    main()
