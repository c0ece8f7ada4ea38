"""Results: what is written, how, and that it is read back."""

import json
import os
from pathlib import Path

import pytest

from eardrop.errors import OptionError
from eardrop.transcript import FORMATS, Result, Segment, Word

RESULT = Result(
    (
        Segment(
            0.0,
            1.5,
            " Hello there.",
            (5, 6),
            -0.25,
            words=(Word(0.1, 0.5, "Hello", 0.9), Word(0.6, 1.2, "there.", 0.8)),
            speech=1.25,
            speaker="left",
        ),
        Segment(1.5, 2.0, "", ()),
        Segment(2.0, 4.25, "Grüße \U0001f600\n", (7,), -0.5, ("cut off",), speech=0.75),
    ),
    source="talk.mp3",
    model="tiny",
    duration=4.25,
    notes=("truncated",),
    skipped=((1.5, 2.0),),
    words_by="attention",
)


def test_text_joins_what_was_said() -> None:
    assert RESULT.text == " Hello there. Grüße \U0001f600\n"
    assert RESULT.warnings == ("truncated", "cut off")
    japanese = (Segment(0.0, 1.0, "今日は。", ()), Segment(1.0, 2.0, "", ()), Segment(2.0, 3.0, "元気です。", ()))
    assert Result(japanese, "talk", "tiny", 3.0, "ja").text == "今日は。元気です。"


def test_coverage_is_the_share_of_speech_whose_text_is_sound() -> None:
    assert RESULT.coverage == 1.25 / 2
    assert Result((), "a", "m", 3.0).coverage == 1.0
    assert Result((Segment(0, 1, "", speech=1.0),), "a", "m", 1.0).coverage == 0.0


def test_txt_is_one_stripped_segment_a_line(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == "[left]: Hello there.\n\nGrüße \U0001f600\n".encode()


def test_json_has_whispers_keys_on_one_ascii_line(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "a.json")
    written = (tmp_path / "a.json").read_bytes()
    assert written.isascii()
    assert b"\n" not in written
    whole = json.loads(written)
    assert list(whole)[:3] == ["text", "segments", "language"]
    assert list(whole["segments"][2])[:10] == [
        *("id", "seek", "start", "end", "text", "tokens", "temperature"),
        *("avg_logprob", "compression_ratio", "no_speech_prob"),
    ]
    assert [segment["id"] for segment in whole["segments"]] == [0, 1, 2]
    assert whole["segments"][2]["seek"] == 200
    assert whole["segments"][2]["avg_logprob"] == -0.5


@pytest.mark.parametrize(
    ("text", "words", "written"),
    [
        ("Hello there.", ["Hello", "there."], [" Hello", " there."]),
        ("雨が、", ["雨", "が、"], ["雨", "が、"]),
        ("「雨」 が", ["「雨」", "が"], ["「雨」", " が"]),
        ("2年後にAIは", ["2", "年", "後", "に", "A", "I", "は"], ["2", "年", "後", "に", "A", "I", "は"]),
        ("雨が", ["雨"], ["雨"]),  # a text that the words don't spell
        ("The sign 猫 is a cat.", ["The"], [" The"]),
    ],
)
def test_words_in_json_have_the_space_that_their_script_writes(text: str, words: list[str], written: list[str]) -> None:
    times = tuple(Word(at, at + 1.0, word) for at, word in enumerate(words))
    result = Result((Segment(0.0, 9.0, text, words=times),), "a.mp3", "m", 9.0)
    (segment,) = json.loads(result.to_json())["segments"]
    assert [word["word"] for word in segment["words"]] == written
    assert Result.from_json(result.to_json()) == result


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "a.json")
    assert Result.read(tmp_path / "a.json") == RESULT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"segments": 3}', "\x1b[2J", '{"text": "", "segments": [{}]}'])
def test_what_we_did_not_write_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(OptionError, match=r"x\.json: expected a transcript") as error:
        Result.read(tmp_path / "x.json")
    assert str(error.value).isprintable()


def test_an_unknown_suffix_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="txt, srt, vtt, tsv, json, html"):
        RESULT.write(tmp_path / "a.docx")
    RESULT.write(tmp_path / "a.docx", form="txt")
    assert (tmp_path / "a.docx").exists()


def test_whoever_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old\n")
    with path.open() as reader:
        RESULT.write(path)
        assert reader.read() == "old\n"


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_rights_that_any_new_one_has(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        RESULT.write(tmp_path / "a.txt")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(FORMATS["txt"], "write", lambda result, **_: "\ud800")
    with pytest.raises(UnicodeEncodeError):
        RESULT.write(tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_that_is_not_there_is_our_error_and_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nowhere/a\.txt can't be written: No such file"):
        RESULT.write(tmp_path / "nowhere" / "a.txt")


def test_a_name_as_long_as_the_system_takes_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 125 + ".txt")
    RESULT.write(target)
    assert target.exists()
