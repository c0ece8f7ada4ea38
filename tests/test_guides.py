"""The guides do what they say: their commands and programs run, page by page, on recordings of a few seconds.

A fenced block is run unless its first line says why not (```sh not run: needs ffmpeg). Commands that are eardrop's
alone run in this process; others, with pipes or other programs, in a shell that knows eardrop.
"""

import re
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from eardrop.cli.main import main
from tests.examples import BUNDLED, FOLDER, joined

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)(.*)\n((?s:.*?))^```$", re.M)
REASONS = {
    "needs ffmpeg",
    "needs a microphone",
    "needs arecord, ffmpeg and a stream",
    "takes as long as the recordings",
}
ELSEWHERE = {"cluster.md"}  # its commands are the business of tests/test_ray.py
SAID = [FOLDER / "command.flac", FOLDER / "time.flac"]


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """The language of each fenced block, what else its first line says, and the block."""
    return [(language, rest.strip(), code) for language, rest, code in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the guides begin with, and a shell's path that leads to eardrop."""
    samples = (32767 * joined([(path, "") for path in SAID], pause=0.7)).astype("<i2")
    for name in ("podcast.mp3", "film.mkv", "talk.wav"):  # what it is, its bytes say
        _write(tmp_path / name, samples, channels=1)
    _write(tmp_path / "call.wav", np.stack([samples, np.roll(samples, len(samples) // 2)], 1), channels=2)
    (tmp_path / "talk.pcm").write_bytes(samples.tobytes())
    (tmp_path / "broken.wav").write_text("no sound")
    for folder in ("recordings/deeper", "mixed", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(SAID[0], tmp_path / "recordings")
    shutil.copy(SAID[1], tmp_path / "recordings" / "deeper")
    shutil.copy(FOLDER / "digits.flac", tmp_path / "mixed")
    command = tmp_path / "bin" / "eardrop"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m eardrop "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv("EARDROP_MODEL", str(BUNDLED))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(path: Path, samples: np.ndarray, *, channels: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def follow(page: Path) -> None:
    """Do what a page says, in its order."""
    for language, reason, code in blocks(page):
        if language == "python":
            exec(compile(code, page.name, "exec"), {"__name__": "example"})
        elif not reason:
            for line in code.splitlines():
                command(line)


def command(line: str) -> None:
    if line.startswith("eardrop ") and not set(line) & set("|<>&*"):
        assert main(shlex.split(line)[1:]) == 0, line
    else:
        subprocess.run(["bash", "-eo", "pipefail", "-c", line], check=True)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    if page.name not in ELSEWHERE:
        for language, rest, _ in blocks(page):
            assert language in ("sh", "python")
            assert not rest or (language == "sh" and rest.removeprefix("not run: ") in REASONS), rest


def test_a_podcast_becomes_a_page_and_tells_what_is_missing(desk, capsys):
    follow(ROOT / "docs" / "guides" / "podcast.md")
    assert b"Paris" in (desk / "pages" / "podcast.html").read_bytes()
    out = capsys.readouterr().out
    assert "100% of the speech heard" in out
    assert "[left]: " in out


def test_a_video_gets_subtitles_and_a_typed_text_its_times(desk, capsys):
    follow(ROOT / "docs" / "guides" / "subtitles.md")
    assert (desk / "film.vtt").read_text().startswith("WEBVTT")
    cues = (desk / "typed.srt").read_text()
    assert "How do I get to Paris." in cues.replace("\n", " ")
    first, second = (float(stamp.replace(",", ".")) for stamp in re.findall(r"(?m)^00:00:(\S+) -->", cues))
    assert 0 <= first < 1 < 3 < second < 4


def test_a_folder_becomes_texts_and_a_failure_is_told(desk, capfd):
    follow(ROOT / "docs" / "guides" / "ten-thousand-recordings.md")
    out, err = capfd.readouterr()
    assert "2 of 2 recordings are done already" in err
    assert "eardrop: broken.wav" in out
    assert "exit code 4" in out
    assert "× real time" in out
    for file in (
        "texts/command.txt",
        "texts/command.json",
        "texts/digits.txt",
        "other/command.txt",
        "more/command.json",
    ):
        assert (desk / file).is_file()


def test_captions_are_lines_objects_and_a_result(desk, capfd):
    follow(ROOT / "docs" / "guides" / "live-captions.md")
    assert capfd.readouterr().out.count("Paris") >= 3  # a line, an object, an update at least
    assert '"event": "segment"' in (desk / "captions.jsonl").read_text()
    assert "Paris" in (desk / "talk.srt").read_text()
