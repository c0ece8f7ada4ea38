"""What is read, what is refused, and with which words: the table of every container and codec."""

import io
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from eardrop.audio.containers import CONTAINERS, sniff
from eardrop.audio.decode import _packets
from eardrop.audio.read import RawPCM, blocks, read
from eardrop.errors import AudioError
from tests.audio.made_audio import LOSSLESS, MADE, chirp, encoded, made

# Every file of the recordings' folder `formats`: how many samples at 16 kHz, SAME for the very samples of
# wav_s16_16k.wav, of which all are made, or the words of the refusal.
SAME = "the very samples"
FORMATS: dict[str, int | str] = {
    "wav_s16_16k.wav": SAME,
    "wav_s24_16k.wav": SAME,
    "wav_s32_16k.wav": SAME,
    "wav_f32_16k.wav": SAME,
    "wav_streaming_sizes.wav": SAME,
    "wav_list_chunk_first.wav": SAME,
    "rf64_s16_16k.wav": SAME,
    "aiff_s16be.aiff": SAME,
    "au_s16be.au": SAME,
    "caf_s16.caf": SAME,
    "flac_16.flac": SAME,
    "flac.ogg": SAME,
    "flac_named_mp3.mp3": SAME,
    "alac.m4a": SAME,
    "w64_s16_16k.w64": 17528,  # its chunk length counts four bytes of padding
    "wav_truncated.wav": 9978,
    "wav_u8_16k.wav": 17526,
    "wav_f64_8k.wav": 17526,
    "wav_alaw_8k.wav": 17526,
    "wav_mulaw_8k.wav": 17526,
    "wav_adpcm_ima_16k.wav": 18369,
    "wav_s16_44k_stereo.wav": 17526,
    "wav_s16_11k.wav": 17527,
    "wav_s16_48k.wav": 17526,
    "wav_6ch_16k.wav": 17526,
    "flac_24_48k.flac": 17526,
    "gsm_8k.wav": 17920,
    "mp3_cbr64.mp3": 17526,
    "mp3_vbr_44k_stereo.mp3": 17526,
    "mp3_8k.mp3": 17526,
    "mp3_truncated.mp3": 4655,
    "mp2.mp2": 17504,
    "vorbis.ogg": 17526,
    "vorbis.webm": 17536,
    "opus.opus": 17526,
    "opus.ogg": 17526,
    "opus_stereo_48k.opus": 17526,
    "opus.webm": 17526,
    "opus.mka": 17526,
    "speex.ogg": 17377,
    "aac.m4a": 18432,
    "aac.mp4": 18432,
    "aac.mov": 18432,
    "aac.3gp": 18432,
    "aac.ts": 18432,
    "aac_adts.aac": 18432,
    "ac3.ac3": 17835,
    "wma.wma": 17833,
    "video_h264_aac.mp4": 18432,
    "video_vp8_opus.webm": 17526,
    "video_mpeg4_mp3.mkv": 17526,
    "video_mpeg4_mp3.avi": 17903,
    "two_audio_tracks.mka": 17600,
    "video_without_audio.mp4": "has no sound: expected an audio track, found video",
    "raw_s16le_16k.pcm": "raw=RawPCM(rate=16000, format='s16le')",
    "wav_no_samples.wav": "holds no samples",
    "empty.wav": "is empty: it has 0 bytes",
    "not_audio.wav": "is a text, not sound",
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_recording_of_the_folder_has_its_outcome(name: str, recordings: Path) -> None:
    path, outcome = recordings / "formats" / name, FORMATS[name]
    if isinstance(outcome, str) and outcome != SAME:
        with pytest.raises(AudioError) as refused:
            read(path)
        assert outcome in str(refused.value)
        assert name in str(refused.value)
        assert "\n" not in str(refused.value)
        return
    samples = read(path)
    if outcome == SAME:
        np.testing.assert_array_equal(samples, read(recordings / "formats" / "wav_s16_16k.wav"))
    else:
        assert (samples.dtype, samples.ndim, len(samples)) == (np.float32, 1, outcome)


def test_the_table_names_every_recording_of_the_folder(recordings: Path) -> None:
    assert {path.name for path in (recordings / "formats").iterdir()} == set(FORMATS)


def test_a_second_audio_track_is_read_when_asked_for(recordings: Path) -> None:
    path = recordings / "formats" / "two_audio_tracks.mka"
    speech, first = read(path, track=1), read(path)
    np.testing.assert_array_equal(first, read(path, track=0))
    assert abs(np.fft.rfft(first).argmax() * 16_000 / len(first) - 440) < 2  # the tone is the default
    assert abs(len(speech) - 17_526) < 200
    with pytest.raises(AudioError, match="has no audio track 2: it has 2, counted from 0"):
        read(path, track=2)


def test_tracks_are_counted_from_0() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as muxed:
        streams = [muxed.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(3)]
        for number, stream in enumerate(streams):
            level = np.full((1, 16_000), (number + 1) << 12, np.int16)
            frame = av.AudioFrame.from_ndarray(level, format="s16", layout="mono")
            frame.rate, frame.pts = 16_000, 0
            muxed.mux(stream.encode(frame))
    for track in range(3):
        assert set(read(file.getvalue(), track=track)) == {(track + 1) / 8}
    with pytest.raises(AudioError, match="has no audio track 3: it has 3, counted from 0"):
        read(file.getvalue(), track=3)


def test_headerless_samples_are_read_when_described(recordings: Path) -> None:
    samples = read(recordings / "formats" / "raw_s16le_16k.pcm", raw=RawPCM(16_000, "s16le"))
    np.testing.assert_array_equal(samples, read(recordings / "formats" / "wav_s16_16k.wav"))


@pytest.mark.parametrize("clip", ["speech3", "chirp1", "silence1", "ms20", "ms100"])
def test_16_bit_samples_at_16_khz_are_those_of_llama_cpp(clip: str, golden: Path) -> None:
    path = golden / "clips" / f"{clip}.wav"
    with wave.open(str(path)) as file:
        integers = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_array_equal(read(path), (integers / 32768).astype(np.float32))


def test_flac_at_16_khz_is_the_samples_it_was_made_from(golden: Path) -> None:
    path = golden / "clips" / "speech9.flac"
    with av.open(str(path)) as file:
        integers = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert integers.dtype == np.int16
    np.testing.assert_array_equal(read(path), (integers / 32768).astype(np.float32))


@pytest.mark.parametrize("clip", ["pcm24", "float32"])
def test_24_bit_and_float_samples_at_16_khz_are_those_of_llama_cpp(clip: str, golden: Path) -> None:
    with np.load(golden / "expected" / "mel128" / f"{clip}.npz") as expected:
        np.testing.assert_array_equal(read(golden / "clips" / f"{clip}.wav"), expected["pcm"])


@pytest.mark.parametrize("clip", ["stereo44", "rate8k_u8"])
def test_resampled_clips_have_the_length_and_sound_of_llama_cpp(clip: str, golden: Path) -> None:
    with np.load(golden / "expected" / "mel128" / f"{clip}.npz") as expected:
        theirs = expected["pcm"]
    ours = read(golden / "clips" / f"{clip}.wav")
    assert abs(len(ours) - len(theirs)) <= 1
    shared = min(len(ours), len(theirs))
    # its filter is a Butterworth of fourth order with a delay of its own: alike, not equal
    assert np.corrcoef(ours[: shared - 8], theirs[8:shared])[0, 1] > 0.5 or (
        max(np.corrcoef(ours[: shared - d], theirs[d:shared])[0, 1] for d in range(8)) > 0.9
    )


@pytest.mark.parametrize("name", MADE)
def test_every_container_and_codec_that_can_be_made_is_read(name: str) -> None:
    rate = MADE[name][2]
    samples = read(made(name))
    assert samples.dtype == np.float32
    # a lossy codec ends on a whole packet: at most 2048 samples of its rate, or 40 ms of Opus
    assert -400 <= len(samples) - 24_000 <= max(2048 * 16_000 // rate, 640)
    assert 0.25 < np.abs(samples).max() < 0.5


@pytest.mark.parametrize("name", sorted(LOSSLESS))
def test_lossless_files_at_16_khz_hold_the_very_samples(name: str) -> None:
    np.testing.assert_array_equal(read(made(name)), chirp(16_000))


def test_8_bit_silence_is_zero() -> None:
    silence = encoded("wav", "pcm_u8", 16_000, np.zeros(1600, np.float32))
    assert not read(silence).any()


def test_8_bit_samples_are_centred_and_scaled_by_128() -> None:
    values = read(bytes([0, 64, 128, 192, 255]), raw=RawPCM(16_000, "u8"))
    np.testing.assert_array_equal(values, np.float32([-1, -0.5, 0, 0.5, 127 / 128]))


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container.demuxer)
def test_every_row_of_the_table_is_a_demuxer_of_this_ffmpeg(container: object) -> None:
    assert av.ContainerFormat(container.demuxer, "r").is_input  # type: ignore[attr-defined]


def test_an_id3_tag_does_not_hide_what_follows_it() -> None:
    picture = bytes(300_000)
    size = bytes((len(picture) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x04\x00\x00" + size + picture
    for name in ("mp3", "aac", "flac"):
        np.testing.assert_array_equal(read(tag + made(name)), read(made(name)))


REFUSED = {
    "HLS": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n", "is a playlist"),
    "HLS with a mark": (b"\xef\xbb\xbf#EXTM3U\nhttp://127.0.0.1/a.ts\n", "is a playlist"),
    "DASH": (b"<?xml version='1.0'?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>", "is an XML text"),
    "concat": (b"ffconcat version 1.0\nfile /etc/passwd\n", "is a playlist"),
    "PLS": (b"[playlist]\nFile1=http://127.0.0.1/\n", "is a playlist"),
    "subfile": (b"subfile,,start,0,end,9,,:/etc/passwd", "holds an address"),
    "URL": (b"https://example.org/talk.mp3\n", "holds an address"),
    "a model": (b"GGUF\x03\x00\x00\x00", "is a model file"),
    "MIDI": (b"MThd\x00\x00\x00\x06", "is MIDI"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is a picture"),
    "a PDF": (b"%PDF-1.7", "is a PDF"),
    "an archive": (b"PK\x03\x04", "is an archive"),
    "UTF-16 text": ("Hello, this is no sound.".encode("utf-16"), "begins like no container"),
    "four bytes": (b"RIFF", "begins like no container"),
    "zeros": (bytes(5000), "begins like no container"),
}


@pytest.mark.parametrize(("head", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_recording_is_refused_by_its_name(head: bytes, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        sniff(head, "talk.wav")
    with pytest.raises(AudioError, match=words):
        read(head)


def test_a_wave_file_of_zero_samples_is_refused() -> None:
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
    with pytest.raises(AudioError, match="bytes holds no samples"):
        read(whole.getvalue())


def test_a_video_without_sound_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as muxed:
        stream = muxed.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            muxed.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        muxed.mux(stream.encode(None))
    with pytest.raises(AudioError, match="bytes has no sound: expected an audio track, found video"):
        read(file.getvalue())


def test_a_codec_outside_the_list_is_refused_by_name() -> None:
    with pytest.raises(AudioError, match="encoded as wavpack, which eardrop doesn't decode"):
        read(encoded("matroska", "wavpack", 48_000, chirp(48_000, 0.2)))


def test_a_wave_file_that_is_cut_off_is_read_to_its_end_and_noted() -> None:
    whole = made("wav_s16")
    cut = blocks(whole[:20_000])
    samples = np.concatenate(list(cut))
    np.testing.assert_array_equal(samples, chirp(16_000)[: len(samples)])
    assert len(samples) == (20_000 - whole.index(b"data") - 8) // 2
    assert cut.notes == [f"bytes is cut off: it has 20000 of the {len(whole)} bytes it announces"]


@pytest.mark.parametrize("name", ["wav_s16", "flac", "mp3", "opus", "aac_in_m4a", "aac", "opus_in_webm", "w64"])
def test_a_whole_recording_has_no_notes(name: str) -> None:
    whole = blocks(made(name))
    list(whole)
    assert whole.notes == []


def test_a_wave_file_with_the_sizes_of_a_pipe_is_read() -> None:
    whole = bytearray(made("wav_s16"))
    place = whole.index(b"data")
    whole[4:8] = whole[place + 4 : place + 8] = b"\xff\xff\xff\xff"
    streamed = blocks(bytes(whole))
    np.testing.assert_array_equal(np.concatenate(list(streamed)), chirp(16_000))
    assert streamed.notes == []


def test_a_title_in_no_encoding_does_not_spoil_the_sound() -> None:
    whole = made("wav_s16")
    title = b"LIST\x10\x00\x00\x00INFOINAM\x04\x00\x00\x00\xff\xfe\xfd\x00"
    place = whole.index(b"data")
    np.testing.assert_array_equal(read(whole[:place] + title + whole[place:]), chirp(16_000))


def test_a_stream_that_appears_on_the_way_does_not_spoil_the_end() -> None:
    class Stumbling:  # what PyAV 18 does after the last packet, found by the fuzzer in an MPEG-TS
        def demux(self, stream: object) -> Iterator[object]:
            yield stream
            raise IndexError("list index out of range")

    assert list(_packets(Stumbling(), "packet")) == ["packet"]  # type: ignore[arg-type]
