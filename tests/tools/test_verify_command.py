"""`eardrop verify` as people call it."""

import json
import sys
from pathlib import Path

import pytest

from eardrop.cli.main import main
from tests.pairs import pair


def test_without_anything_it_says_what_remains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert "needs the text file (-m)\n" in out
    assert "1 pass, 0 FAIL, 42 not run, 0 not comparable" in out
    assert "LiquidAI/LFM2.5-Audio-1.5B-GGUF" in out


def test_another_model_fails_with_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    text, projector = pair()
    assert main(["verify", "-m", str(text), "--mmproj", str(projector)]) == 1
    out = capsys.readouterr().out
    assert "width: 128, expected 2,048" in out
    assert "width: this model has 128, the published one 2048" in out


def test_a_text_model_without_a_projector_is_enough_for_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "alone.gguf"
    text.write_bytes(pair()[0].read_bytes())
    assert main(["verify", "-m", str(text), "--only", "tokenizer.bos", "--only", "shape.encoder"]) == 0
    assert "needs the projector file (--mmproj)" in capsys.readouterr().out


def test_json_holds_every_row_with_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "-m", str(pair()[0]), "--as", "LFM2.5", "--json", "--only", "tokenizer.*"]) == 1
    said = json.loads(capsys.readouterr().out)
    row = next(row for row in said["rows"] if row["check"] == "tokenizer.vocabulary_size")
    assert (said["model"], row["value"], row["expected"], row["verdict"]) == ("LFM2.5", "960", "65,536", "FAIL")
    assert row["sources"]
    assert all(row["sources"])


def test_the_japanese_model_is_neither_of_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "LFM2.5-Audio-1.5B-JP-F16.gguf"
    text.write_bytes(pair()[0].read_bytes())
    assert main(["verify", "-m", str(text), "--only", "backbone.layer0_conv", "--only", "tokenizer.bos"]) == 0
    out = capsys.readouterr().out
    assert "model: LFM2.5-JP\n" in out
    assert "a value of LiquidAI/LFM2.5-Audio-1.5B, and this is LFM2.5-JP" in out


def test_a_narrow_terminal_wraps_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["verify", "-m", str(pair()[0]), "--as", "LFM2.5", "--only", "tokenizer.vocabulary_size"]) == 1
    out = capsys.readouterr().out
    assert "…" not in out
    column = "".join(line.split("  ")[0].split(" ")[0] for line in out.splitlines()[1:] if line[:1].strip())
    assert column.startswith("tokenizer.vocabulary_size")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--only", "mel_points"], 2, "--only: no check is called 'mel_points'; there are"),
        (["--audio", "/nowhere"], 2, "--audio: /nowhere is no folder"),
        (["-m", "/nowhere.gguf"], 3, "no such file or folder"),
        (["--as", "LFM3"], 2, "LFM3"),
    ],
)
def test_wishes_that_can_not_be_met(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *words]) == code
    assert message in capsys.readouterr().err


def test_a_projector_in_the_place_of_the_text_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "-m", str(pair()[1]), "--mmproj", str(pair()[1])]) == 3
    assert "this is the projector (mmproj), expected the text model" in capsys.readouterr().err
