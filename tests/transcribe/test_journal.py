"""A job that is killed goes on: finished recordings are known by their content."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from eardrop.errors import OptionError
from eardrop.transcribe import Options
from eardrop.transcribe.journal import NAME, Journal, job_of
from eardrop.transcript import Result, Segment

RESULT = Result((Segment(0.0, 1.0, "Grüße.", (1,), -0.5),), "a.wav", "m", 1.0)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound" * 1000)
    return path


def test_what_is_kept_is_found_by_content_under_any_name(tmp_path, recording):
    with Journal(tmp_path, "job") as journal:
        assert journal.find(recording) is None
        journal.keep(recording, RESULT)
    twin = tmp_path / "b.mp3"
    shutil.copy(recording, twin)
    with Journal(tmp_path, "job") as journal:
        assert journal.find(recording) == RESULT
        assert journal.find(twin) == replace(RESULT, source="b.mp3")
        recording.write_bytes(b"other" * 1000)
        assert journal.find(recording) is None


def test_another_model_or_other_wishes_are_another_job(tmp_path, recording):
    with Journal(tmp_path, "one") as journal:
        journal.keep(recording, RESULT)
    with Journal(tmp_path, "two") as journal:
        assert journal.find(recording) is None
    file = SimpleNamespace(path=recording)
    model = SimpleNamespace(files=(file,))
    assert job_of(model, Options()) == job_of(model, Options())
    assert job_of(model, Options()) != job_of(model, Options(window=12.0))
    other = SimpleNamespace(files=(file, file))
    assert job_of(model, Options()) != job_of(other, Options())


def test_two_processes_can_not_share_a_folder(tmp_path):
    with Journal(tmp_path, "job"), pytest.raises(OptionError, match="another eardrop may be writing there"):
        Journal(tmp_path, "job")


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 20, b""])
def test_a_file_that_is_no_journal_is_told_or_begun_anew(tmp_path, recording, content):
    (tmp_path / NAME).write_bytes(content)
    if content:
        with pytest.raises(OptionError, match="remove the file to begin anew"):
            Journal(tmp_path, "job")
    else:
        with Journal(tmp_path, "job") as journal:
            assert journal.find(recording) is None


def test_a_journal_of_another_version_is_refused(tmp_path):
    base = sqlite3.connect(tmp_path / NAME)
    base.execute("pragma user_version = 99")
    base.close()
    with pytest.raises(OptionError, match="of another version"):
        Journal(tmp_path, "job")


def test_nothing_is_left_when_all_is_done(tmp_path, recording):
    journal = Journal(tmp_path, "job")
    journal.keep(recording, RESULT)
    journal.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_folder_that_can_not_be_written_is_told(tmp_path):
    with pytest.raises(OptionError, match="can't be used"):
        Journal(tmp_path / "none", "job")


def test_a_disk_that_fills_up_meanwhile_is_told(tmp_path, recording):
    with Journal(tmp_path, "job") as journal:
        journal.keep(recording, RESULT)
        journal._base.execute("pragma max_page_count = 1")  # no page more than there are
        long = replace(RESULT, segments=(Segment(0.0, 1.0, "word " * 9000, (1,), -0.5),))
        with pytest.raises(OptionError, match="disk is full"):
            journal.keep(recording, long)
        assert journal.find(recording) == RESULT
