"""Recordings are known by their samples; what is fetched is checked before it is kept."""

import hashlib
import wave
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest

from eardrop.errors import OptionError
from eardrop.tools import clips
from eardrop.tools.clips import NotFetched, fetch, find, identified
from eardrop.tools.published import Clip, published

RATE = 22_050
SOUND = np.random.default_rng(5).integers(-32768, 32768, 4000).astype("<i2")
CLIP = Clip("noise", "a second of noise", "none", RATE, len(SOUND), hashlib.sha256(SOUND.tobytes()).hexdigest())


def wav(path: Path, samples: np.ndarray = SOUND, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def flac(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(SOUND[None], format="s16", layout="mono")
        frame.rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return path


def test_a_recording_is_the_same_in_any_lossless_file(tmp_path: Path) -> None:
    assert identified(wav(tmp_path / "a"), [CLIP]) is CLIP
    assert identified(flac(tmp_path / "b.flac"), [CLIP]) is CLIP


def test_other_sounds_rates_and_files_are_nobodys(tmp_path: Path) -> None:
    changed = SOUND.copy()
    changed[2000] += 1 if changed[2000] < 0 else -1
    (tmp_path / "text").write_text("no sound")
    for path in (
        wav(tmp_path / "changed", changed),
        wav(tmp_path / "shorter", SOUND[:-1]),
        wav(tmp_path / "longer", np.append(SOUND, SOUND)),
        wav(tmp_path / "faster", rate=44_100),
        tmp_path / "text",
    ):
        assert identified(path, [CLIP]) is None, path


def test_a_folder_is_searched_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = wav(tmp_path / "deep" / "whatever.bin")
    (tmp_path / "notes.txt").write_text("no sound")
    assert find(tmp_path, [CLIP]) == {"noise": path}
    with pytest.raises(OptionError, match=r"--audio: .*notes\.txt is no folder; give one"):
        find(tmp_path / "notes.txt", [CLIP])


def test_all_published_clips_are_found_in_the_recordings(recordings: Path) -> None:
    wanted = published().clips
    found = find(recordings / "speech", wanted.values()) | find(recordings / "liquid", wanted.values())
    assert set(found) == set(wanted)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *what: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_clip_is_fetched_once_from_the_first_address_that_has_it(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    there = wav(folder / "noise.wav")
    addresses = {"noise": (f"{address}/absent.wav", f"{address}/noise.wav")}
    path = fetch(CLIP, tmp_path / "kept", addresses)
    assert identified(path, [CLIP]) is CLIP
    there.unlink()
    assert fetch(CLIP, tmp_path / "kept", addresses) == path


def test_what_is_another_recording_is_not_kept(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    wav(folder / "noise.wav", SOUND[::-1])
    with pytest.raises(NotFetched, match=r"the clip noise couldn't be fetched \(127.*: it holds another recording"):
        fetch(CLIP, tmp_path / "kept", {"noise": [f"{address}/noise.wav"]})
    assert not list((tmp_path / "kept").iterdir())


def test_what_is_too_large_is_not_read_to_its_end(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    wav(folder / "noise.wav")
    monkeypatch.setattr(clips, "MOST_BYTES", 100)
    with pytest.raises(NotFetched, match="it is larger than 100 bytes"):
        fetch(CLIP, tmp_path / "kept", {"noise": [f"{address}/noise.wav"]})
    assert not list((tmp_path / "kept").iterdir())


def test_a_damaged_copy_is_fetched_anew(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    wav(folder / "noise.wav")
    (tmp_path / "noise").write_bytes(b"RIFF")
    assert identified(fetch(CLIP, tmp_path, {"noise": [f"{address}/noise.wav"]}), [CLIP]) is CLIP


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ((), "no address of it is known"),
        (("http://127.0.0.1:9/x",), "127.0.0.1:9: .*refused"),
        (("file:///etc/passwd",), "not an https address"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(addresses: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match=rf"^the clip noise couldn't be fetched \(.*{reason}\); give it with --audio$"):
        fetch(CLIP, tmp_path, {"noise": addresses})


def test_every_published_clip_has_an_address_that_would_be_asked() -> None:
    for clip in published().clips.values():
        assert clip.licence
        assert all(address.startswith("https://") for address in clip.addresses)
        assert clip.addresses or clip.note
