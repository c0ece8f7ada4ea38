"""Recordings made on the spot, so that the tests of `audio` run without any file: sounds, and PyAV to encode them."""

import io

import av
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

# name: container, encoder, rate. What the containers' table reads and PyAV's wheels can write.
MADE: dict[str, tuple[str, str, int]] = {
    "wav_s16": ("wav", "pcm_s16le", 16_000),
    "wav_u8": ("wav", "pcm_u8", 16_000),
    "wav_s24": ("wav", "pcm_s24le", 16_000),
    "wav_s32": ("wav", "pcm_s32le", 16_000),
    "wav_f32": ("wav", "pcm_f32le", 16_000),
    "wav_f64_48k": ("wav", "pcm_f64le", 48_000),
    "wav_alaw_8k": ("wav", "pcm_alaw", 8_000),
    "wav_mulaw_8k": ("wav", "pcm_mulaw", 8_000),
    "wav_adpcm_ima": ("wav", "adpcm_ima_wav", 16_000),
    "wav_adpcm_ms": ("wav", "adpcm_ms", 16_000),
    "w64": ("w64", "pcm_s16le", 16_000),
    "aiff": ("aiff", "pcm_s16be", 44_100),
    "au": ("au", "pcm_s16be", 16_000),
    "caf": ("caf", "pcm_s16be", 16_000),
    "flac": ("flac", "flac", 16_000),
    "flac_in_ogg": ("ogg", "flac", 16_000),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "mp3_16k": ("mp3", "libmp3lame", 16_000),
    "mp3_in_matroska": ("matroska", "libmp3lame", 16_000),
    "mp3_in_avi": ("avi", "libmp3lame", 16_000),
    "mp2": ("mp2", "mp2", 48_000),
    "vorbis": ("ogg", "vorbis", 44_100),
    "vorbis_in_webm": ("webm", "vorbis", 48_000),
    "opus": ("ogg", "libopus", 48_000),
    "opus_16k": ("ogg", "libopus", 16_000),
    "opus_in_webm": ("webm", "libopus", 48_000),
    "opus_16k_in_matroska": ("matroska", "libopus", 16_000),
    "aac_in_m4a": ("ipod", "aac", 44_100),
    "aac_in_mp4": ("mp4", "aac", 16_000),
    "aac_in_mov": ("mov", "aac", 16_000),
    "aac_in_matroska": ("matroska", "aac", 16_000),
    "aac_in_mpegts": ("mpegts", "aac", 48_000),
    "aac": ("adts", "aac", 16_000),
    "opus_in_mp4": ("mp4", "libopus", 48_000),
    "mp3_in_mp4": ("mp4", "libmp3lame", 44_100),
    "flac_in_mp4": ("mp4", "flac", 16_000),
    "alac": ("ipod", "alac", 16_000),
    "ac3": ("ac3", "ac3", 48_000),
    "eac3_in_matroska": ("matroska", "eac3", 48_000),
    "wma": ("asf", "wmav2", 44_100),
}
# FFmpeg's own Vorbis encoder is called experimental, and knows two channels only; its WMA encoder wants a bit rate.
_SETTINGS = {"vorbis": {"strict": "experimental"}, "wmav2": {"b": "64000"}}
LOSSLESS = {
    "wav_s16",
    "wav_s24",
    "wav_s32",
    "wav_f32",
    "w64",
    "au",
    "caf",
    "flac",
    "flac_in_ogg",
    "flac_in_mp4",
    "alac",
}
LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")


def chirp(rate: int, seconds: float = 1.5) -> Float32:
    """A rising tone with syllables: nothing in it repeats, so that a correlation has one peak."""
    t = np.arange(round(seconds * rate)) / rate
    loudness = 0.3 * (0.55 + 0.45 * np.sin(2 * np.pi * 3.7 * t))
    sound = loudness * np.sin(2 * np.pi * (200 * t + 900 * t**2))
    return (np.round(sound * 2**15) / 2**15).astype(np.float32)  # so that 16 bits hold it exactly


def encoded(container: str, encoder: str, rate: int, sound: Float32) -> bytes:
    """(N,) or (C, N) samples as the bytes of a file."""
    channels = np.atleast_2d(sound)
    layout = LAYOUTS[len(channels) - 1]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as muxed:
        stream = muxed.add_stream(encoder, rate=rate, layout=layout, options=_SETTINGS.get(encoder, {}))
        for start in range(0, channels.shape[1], 1024):
            # packed: PyAV miscounts the planes of eight channels
            packed = np.ascontiguousarray(channels[:, start : start + 1024].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.rate, frame.pts = rate, start
            muxed.mux(stream.encode(frame))
        muxed.mux(stream.encode(None))
    return file.getvalue()


def made(name: str, seconds: float = 1.5) -> bytes:
    """The chirp as a row of MADE."""
    container, encoder, rate = MADE[name]
    sound = chirp(rate, seconds)
    return encoded(container, encoder, rate, np.stack([sound, sound]) if encoder == "vorbis" else sound)


def offset_ms(heard: Float32, original: Float32, rate: int = 16_000) -> float:
    """By how much `heard` is later than `original`, by the peak of their correlation."""
    size = 1 << (len(heard) + len(original)).bit_length()
    both = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size))
    place = int(np.argmax(np.fft.irfft(both, size)))
    return (place - size if place > size // 2 else place) * 1000 / rate
