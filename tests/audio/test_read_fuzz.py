"""Damaged and hostile recordings: whatever the bytes, `read` gives samples or an AudioError, and it comes back.

Run as a program it is the child: `python -m tests.audio.test_read_fuzz SEED COUNT [FILE…]`. A child, because what is
looked for, a crash or a loop in a decoder, would take the tests with it.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.audio.made_audio import MADE, made

ROOT = Path(__file__).parents[2]
COUNT = 300  # cases of the default run; 40,000 were run by hand
SECONDS = 60  # for all of them together; they take one
MEMORY = 2 << 30  # bytes of address space


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """One of the ways in which files break."""
    return _WAYS[rng.integers(len(_WAYS))](whole, rng)


def _flipped(whole: bytes, rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(whole, np.uint8).copy()
    places = rng.integers(len(changed), size=rng.integers(1, 40))
    changed[places] = rng.integers(256, size=len(places))
    return changed.tobytes()


def _header_flipped(whole: bytes, rng: np.random.Generator) -> bytes:
    return _flipped(whole[:400], rng) + whole[400:]


def _extreme(whole: bytes, rng: np.random.Generator) -> bytes:
    place, filler = rng.integers(len(whole)), [b"\xff", b"\x00", b"\x7f", b"\x80"][rng.integers(4)]
    return whole[:place] + filler * 4 + whole[place + 4 :]


def _extreme_header(whole: bytes, rng: np.random.Generator) -> bytes:
    return _extreme(whole[:400], rng) + whole[400:]


def _cut(whole: bytes, rng: np.random.Generator) -> bytes:
    return whole[: rng.integers(len(whole))]


def _hole(whole: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(len(whole), size=2))
    return whole[:start] + whole[end:]


def _doubled(whole: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(len(whole), size=2))
    return whole[:end] + whole[start:]


_WAYS = (_flipped, _header_flipped, _extreme, _extreme_header, _cut, _hole, _doubled)


def cases(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    wholes = {name: made(name, seconds=0.4) for name in MADE}
    wholes |= {path.name: path.read_bytes() for path in map(Path, sys.argv[3:]) if path.stat().st_size}
    names = sorted(wholes)
    for number in range(count):
        name = names[number % len(names)]
        yield name, mutated(wholes[name], rng)


def child(seed: int, count: int) -> None:
    import resource

    from eardrop.audio.read import blocks
    from eardrop.errors import AudioError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    refused = 0
    for number, (name, damaged) in enumerate(cases(seed, count)):
        print(f"case {number}: {name}", flush=True)  # noqa: T201  the parent reads how far it got
        try:
            for block in blocks(damaged, max_seconds=30):
                assert block.dtype == np.float32
                assert np.isfinite(block).all()
        except AudioError as refusal:
            refused += len(str(refusal).splitlines())  # one line each
    print(f"done: {count} cases, {refused} refused")  # noqa: T201


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_damaged_recordings_are_read_or_refused_but_never_crash_or_hang() -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.audio.test_read_fuzz", "20251123", str(COUNT)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    last = ended.stdout.splitlines()[-1]
    assert ended.returncode == 0, f"seed 20251123, {last}\n{ended.stderr[-2000:]}"
    assert last.startswith(f"done: {COUNT} cases, ")
    assert COUNT / 20 < int(last.split()[3]) < COUNT  # some were damaged enough, not all
    assert not ended.stderr  # FFmpeg's own complaints stay inside


if __name__ == "__main__":
    child(int(sys.argv[1]), int(sys.argv[2]))
