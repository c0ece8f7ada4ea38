"""Audio in: sources, options and limits of `read` and `blocks`."""

import io
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eardrop.audio.containers import Container, RawPCM
from eardrop.audio.read import blocks, channels, name_of, read
from eardrop.audio.samples import at_16k, stretch
from eardrop.errors import AudioError, AudioTooLong, OptionError
from tests.audio.made_audio import chirp, encoded, made

WAV = made("wav_s16")
SOUND = chirp(16_000)


class Pipe(io.RawIOBase):
    """Bytes that can't be rewound, in the small portions of a pipe."""

    def __init__(self, whole: bytes) -> None:
        self._whole, self.read_bytes = io.BytesIO(whole), 0

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        portion = self._whole.read(min(len(room), 1000))
        room[: len(portion)] = portion
        self.read_bytes += len(portion)
        return len(portion)


# sources


def test_a_path_its_bytes_and_a_file_object_give_the_same_samples(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(WAV)
    with path.open("rb") as file:
        for source in (path, str(path), WAV, io.BytesIO(WAV), file):
            np.testing.assert_array_equal(read(source), SOUND)
        assert not file.closed


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"seven b" + WAV)
    file.seek(7)
    np.testing.assert_array_equal(read(file), SOUND)


@pytest.mark.parametrize("name", ["wav_s16", "flac", "mp3", "opus", "vorbis", "opus_in_webm", "aac", "aac_in_mpegts"])
def test_a_pipe_is_read_forwards(name: str) -> None:
    forwards, whole = read(Pipe(made(name))), read(made(name))
    # FFmpeg cuts the padding after an MP3 only where it can look ahead; the resampler's filter hears it before
    np.testing.assert_allclose(forwards[: len(whole)], whole, atol=1e-4)
    np.testing.assert_array_equal(forwards[: len(whole) - 300], whole[:-300])
    assert len(forwards) - len(whole) < 300


@pytest.mark.parametrize("name", ["aac_in_m4a", "aiff", "caf", "mp3_in_avi", "wma"])
def test_a_container_with_its_index_at_the_end_is_spooled_from_a_pipe(name: str) -> None:
    np.testing.assert_array_equal(read(Pipe(made(name))), read(made(name)))


def test_the_spool_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eardrop.audio.source.SPOOL_LIMIT", 5_000)
    with pytest.raises(AudioError, match="is a pipe of more than"):
        read(Pipe(made("aac_in_m4a")))


def test_a_pipe_is_read_block_by_block_not_at_once() -> None:
    pipe = Pipe(made("wav_s16", seconds=30))
    first = next(blocks(pipe))
    assert len(first) == 16_000
    assert pipe.read_bytes < 200_000  # of 960,000


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe(made("aac_in_mp4")))))
    np.testing.assert_array_equal(read("-"), read(made("aac_in_mp4")))


def test_a_terminal_is_refused_as_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO())
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(AudioError, match="standard input is a terminal: pipe"):
        read("-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(WAV,))
    writer.start()
    np.testing.assert_array_equal(read(path), SOUND)
    writer.join()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("http://127.0.0.1:9/talk.wav", "is an address: eardrop opens files only"),
        ("file:///etc/passwd", "is an address"),
        ("concat:a.wav|b.wav", "is an address"),
        ("subfile,,start,0,end,9,,:a.wav", "is an address"),
        ("no/such/talk.wav", "doesn't exist"),
        ("talk\x00.wav", "doesn't exist"),
    ],
)
def test_what_is_no_file_is_refused_in_one_line(path: str, words: str) -> None:
    with pytest.raises(AudioError, match=words) as refused:
        read(path)
    assert str(refused.value).isprintable()


def test_a_folder_a_device_and_a_socket_are_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        read(tmp_path)
    if os.name == "posix":
        with pytest.raises(AudioError, match="zero is a device"):
            read("/dev/zero")
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
            with pytest.raises(AudioError, match="s is a socket"):
                read("s")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.touch(mode=0)
    with pytest.raises(AudioError, match=r"talk\.wav can't be read: Permission denied"):
        read(path)


def test_a_file_object_of_text_is_refused() -> None:
    with pytest.raises(AudioError, match="open it in binary mode"):
        read(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_file_object_that_gives_more_than_asked_for_is_refused() -> None:
    class Generous(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            return super().read((count or 0) + 100_000)

    with pytest.raises(AudioError, match="gives no bytes"):
        read(Generous(WAV * 10))


def test_a_failing_file_object_raises_what_it_raised() -> None:
    class Failing(Pipe):
        def readinto(self, room: Any) -> int:
            if self.read_bytes > 9_000:
                raise KeyboardInterrupt
            return super().readinto(room)

    with pytest.raises(KeyboardInterrupt):
        read(Failing(WAV))


def test_another_type_is_refused_by_its_name() -> None:
    with pytest.raises(AudioError, match="audio is of type list, expected a path"):
        read([0.0])  # type: ignore[arg-type]


def test_messages_call_a_source_by_a_name_that_steers_no_terminal() -> None:
    assert name_of("folder/talk.wav") == "talk.wav"
    assert name_of(Path("a\x1b[31mb.wav")) == r"a\x1b[31mb.wav"
    assert name_of("-") == "standard input"
    assert name_of(b"") == "bytes"
    assert name_of(np.zeros(1)) == "array"
    assert name_of(io.BytesIO()) == "file object"
    with pytest.raises(AudioError) as refused:
        read("folder/\x1b]0;owned\x07.wav")
    assert str(refused.value).isprintable()


# arrays


def test_an_array_at_16_khz_is_taken_as_it_is() -> None:
    np.testing.assert_array_equal(read(SOUND), SOUND)
    np.testing.assert_array_equal(read(SOUND.astype(np.float64), rate=16_000), SOUND)


@pytest.mark.parametrize(("dtype", "one"), [("i1", 2**7), ("i2", 2**15), ("i4", 2**31), (">i2", 2**15)])
def test_integers_are_scaled_by_their_width(dtype: str, one: int) -> None:
    array = np.array([-one, -one // 2, 0, one // 2], dtype)
    np.testing.assert_array_equal(read(array), np.float32([-1, -0.5, 0, 0.5]))


def test_channels_are_averaged_in_float32() -> None:
    rng = np.random.default_rng(5)
    array = rng.uniform(-1, 1, (1000, 3)).astype(np.float32)
    mean = (array[:, 0] + array[:, 1] + array[:, 2]) / np.float32(3)
    np.testing.assert_array_equal(read(array), mean)


@pytest.mark.parametrize("array", [np.zeros((2, 16_000), "f4"), np.zeros((9, 9, 9), "f4"), np.zeros((), "f4")])
def test_an_array_of_another_shape_is_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(AudioError, match=r"expected \(samples,\) or \(samples, channels\)"):
        read(array)


@pytest.mark.parametrize("dtype", ["c8", "?", "i8", "f2", "U1"])
def test_an_array_of_another_type_is_refused(dtype: str) -> None:
    with pytest.raises(AudioError, match="expected uint8, int8, int16, int32, float32 or float64"):
        read(np.zeros(9, dtype))


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e30, "1e+30")])
def test_a_value_that_is_no_sound_is_refused_with_its_place(value: float, shown: str) -> None:
    spoilt = np.zeros(40_000, np.float32)
    spoilt[20_000] = value
    file = encoded("wav", "pcm_f32le", 16_000, spoilt)
    for source in (spoilt, file):
        with pytest.raises(AudioError) as refused:
            read(source)
        assert f"holds the value {shown} at sample 20000 (1.250 s)" in str(refused.value)


def test_a_float64_beyond_float32_is_refused_without_a_warning() -> None:
    with pytest.raises(AudioError, match="holds the value inf at sample 1 "):
        read(np.array([0.0, 1e300]))


# lengths, rates, channels


def test_zero_samples_are_refused_and_one_is_read() -> None:
    with pytest.raises(AudioError, match="array holds no samples"):
        read(np.zeros(0, np.float32))
    np.testing.assert_array_equal(read(np.float32([0.25])), np.float32([0.25]))
    np.testing.assert_array_equal(read(encoded("wav", "pcm_s16le", 16_000, np.float32([0.25]))), np.float32([0.25]))


def test_silence_is_silence() -> None:
    for name in ("pcm_s16le", "flac"):
        silence = read(encoded("matroska", name, 44_100, np.zeros(44_100, np.float32)))
        assert len(silence) == 16_000
        assert not silence.any()


RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_becomes_16_khz_with_its_length_and_without_delay(rate: int) -> None:
    for count in (rate // 8_000, 997, 3 * rate + 1):
        resampled = read(np.zeros(count, np.float32), rate=rate)
        assert abs(len(resampled) - count * 16_000 / rate) <= 0.5
    time_ = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 1000 * time_).astype(np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    heard = read(encoded("wav", "pcm_f32le", rate, tone))
    # away from the ends, where the filter sees the cut: 16 bits are 3e-5
    np.testing.assert_allclose(heard[500:-500], expected[500:-500], atol=3e-5)


def test_a_rate_that_changes_on_the_way_loses_no_samples() -> None:
    pieces = [(rate, np.zeros(rate, np.float32)) for rate in (8_000, 16_000, 44_100, 16_000)]  # a second each
    assert sum(map(len, at_16k(pieces))) == 4 * 16_000


def test_resampling_does_not_depend_on_how_the_file_is_cut_in_pieces() -> None:
    whole = made("wav_f64_48k")
    np.testing.assert_allclose(read(whole), read(chirp(48_000), rate=48_000), atol=1e-6)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize(("container", "encoder"), [("wav", "pcm_s16le"), ("flac", "flac")])
def test_one_to_eight_channels_are_averaged(channels: int, container: str, encoder: str) -> None:
    # every channel its own loudness, so that a lost or doubled one moves the mean
    gains = np.arange(1, channels + 1, dtype=np.float32) / 8
    heard = read(encoded(container, encoder, 16_000, gains[:, np.newaxis] * SOUND))
    ratio = np.dot(heard[: len(SOUND)], SOUND) / np.dot(SOUND, SOUND)
    assert ratio == pytest.approx(gains.mean(), rel=1e-3)


@pytest.mark.parametrize(("container", "encoder", "channels"), [("matroska", "aac", 8), ("ogg", "libopus", 8)])
def test_eight_planes_are_read_though_pyav_miscounts_them(container: str, encoder: str, channels: int) -> None:
    heard = read(encoded(container, encoder, 48_000, np.stack([chirp(48_000)] * channels)))
    assert np.corrcoef(heard[: len(SOUND)], SOUND)[0, 1] > 0.95  # one channel is for deep sounds alone


@pytest.mark.parametrize("rate", [1, 3_999, 384_001, 10**9])
def test_a_rate_of_no_recorder_is_refused(rate: int) -> None:
    with pytest.raises(OptionError, match="expected 4000 to 384000"):
        read(SOUND, rate=rate)
    broken = bytearray(WAV)
    place = broken.index(b"fmt ") + 12
    broken[place : place + 4] = rate.to_bytes(4, "little")
    with pytest.raises(AudioError, match="samples a second, expected 4000 to 384000"):
        read(bytes(broken))


def test_33_channels_are_refused() -> None:
    with pytest.raises(AudioError, match="33 channels, expected 1 to 32"):
        read(bytes(6600), raw=RawPCM(16_000, "s16le", channels=33))


@pytest.mark.parametrize("format_", ["s16le", "s16be", "s24le", "s32le", "f32le", "f64be", "u8", "s8", "mulaw", "alaw"])
def test_headerless_samples_are_read_in_every_format(format_: str) -> None:
    body = encoded(format_, f"pcm_{format_}", 8_000, np.stack([chirp(8_000)] * 2))
    heard = read(body, raw=RawPCM(8_000, format_, channels=2))
    assert len(heard) == 24_000
    assert np.corrcoef(heard, SOUND)[0, 1] > 0.99


def test_a_raw_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match="raw format is 'int16', expected one of: alaw"):
        RawPCM(16_000, "int16")


# options


def test_options_that_do_not_fit_the_source_are_refused() -> None:
    for wrong in ({"track": 0}, {"raw": RawPCM(16_000)}):
        with pytest.raises(OptionError, match="an array has neither"):
            blocks(SOUND, **wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="rate belongs to arrays"):
        blocks(WAV, rate=16_000)
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(OptionError, match="expected seconds above 0"):
            blocks(WAV, max_seconds=limit)


def test_a_recording_of_exactly_the_limit_is_read_and_a_sample_more_is_not() -> None:
    assert len(read(SOUND, max_seconds=1.5)) == 24_000
    with pytest.raises(AudioTooLong, match=r"longer than the limit of 1.49 s: raise max_seconds \(--max-seconds"):
        read(SOUND, max_seconds=1.49)


def test_a_small_file_that_grows_is_stopped_while_it_is_decoded() -> None:
    bomb = encoded("flac", "flac", 8_000, np.zeros(20 * 60 * 8_000, np.float32))
    assert len(bomb) < 300_000  # 38 MB when decoded
    heard, lengths = blocks(bomb, max_seconds=5), []
    with pytest.raises(AudioTooLong):
        lengths.extend(len(block) for block in heard)
    assert sum(lengths) <= 5 * 16_000


def test_the_length_is_counted_not_believed() -> None:
    liar = bytearray(made("flac", seconds=3))
    liar[21:26] = bytes([liar[21] & 0xF0, 0, 0, 0, 1])  # STREAMINFO: one sample in all
    with pytest.raises(AudioTooLong):
        read(bytes(liar), max_seconds=2)


def test_blocks_are_a_second_long_and_join_to_the_whole() -> None:
    lengths = [len(block) for block in blocks(made("mp3", seconds=3.25))]
    assert lengths == [16_000, 16_000, 16_000, 4_000]


def test_closed_blocks_close_their_file(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(made("wav_s16", seconds=5))
    heard = blocks(path)
    next(heard)
    heard.close()
    assert list(heard) == []  # and no ResourceWarning, which would be an error


# locks


def test_ffmpeg_is_given_bytes_without_a_name_and_one_demuxer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def watched(file: Any, mode: str, **settings: Any) -> Any:
        given.update(settings, file=file)
        return opening(file, mode, **settings)

    opening = av.open
    monkeypatch.setattr(av, "open", watched)
    path = tmp_path / "talk.wav"
    path.write_bytes(WAV)
    read(path)
    assert given["format"] == given["container_options"]["format_whitelist"] == "wav"
    assert given["container_options"]["protocol_whitelist"] == ""
    assert not hasattr(given["file"], "name")
    assert not hasattr(given["file"], "write")


def test_a_playlist_past_the_sniff_still_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.aac"
    secret.write_bytes(made("aac"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["eardrop.audio.read"], "sniff", lambda head, title: Container("HLS", "hls", ""))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.aac\n#EXT-X-ENDLIST\n"
    with pytest.raises(AudioError, match=r"bytes names another file, .*secret\.aac"):
        read(playlist.encode())


def test_ffmpeg_says_nothing_on_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    before = av.logging.get_level()
    damaged = made("aac_in_mpegts")
    read(damaged[:4_000] + bytes(500) + damaged[4_500:])
    assert capfd.readouterr() == ("", "")
    assert av.logging.get_level() == before  # a user's own setting is a user's


# stretches and channels


LONG = chirp(16_000, seconds=4.3)
STRETCHED = {"array": LONG, "flac": encoded("flac", "flac", 16_000, LONG), "mp3 at 44.1 kHz": made("mp3", seconds=4.3)}
WHOLES = {name: read(source) for name, source in STRETCHED.items()}
# samples of a start or an end, about the borders of blocks, where a sample is lost or doubled most easily
PLACES = sorted({block * 16_000 + off for block in range(5) for off in (-1, 0, 1, 4_777)} - {-1})


@pytest.mark.parametrize("name", STRETCHED)
@given(st.sampled_from(PLACES), st.none() | st.sampled_from(PLACES) | st.integers(1, 80_000))
@settings(deadline=None, max_examples=30)
def test_a_stretch_holds_the_very_samples_of_the_whole(name: str, first: int, last: int | None) -> None:
    assume(last is None or last > first)
    heard = list(blocks(STRETCHED[name], start=first / 16_000, end=None if last is None else last / 16_000))
    np.testing.assert_array_equal(np.concatenate(heard), WHOLES[name][first:last])
    assert {len(block) for block in heard[:-1]} <= {16_000}


def test_a_stretch_of_a_pipe_leaves_the_rest_of_it_unread() -> None:
    pipe = Pipe(made("wav_s16", seconds=30))
    np.testing.assert_array_equal(read(pipe, start=0.5, end=2), chirp(16_000, 30)[8_000:32_000])
    assert pipe.read_bytes < 200_000  # of 960,000


def test_what_comes_after_the_end_is_not_decoded() -> None:
    asked: list[int] = []

    def pieces() -> Iterator[np.ndarray]:
        for number in range(10):
            asked.append(number)
            yield np.zeros(1_000, np.float32)

    assert sum(map(len, stretch(pieces(), 500, 2_000, title="talk"))) == 1_500
    assert asked == [0, 1]


def test_a_start_after_the_end_of_the_recording_names_both() -> None:
    for start in (1.5, 20):
        with pytest.raises(AudioError, match=rf"bytes ends at 1\.500 s, and was wanted from {start:.3f} s on: choose"):
            read(WAV, start=start)
    np.testing.assert_array_equal(read(WAV, start=23_999 / 16_000, end=9), SOUND[-1:])
    with pytest.raises(AudioError, match="array holds no samples"):
        read(np.zeros(0, np.float32), start=1)


@pytest.mark.parametrize(
    "wished",
    [{"start": 2, "end": 2}, {"start": 2, "end": 1}, {"end": 0}, {"end": -1}, {"end": 1e-9}, {"end": float("nan")}],
)
def test_a_stretch_that_holds_nothing_is_refused(wished: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=r"end is .*, expected seconds after the start, which is"):
        blocks(WAV, **wished)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [-1e-9, -3, float("nan"), float("inf")])
def test_a_start_that_is_no_time_is_refused(start: float) -> None:
    with pytest.raises(OptionError, match=r"start is .*, expected seconds from 0 on"):
        blocks(WAV, start=start)


def test_the_limit_is_counted_from_the_start_of_the_recording() -> None:
    assert len(read(LONG, start=1, end=2, max_seconds=2)) == 16_000
    with pytest.raises(AudioTooLong):
        read(LONG, start=3, end=4, max_seconds=2)


@pytest.mark.parametrize("made_of", [("wav", "pcm_s16le"), ("flac", "flac"), ("matroska", "pcm_s16le")])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_channel_alone_holds_the_very_samples_of_it(made_of: tuple[str, str], count: int) -> None:
    # a power of two each, so that 16 bits hold them exactly
    voices = np.stack([np.roll(np.round(SOUND * 2**11) / 2**11, 100 * number) for number in range(count)])
    file = encoded(*made_of, 16_000, voices)
    for source in (file, np.ascontiguousarray(voices.T)):
        assert channels(source) == count
        for channel in range(count):
            heard = blocks(source, channel=channel)
            np.testing.assert_array_equal(np.concatenate(list(heard))[:24_000], voices[channel])
            assert heard.channels == count
        with pytest.raises(OptionError, match=rf"has no channel {count}: it has {count}, counted from 0"):
            read(source, channel=count)


def test_a_channel_below_0_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(OptionError, match="channel is -1, expected a number from 0"):
        blocks("no such file", channel=-1)


def test_channels_are_those_of_the_track_asked_for_and_of_raw_samples() -> None:
    with pytest.raises(AudioError, match="has no audio track 1"):
        channels(WAV, track=1)
    assert channels(bytes(600), raw=RawPCM(16_000, channels=3)) == 3
    with pytest.raises(AudioError, match="holds no samples"):
        channels(encoded("flac", "flac", 16_000, np.zeros(0, np.float32)))


def test_a_look_at_the_channels_reads_little_and_leaves_the_file_where_it_stood() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, count: int | None = -1, /) -> bytes:
            given = super().read(count)
            self.taken += len(given)
            return given

    file = Counting(b"seven b" + made("wav_s24", seconds=60))
    file.seek(7)
    assert channels(file) == 1
    assert file.taken < len(file.getvalue()) / 5
    assert file.tell() == 7


def test_a_pipe_is_not_looked_at_for_its_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe(WAV)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(pipe)))
    with pytest.raises(OptionError, match=r"standard input is a pipe, .* again .*: save it to a file"):
        channels("-")
    assert pipe.read_bytes == 0


# what a header promises


@pytest.mark.parametrize("name", ["wav_s16", "wav_f64_48k", "flac", "mp3", "opus", "opus_in_webm", "aac_in_m4a", "wma"])
def test_the_seconds_that_a_header_announces_are_known_with_the_first_block(name: str) -> None:
    heard = blocks(made(name, seconds=3.25), start=1, end=2)
    next(heard)
    assert heard.announced == pytest.approx(3.25, abs=0.2)


def test_an_array_announces_what_it_has() -> None:
    heard = blocks(SOUND, rate=8_000)
    next(heard)
    assert heard.announced == 3.0


@pytest.mark.parametrize("pipe", [False, True])
def test_an_absurd_promise_is_none(pipe: bool) -> None:
    liar = bytearray(made("flac", seconds=3))
    liar[21:26] = bytes([liar[21] & 0xF0 | 0xF, 0xFF, 0xFF, 0xFF, 0xFF])  # STREAMINFO: 49 days
    heard = blocks(Pipe(bytes(liar)) if pipe else bytes(liar))
    assert sum(map(len, heard)) == 3 * 16_000
    assert heard.announced is None


@pytest.mark.parametrize("nbytes", [100, 9_000, 9_500])
def test_a_recording_cut_off_before_its_first_sound_is_damaged_and_promises_nothing(nbytes: int) -> None:
    liar = bytearray(
        encoded("flac", "flac", 16_000, np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32))
    )
    liar[21:26] = bytes([liar[21] & 0xF0, *(9 * 3600 * 16_000).to_bytes(4, "big")])  # STREAMINFO: nine hours
    head = bytes(liar[:nbytes])
    for source in (head, Pipe(head)):
        heard = blocks(source)
        with pytest.raises(AudioError, match=r"can't be read as FLAC .* damaged or cut off; export it again"):
            next(heard)
        assert heard.announced is None
    with pytest.raises(AudioError, match="damaged or cut off"):
        channels(head)
