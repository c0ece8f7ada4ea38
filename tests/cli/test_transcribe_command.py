import io
import json
import shutil
import sys
import wave
from pathlib import Path

import pytest

from eardrop.cli.main import main
from eardrop.errors import AudioError, ContextFull, Incomplete, OptionError
from eardrop.hub import find_projector
from eardrop.text import Tokenizer
from eardrop.transcribe import Progress, Recognizer
from eardrop.transcript import Result, Segment


def test_text_goes_to_standard_output_a_line_each(model, asr, clip, capsys):
    files = [clip("ms100"), clip("chirp1")]
    assert main(["transcribe", "-m", model, *files, "--max_tokens", "5"]) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"{asr.transcribe(file, max_tokens=5).text}\n" for file in files)
    assert err == (
        "==> ms100.wav <==\neardrop: ms100.wav: the text was cut off after 5 tokens (length)\n"
        "==> chirp1.wav <==\neardrop: chirp1.wav: the text was cut off after 5 tokens (length)\n"
    )


def test_one_recording_has_no_heading(model, clip, capsys):
    main(["transcribe", "-m", model, clip("ms100")])
    assert "==>" not in capsys.readouterr().err


def test_quiet_leaves_text_and_errors(model, clip, capsys):
    assert main(["transcribe", "-q", "-m", model, clip("ms100"), "none.wav"]) == 4
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == "eardrop: none.wav doesn't exist: check the path\n"


def test_json_is_an_object_a_line(model, asr, clip, capsys):
    assert main(["transcribe", "-m", model, clip("ms20"), clip("ms100"), "-f", "json", "--max-tokens", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["source"] for line in lines] == ["ms20.wav", "ms100.wav"]
    assert lines[1]["text"] == asr.transcribe(clip("ms100"), max_tokens=3).text


@pytest.mark.parametrize("words", [["-f", "txt,json"], ["-f", "txt", "--output_format", "json"]])
def test_several_formats_follow_each_other(words, model, clip, capsys):
    assert main(["transcribe", "-m", model, clip("ms100"), *words]) == 0
    text, whole = capsys.readouterr().out.splitlines()
    assert json.loads(whole)["text"] == text


def test_an_unknown_format_is_told_with_those_there_are(capsys):
    assert main(["transcribe", "-m", "x", "talk.wav", "-f", "txt,docx"]) == 2
    assert "no format is called 'docx': there are txt, srt, vtt, tsv, json, html, all" in capsys.readouterr().err


def test_standard_input_is_a_recording(model, clip, capsys, monkeypatch):
    main(["transcribe", "-m", model, clip("ms100")])
    text = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(clip("ms100")).read_bytes())))
    assert main(["transcribe", "-m", model, "-"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("batch", ["0", "-1", "many"])
def test_a_batch_is_a_number_from_one(batch, capsys):
    assert main(["transcribe", "talk.wav", "--batch", batch]) == 2
    assert f"expected a number from 1, found '{batch}'" in capsys.readouterr().err


def test_a_folder_is_its_recordings_by_their_content(model, clip, capsys, tmp_path):
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    for name in ("c.dat", "b/a.wav", "b/.hidden/x.wav", ".y.wav"):
        shutil.copy(clip("ms20"), tmp_path / name)
    (tmp_path / "a.txt").write_text("no sound")
    assert main(["transcribe", "-m", model, str(tmp_path), "--max-tokens", "2"]) == 0
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if line.startswith("==>")] == ["==> c.dat <==", "==> a.wav <=="]
    assert main(["transcribe", "-m", model, str(tmp_path / "b" / ".hidden" / "..")]) == 0
    (tmp_path / "none").mkdir()
    assert main(["transcribe", "-m", model, str(tmp_path / "none")]) == 2
    assert "none: no recording is in this folder" in capsys.readouterr().err


def test_standard_input_is_named_once(model, capsys):
    assert main(["transcribe", "-m", model, "-", "-"]) == 2
    assert "name - once" in capsys.readouterr().err


def test_one_that_fails_is_told_and_the_others_go_on(model, clip, capsys, tmp_path):
    bad = tmp_path / "bad\x1b[31m.wav"
    bad.write_bytes(b"not sound")
    assert main(["transcribe", "-m", model, str(bad), clip("ms100"), "none.wav", "--max-tokens", "3"]) == 4
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "\x1b" not in err
    assert sum(line.startswith("eardrop: ") for line in err.splitlines()) == 3  # two errors, one warning


def test_the_first_error_decides_the_exit_code(model, monkeypatch, capsys):
    errors = {"a.wav": ContextFull("full"), "b.wav": AudioError("silent")}
    monkeypatch.setattr(Recognizer, "transcribe_many", lambda self, files, **options: (errors[file] for file in files))
    assert main(["transcribe", "-m", model, "a.wav", "b.wav"]) == ContextFull.exit_code
    assert main(["transcribe", "-m", model, "b.wav", "a.wav"]) == AudioError.exit_code
    assert "a.wav: full" in capsys.readouterr().err


def test_strict_makes_a_doubtful_text_a_failure(model, clip, capsys):
    words = ["transcribe", "-m", model, clip("ms100"), "--max-tokens", "3"]
    assert main([*words, "--strict"]) == Incomplete.exit_code
    assert main(words) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_a_strict_failure_has_its_reasons_under_quiet_too(model, clip, capsys):
    words = ["transcribe", "-m", model, clip("ms100"), "--max-tokens", "3", "-q"]
    assert main([*words, "--strict"]) == Incomplete.exit_code
    assert capsys.readouterr().err == "eardrop: ms100.wav: the text was cut off after 3 tokens (length)\n"
    assert main(words) == 0
    assert capsys.readouterr().err == ""


def test_programs_are_told_how_each_recording_ended(model, clip, capsys, monkeypatch):
    def take(self, file: str, result: Result) -> None:
        if "ms100" in file:
            raise OptionError("it can't be written")

    monkeypatch.setattr("eardrop.cli.transcripts.Printed.take", take)
    named = [clip("ms20"), "none.wav", clip("ms100")]
    words = ["--max-tokens", "3", "--progress", "json", "-q"]
    assert main(["transcribe", "-m", model, *named, *words]) == AudioError.exit_code
    objects = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    ends = [(o["event"], o["recording"], o["source"]) for o in objects if o["event"] != "progress"]
    assert ends == [("done", 0, "ms20.wav"), ("failed", 1, "none.wav"), ("failed", 2, "ms100.wav")]


def test_an_error_names_its_recording_on_one_line(model, clip, capsys):
    assert main(["transcribe", "-m", model, clip("speech3"), "--track", "7"]) == 4
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "speech3.wav" in message


def test_an_error_without_the_name_gets_it(model, clip, monkeypatch, capsys):
    def fail(self, source, **options):
        raise AudioError("the recording has 400 seconds")

    monkeypatch.setattr(Recognizer, "transcribe", fail)
    assert main(["transcribe", "-m", model, clip("ms20")]) == 4
    assert capsys.readouterr().err == "eardrop: ms20.wav: the recording has 400 seconds\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-m", "x.gguf"], 2, "no recording was given"),
        (["talk.wav"], 2, "no model was given; name its text file with -m"),
        (["-m", "none.gguf", "talk.wav"], 3, "none.gguf: no such file"),
        (["-m", "none.gguf", "talk.wav", "--max_tokens=0"], 2, "--max_tokens is 0, expected at least 1"),
        (["-m", "none.gguf", "talk.wav", "--max-tokens", "x"], 2, "--max-tokens: expected a whole number, found 'x'"),
        (["-m", "none.gguf", "talk.wav", "--mmproj", ""], 2, "--mmproj is empty"),
        (["-m", "x.gguf", "talk.wav", "--translete"], 2, "no option is called '--translete', did you mean --translate"),
    ],
)
def test_what_can_not_work_is_told_with_its_exit_code(words, code, message, capsys):
    assert main(["transcribe", *words]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_projectors_that_fit_equally_are_listed(model, clip, tmp_path, capsys):
    projector = Path(model).with_name(f"mmproj-{Path(model).name}")
    shutil.copy(model, tmp_path / "text.gguf")
    for name in ("mmproj-a.gguf", "mmproj-b.gguf"):
        shutil.copy(projector, tmp_path / name)
    words = ["transcribe", "-m", str(tmp_path / "text.gguf"), clip("ms20"), "-q"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "(mmproj-a.gguf, mmproj-b.gguf); name one with --mmproj" in err
    assert main([*words, "--mmproj", str(tmp_path / "mmproj-b.gguf")]) == 0


def test_on_a_terminal_text_appears_as_it_is_generated(model, clip, terminal, capsys, monkeypatch):
    main(["transcribe", "-m", model, clip("ms100")])
    text = capsys.readouterr().out
    terminal("stdout")
    shown = []
    original = Recognizer.transcribe

    def watched(self, source, *, told, **options):
        result = original(self, source, told=told, **options)
        shown.append(capsys.readouterr().out)  # before the command has the whole
        return result

    monkeypatch.setattr(Recognizer, "transcribe", watched)
    assert main(["transcribe", "-m", model, clip("ms100")]) == 0
    assert shown[0] + capsys.readouterr().out == text
    assert len(shown[0]) > 5


def test_a_transcript_can_not_steer_a_terminal(model, clip, capsys, monkeypatch):
    monkeypatch.setattr(Tokenizer, "piece", lambda self, token: b"\x1b]0;owned\x07[red]")
    assert main(["transcribe", "-m", model, clip("ms20"), "--max-tokens", "2"]) == 0
    assert capsys.readouterr().out == "]0;owned[red]" * 2 + "\n"


def test_a_model_that_is_none_is_said_before_its_projector_is_missed(tmp_path, clip, capsys):
    (tmp_path / "talk.wav").write_bytes(b"RIFF1234WAVE")
    assert main(["transcribe", "-m", str(tmp_path / "talk.wav"), clip("ms100")]) == 3
    assert "no GGUF file" in capsys.readouterr().err


def test_a_recording_without_a_name_is_no_folder(model, capsys):
    assert main(["transcribe", "-m", model, ""]) == 4
    assert capsys.readouterr().err == "eardrop: the name of a recording is empty: give a file\n"


def test_the_name_of_a_model_is_harmless_in_json_too(tmp_path, model, clip, capsys):
    text = tmp_path / "m\x1b[31m\udcff.gguf"
    text.symlink_to(model)
    words = ["-f", "json", "--max-tokens", "1", "--mmproj", str(find_projector(Path(model)))]
    assert main(["transcribe", "-m", str(text), *words, clip("ms100")]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "m\\x1b[31m\\udcff"


@pytest.fixture
def silence(tmp_path):
    with wave.open(str(path := tmp_path / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16000))
    return str(path)


def test_a_recording_without_a_word_is_told(model, silence, capsys):
    assert main(["transcribe", "-m", model, silence]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "eardrop: silence.wav: no speech was found\n")


@pytest.mark.parametrize("reads_along", [True, False])
def test_where_the_model_writes_nothing_no_line_is_printed(reads_along, model, clip, terminal, capsys, monkeypatch):
    monkeypatch.setattr(Tokenizer, "piece", lambda self, token: b"")
    if reads_along:
        terminal("stdout")
    assert main(["transcribe", "-m", model, clip("ms100"), "--max-tokens", "2"]) == 0
    assert capsys.readouterr().out == ""


def test_files_need_no_headings(model, clip, tmp_path, capsys):
    words = [clip("ms20"), clip("ms100"), "-o", str(tmp_path), "--max-tokens", "2"]
    assert main(["transcribe", "-m", model, *words]) == 0
    assert "==>" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reads_along", "told"),
    [
        (True, "eardrop: ms100.wav is written up to 1:06; with --start 65.5 the next time goes on there\n"),
        (False, "eardrop: ms100.wav is not done, and nothing of it was written\n"),
    ],
)
def test_ctrl_c_says_how_to_go_on(reads_along, told, model, clip, terminal, monkeypatch, capsys):
    def interrupted(self, source, *, told, **options):
        told(Progress("ms100.wav", 65.5, 1.0, 90.0, segment=Segment(60.0, 65.5, "Hello.")))
        raise KeyboardInterrupt

    monkeypatch.setattr(Recognizer, "transcribe", interrupted)
    if reads_along:
        terminal("stdout")
    assert main(["transcribe", "-m", model, clip("ms100")]) == 130
    out, err = capsys.readouterr()
    assert out == ("Hello.\n" if reads_along else "")
    assert err == told
