"""The command: its report as table and JSON, its notes, its refusals."""

import json
from pathlib import Path

import pytest

from eardrop.cli.main import main
from eardrop.gguf import GgufTensor, by_name, open_gguf
from tests.pairs import pair, rewritten


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.gguf"


@pytest.mark.parametrize("which", [0, 1])
def test_the_report_is_what_the_file_holds(which, out, capsys):
    source = pair("micro")[which]
    assert main(["quantize", str(source), str(out), "q4_k_m", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    with open_gguf(out) as file:
        assert [row["name"] for row in told["tensors"]] == list(file.tensors)
        for row in told["tensors"]:
            tensor = file.tensors[row["name"]]
            assert (row["type"], row["bytes"], row["shape"]) == (tensor.format.name, tensor.nbytes, list(tensor.shape))
            assert (row["rmse"] > 0) == (row["relative"] > 0) == (row["type"] != row["from"])
        assert sum(row["bytes"] for row in told["types"]) == sum(tensor.nbytes for tensor in file.tensors.values())
    assert told["file"]["bytes"] == out.stat().st_size < told["file"]["bytes before"] == source.stat().st_size
    assert told["file"]["type"] == "Q4_K_M"


def test_people_see_a_line_for_each_matrix_and_why_it_differs(out, capsys):
    assert main(["quantize", str(pair("micro")[0]), str(out), "Q4_K", "--keep", "blk.3.*=Q8_0"]) == 0
    shown, err = capsys.readouterr()
    assert err == ""
    (line,) = (line for line in shown.splitlines() if "blk.0.ffn_up.weight" in line)
    assert line.split()[:6] == ["blk.0.ffn_up.weight", "192", "×", "128", "F16", "Q5_0"]
    assert line.endswith("  rows of 128 values are no whole blocks of Q4_K")
    assert sum(line.endswith("as wished") for line in shown.splitlines()) == 7
    assert "norm" not in shown


@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_a_hostile_file_can_not_steer_a_terminal(where, out, tmp_path, terminal, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    name = "\x1b]0;owned\x07[red].weight"
    tensor = GgufTensor.from_array(name, [[1.0] * 32] * 2, by_name("F16"))
    source = rewritten(pair("micro")[0], tmp_path / "hostile.gguf", tensors={name: tensor})
    if where == "terminal":
        terminal("stdout")
        terminal("stderr")
    assert main(["quantize", str(source), str(out), "Q8_0"]) == 0
    shown, err = capsys.readouterr()
    assert r"\x1b]0;owned\x07[red].weight" in shown
    assert "\x1b]" not in shown + err


def test_errors_that_add_up_are_told(out, capsys):
    assert main(["quantize", str(pair("micro-q8_0")[0]), str(out), "Q4_0", "--json"]) == 0
    shown, err = capsys.readouterr()
    assert "weights were quantized before, and errors add up; start from F16" in err
    json.loads(shown)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["IN", "OUT"], 2, "the following arguments are required: TYPE"),
        (["IN", "OUT", "Q3_K"], 2, "no type is called 'Q3_K'; there are F32, F16"),
        (["IN", "OUT", "Q4_0", "--keep", "x"], 2, "expected PATTERN=TYPE"),
        (["IN", "OUT", "Q4_0", "--keep", "\x1b=Q8_0"], 2, r"no matrix is called '\x1b'"),
        (["IN", "OUT", "Q4_0", "-t", "0"], 2, "--threads must be at least 1, found 0"),
        (["IN", "IN", "Q4_0", "--force"], 2, "is the file to read"),
        (["none.gguf", "OUT", "Q4_0"], 3, "none.gguf: can't be opened"),
        ([__file__, "OUT", "Q4_0"], 3, "test_quantize.py: "),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(words, code, message, out, capsys):
    places = {"IN": str(pair("micro")[0]), "OUT": str(out)}
    assert main(["quantize", *(places.get(word, word) for word in words)]) == code
    shown, err = capsys.readouterr()
    assert (shown, err.count("\n")) == ("", 1)
    assert message in err
    assert list(out.parent.iterdir()) == []


def test_a_file_that_is_there_stays_without_force(out, capsys):
    out.write_bytes(b"old")
    words = ["quantize", str(pair("micro")[0]), str(out), "Q8_0", "-t", "2"]
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert main([*words, "--force"]) == 0
    assert Path(out).stat().st_size > 1000
