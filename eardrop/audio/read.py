"""Audio in: a path, bytes, a file object, standard input or an array becomes mono float32 samples at 16 kHz.

    blocks(source) → one-second blocks, in constant memory        read(source) → the whole
    channels(source) → how many there are to choose from          one_window(source) → the whole, if it isn't too long

The stages, one module each: `source` opens bytes, `containers` tells what they are (the one list of what is read
and what is refused), `decode` runs FFmpeg with its doors closed, unless `plain` needs none; `samples` mixes,
checks, resamples and cuts. `apart` does the same in processes of their own.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Self, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from eardrop.audio.containers import HEAD, ID3_LIMIT, RawPCM, id3_length, riff_length, sniff
from eardrop.audio.plain import plain_samples
from eardrop.audio.rate import LEAST_RATE, MOST_RATE, SAMPLE_RATE
from eardrop.audio.samples import (
    DAY,
    MOST_CHANNELS,
    SAMPLE_TYPES,
    Findings,
    Float32,
    Mix,
    Piece,
    at_16k,
    checked,
    mixing,
    no_samples,
    regrouped,
    scalable,
    stretch,
)
from eardrop.audio.source import Handed, Source, name_of, opened, rewindable
from eardrop.errors import AudioError, AudioTooLong, OptionError

__all__ = ["DAY", "Blocks", "RawPCM", "Reading", "Source", "blocks", "channels", "name_of", "one_window", "read"]


class Blocks(Iterator[Float32]):
    """The samples of a recording, block by block: (n,) float32, n ≤ one second.

    Made by `blocks`, and by `Decoders.blocks` of eardrop.audio.apart.
    """

    def __init__(self, samples: Generator[Float32, None, None], found: Findings) -> None:
        self._samples = samples
        self._found = found

    @property
    def notes(self) -> list[str]:
        """In one line each what was wrong with the recording though it could be read (cut off, damaged packets).

        Complete after the last block; what comes after `end` isn't looked at.
        """
        return self._found.notes

    @property
    def announced(self) -> float | None:
        """Seconds in the whole recording, whatever `start` and `end`, as its header has it; known with the first block.

        A stranger's word, for progress bars: None where there is none, or an absurd one. Where MP3, AAC, AC-3 and
        MPEG-TS state no length, FFmpeg's guess by the bit rate.
        """
        return self._found.announced

    @property
    def channels(self) -> int | None:
        """How many the recording has, whichever is read; known with the first block."""
        return self._found.channels

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Float32:
        return next(self._samples)

    def close(self) -> None:
        """Close the file, before the last block."""
        self._samples.close()


class Reading(TypedDict, total=False):
    """The keywords of `blocks`, which explains them."""

    rate: int | None
    track: int | None
    channel: int | None
    raw: RawPCM | None
    start: float
    end: float | None
    max_seconds: float


def blocks(
    source: Source,
    *,
    rate: int | None = None,
    track: int | None = None,
    channel: int | None = None,
    raw: RawPCM | None = None,
    start: float = 0.0,
    end: float | None = None,
    max_seconds: float = DAY,
) -> Blocks:
    """A recording as mono float32 samples at 16 kHz, in blocks of at most a second, in constant memory.

    source       a path ("-" is standard input), the bytes of a file, a binary file object (read from where it
                 stands, left open), or samples: (N,) or (N, channels), integers scaled by their width
    rate         of an array, samples a second; None is 16 kHz
    track        which audio track of a container, from 0; None is the one marked as default, else the first
    channel      one of its channels alone, from 0; None is the mean of all
    raw          how to read samples without a header
    start, end   the stretch wanted, in seconds, rounded to samples at 16 kHz: the very samples of the whole. What
                 comes before is decoded and dropped; what comes after isn't decoded. None is up to the end
    max_seconds  more raises AudioTooLong, counted while decoding, from the recording's start: a header is only a
                 promise

    Opens nothing before the first block. Raises AudioError for whatever can't be read, has no samples, ends before
    `start`, or holds NaN or Inf; OptionError for options that don't fit the source.
    """
    if not max_seconds > 0:
        raise OptionError(f"max_seconds is {max_seconds!r}, expected seconds above 0")
    if channel is not None and channel < 0:
        raise OptionError(f"channel is {channel!r}, expected a number from 0, or None for the mean of all")
    first, last = _bounds(start, end)
    title, found = name_of(source), Findings()
    mix = mixing(channel, title=title, found=found)
    if isinstance(source, np.ndarray):
        if track is not None or raw is not None:
            raise OptionError("an array has neither tracks nor a raw format: give rate alone")
        pieces = _sliced(source, SAMPLE_RATE if rate is None else rate, mix=mix, found=found)
    else:
        if rate is not None:
            raise OptionError(
                "rate belongs to arrays: a file states its own, and headerless samples take raw=RawPCM(rate=…)"
            )
        pieces = _opened(source, track=track, raw=raw, mix=mix, found=found)
    samples = at_16k(checked(pieces, max_seconds=max_seconds, title=title))
    return Blocks(regrouped(stretch(samples, first, last, title=title)), found)


def read(source: Source, **keywords: Unpack[Reading]) -> Float32:
    """A recording, or a stretch of it: (N,) float32, mono, 16 kHz, N ≥ 1. Keywords and errors are those of `blocks`."""
    return np.concatenate(list(blocks(source, **keywords)))


def one_window(
    source: Source, *, least: float, most: float, **keywords: Unpack[Reading]
) -> tuple[Float32, tuple[str, ...]]:
    """A recording that a model is to hear as one: its samples (N,), and what was wrong with it.

    least, most  seconds. Less is told among what was wrong; more raises AudioTooLong, as soon as it is read

    Other keywords and errors are those of `blocks`.
    """
    pieces, got, read = [], 0, blocks(source, **keywords)
    for piece in read:
        pieces.append(piece)
        got += len(piece)
        if got > most * SAMPLE_RATE:
            raise AudioTooLong(
                f"{name_of(source)} is longer than {most:g} seconds, the most one window holds; cut it first"
            )
    short = (f"the recording is shorter than {least:g} seconds and holds no word",)
    return np.concatenate(pieces), (*read.notes, *(short if got < least * SAMPLE_RATE else ()))


def channels(source: Source, *, track: int | None = None, raw: RawPCM | None = None) -> int:
    """How many channels a recording has: 1 is mono. No more than its first moment is decoded.

    source, track and raw are as in `blocks`; a file object is left where it stood. Raises OptionError for a pipe,
    which can't be read a second time, AudioError for whatever can't be read or has no samples.
    """
    title, found = name_of(source), Findings()
    mix = mixing(None, title=title, found=found)
    if isinstance(source, np.ndarray):
        next(_sliced(source, SAMPLE_RATE, mix=mix, found=found), None)
    else:
        with opened(source) as handed:
            if not handed.seekable():
                raise OptionError(
                    f"{title} is a pipe, which can't be read again after a look at its channels: save it to a file"
                )
            with closing(_sounds(handed, track=track, raw=raw, mix=mix, title=title, found=found)) as pieces:
                next(pieces, None)
            handed.seek(0)
    if found.channels is None:
        raise no_samples(title)
    return found.channels


def _bounds(start: float, end: float | None) -> tuple[int, int | None]:
    """The samples at 16 kHz from which and up to which a stretch goes."""
    if not (math.isfinite(start) and start >= 0):
        raise OptionError(f"start is {start!r}, expected seconds from 0 on")
    first = round(start * SAMPLE_RATE)
    if end is None:
        return first, None
    if not math.isfinite(end) or round(end * SAMPLE_RATE) <= first:
        raise OptionError(f"end is {end!r}, expected seconds after the start, which is {start!r}, or None for the end")
    return first, round(end * SAMPLE_RATE)


def _sliced(array: npt.NDArray[np.generic], rate: int, *, mix: Mix, found: Findings) -> Iterator[Piece]:
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
    found.announced = len(columns) / rate
    for start in range(0, len(columns), rate):
        yield rate, mix(columns[start : start + rate].T)


def _opened(
    source: Source, *, track: int | None, raw: RawPCM | None, mix: Mix, found: Findings
) -> Generator[Piece, None, None]:
    with opened(source) as handed:
        yield from _sounds(handed, track=track, raw=raw, mix=mix, title=name_of(source), found=found)


def _sounds(
    handed: Handed, *, track: int | None, raw: RawPCM | None, mix: Mix, title: str, found: Findings
) -> Generator[Piece, None, None]:
    if raw is None and not track and (samples := plain_samples(handed, mix=mix, found=found)):
        yield from samples
        return
    from eardrop.audio.decode import decoded  # not at the start: FFmpeg takes longer to come than a clip to be read

    head = _head(handed)
    container = raw.container() if raw is not None else sniff(head, title)
    if not container.seeks:
        yield from decoded(handed, container, track=track, mix=mix, title=title, found=found)
    else:
        with rewindable(handed, title) as file:
            yield from decoded(file, container, track=track, mix=mix, title=title, found=found)
    announced = riff_length(head)
    if announced is not None and handed.size() < announced - 1:  # the last byte of padding is often left out
        found.notes.append(f"{title} is cut off: it has {handed.size()} of the {announced} bytes it announces")


def _head(handed: Handed) -> bytes:
    """The first bytes after the ID3 tags, which say nothing about what follows them."""
    head, skipped = handed.peek(HEAD), 0
    while (tag := id3_length(head)) and (skipped := skipped + tag) <= ID3_LIMIT:
        head = handed.peek(skipped + HEAD)[skipped:]
    return head
