"""The plainest WAV, read without FFmpeg: 16 bits, one channel, a header of 44 bytes, and all that it announces.

That is what programs write who record speech, and importing FFmpeg takes 50 ms: a twentieth of the time in which a
process transcribes a short clip. What differs in one byte is FFmpeg's.
"""

import struct
from collections.abc import Iterator

import numpy as np

from eardrop.audio.rate import LEAST_RATE, MOST_RATE
from eardrop.audio.samples import Findings, Mix, Piece
from eardrop.audio.source import Handed

_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_PCM, _BYTES = 1, 2  # a sample


def plain_samples(handed: Handed, *, mix: Mix, found: Findings) -> Iterator[Piece] | None:
    """The sound in pieces of a second, from where the file stands; None for whatever isn't as plain as that."""
    head = handed.peek(_HEADER.size)
    if not handed.seekable() or len(head) < _HEADER.size:
        return None
    rate, nbytes = (_HEADER.unpack(head)[field] for field in (6, -1))
    plain = _HEADER.pack(
        b"RIFF", _HEADER.size - 8 + nbytes & 0xFFFFFFFF, b"WAVEfmt ", 16, _PCM, 1, rate, _BYTES * rate & 0xFFFFFFFF,
        _BYTES, 8 * _BYTES, b"data", nbytes,
    )  # fmt: skip
    whole = nbytes and nbytes % _BYTES == 0 and _HEADER.size + nbytes == handed.size()
    if not (head == plain and whole and LEAST_RATE <= rate <= MOST_RATE):
        return None
    found.promised(nbytes / _BYTES / rate, size=handed.size())
    return _pieces(handed, rate, mix)


def _pieces(handed: Handed, rate: int, mix: Mix) -> Iterator[Piece]:
    _read(handed, _HEADER.size)
    while samples := _read(handed, _BYTES * rate):
        yield rate, mix(np.frombuffer(samples, "<i2", len(samples) // _BYTES)[None])
    handed.check()


def _read(handed: Handed, count: int) -> bytes:
    """As many bytes, fewer at the end only: a caller's file may give less than it is asked for."""
    got = b""
    while more := handed.read(count - len(got)):
        got += more
    return got
