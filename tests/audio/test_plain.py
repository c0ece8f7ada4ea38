"""The plainest WAV is read without FFmpeg, and holds the same samples."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eardrop.audio.decode import decoded
from eardrop.audio.plain import plain_samples
from eardrop.audio.read import read
from eardrop.audio.samples import Findings, Piece, mean_of
from eardrop.audio.source import Handed
from tests.audio.made_audio import chirp


def wav(samples: np.ndarray, rate: int = 16_000, **changed: int | bytes) -> bytes:
    """A file of the header's 13 fields, some of them changed."""
    sound = np.asarray(samples, "<i2").tobytes()
    fields: dict[str, int | bytes] = {
        "riff": b"RIFF", "size": 36 + len(sound), "wave": b"WAVE", "fmt": b"fmt ", "fmt_size": 16, "tag": 1,
        "channels": 1, "rate": rate, "second": 2 * rate, "align": 2, "bits": 16, "data": b"data", "length": len(sound),
    }  # fmt: skip
    widths = dict.fromkeys(("tag", "channels", "align", "bits"), 2)
    head = b"".join(
        value if isinstance(value, bytes) else value.to_bytes(widths.get(name, 4), "little")
        for name, value in (fields | changed).items()
    )
    return head + sound


SOUND = np.random.default_rng(0).integers(-32768, 32768, 50_001)


def plain(handed: Handed) -> Iterator[Piece] | None:
    return plain_samples(handed, mix=mean_of, found=Findings())


def pieces(file: bytes) -> list[np.ndarray]:
    return [samples for _, samples in plain(Handed(io.BytesIO(file))) or ()]


@pytest.mark.parametrize("count", [1, 16_000, 50_001])
def test_it_has_the_samples_that_ffmpeg_reads(count: int) -> None:
    file = wav(SOUND[:count])
    got = pieces(file)
    from eardrop.audio.containers import sniff

    handed = Handed(io.BytesIO(file))
    container = sniff(file[:64], "a")
    through_ffmpeg = decoded(handed, container, track=None, mix=mean_of, title="a", found=Findings())
    np.testing.assert_array_equal(np.concatenate(got), np.concatenate([samples for _, samples in through_ffmpeg]))
    np.testing.assert_array_equal(read(file), np.concatenate(got))


@pytest.mark.parametrize(
    "file",
    [
        wav(SOUND, tag=3),
        wav(SOUND, channels=2, align=4, second=64_000),
        wav(SOUND, bits=8),
        wav(SOUND, data=b"LIST"),
        wav(SOUND, riff=b"RIFX"),
        wav(SOUND, rate=3_999, second=7_998),
        wav(SOUND)[:-2],
        wav(SOUND) + b"more",
        wav(SOUND, length=0),
        wav(SOUND, length=0xFFFFFFFF, size=0xFFFFFFFF),  # from a pipe
        wav(SOUND[:0]),
        wav(SOUND)[:20],
        b"",
    ],
    ids=range(13),
)
def test_what_differs_in_anything_is_left_to_ffmpeg_unread(file: bytes) -> None:
    handed = Handed(io.BytesIO(file))
    assert plain(handed) is None
    assert handed.read(len(file) + 1) == file


def test_a_file_that_gives_less_than_it_is_asked_for_is_read_whole() -> None:
    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(min(count, 999) if count and count > 0 else count)

    np.testing.assert_array_equal(read(Slow(wav(SOUND))), read(wav(SOUND)))


def test_a_file_that_shrinks_while_it_is_read_ends_there() -> None:
    file = io.BytesIO(wav(SOUND))
    samples = plain(Handed(file)) or iter(())
    file.truncate(44 + 20_001)
    assert sum(len(piece) for _, piece in samples) == 10_000


def test_another_rate_is_resampled() -> None:
    sound = (chirp(44_100) * 32767).astype(np.int16)
    assert len(read(wav(sound, 44_100))) == round(len(sound) * 16_000 / 44_100)


def test_ffmpeg_is_not_even_imported(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(SOUND))
    program = (
        "import sys; from eardrop.audio import read; read(sys.argv[1])\n"
        "print([name for name in ('av', 'soxr') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
