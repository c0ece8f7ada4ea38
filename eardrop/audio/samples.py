"""Numbers → samples: scaled to [-1, 1], mixed to one channel, checked, moved to 16 kHz, cut out and into blocks."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.audio.rate import SAMPLE_RATE
from eardrop.errors import AudioError, AudioTooLong, OptionError
from eardrop.stages import calls

if TYPE_CHECKING:
    import soxr

Float32: TypeAlias = npt.NDArray[np.float32]
Piece: TypeAlias = tuple[int, Float32]  # samples a second; (N,) mono
Mix: TypeAlias = Callable[[npt.NDArray[np.generic]], Float32]  # (C, N) of a type in _SCALES → (N,)

DAY = 86_400.0  # seconds
BLOCK = SAMPLE_RATE  # samples of a block: one second
MOST_CHANNELS = 32
LOUDEST = 2.0**16  # beyond is no sound; integers given as floats stay below

# Zero, and the value of 1.0, of each sample type. Powers of two divide exactly, so that 16 kHz PCM has llama.cpp's
# very samples; of 8 bits it takes 0 and 255 as -1 and 1, which puts silence off zero: ours is centred.
_SCALES = {
    "u1": (128, 2.0**7),
    "i1": (0, 2.0**7),
    "i2": (0, 2.0**15),
    "i4": (0, 2.0**31),
    "f4": (0, 1.0),
    "f8": (0, 1.0),
}
_ROUNDING = 1e-6  # seconds: what summing a day's pieces can err by
_THINNEST = 1.0  # bytes a second: FLAC, which of all codecs makes least of silence, needs two at 8 kHz
SAMPLE_TYPES = "uint8, int8, int16, int32, float32 or float64"


@dataclass
class Findings:
    """What is learnt about a recording while it is read."""

    notes: list[str] = field(default_factory=list)  # what was wrong with it though it could be read
    announced: float | None = None  # seconds in the whole, as its header has it
    channels: int | None = None  # that it has, whichever of them is read

    def promised(self, seconds: float, *, size: int | None) -> None:
        """Take what a header says, unless that is absurd for so many bytes; for a pipe (None), above a day."""
        if 0 < seconds < (DAY if size is None else size / _THINNEST):
            self.announced = seconds


def scalable(dtype: np.dtype[np.generic]) -> bool:
    return f"{dtype.kind}{dtype.itemsize}" in _SCALES


def mean_of(channels: npt.NDArray[np.generic]) -> Float32:
    """(C, N) of a type in _SCALES → (N,) float32: each scaled to [-1, 1], their sum in float32 over their count, as
    llama.cpp takes it.
    """
    zero, one = _SCALES[f"{channels.dtype.kind}{channels.dtype.itemsize}"]
    with np.errstate(over="ignore", invalid="ignore"):  # `checked` names what a float64 overflows to
        scaled = (channels.astype(np.float32) - np.float32(zero)) / np.float32(one)
        total = scaled[0]
        for channel in scaled[1:]:
            total = total + channel
        return np.asarray(total / np.float32(len(scaled)), np.float32)


def mixing(channel: int | None, *, title: str, found: Findings) -> Mix:
    """The mean of all channels, or the one of that number, from 0: OptionError where a recording lacks it."""

    def mix(channels: npt.NDArray[np.generic]) -> Float32:
        found.channels = len(channels)
        if channel is None:
            return mean_of(channels)
        if channel >= len(channels):
            raise OptionError(f"{title} has no channel {channel}: it has {len(channels)}, counted from 0")
        return mean_of(channels[channel : channel + 1])

    return mix


def checked(pieces: Iterable[Piece], *, max_seconds: float, title: str) -> Iterator[Piece]:
    """The pieces, as long as they are sound and no longer than `max_seconds` together, counted as they come."""
    length = 0.0
    for rate, samples in pieces:
        _expect_finite(samples, length, rate, title)
        length += len(samples) / rate
        if length > max_seconds + _ROUNDING:
            raise AudioTooLong(
                f"{title} is longer than the limit of {max_seconds:g} s: "
                "raise max_seconds (--max-seconds on the command line), or cut it"
            )
        yield rate, samples


def _expect_finite(samples: Float32, before: float, rate: int, title: str) -> None:
    if not len(samples) or np.abs(samples).max() <= LOUDEST:  # a NaN is the maximum, and compares as false
        return
    here = int(np.argmin(np.abs(samples) <= LOUDEST))
    place = round(before * rate) + here
    raise AudioError(
        f"{title} holds the value {samples[here]:g} at sample {place} ({place / rate:.3f} s), "
        "expected numbers in about [-1, 1]: repair or scale it"
    )


def at_16k(pieces: Iterable[Piece]) -> Iterator[Float32]:
    """The pieces at SAMPLE_RATE: those that have it untouched, others through soxr. A rate may change on the way.

    soxr's delay is compensated by its own flush, so that N samples become round(N · 16000 / rate).
    """
    current, resampler = SAMPLE_RATE, None
    with calls("resample") as call:
        for rate, samples in pieces:
            if rate != current:
                yield from _rest(resampler, call)
                current, resampler = rate, _resampler(rate)
            yield samples if resampler is None else call(resampler.resample_chunk, samples)
        yield from _rest(resampler, call)


def _resampler(rate: int) -> "soxr.ResampleStream | None":
    if rate == SAMPLE_RATE:
        return None
    import soxr  # not at the start: most recordings of speech have the rate

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


def _rest(resampler: "soxr.ResampleStream | None", call: Callable[..., Any]) -> Iterator[Float32]:
    if resampler is not None:
        yield call(resampler.resample_chunk, np.zeros(0, np.float32), last=True)


def stretch(pieces: Iterable[Float32], first: int, last: int | None, *, title: str) -> Iterator[Float32]:
    """Samples `first` up to `last` of all (None: up to the end). What comes after `last` is not even asked for."""
    heard = 0
    for piece in pieces:
        wanted = piece[max(first - heard, 0) : None if last is None else last - heard]
        heard += len(piece)
        if len(wanted):
            yield wanted
        if last is not None and heard >= last:
            return
    if not heard:
        raise no_samples(title)
    if heard <= first:
        raise AudioError(
            f"{title} ends at {heard / SAMPLE_RATE:.3f} s, and was wanted from {first / SAMPLE_RATE:.3f} s on: "
            "choose an earlier start"
        )


def no_samples(title: str) -> AudioError:
    """What to raise of a recording that is none."""
    return AudioError(f"{title} holds no samples at 16 kHz, expected at least one: record it again, or give another")


def regrouped(pieces: Iterable[Float32]) -> Generator[Float32, None, None]:
    """The same samples in blocks of BLOCK; the last is what remains."""
    held: list[Float32] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= BLOCK:
            joined = np.concatenate(held)
            whole = len(joined) - len(joined) % BLOCK
            yield from np.split(joined[:whole], whole // BLOCK)
            held = [joined[whole:]]
    rest = np.concatenate(held) if held else np.zeros(0, np.float32)
    if len(rest):
        yield rest
