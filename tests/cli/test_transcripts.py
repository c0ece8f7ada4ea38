"""Transcripts in a folder, and going on where a job was killed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eardrop.cli.main import main
from eardrop.transcribe import Recognizer
from eardrop.transcribe.journal import NAME


@pytest.fixture
def recordings(tmp_path, clip) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(("b.wav", "a.wav", "c.wav")):
        content = bytearray(Path(clip("ms100")).read_bytes())
        content[-2] = index  # each another recording
        (folder / name).write_bytes(content)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_recording_gets_a_file_of_each_format(model, recordings, tmp_path, capsys):
    words = ["transcribe", "-m", model, str(recordings), "-o", str(tmp_path / "out"), "-f", "txt,json", "-f", "srt"]
    assert main([*words, "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out == ""
    out = tmp_path / "out"
    assert files(out) == [f"{stem}.{form}" for stem in "abc" for form in ("json", "srt", "txt")]
    assert json.loads((out / "a.json").read_text())["source"] == "a.wav"
    assert (out / "b.srt").read_text().startswith("1\n00:00:00,000 --> ")


def test_recordings_of_one_stem_do_not_overwrite_each_other(model, clip, tmp_path):
    for name in ("a.wav", "a.flac"):
        shutil.copy(clip("ms20"), tmp_path / name)
    words = [str(tmp_path / "a.wav"), str(tmp_path / "a.flac"), "-o", str(tmp_path / "out"), "--max-tokens", "2"]
    assert main(["transcribe", "-m", model, *words]) == 0
    assert files(tmp_path / "out") == ["a.flac.txt", "a.txt"]


def test_all_is_every_format(model, clip, tmp_path):
    assert main(["transcribe", "-m", model, clip("ms20"), "-o", str(tmp_path), "-f", "all", "--max-tokens", "2"]) == 0
    assert files(tmp_path) == [f"ms20.{form}" for form in ("html", "json", "srt", "tsv", "txt", "vtt")]


def test_a_template_names_the_files(model, clip, tmp_path, capsys):
    words = ["transcribe", "-m", model, clip("ms20"), "-o", str(tmp_path), "--max-tokens", "2", "--output-template"]
    assert main([*words, "{format}/{number:02}-{stem}"]) == 0
    assert files(tmp_path) == ["txt/01-ms20.txt"]
    assert main([*words, "../{stem}"]) == 2
    assert "must name a file in the output folder" in capsys.readouterr().err


def test_going_on_needs_a_folder(capsys):
    assert main(["transcribe", "talk.wav", "--resume"]) == 2
    assert "say where with --output-dir" in capsys.readouterr().err


def test_a_second_time_does_only_what_is_new(model, recordings, tmp_path, capsys, monkeypatch):
    words = ["transcribe", "-m", model, str(recordings), "-o", str(tmp_path / "out"), "--resume", "--max-tokens", "3"]
    assert main(words) == 0
    (tmp_path / "out" / "a.txt").unlink()
    shutil.copy(recordings / "b.wav", recordings / "0.wav")  # the same sound under another name
    monkeypatch.setattr(Recognizer, "transcribe_many", lambda self, files, **options: iter(()))
    assert main(words) == 0
    assert "4 of 4 recordings are done already" in capsys.readouterr().err
    assert files(tmp_path / "out") == [NAME, "0.txt", "a.txt", "b.txt", "c.txt"]


def test_other_wishes_are_done_anew(model, recordings, tmp_path, capsys):
    words = ["transcribe", "-m", model, str(recordings), "-o", str(tmp_path / "out"), "--resume", "--max-tokens"]
    assert main([*words, "3"]) == 0
    assert main([*words, "4"]) == 0
    assert "done already" not in capsys.readouterr().err


def test_killed_jobs_go_on_without_losing_or_repeating_a_recording(model, clip, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(12):
        content = bytearray(Path(clip("speech3")).read_bytes())
        content[-2] = index
        (folder / f"{index:02}.wav").write_bytes(content)
    words = ["transcribe", "-m", model, str(folder), "-o", str(out), "--resume", "--progress", "json", "-f", "json"]
    done: set[str] = set()
    for patience in (1, 4, 8, None):
        begun: set[str] = set()
        with subprocess.Popen([sys.executable, "-m", "eardrop", *words], stderr=subprocess.PIPE, text=True) as job:
            for line in job.stderr:
                if line.startswith("{") and (told := json.loads(line))["event"] == "progress":
                    begun.add(told["source"])
                if patience is not None and len(list(out.glob("*.json"))) >= patience:
                    job.kill()
        assert not begun & done, "a finished recording was transcribed again"
        done |= {path.with_suffix(".wav").name for path in out.glob("*.json")}
    assert job.returncode == 0
    assert files(out) == [NAME, *(f"{index:02}.json" for index in range(12))]
    assert all(json.loads(path.read_text())["text"] for path in out.glob("*.json"))


def test_a_folder_that_can_not_be_made_is_told(model, clip, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["transcribe", "-m", model, clip("ms20"), "-o", str(tmp_path / "file" / "out")]) == 2
    assert "can't be made" in capsys.readouterr().err
