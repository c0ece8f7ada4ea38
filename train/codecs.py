"""What telephones and the web do to speech: encoded and decoded again, by FFmpeg's codecs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import soxr
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from eardrop.audio import SAMPLE_RATE

Signal = NDArray[np.float32]  # (N,), mono, 16 kHz


@dataclass(frozen=True)
class Codec:
    """One row of the table.

    encoder, decoder  FFmpeg's names
    rate              that it encodes, in Hz
    bit_rates         of which one is drawn
    weight            its share of the coded clips, in parts of the sum: those that take long are rare
    """

    encoder: str
    decoder: str
    rate: int
    bit_rates: tuple[int, ...]
    form: str = "s16"
    weight: int = 1


CODECS: Mapping[str, Codec] = {
    "mu-law": Codec("pcm_mulaw", "pcm_mulaw", 8000, (64000,), weight=3),
    "A-law": Codec("pcm_alaw", "pcm_alaw", 8000, (64000,), weight=3),
    "AMR": Codec("libopencore_amrnb", "amrnb", 8000, (4750, 5900, 7400, 12200), weight=2),
    "MP3": Codec("libmp3lame", "mp3float", SAMPLE_RATE, (8000, 16000, 24000, 40000), "fltp"),
    "Opus": Codec("libopus", "opus", SAMPLE_RATE, (9000, 14000, 24000)),
}


def drawn_codec(draw: np.random.Generator) -> tuple[Codec, int]:
    """A codec by weight, and a bit rate."""
    codecs = list(CODECS.values())
    weights = np.array([codec.weight for codec in codecs])
    codec = codecs[int(draw.choice(len(codecs), p=weights / weights.sum()))]
    return codec, codec.bit_rates[int(draw.integers(len(codec.bit_rates)))]


def coded(signal: Signal, codec: Codec, bit_rate: int) -> Signal:
    """(N,) what comes out at the other end, in place to 5 ms, within -1 … 1."""
    encoder = _opened(codec, bit_rate)
    decoder = av.CodecContext.create(codec.decoder, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout, decoder.extradata = codec.rate, "mono", encoder.extradata
    packets = [packet for frame in (*_frames(signal, codec, encoder), None) for packet in encoder.encode(frame)]
    heard = [frame for packet in packets for frame in decoder.decode(packet)]
    samples = np.concatenate([_floats(frame) for frame in heard])
    back: Signal = soxr.resample(samples, heard[0].sample_rate, SAMPLE_RATE, quality="LQ")[: len(signal)]
    padded: Signal = np.pad(back, (0, len(signal) - len(back)))
    return np.clip(padded, -1, 1)


def _opened(codec: Codec, bit_rate: int) -> AudioCodecContext:
    encoder = av.CodecContext.create(codec.encoder, "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = codec.rate, "mono", codec.form
    encoder.time_base, encoder.bit_rate = Fraction(1, codec.rate), bit_rate
    encoder.open()
    return encoder


def _frames(signal: Signal, codec: Codec, encoder: AudioCodecContext) -> Iterator[av.AudioFrame]:
    """The signal at the codec's rate, in frames of its size, the last filled up with silence."""
    samples = soxr.resample(signal, SAMPLE_RATE, codec.rate, quality="LQ")
    size = encoder.frame_size or len(samples)
    samples = np.pad(samples, (0, -len(samples) % size))
    if codec.form == "s16":
        samples = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
    for start in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + size], format=codec.form, layout="mono")
        frame.sample_rate, frame.pts = codec.rate, start
        yield frame


def _floats(frame: av.AudioFrame) -> Signal:
    samples = frame.to_ndarray()[0]
    floats: Signal = samples.astype(np.float32) / (32768 if samples.dtype == np.int16 else 1)
    return floats
