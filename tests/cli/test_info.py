import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.cli.main import main
from eardrop.gguf import GgufTensor
from eardrop.knobs import KNOBS
from eardrop.ops import OPS
from tests.pairs import rewritten

HOSTILE = "\x1b]0;owned\x07[red]name[/red][link=http://x]\u202e"
SPELT = r"\x1b]0;owned\x07[red]name[/red][link=http://x]\u202e"


@pytest.fixture
def projector(model):
    return str(Path(model).with_name(f"mmproj-{Path(model).name}"))


@pytest.fixture
def card(capsys):
    """What `info FILE --json` says."""

    def read(path, *words):
        assert main(["info", str(path), "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return read


def test_the_machine_is_described(capsys):
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["eardrop"]) >= {"version", "python", "numpy", "av", "soxr", "tokenizers", "rich"}
    assert set(told["machine"]) == {"system", "processor", "cores", "memory"}
    assert told["machine"]["cores"].endswith(f" of {os.cpu_count()}")
    assert [backend["name"] for backend in told["backends"]] == list(BACKENDS)
    assert [knob["name"] for knob in told["knobs"]] == [knob.name for knob in KNOBS]
    assert {op["name"]: op["numpy"] for op in told["operations"]} == dict.fromkeys(OPS, "reference")


def test_knobs_are_shown_with_their_values(capsys, monkeypatch):
    monkeypatch.setenv("EARDROP_TAP", "taps")
    assert main(["info"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  EARDROP_TAP "))
    assert line.split()[:3] == ["EARDROP_TAP", "taps", "yes"]


def test_a_text_model_is_described(card, model):
    told = card(model)
    assert told["file"]["kind"] == "the text model"
    assert told["file"]["architecture"] == "lfm2"
    assert told["file"]["bytes"] == Path(model).stat().st_size
    assert (told["file"]["tensors"], told["file"]["parameters"]) == (40, 649_216)
    assert told["file"]["bits per weight"] == pytest.approx(16.05)
    assert told["file"]["problem"] is None
    assert told["file"]["unused tensors"] == 0
    assert told["shape"]["order"].startswith("caca ")
    assert told["shape"]["context"] == 32768
    assert (told["shape"]["rope base"], told["shape"]["stop tokens"]) == (1e6, [2, 7])
    assert told["shape"]["norm epsilon"] == pytest.approx(1e-5)
    assert [row["type"] for row in told["types"]] == ["F16", "F32"]
    assert told["tensors"] == []


def test_a_projector_is_described_with_what_recognition_leaves(card, projector):
    told = card(projector)
    assert told["file"]["kind"] == "the projector (mmproj)"
    assert (told["shape"]["mels"], told["shape"]["layers"]) == (128, 1)
    names = [row["name"] for row in told["not needed to recognise speech"]]
    assert names == ["a.position_embd.weight", "a.position_embd_norm.weight", "a.embd_to_logits.weight"]
    assert told["file"]["unused bytes"] == sum(row["bytes"] for row in told["not needed to recognise speech"])


def test_every_tensor_is_listed_for_those_who_ask(card, model):
    tensors = card(model, "--tensors")["tensors"]
    assert len(tensors) == 40
    assert tensors[0] == {"name": "token_embd.weight", "shape": [960, 128], "type": "F16", "bytes": 245_760}


def test_of_a_folder_the_pair_is_described(card, model, projector, tmp_path, capsys):
    folder, empty = tmp_path / "models", tmp_path / "empty"
    for path in (folder, empty):
        path.mkdir()
    for file in (model, projector):
        shutil.copy(file, folder)
    assert card(folder) == {"text": card(model), "projector": card(projector)}
    assert main(["info", str(folder)]) == 0
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  name  ")]
    assert names[:2] == [Path(model).name, Path(projector).name]
    assert main(["info", str(empty)]) == 2
    assert "holds no text model" in capsys.readouterr().err


def test_another_model_is_described_too(card, model, tmp_path):
    told = card(rewritten(Path(model), tmp_path / "other.gguf", facts={"general.architecture": "gpt2"}))
    assert (told["file"]["kind"], told["shape"]) == ("another model", {})
    assert told["file"]["unused tensors"] == 40


def test_what_makes_a_model_unusable_is_told(card, model, tmp_path):
    broken = card(rewritten(Path(model), tmp_path / "broken.gguf", tensors={"blk.2.ffn_up.weight": None}))
    assert "blk.2.ffn_up.weight" in broken["file"]["problem"]
    assert broken["shape"]["width"] == 128
    form = card(rewritten(Path(model), tmp_path / "form.gguf", facts={"tokenizer.chat_template": "[INST]"}))
    assert "found Llama 2 or Mistral" in form["file"]["problem"]


def test_a_file_that_is_no_gguf_is_one_line(capsys):
    assert main(["info", __file__]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert main(["info", "none.gguf"]) == 3


@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_a_hostile_file_can_not_steer_a_terminal(where, model, tmp_path, terminal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    tensor = GgufTensor.from_array(HOSTILE, np.zeros(2, np.float32))
    facts = {"general.name": HOSTILE, "general.license": HOSTILE * 20}
    path = rewritten(Path(model), tmp_path / "hostile.gguf", facts=facts, tensors={HOSTILE: tensor})
    if where == "terminal":
        terminal("stdout")
    assert main(["info", str(path), "--tensors"]) == 0
    out = capsys.readouterr().out
    assert "\x1b]" not in out
    assert "\x07" not in out
    assert "\u202e" not in out
    assert out.count(SPELT) >= 3  # name, license, tensor: markup is text like any other
    assert "…" in out  # the license is cut


def test_a_fact_of_the_wrong_kind_is_a_model_file_error(model, tmp_path, capsys):
    facts = {"general.architecture": np.array([1, 2], np.int32)}
    assert main(["info", str(rewritten(Path(model), tmp_path / "odd.gguf", facts=facts))]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_tables_are_drawn_on_a_terminal_without_colors_where_none_are_wanted(terminal, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal("stdout")
    main(["info"])
    assert "\x1b[1m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["info"])
    assert "\x1b[3" not in capsys.readouterr().out
