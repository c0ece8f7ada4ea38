"""Two hours cost the memory of two minutes."""

import io
import struct
import subprocess
import sys
from typing import Any

import pytest

HOURS, MINUTES = 7_200, 120  # seconds
GROWTH_MB = 8  # what an allocator may keep; two hours at 16 kHz are 460 MB


class Endless(io.RawIOBase):
    """A WAV file of silence as a pipe gives it, made while it is read."""

    def __init__(self, seconds: int, rate: int = 16_000) -> None:
        head = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
        self._ready = b"RIFF\xff\xff\xff\xffWAVEfmt " + head + b"data\xff\xff\xff\xff"
        self._second, self._left = bytes(2 * rate), seconds

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        if not self._ready and self._left:
            self._ready, self._left = self._second, self._left - 1
        count = min(len(room), len(self._ready))
        room[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def child() -> None:
    import resource

    from eardrop.audio.read import blocks

    for seconds in (MINUTES, HOURS):
        samples = sum(map(len, blocks(Endless(seconds))))
        print(samples // 16_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # noqa: T201


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in kilobytes on Linux only")
def test_two_hours_take_the_memory_of_two_minutes() -> None:
    ended = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=120, check=True)
    (short, before), (long, after) = (map(int, line.split()) for line in ended.stdout.splitlines())
    assert (short, long) == (MINUTES, HOURS)
    assert after - before < GROWTH_MB * 1024


if __name__ == "__main__":
    child()
