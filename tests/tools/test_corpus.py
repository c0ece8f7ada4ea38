import json
import shutil
from pathlib import Path

import pytest

from eardrop.errors import OptionError
from eardrop.tools.corpus import Heard, matched, read_corpus, read_hypotheses
from tests.pairs import DATA


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_manifest_names_recordings_from_its_folder(tmp_path):
    manifest = lines(
        tmp_path / "m.jsonl",
        "\ufeff\n",
        {"audio": "a/b.wav", "text": "one", "group": "x"},
        {"file": "c.wav", "text": ""},
        {"audio_filepath": "/d.wav", "text": "two", "group": 3},
        {"audio": "e.wav", "text": None},
        {"audio": "-", "text": "standard input is no file of it"},
    )
    corpus = read_corpus(manifest)
    assert [(u.name, u.text, u.group) for u in corpus.utterances][:3] == [
        ("a/b.wav", "one", "x"), ("c.wav", "", ""), ("/d.wav", "two", "3"),
    ]  # fmt: skip
    assert [u.audio for u in corpus.utterances] == [
        tmp_path / "a/b.wav", tmp_path / "c.wav", Path("/d.wav"), tmp_path / "-",
    ]  # fmt: skip
    assert corpus.left_out == {"e.wav": "no text in the manifest"}


def test_groups_are_any_column(tmp_path):
    manifest = lines(tmp_path / "m.jsonl", {"audio": "a", "text": "x", "speaker": "Ann"}, {"audio": "b", "text": "y"})
    assert [u.group for u in read_corpus(manifest, group="speaker").utterances] == ["Ann", ""]
    with pytest.raises(OptionError, match="no line has the column 'sex'"):
        read_corpus(manifest, group="sex")


def test_a_folder_holds_texts_beside_recordings(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("one.wav", "deep/two.anything"):
        shutil.copy(DATA / "ms20.wav", tmp_path / name)
    for name in ("one.txt", "deep/two.txt", "lonely.txt", "one.json"):
        (tmp_path / name).write_text("said\n")
    corpus = read_corpus(tmp_path)
    assert [(u.name, u.text.strip(), u.group) for u in corpus.utterances] == [
        ("deep/two.anything", "said", "deep"),
        ("one.wav", "said", ""),
    ]
    assert list(corpus.left_out) == ["lonely.txt"]


def test_a_folder_s_manifest_stands_before_its_texts(tmp_path):
    lines(tmp_path / "manifest.jsonl", {"audio": "one.wav", "text": "said", "group": "x"})
    (tmp_path / "one.txt").write_text("written beside it")
    (utterance,) = read_corpus(tmp_path).utterances
    assert (utterance.audio, utterance.text, utterance.group) == (tmp_path / "one.wav", "said", "x")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[1]\n", r"m.jsonl, line 1: expected a JSON object, found \[1\]"),
        ("{\n", "line 1: expected a JSON object"),
        ("[" * 100_000, "line 1: expected a JSON object"),
        ({"text": "x"}, "expected the recording's file in the column audio, file"),
        ({"audio": 3, "text": "x"}, "audio is 3, expected a text"),
        ({"audio": "", "text": "x"}, "audio names no file"),
        ({"audio": "a\0b", "text": "x"}, "audio names no file"),
        ({"audio": "a", "text": ["x"]}, "expected a text"),
        ({"audio": "a"}, "no recording has a text; give a manifest"),
        ("", "no recording has a text"),
    ],
)
def test_what_is_no_manifest_is_told_with_its_line(row, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        read_corpus(lines(tmp_path / "m.jsonl", row))


def test_a_recording_twice_is_refused(tmp_path):
    with pytest.raises(OptionError, match="line 2: a is there a second time"):
        read_corpus(lines(tmp_path / "m.jsonl", {"audio": "a", "text": "x"}, {"file": "a", "text": "y"}))


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(OptionError, match="can't be read: No such file"):
        read_corpus(tmp_path / "none.jsonl")
    (tmp_path / "latin").write_bytes(b"\xe4\xf6\xfc")
    with pytest.raises(OptionError, match="is no UTF-8 text"):
        read_corpus(tmp_path / "latin")


def test_hypotheses_have_several_spellings(tmp_path):
    found = read_hypotheses(
        lines(
            tmp_path / "h.jsonl",
            {"audio": "a", "text": "one", "duration": 2, "time": 0.5},
            {"source": "b", "hypothesis": "two", "text": "not this"},
            {"audio_filepath": "c", "pred_text": "three", "text": "the reference"},
        )
    )
    assert found == {"a": Heard("one", 2.0, 0.5), "b": Heard("two"), "c": Heard("three")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"audio": "a"}, "line 1: expected what was heard in the column"),
        ({"audio": "a", "text": None}, "text is None, expected a text"),
        ({"audio": "a", "text": "x", "time": "fast"}, "time is 'fast', expected seconds"),
        ({"audio": "a", "text": "x", "time": -1}, "expected seconds"),
        ('{"audio": "a", "text": "x", "time": NaN}', "expected seconds"),
    ],
)
def test_what_is_no_hypothesis_is_told(row, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        read_hypotheses(lines(tmp_path / "h.jsonl", row))


def test_names_are_matched_whole_first_then_by_file_where_that_is_plain(tmp_path):
    corpus = read_corpus(
        lines(tmp_path / "m.jsonl", *({"audio": name, "text": "x"} for name in ("a/1.wav", "a/2.wav", "b/2.wav", "3")))
    )
    heard = {"/elsewhere/1.wav": Heard("one"), "b/2.wav": Heard("two"), "2.wav": Heard("which?"), "4": Heard("four")}
    assert matched(corpus.utterances, heard) == {"a/1.wav": Heard("one"), "b/2.wav": Heard("two")}


def test_a_files_name_that_two_recordings_share_says_nothing(tmp_path):
    rows = ({"audio": name, "text": "x"} for name in ("a/2.wav", "b/2.wav", "b/3.wav"))
    utterances = read_corpus(lines(tmp_path / "m.jsonl", *rows)).utterances
    assert matched(utterances, {"2.wav": Heard("two"), "3.wav": Heard("three")}) == {"b/3.wav": Heard("three")}
