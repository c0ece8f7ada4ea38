"""Audio in: a path, bytes, a file object, standard input or an array becomes mono float32 samples at 16 kHz.

    blocks(source) → one-second blocks, in constant memory        read(source) → the whole

The stages, one module each: `source` opens bytes, `containers` tells what they are (the one list of what is read
and what is refused), `decode` runs FFmpeg with its doors closed, unless `plain` needs none; `samples` mixes, resamples,
checks and cuts.
"""

from collections.abc import Generator, Iterator
from typing import Self

import numpy as np
import numpy.typing as npt

from eardrop.audio.containers import HEAD, ID3_LIMIT, RawPCM, id3_length, riff_length, sniff
from eardrop.audio.plain import plain_samples
from eardrop.audio.rate import LEAST_RATE, MOST_RATE, SAMPLE_RATE
from eardrop.audio.samples import (
    MOST_CHANNELS,
    SAMPLE_TYPES,
    Float32,
    Piece,
    at_16k,
    checked,
    mean_of,
    regrouped,
    scalable,
)
from eardrop.audio.source import Handed, Source, name_of, opened, rewindable
from eardrop.errors import AudioError, OptionError

__all__ = ["Blocks", "RawPCM", "Source", "blocks", "name_of", "read"]

DAY = 86_400.0  # seconds


class Blocks(Iterator[Float32]):
    """The samples of a recording, block by block: (n,) float32, n ≤ one second.

    `notes` says in one line each what was wrong with the recording though it could be read (cut off, damaged
    packets); complete after the last block.
    """

    def __init__(self, samples: Generator[Float32, None, None], notes: list[str]) -> None:
        self._samples = samples
        self.notes = notes
        self.announced: float | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Float32:
        return next(self._samples)

    def close(self) -> None:
        """Close the file, before the last block."""
        self._samples.close()


def blocks(
    source: Source,
    *,
    rate: int | None = None,
    track: int | None = None,
    raw: RawPCM | None = None,
    max_seconds: float = DAY,
) -> Blocks:
    """A recording as mono float32 samples at 16 kHz, in blocks of at most a second, in constant memory.

    source       a path ("-" is standard input), the bytes of a file, a binary file object (read from where it
                 stands, left open), or samples: (N,) or (N, channels), integers scaled by their width
    rate         of an array, samples a second; None is 16 kHz
    track        which audio track of a container, from 0; None is the one marked as default, else the first
    raw          how to read samples without a header
    max_seconds  more raises AudioTooLong, counted while decoding: a header is only a promise

    Opens nothing before the first block. Raises AudioError for whatever can't be read, has no samples, or holds
    NaN or Inf; OptionError for options that don't fit the source.
    """
    if not max_seconds > 0:
        raise OptionError(f"max_seconds is {max_seconds!r}, expected seconds above 0")
    notes: list[str] = []
    title = name_of(source)
    if isinstance(source, np.ndarray):
        if track is not None or raw is not None:
            raise OptionError("an array has neither tracks nor a raw format: give rate alone")
        pieces = _sliced(source, SAMPLE_RATE if rate is None else rate)
    else:
        if rate is not None:
            raise OptionError(
                "rate belongs to arrays: a file states its own, and headerless samples take raw=RawPCM(rate=…)"
            )
        pieces = _pieces(source, track=track, raw=raw, title=title, notes=notes)
    return Blocks(_sounding(regrouped(at_16k(checked(pieces, max_seconds=max_seconds, title=title))), title), notes)


def read(
    source: Source,
    *,
    rate: int | None = None,
    track: int | None = None,
    raw: RawPCM | None = None,
    max_seconds: float = DAY,
) -> Float32:
    """A whole recording: (N,) float32, mono, 16 kHz, N ≥ 1. Arguments and errors are those of `blocks`."""
    return np.concatenate(list(blocks(source, rate=rate, track=track, raw=raw, max_seconds=max_seconds)))


def _sounding(samples: Iterator[Float32], title: str) -> Generator[Float32, None, None]:
    first = next(samples, None)
    if first is None:
        raise AudioError(f"{title} holds no samples at 16 kHz, expected at least one: record it again, or give another")
    yield first
    yield from samples


def _sliced(array: npt.NDArray[np.generic], rate: int) -> Iterator[Piece]:
    """An array in pieces of a second."""
    if not scalable(array.dtype):
        raise AudioError(f"array holds {array.dtype}, expected {SAMPLE_TYPES}")
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        raise AudioError(
            f"array has the shape {array.shape}, expected (samples,) or (samples, channels) "
            f"with at most {MOST_CHANNELS} channels: transpose it?"
        )
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise OptionError(f"rate is {rate}, expected {LEAST_RATE} to {MOST_RATE} samples a second")
    columns = array.reshape(len(array), -1) if len(array) else array.reshape(0, 1)
    for start in range(0, len(columns), rate):
        yield rate, mean_of(columns[start : start + rate].T)


def _pieces(source: Source, *, track: int | None, raw: RawPCM | None, title: str, notes: list[str]) -> Iterator[Piece]:
    with opened(source) as handed:
        if raw is None and not track and (samples := plain_samples(handed)):
            yield from samples
            return
        from eardrop.audio.decode import decoded  # not at the start: FFmpeg takes longer to come than a clip to be read

        head = _head(handed)
        container = raw.container() if raw is not None else sniff(head, title)
        if not container.seeks:
            yield from decoded(handed, container, track=track, title=title, notes=notes)
        else:
            with rewindable(handed, title) as file:
                yield from decoded(file, container, track=track, title=title, notes=notes)
        announced = riff_length(head)
        if announced is not None and handed.size() < announced - 1:  # the last byte of padding is often left out
            notes.append(f"{title} is cut off: it has {handed.size()} of the {announced} bytes it announces")


def _head(handed: Handed) -> bytes:
    """The first bytes after the ID3 tags, which say nothing about what follows them."""
    head, skipped = handed.peek(HEAD), 0
    while (tag := id3_length(head)) and (skipped := skipped + tag) <= ID3_LIMIT:
        head = handed.peek(skipped + HEAD)[skipped:]
    return head
