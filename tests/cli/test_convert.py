from pathlib import Path

import pytest

from eardrop.cli.main import main
from tests.pairs import DATA, pair
from tests.tools.made_checkpoint import write_checkpoint

ASK = ("-n", "12", "--temp", "0", "-sys", "Perform ASR.", "-p", "<__media__>", "--audio", str(DATA / "chirp1.wav"))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_checkpoint(tmp_path / "LFM2-Audio", pair())


def test_paths_go_to_standard_output_and_the_rest_elsewhere(checkpoint, tmp_path, capsys):
    assert main(["convert", str(checkpoint), "-o", str(tmp_path / "out"), "--type", "bf16", "--name", "Mine"]) == 0
    out, err = capsys.readouterr()
    names = ["Mine-BF16.gguf", "mmproj-Mine-BF16.gguf"]
    assert out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert err.startswith("eardrop: wrote ")
    assert err.count("\n") == 1


def test_run_answers_with_the_original_s_tokens_from_the_folder_alone(checkpoint, tmp_path, model, capsys):
    assert main(["convert", str(checkpoint), "--output", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    answers = []
    for files in (str(tmp_path / "out"), model):
        assert main(["run", "-m", files, *ASK]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert answers[0].strip()


def test_progress_is_shown_on_a_terminal(checkpoint, tmp_path, terminal, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal("stderr")
    assert main(["convert", str(checkpoint), "-o", str(tmp_path)]) == 0
    assert "convert LFM2-Audio" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        ([], "CHECKPOINT_DIR", 2),
        (["x"], "-o", 2),
        (["x", "-o", "y", "--type", "Q9"], "F32, F16, BF16", 2),
        (["x\x1b", "-o", "y"], r"x\x1b", 3),
    ],
)
def test_wrong_wishes_are_one_line(words, told, code, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
    assert [*tmp_path.iterdir()] == []


def test_what_exists_is_kept_unless_forced(checkpoint, tmp_path, capsys):
    words = ["convert", str(checkpoint), "-o", str(tmp_path / "out")]
    assert main(words) == 0
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
