"""`eardrop eval` as people call it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from eardrop.cli.main import main
from eardrop.errors import AudioError, AudioTooLong
from eardrop.transcribe import Recognizer
from tests.pairs import DATA

TEXTS = {"ms100": "red green blue", "chirp1": "a bird", "silence1": ""}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name in TEXTS:
        shutil.copy(DATA / f"{name}.wav", tmp_path / f"{name}.wav")
    path = tmp_path / "manifest.jsonl"
    rows = [{"audio": f"{name}.wav", "text": text, "group": name[0]} for name, text in TEXTS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hypotheses(path: Path, **texts: str) -> str:
    path.write_text("".join(json.dumps({"audio": f"{name}.wav", "text": text}) + "\n" for name, text in texts.items()))
    return str(path)


@pytest.fixture
def other(tmp_path: Path) -> str:
    return hypotheses(tmp_path / "h.jsonl", ms100="Red, greed, blue!", chirp1="a bird sings", silence1="Thank you.")


def heard(model: str, *words: str, capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["eval", *words, "-m", model, "--json", "--max-tokens", "6", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_of_texts_that_another_program_wrote(manifest, other, capsys):
    assert main(["eval", str(manifest), "--hypotheses", other]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = {line.split("  ")[1].strip(): " ".join(line.split()) for line in out.splitlines() if line.startswith("  ")}
    assert rows["all"].startswith("all 3 5 80.0 %")
    assert rows["speech alone"].startswith("speech alone 2 5 40.0 %")
    assert "1 recordings; wrote something on 100 % of them" in out
    assert "silence1.wav: silence, 2 of 0 words" in out
    assert "  said     red green blue\n  written  red greed blue\n               S\n" in out


def test_worst_files_may_be_none(manifest, other, capsys):
    assert main(["eval", str(manifest), "--hypotheses", other, "--worst", "0"]) == 0
    assert "worst" not in capsys.readouterr().out


def test_on_a_terminal_mistakes_are_coloured_unless_no_color(manifest, other, terminal, monkeypatch, capsys):
    terminal("stdout")
    monkeypatch.setenv("TERM", "xterm")
    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        assert main(["eval", str(manifest), "--hypotheses", other]) == 0
        assert ("\x1b[33mgreed" in capsys.readouterr().out) is coloured


def test_a_narrow_terminal_gets_narrow_tables(manifest, other, terminal, monkeypatch, capsys):
    terminal("stdout")
    monkeypatch.setenv("COLUMNS", "48")
    monkeypatch.setenv("TERM", "xterm")
    assert main(["eval", str(manifest), "--hypotheses", other]) == 0
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 48
    assert "errors, continued" in [line.strip() for line in lines]
    assert any(line.split()[:4] == ["all", "3", "5", "80.0"] for line in lines)


def test_json_holds_texts_counts_and_rates(manifest, other, capsys):
    assert main(["eval", str(manifest), "--hypotheses", other, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["all"]["word_error_rate"] == 0.8
    assert report["all"]["spoke_on_silence"] == 1.0
    assert [part["name"] for part in report["parts"]] == ["speech alone", "c", "m", "s"]
    assert report["utterances"][0]["hypothesis"] == "Red, greed, blue!"
    assert report["utterances"][0]["words"]["substitutions"] == 1


def test_a_page_is_written_beside_the_table(manifest, other, tmp_path, capsys):
    assert main(["eval", str(manifest), "--hypotheses", other, "--html", str(tmp_path / "page.html")]) == 0
    assert "80.0 %" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "80.0 %" in capsys.readouterr().out


def test_a_missing_text_counts_as_none_and_decides_the_exit_code(manifest, tmp_path, capsys):
    path = hypotheses(tmp_path / "h.jsonl", ms100="red green blue")
    assert main(["eval", str(manifest), "--hypotheses", path, "--json"]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "eardrop: chirp1.wav: h.jsonl has no text of it; it counts as no text"
    assert json.loads(out)["all"]["words"]["deletions"] == 2


def test_a_model_transcribes_and_its_speed_is_told(manifest, model, asr, capsys):
    report = heard(model, str(manifest), capsys=capsys)
    assert report["utterances"][0]["hypothesis"] == asr.transcribe(DATA / "ms100.wav", max_tokens=6).text
    assert report["utterances"][0]["duration"] == pytest.approx(0.1)
    assert report["all"]["times_real_time"] > 0
    assert report["about"]["model"] == asr.model.name
    assert report["normalizer"] == "english"


def test_a_folder_of_texts_beside_recordings_is_a_corpus(manifest, model, tmp_path, capsys):
    manifest.unlink()
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.txt").write_text(text)
    report = heard(model, str(tmp_path), capsys=capsys)
    assert [row["audio"] for row in report["utterances"]] == ["chirp1.wav", "ms100.wav", "silence1.wav"]


def test_one_that_fails_counts_as_no_text_and_the_others_go_on(manifest, model, tmp_path, capsys):
    (tmp_path / "chirp1.wav").write_bytes(b"not sound")
    assert main(["eval", str(manifest), "-m", model, "--json", "--max-tokens", "3", "-q"]) == AudioError.exit_code
    out, err = capsys.readouterr()
    assert err.startswith("eardrop: chirp1.wav ")
    assert err.count("chirp1.wav") == 1
    rows = {row["audio"]: row for row in json.loads(out)["utterances"]}
    assert len(rows) == 3
    assert rows["chirp1.wav"]["words"]["deletions"] == 2
    assert rows["chirp1.wav"]["error"] in err


def test_one_that_is_too_long_is_left_out_with_a_line(manifest, model, monkeypatch, capsys):
    transcribe_many = Recognizer.transcribe_many

    def limited(self, sources, **options):
        for source, outcome in zip(sources, transcribe_many(self, sources, **options), strict=True):
            too_long = AudioTooLong("chirp1.wav is longer than 327 seconds")
            yield too_long if Path(str(source)).name == "chirp1.wav" else outcome

    monkeypatch.setattr(Recognizer, "transcribe_many", limited)
    assert main(["eval", str(manifest), "-m", model, "--json", "--max-tokens", "3"]) == 0
    out, err = capsys.readouterr()
    assert "not scored: chirp1.wav: chirp1.wav is longer than 327 seconds" in err
    assert json.loads(out)["left_out"] == {"chirp1.wav": "chirp1.wav is longer than 327 seconds"}
    assert json.loads(out)["all"]["utterances"] == 2


def test_two_runs_are_compared(manifest, other, tmp_path, capsys):
    second = hypotheses(tmp_path / "h2.jsonl", ms100="red green blue", chirp1="a bird sings", silence1="")
    files = []
    for number, texts in enumerate((other, second)):
        main(["eval", str(manifest), "--hypotheses", texts, "--json"])
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(capsys.readouterr().out)
    assert main(["eval", "compare", *map(str, files)]) == 0
    out = capsys.readouterr().out
    assert "80.0 %  20.0 %  -60.00" in out
    assert main(["eval", "compare", *map(str, files), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sets"][0]["words"]["difference"] == pytest.approx(-0.6)
    assert found["changed"][0] == {"audio": "silence1.wav", "a": 2, "b": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no corpus was given; name a manifest"),
        (["nowhere.jsonl"], "nowhere.jsonl can't be read"),
        (["M", "--worst", "-1"], "--worst is -1, expected 0 or more"),
        (["M", "--html", "no/such/folder/x.html"], "--html: no/such/folder/x.html can't be written"),
        (["M", "--normalizer", "french"], "invalid choice: 'french'"),
        (["M", "-m", "x.gguf", "--hypotheses", "h"], "give one of the two"),
        (["M", "--hypotheses", "OTHER"], "no line names a recording of manifest.jsonl"),
        (["M", "-m", "x.gguf", "--max-tokens", "0"], "--max-tokens is 0"),
        (["compare", "M", "M"], "expected what eardrop eval --json wrote"),
        (["compare", "none.json", "none.json"], "none.json can't be read"),
        (["compare", "none.json"], "required: B.json"),
    ],
)
def test_what_can_not_work_is_told(words, message, manifest, tmp_path, capsys):
    names = {"M": str(manifest), "OTHER": hypotheses(tmp_path / "z.jsonl", z="z")}
    assert main(["eval", *(names.get(word, word) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_names_and_texts_do_not_steer_a_terminal(manifest, tmp_path, capsys):
    row = {"audio": "\x1b[31mred.wav", "text": "\x1b[2J \u202eword", "group": "\x1b[31m"}
    manifest.write_text(json.dumps(row) + "\n" + json.dumps({"audio": "b", "text": "b", "group": "\x1b"}) + "\n")
    (tmp_path / "h.jsonl").write_text(json.dumps({"audio": row["audio"], "text": "\x1b[2J\x07"}) + "\n")
    main(["eval", str(manifest), "--hypotheses", str(tmp_path / "h.jsonl"), "--normalizer", "none"])
    out, err = capsys.readouterr()
    assert not {"\x1b", "\x07", "\u202e"} & set(out + err)
