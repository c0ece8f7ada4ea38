"""Decoding in child processes: the same blocks, and whatever happens to a child is one error for one recording."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eardrop.audio import Blocks, RawPCM, apart, blocks, channels, read
from eardrop.audio.apart import Decoders
from eardrop.audio.child import BLOCK, FAILED, FOUND
from eardrop.audio.samples import Findings
from eardrop.errors import AudioError, AudioTooLong, Cancelled, EardropError, EngineClosed, OptionError
from tests.audio.made_audio import chirp, encoded, made
from tests.conftest import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
WAV, MP3 = made("wav_s16"), made("mp3", seconds=3.25)
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits are POSIX")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

pytestmark = pytest.mark.usefixtures("impatient") if os.name == "posix" else []


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """Two children for the tests that do them no harm."""
    with Decoders(2) as made_once:
        yield made_once


@pytest.fixture
def long_wav(tmp_path: Path) -> Path:
    """Three minutes, 6 MB: no child has sent them before it is asked for them."""
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "NONE"))
        file.writeframes(bytes(180 * 2 * 16_000))
    return path


def outcome(reading: Callable[..., Blocks], source: Any, **keywords: Any) -> tuple[Any, ...]:
    """All that there is to know about a reading."""
    heard, got = reading(source, **keywords), []
    try:
        got = [(len(block), block.dtype, block.flags.writeable, block.tobytes()) for block in heard]
    except EardropError as error:
        return type(error), str(error), heard.notes, heard.announced, heard.channels
    return got, heard.notes, heard.announced, heard.channels


def pids(decoders: Decoders) -> list[int]:
    return [child._process.pid for child in decoders._children if child._process is not None]


def reading(pid: int, path: Path) -> int:
    """How far another process has read a file."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if link.readlink() == path:
                return int(Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split()[1])
    raise AssertionError(f"{path} is not open")


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for has no command line."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# the same as here


def test_blocks_notes_and_promises_are_the_same_as_here(decoders: Decoders) -> None:
    damaged = bytearray(made("flac_in_mp4", seconds=3))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 400] = bytes(400)
    for source in (WAV, WAV[:-9_000], MP3, made("opus"), bytes(damaged), bytearray(WAV), memoryview(MP3)):
        assert outcome(decoders.blocks, source) == outcome(blocks, source)


def test_every_recording_of_the_folder_has_the_same_outcome(decoders: Decoders, recordings: Path) -> None:
    for path in sorted((recordings / "formats").iterdir()):
        assert outcome(decoders.blocks, path) == outcome(blocks, path), path


@pytest.mark.parametrize(
    "keywords",
    [
        {"start": 0.7, "end": np.float32(1.4)},
        {"start": 7},
        {"channel": np.int64(1)},
        {"channel": 2},
        {"track": 1},
        {"max_seconds": 1},
        {"max_seconds": float("inf")},
        {"raw": RawPCM(8_000, "u8", channels=2)},
    ],
    ids=str,
)
def test_keywords_and_errors_are_the_same_as_here(keywords: dict[str, Any], decoders: Decoders) -> None:
    stereo = encoded("wav", "pcm_s16le", 16_000, np.stack([chirp(16_000), -chirp(16_000)]))
    assert outcome(decoders.blocks, stereo, **keywords) == outcome(blocks, stereo, **keywords)


def test_errors_keep_their_class(decoders: Decoders) -> None:
    with pytest.raises(AudioTooLong, match="bytes is longer than the limit of 1 s"):
        list(decoders.blocks(WAV, max_seconds=1))
    with pytest.raises(OptionError, match="has no channel 1"):
        list(decoders.blocks(MP3, channel=1))
    with pytest.raises(OptionError, match="end is 0"):
        decoders.blocks(WAV, end=0)  # at the call, as here


def test_a_path_means_what_it_means_here(decoders: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # after the children had started
    for name in ("talk.mp3", "a\x1b[31mb.mp3", "ü" + os.fsdecode(b"\xff") + ".mp3"):
        (tmp_path / name).write_bytes(MP3)
        for source in (name, Path(name), tmp_path / name):
            assert outcome(decoders.blocks, source) == outcome(blocks, source)
        (tmp_path / name).write_bytes(MP3[:100])
        assert outcome(decoders.blocks, name) == outcome(blocks, name)
    for nothing in ("nowhere.mp3", "", ".", "http://127.0.0.1:9/a.mp3", "talk\x00.wav"):
        assert outcome(decoders.blocks, nothing) == outcome(blocks, nothing)


def test_channels_are_counted_as_here(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = encoded("wav", "pcm_s16le", 16_000, np.stack([chirp(16_000), -chirp(16_000)]))
    before = pids(decoders)
    for source in (WAV, stereo, io.BytesIO(stereo), np.zeros((9, 3))):
        assert decoders.channels(source) == channels(source)
    assert decoders.channels(bytes(600), raw=RawPCM(16_000, channels=3)) == 3
    with pytest.raises(AudioError, match="has no audio track 1"):
        decoders.channels(WAV, track=1)
    assert pids(decoders) == before  # a look doesn't cost a process


def test_what_cannot_be_sent_is_read_here(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoders, "_taken", None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WAV)))
    for source in (chirp(16_000), io.BytesIO(WAV), "-"):
        np.testing.assert_array_equal(np.concatenate(list(decoders.blocks(source))), chirp(16_000))
    for source in ("/dev/zero", "/dev/fd/999", "/proc/self/fd/999"):  # of this process, not of a child
        assert outcome(decoders.blocks, source) == outcome(blocks, source)


def test_an_iterator_that_was_never_begun_takes_no_child() -> None:
    with Decoders(1) as one:
        waiting = [one.blocks(WAV) for _ in range(3)]
        for heard in waiting:
            assert sum(map(len, heard)) == 24_000
        assert len(set(pids(one))) == 1


# many at once


def test_threads_share_the_children(decoders: Decoders) -> None:
    sources = [made("wav_s16", seconds=seconds) for seconds in (0.5, 2.5, 5, 7.25)]
    wrong: list[object] = []

    def work(source: bytes) -> None:
        for _ in range(5):
            if outcome(decoders.blocks, source) != outcome(blocks, source):
                wrong.append(source)

    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(child.reader is None for child in decoders._children)


def test_a_thread_that_would_wait_for_itself_is_told(decoders: Decoders) -> None:
    first, second, third = (decoders.blocks(MP3) for _ in range(3))
    next(first)
    next(second)
    with pytest.raises(OptionError, match="this thread reads 2 recordings at once already"):
        next(third)
    list(first)
    fourth = decoders.blocks(MP3)
    assert len(list(fourth)) == 4
    second.close()


@LINUX
def test_a_child_is_not_far_ahead_of_its_reader(decoders: Decoders, long_wav: Path) -> None:
    heard = decoders.blocks(long_wav)
    for _ in range(3):
        next(heard)
        (pid,) = (child._process.pid for child in decoders._children if child.reader and child._process)
        place = -1
        while (now := reading(pid, long_wav)) != place:
            place = now
            time.sleep(0.05)
        assert place < 2e6
    heard.close()


# what happens to children


@POSIX
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (signal.SIGKILL, "was killed, for its memory perhaps"),
        (signal.SIGSEGV, r"died \(SIGSEGV\)"),
        (signal.SIGXCPU, "took too much processor time"),
    ],
)
def test_a_child_that_dies_is_an_error_of_its_recording_alone(how: int, words: str, long_wav: Path) -> None:
    with Decoders(2) as two:
        heard, other = two.blocks(long_wav), two.blocks(long_wav)
        next(heard)
        next(other)
        os.kill(pids(two)[0], how)
        with pytest.raises(AudioError, match=rf"^long\.wav can't be read: the process that decoded it {words}; conv"):
            list(heard)
        assert list(heard) == []
        assert sum(map(len, other)) == 179 * 16_000
        for _ in range(3):
            assert outcome(two.blocks, MP3) == outcome(blocks, MP3)


@POSIX
def test_a_child_that_died_while_it_was_free_is_nobodys_error() -> None:
    with Decoders(1) as one:
        assert outcome(one.blocks, MP3) == outcome(blocks, MP3)
        (before,) = pids(one)
        os.kill(before, signal.SIGKILL)
        one._children[0]._process.wait()  # type: ignore[union-attr]
        assert outcome(one.blocks, MP3) == outcome(blocks, MP3)


@LINUX
def test_a_recording_that_needs_more_memory_than_allowed_is_an_error_of_its_own() -> None:
    with Decoders(1, memory=400 << 20) as one:
        with pytest.raises(AudioError, match=r"^bytes can't be read: the process that decoded it (ran out|died)"):
            list(one.blocks(WAV + bytes(200 << 20)))
        assert outcome(one.blocks, MP3) == outcome(blocks, MP3)


@POSIX
def test_processor_time_is_limited_from_block_to_block() -> None:
    program = "from eardrop.audio.child import _allow\n_allow(9)\n_allow(0)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=PATIENCE_SECONDS, check=False)
    assert ended.returncode == -signal.SIGXCPU


@LINUX
def test_closing_an_iterator_early_ends_its_decoding(long_wav: Path) -> None:
    with Decoders(1) as one:
        heard = one.blocks(long_wav)
        next(heard)
        (before,) = pids(one)
        heard.close()
        assert gone(before)
        dropped = one.blocks(long_wav)
        next(dropped)
        del dropped
        assert outcome(one.blocks, MP3) == outcome(blocks, MP3)


@LINUX
def test_an_interrupt_leaves_the_children_alone_and_nothing_between_two_recordings(long_wav: Path) -> None:
    with Decoders(1) as one:
        heard = one.blocks(MP3)
        next(heard)
        os.kill(pids(one)[0], signal.SIGINT)  # some systems send it to everybody
        assert len(list(heard)) == 3

        def interrupt(*frame: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                sum(len(list(one.blocks(long_wav))) for _ in range(1000))
        finally:
            signal.signal(signal.SIGUSR1, before)
            timer.join()
        assert outcome(one.blocks, MP3) == outcome(blocks, MP3)


@LINUX
def test_closing_ends_children_at_work_and_tells_who_reads(long_wav: Path) -> None:
    decoders, told = Decoders(2), []

    def work() -> None:
        try:
            while True:
                list(decoders.blocks(long_wav))
        except Cancelled as cancelled:
            told.append(str(cancelled))

    threads = [threading.Thread(target=work) for _ in range(4)]  # two of them wait
    for thread in threads:
        thread.start()
    wait_for(lambda: all(child.busy for child in decoders._children))
    children = pids(decoders)
    started = time.monotonic()
    decoders.close()
    assert time.monotonic() - started < 1
    assert all(map(gone, children))
    for thread in threads:
        thread.join()
    assert len(told) == 4
    with pytest.raises(Cancelled, match="the decoders are closed: make others"):
        next(decoders.blocks(WAV))
    decoders.close()


_PARENT = """
import signal, sys, time
from eardrop.audio.apart import Decoders
from tests.cli.interrupts import heed_interrupts
heed_interrupts()
decoders = Decoders(2)
heard = decoders.blocks(sys.argv[1])
next(heard)
print(*(child._process.pid for child in decoders._children), flush=True)
time.sleep(60)
"""


@LINUX
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_children_end_with_their_parent_and_say_nothing(how: int, long_wav: Path) -> None:
    command = [sys.executable, "-c", _PARENT, long_wav]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        os.killpg(parent.pid, how)
        wait_for(lambda: all(map(gone, children)))
        assert parent.stderr.read() == ""


def test_a_fork_is_told_that_the_children_are_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoders(1) as one:
        heard = one.blocks(MP3)
        next(heard)
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: 1)
            with pytest.raises(EngineClosed, match="the process this one was forked from"):
                next(one.blocks(WAV))
            (child,) = one._children
            process = child._process
            child.end()  # nor does it end what is another's
        assert process is not None
        assert process.poll() is None
        child._process = process


# a child is not to be believed


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.stdout.buffer.write(b'b' + bytes([255] * 4) + bytes(2_000_000))",
        "import sys; sys.stdout.buffer.write(b'b\\7\\0\\0\\0seven b')",
        "import sys; sys.stdout.buffer.write(b'e\\7\\0\\0\\0seven b')",
        "import sys; sys.stdout.buffer.write(b'?')",
        "import no.such.module",
        "",
    ],
)
def test_nonsense_from_a_child_is_an_error_of_its_recording(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_PROGRAM", program)
    with Decoders(1) as one, pytest.raises(AudioError, match="bytes can't be read: the process that decoded it"):
        list(one.blocks(WAV))


@pytest.mark.parametrize(
    "frame",
    [
        (FAILED, b'["SystemExit", "no"]'),
        (FAILED, b'["AudioError"]'),
        (FOUND, b"{}"),
        (FOUND, b'{"notes": 7, "announced": null}'),
        (FOUND, b'{"notes": [], "announced": "long", "channels": 1}'),
        (FOUND, b'{"notes": [], "announced": null, "channels": "many"}'),
        (BLOCK, b"seven b"),
        (b"?", b"7"),
        (FOUND, b"\xff"),
    ],
)
def test_a_frame_that_makes_no_sense_is_refused(frame: tuple[bytes, bytes]) -> None:
    with pytest.raises(apart._LostError):
        apart._understood(frame, Findings())


def test_words_of_a_child_steer_no_terminal() -> None:
    found = Findings()
    apart._understood((FOUND, b'{"notes": ["\\u001b[31m"], "announced": 7, "channels": 2}'), found)
    assert (found.notes, found.announced, found.channels) == ([r"\x1b[31m"], 7.0, 2)
    with pytest.raises(AudioError, match=r"^\\x1b\[31m$"):
        apart._understood((FAILED, b'["AudioError", "\\u001b[31m"]'), found)


def test_a_child_imports_nothing_of_a_model() -> None:
    program = (
        "import sys; sys.modules['av'] = sys.modules['soxr'] = sys\n"
        "from eardrop.audio import child\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'llvmlite', 'tokenizers', 'rich', 'huggingface_hub'})\n"
        "print(*sorted({'.'.join(name.split('.')[:2]) for name in sys.modules if name.startswith('eardrop.')}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    foreign, own = done.stdout.splitlines()
    assert foreign == ""
    assert own.split() == [f"eardrop.{room}" for room in ("audio", "errors", "printable", "stages", "version")]


def test_no_processes_are_refused() -> None:
    with pytest.raises(OptionError, match="processes is 0, expected at least 1"):
        Decoders(0)


def test_the_whole_is_read_as_here(decoders: Decoders) -> None:
    np.testing.assert_array_equal(np.concatenate(list(decoders.blocks(MP3))), read(MP3))
