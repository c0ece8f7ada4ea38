"""Sample n is what was heard n / 16,000 s after the start: encoder delay is removed, gaps are kept."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from eardrop.audio.read import blocks, read
from tests.audio.made_audio import MADE, chirp, made, offset_ms
from tests.audio.test_read_formats import FORMATS, SAME

ALLOWED_MS = 5.0


@pytest.mark.parametrize("name", MADE)
def test_no_codec_moves_the_sound(name: str) -> None:
    assert abs(offset_ms(read(made(name)), chirp(16_000))) <= ALLOWED_MS


@pytest.mark.parametrize(
    "name", [name for name, outcome in FORMATS.items() if outcome == SAME or isinstance(outcome, int)]
)
def test_no_recording_of_the_folder_is_moved(name: str, recordings: Path) -> None:
    original = read(recordings / "formats" / "wav_s16_16k.wav")
    samples = read(recordings / "formats" / name, track=1 if name.startswith("two_audio_tracks") else None)
    assert abs(offset_ms(samples, original)) <= ALLOWED_MS


def test_sound_that_starts_later_than_its_video_keeps_its_place() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as muxed:
        video = muxed.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        audio = muxed.add_stream("flac", rate=16_000, layout="mono")
        for number in range(20):
            picture = av.VideoFrame(32, 32, "yuv420p")
            picture.pts = number
            muxed.mux(video.encode(picture))
        muxed.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(chirp(16_000)[np.newaxis], format="flt", layout="mono")
        frame.rate, frame.pts = 16_000, 8_000  # half a second
        for packet in [*audio.encode(frame), *audio.encode(None)]:
            muxed.mux(packet)
    samples = read(file.getvalue())
    assert not samples[:7_900].any()
    assert abs(offset_ms(samples, chirp(16_000)) - 500) <= 1


def test_a_damaged_packet_becomes_silence_and_what_follows_keeps_its_time() -> None:
    whole = bytearray(made("flac_in_mp4", seconds=3))
    place = whole.index(b"mdat") + (len(whole) - whole.index(b"mdat")) // 3
    whole[place : place + 400] = bytes(400)
    damaged = blocks(bytes(whole))
    samples, original = np.concatenate(list(damaged)), chirp(16_000, 3)
    np.testing.assert_array_equal(samples[-16_000:], original[len(samples) - 16_000 : len(samples)])
    assert any("is damaged" in note for note in damaged.notes)
