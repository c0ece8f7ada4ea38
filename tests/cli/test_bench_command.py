import json
from pathlib import Path

import pytest

from eardrop.bench import machine
from eardrop.cli import bench
from eardrop.cli.main import main
from eardrop.errors import OptionError


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(machine, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(machine, "PRODUCT", 64)


def test_stages_are_shown(model, clip, capsys) -> None:
    words = ["-m", model, "--audio", clip("ms100"), "--runs", "1", "--tokens", "2", "--backend", "numpy", "--ops"]
    assert main(["bench", "stages", *words]) == 0
    shown = capsys.readouterr().out
    for part in ("encoder", "tokens a second", "energy", "operations", "first text"):
        assert part in shown


def test_json_alone_goes_to_standard_output(model, clip, capsys) -> None:
    words = ["-m", model, "--audio", clip("ms20"), "--runs", "1", "--tokens", "1", "--backend", "numpy", "--json"]
    assert main(["bench", "stages", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["against"]) == (1, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "required: what"),
        (["stages"], "--audio"),
        (["stages", "--audio", "a.wav"], "-m"),
        (["stages", "--audio", "a.wav", "-m", "a.gguf", "--full", "Q4_0"], "give one of"),
        (["stages", "--audio", "a.wav", "--full", "Q9"], "choose F32"),
        (["stages", "--audio", "a.wav", "-m", "a.gguf", "--against", "no-such-program"], "no program of that name"),
        (["compare", "a.json"], "required: B"),
        (["stegs"], "invalid choice"),
    ],
)
def test_wrong_wishes_are_told_at_once(words, told, capsys) -> None:
    assert main(["bench", *words]) == OptionError.exit_code
    assert told in capsys.readouterr().err


def test_two_folders_are_reviewed_in_turns_on_one_question(model, clip, tmp_path, monkeypatch, capsys) -> None:
    told = {}

    def in_turns(a, b, words, *, runs, **options):
        told.update(folders=(a, b), words=words, runs=runs)
        raise OptionError("that will do")

    monkeypatch.setattr(bench, "in_turns", in_turns)
    words = ["-m", model, "--audio", clip("ms20"), "--runs", "3", "--tokens", "2", "--threads", "1"]
    assert main(["bench", "compare", str(tmp_path), str(tmp_path / ".."), *words]) == OptionError.exit_code
    assert "that will do" in capsys.readouterr().err
    assert (told["folders"], told["runs"]) == ((tmp_path, tmp_path / ".."), 3)
    assert told["words"][:2] == ["-m", str(Path(model).resolve())]
    assert told["words"][-6:] == ["--tokens", "2", "--threads", "1", "--backend", "auto"]


def test_a_folder_beside_a_file_is_no_pair(tmp_path, capsys) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert main(["bench", "compare", str(tmp_path / "a.json"), str(tmp_path)]) == OptionError.exit_code
    assert "a.json has schema None" in capsys.readouterr().err


@pytest.mark.parametrize("name", bench.MEASURES)
def test_every_measure_has_help_with_examples(name, capsys) -> None:
    assert main(["bench", name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: eardrop bench {name}" in shown
    assert f"  eardrop bench {name}" in shown
