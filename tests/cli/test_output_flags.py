"""What is written and where, as people of whisper and whisper.cpp type it."""

from pathlib import Path

import pytest

from eardrop.cli.flags import Parser
from eardrop.cli.output_flags import add_output, chosen_formats, chosen_lines, chosen_paths
from eardrop.errors import OptionError
from eardrop.transcript import FORMATS, Lines


def typed(line: str):
    parser = Parser("transcribe", "about", "", "usage")
    add_output(parser)
    return parser.parse(line.split())


@pytest.mark.parametrize(
    ("line", "formats"),
    [
        ("", ["txt"]),
        ("-f srt,vtt", ["srt", "vtt"]),
        ("--output_format srt -f srt -otxt", ["srt", "txt"]),
        ("-osrt -ovtt -oj", ["srt", "vtt", "json"]),
        ("-f all", list(FORMATS)),
    ],
)
def test_formats_have_both_tools_spellings(line: str, formats: list[str]) -> None:
    assert chosen_formats(typed(line)) == formats


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(OptionError, match="'docx': there are txt, srt, vtt, tsv, json, html, all"):
        typed("-f docx")


def test_lines_are_shaped_by_whispers_names() -> None:
    assert chosen_lines(typed("")) == Lines()
    line = "--max_line_width 42 --max_line_count 2 --max-words-per-line 5 --highlight_words"
    expected = Lines(max_line_width=42, max_line_count=2, max_words_per_line=5, highlight_words=True)
    assert chosen_lines(typed(line)) == expected
    assert chosen_lines(typed("-ml 40 -sow")) == Lines(max_line_width=40, max_line_count=1)


def test_files_are_written_only_where_somebody_says_where() -> None:
    assert chosen_paths(typed("-f srt"), ["a.mp3"]) == {}
    assert chosen_paths(typed("-f srt --output_dir out"), ["a.mp3"])["a.mp3"].paths == {"srt": Path("out/a.srt")}
    assert chosen_paths(typed("--output-template {number}"), ["a.mp3"])["a.mp3"].paths == {"txt": Path("1.txt")}
    assert chosen_paths(typed("-osrt -of x/{talk}"), ["a.mp3"])["a.mp3"].paths == {"srt": Path("x/{talk}.srt")}


def test_one_name_is_for_one_recording() -> None:
    for line, files in (("-of x", ["a", "b"]), ("-of x -o out", ["a"]), ("-of .", ["a"])):
        with pytest.raises(OptionError, match="--output-file"):
            chosen_paths(typed(line), files)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "-o talk.txt",
            "-o: expected a folder, found 'talk.txt': for one recording's file -of talk -f txt, .* make it",
        ),
        ("--output_dir x/a.b.SRT", "--output_dir: expected .* -of x/a.b -f srt, for a folder make it first"),
        ("-o there.vtt", "-o: expected a folder, found 'there.vtt': .* -of there -f vtt, for a folder name another"),
        ("-o there.wav", "-o: expected a folder, found 'there.wav': .* -of NAME, for a folder name another"),
    ],
)
def test_a_folder_that_is_or_looks_like_a_file_is_told_how_a_file_is_named(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.vtt").touch()
    Path("there.wav").touch()
    with pytest.raises(OptionError, match=message):
        typed(line)


def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("made.txt").mkdir()
    for name in ("made.txt", "v1.2", "new/deep", ""):
        assert typed(f"-o={name}" if not name else f"-o {name}").output_dir == Path(name)
