"""Bytes → mono samples at the recording's own rate, through FFmpeg (PyAV) with its doors closed.

FFmpeg gets bytes without a name, the one demuxer that the first bytes chose, the decoders of the one list, no
protocol, and a callback that refuses every further file. Video is neither decoded nor, where the container allows
it, read. Encoder delay is removed, so that sample n was heard n / rate seconds after the start.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags2
from av.container import InputContainer
from av.stream import Discard, Disposition

from eardrop.audio.containers import CODECS, Container
from eardrop.audio.rate import LEAST_RATE, MOST_RATE
from eardrop.audio.samples import MOST_CHANNELS, Findings, Float32, Mix, Piece
from eardrop.audio.source import Handed
from eardrop.errors import AudioError, EardropError
from eardrop.printable import printable

# Sample formats of FFmpeg ("p" for planar left out). It holds 24 bits in the upper part of s32.
_SAMPLES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}

# Samples that an encoder puts before the sound, where the container doesn't say. A lapped transform's first frame
# can hold only the fade-in of the second (aac, wma); the others are fixed by the filter bank (MP3: 528 + 1 of the
# decoder and LAME's 576) or measured against the recording that was encoded (tests/audio/test_read_times.py).
_PRIMING: dict[str, Callable[[av.AudioFrame], int]] = {
    "aac": lambda first: first.samples,
    "wmav1": lambda first: first.samples,
    "wmav2": lambda first: first.samples,
    "mp3float": lambda first: 1105,
    "mp2": lambda first: 481,
    "ac3": lambda first: 256,
    "eac3": lambda first: 256,
    "speex": lambda first: max(-(first.pts or 0), 0) + first.rate // 200,
}
_LATE = (0.05, 3600.0)  # seconds by which sound may start later than its video: less is jitter, more a broken clock
_SHORT = 0.1  # seconds: a recording that ends earlier than it announces by less is not called cut off


def decoded(
    handed: Handed, container: Container, *, track: int | None, mix: Mix, title: str, found: Findings
) -> Iterator[Piece]:
    """The sound of one track, piece by piece, mono, at its own rate.

    track  which of the audio tracks, from 0; None for the one marked as default, else the first
    mix    its channels → one
    found  written: the seconds that the container announces, known with the first piece; and what was wrong with the
           recording without making it unreadable
    """
    size = handed.size() if handed.seekable() else None
    with _complaining(handed, container, title), _demuxed(handed, container, title) as demuxed:
        stream = _chosen(demuxed, track, title)
        length = 0.0
        for rate, samples in _timely(demuxed, stream, _Mono(title, mix), found.notes):
            if not length:  # of a recording without sound nothing is promised
                found.promised(_announced(stream) or (demuxed.duration or 0) / av.time_base, size=size)
            length += len(samples) / rate
            yield rate, samples
        announced = _announced(stream)
        short = container.exact and announced - length > _SHORT
        if not length and (short or found.notes):
            raise AudioError(
                f"{title} can't be read as {container.name} (no sound in it is whole): it is damaged or cut off; "
                "export it again, or give another"
            )
        if short:
            found.notes.append(f"{title} is cut off: it holds {length:.2f} s of the {announced:.2f} s it announces")


def _announced(stream: av.AudioStream) -> float:
    """Seconds of the track, 0 where it doesn't say."""
    return float((stream.duration or 0) * (stream.time_base or 0))


def _demuxed(handed: Handed, container: Container, title: str) -> InputContainer:
    def refuse(url: str, flags: int, options: dict[str, str]) -> NoReturn:
        raise AudioError(f"{title} names another file, {printable(url, most=120)}: give a recording that is whole")

    locked = {
        "format_whitelist": container.demuxer,  # also for what a demuxer would open inside
        "codec_whitelist": ",".join(sorted(CODECS)),  # also for the probing of streams: no video decoder runs
        "protocol_whitelist": "",
    }
    return av.open(
        handed,
        "r",
        format=container.demuxer,
        container_options=locked | container.options,
        metadata_errors="replace",
        io_open=refuse,
    )


@contextmanager
def _complaining(handed: Handed, container: Container, title: str) -> Iterator[None]:
    """Every complaint of FFmpeg and PyAV about a recording, as an AudioError; a failing read as what it was."""
    try:
        yield
        handed.check()
    except EardropError:  # an OptionError is a ValueError, too
        raise
    except (av.FFmpegError, ValueError, RuntimeError, MemoryError) as complaint:
        handed.check()
        reason = printable(getattr(complaint, "strerror", None) or str(complaint), most=120)
        raise AudioError(
            f"{title} can't be read as {container.name} ({reason}): it is damaged or cut off; "
            "export it again, or convert it to WAV"
        ) from None


def _chosen(demuxed: InputContainer, track: int | None, title: str) -> av.AudioStream:
    """The track to decode, with everything else in the container discarded."""
    tracks = demuxed.streams.audio
    if not tracks:
        raise AudioError(
            f"{title} has no sound: expected an audio track, found {_kinds(demuxed)}; give a recording with one"
        )
    if track is None:
        stream = next((stream for stream in tracks if stream.disposition & Disposition.default), tracks[0])
    elif 0 <= track < len(tracks):
        stream = tracks[track]
    else:
        raise AudioError(f"{title} has no audio track {track}: it has {len(tracks)}, counted from 0")
    _expect_known(stream, title)
    for other in demuxed.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _kinds(demuxed: InputContainer) -> str:
    return ", ".join(stream.type for stream in demuxed.streams) or "nothing"


def _expect_known(stream: av.AudioStream, title: str) -> None:
    # a stream that FFmpeg has no decoder for has no codec context
    codec = stream.codec_context.name if stream.codec_context else "an unknown codec"
    if codec not in CODECS:
        raise AudioError(
            f"{title} is encoded as {printable(codec)}, which eardrop doesn't decode: convert it to WAV or FLAC"
        )
    if codec.startswith("wma"):  # FFmpeg would drop twice what its own encoder puts in
        stream.codec_context.flags2 |= Flags2.skip_manual


def _timely(demuxed: InputContainer, stream: av.AudioStream, mono: "_Mono", notes: list[str]) -> Iterator[Piece]:
    """The track's pieces, with silence where it starts late and where packets are damaged, so that times stay right."""
    silent, damaged, priming = _late(demuxed, stream), 0, _Priming(stream)
    for packet in _packets(demuxed, stream):
        priming.look(packet)
        try:
            heard = packet.decode()
        except av.FFmpegError:
            heard, damaged = [], damaged + 1
            silent += _lasting(packet)
        for frame in heard:
            rate, samples = mono(frame)
            yield from _silence(silent, rate)
            silent = 0.0
            yield rate, priming.removed(frame, samples)
    if damaged:
        notes.append(f"{mono.title} is damaged: {damaged} of its packets became silence")


def _packets(demuxed: InputContainer, stream: av.AudioStream) -> "Iterator[av.Packet[av.AudioStream]]":
    # PyAV 18 ends by flushing streams that appeared on the way too (MPEG-TS), and stumbles over them; ours, which was
    # there before, has been flushed by then.
    with suppress(IndexError):
        yield from demuxed.demux(stream)


def _late(demuxed: InputContainer, stream: av.AudioStream) -> float:
    """Seconds by which the track starts after the rest of the recording (its video)."""
    if demuxed.start_time is None or stream.start_time is None or stream.time_base is None:
        return 0.0
    late = float(stream.start_time * stream.time_base) - demuxed.start_time / av.time_base
    return late if _LATE[0] < late <= _LATE[1] else 0.0


def _lasting(packet: "av.Packet[av.AudioStream]") -> float:
    """Seconds of a damaged packet: as it says, up to one; its word is a stranger's."""
    return min(max(float((packet.duration or 0) * packet.time_base), 0.0), 1.0)


def _silence(seconds: float, rate: int) -> Iterator[Piece]:
    left = int(seconds * rate)
    while left:
        count = min(left, rate)
        yield rate, np.zeros(count, np.float32)
        left -= count


class _Priming:
    """How many samples at the start are the encoder's, and their removal.

    FFmpeg removes what the container declares (LAME header, edit list, pre-skip, CodecDelay); the rest is ours.
    """

    def __init__(self, stream: av.AudioStream) -> None:
        self._codec = stream.codec_context.name
        self._opus_head = stream.codec_context.extradata or b""
        self._declared: int | None = None
        self._seen = False
        self._left: int | None = None

    def look(self, packet: "av.Packet[av.AudioStream]") -> None:
        """Note what the first packet declares."""
        if not self._seen and packet.has_sidedata("skip_samples"):
            self._declared = int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")
        self._seen = True

    def removed(self, first: av.AudioFrame, samples: Float32) -> Float32:
        """The samples without those that are the encoder's."""
        if self._left is None:
            self._left = self._undeclared(first)
        gone = min(self._left, len(samples))
        self._left -= gone
        return samples[gone:]

    def _undeclared(self, first: av.AudioFrame) -> int:
        if self._codec == "opus":
            # Matroska states the delay as a time, and FFmpeg counts it at the track's nominal rate, not at 48 kHz.
            return max(int.from_bytes(self._opus_head[10:12], "little") - (self._declared or 0), 0)
        if self._declared is not None or self._codec not in _PRIMING:
            return 0
        return _PRIMING[self._codec](first)


class _Mono:
    """A decoded frame → its rate and its channels mixed to one."""

    def __init__(self, title: str, mix: Mix) -> None:
        self.title = title
        self._mix = mix
        self._packer: av.AudioResampler | None = None

    def __call__(self, frame: av.AudioFrame) -> Piece:
        channels = frame.layout.nb_channels
        if not LEAST_RATE <= frame.rate <= MOST_RATE:
            raise AudioError(
                f"{self.title} has {frame.rate} samples a second, expected {LEAST_RATE} to {MOST_RATE}: resample it"
            )
        if not 1 <= channels <= MOST_CHANNELS:
            raise AudioError(f"{self.title} has {channels} channels, expected 1 to {MOST_CHANNELS}: mix it down")
        return frame.rate, self._mix(self._channels(frame, channels))

    def _channels(self, frame: av.AudioFrame, channels: int) -> npt.NDArray[np.generic]:
        """(channels, N), in the frame's own sample type."""
        if frame.format.is_planar and channels >= 8:
            return self._packed(frame, channels)
        dtype = _SAMPLES[frame.format.name.removesuffix("p")]
        if frame.format.is_planar:
            return np.stack(
                [np.frombuffer(memoryview(plane), dtype, frame.samples) for plane in frame.planes[:channels]]
            )
        return np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * channels).reshape(-1, channels).T

    def _packed(self, frame: av.AudioFrame, channels: int) -> npt.NDArray[np.generic]:
        # PyAV 18 counts planes until a null pointer, which eight or more don't end in: it would read foreign memory.
        if self._packer is None:
            self._packer = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.rate)
        packed = [
            np.frombuffer(memoryview(part.planes[0]), np.float32, part.samples * channels)
            for part in self._packer.resample(frame)
        ]
        return np.concatenate(packed).reshape(-1, channels).T
