import json
from pathlib import Path

import pytest

import eardrop
from eardrop.cli.main import main
from eardrop.hub import KNOWN
from tests.hub.fake_hub import COMMIT, Hub, Repository
from tests.pairs import pair

REPO = "some/micro-GGUF"


@pytest.fixture
def published(hub: Hub) -> Hub:
    text, projector = (path.read_bytes() for path in pair())
    hub.repositories[REPO] = Repository({"m-F16.gguf": text, "mmproj-m-F16.gguf": projector})
    hub.repositories["other/vision-GGUF"] = Repository({"v-F16.gguf": text, "mmproj-v-F16.gguf": text})
    return hub


@pytest.fixture
def fetched(published, capsys) -> Hub:
    assert main(["models", "fetch", REPO]) == 0
    capsys.readouterr()
    published.asked.clear()
    return published


def test_a_fetch_says_what_it_takes_and_where_it_lies(published, capsys):
    assert main(["models", "fetch", f"{REPO}:F16"]) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()).name == "m-F16.gguf"
    assert err.splitlines() == [
        f"eardrop: fetching mmproj-m-F16.gguf and m-F16.gguf (8.7 MB) of {REPO}, commit {COMMIT[:10]}",
        "eardrop: its projector is mmproj-m-F16.gguf",
        f"eardrop: to make it the default: eardrop models use {REPO}:F16",
    ]


def test_what_is_here_is_not_fetched_again(fetched, capsys):
    assert main(["models", "fetch", REPO]) == 0
    assert "fetching" not in capsys.readouterr().err
    assert fetched.downloads() == []


def test_a_recording_is_transcribed_by_a_model_s_name(published, clip, capsys):
    words = ["transcribe", clip("ms100"), "--max-tokens", "3"]
    assert main([*words, "-m", str(pair()[0])]) == 0
    expected = capsys.readouterr().out
    assert main([*words, "-hf", f"{REPO}:F16"]) == 0
    out, err = capsys.readouterr()
    assert (out, "fetching" in err) == (expected, True)
    published.asked.clear()
    for naming in (["-m", REPO], ["--hf_repo", f"{REPO}:F16"], ["-hf", f"{REPO}@{COMMIT[:7]}", "--offline"]):
        assert main([*words, *naming]) == 0
        out, err = capsys.readouterr()
        assert (out, "fetching" in err) == (expected, False)
    assert published.asked == []


def test_run_takes_the_same_names(fetched, clip, capsys):
    words = ["--audio", clip("ms100"), "-sys", "Perform ASR.", "-n", "3"]
    assert main(["run", "-m", str(pair()[0]), *words]) == 0
    expected = capsys.readouterr().out
    assert main(["run", "-hf", f"{REPO}:F16", *words]) == 0
    assert capsys.readouterr().out == expected


def test_python_takes_the_same_names(fetched):
    with eardrop.load(f"{REPO}:F16") as asr:
        assert asr.model.name == "m-F16"


def test_offline_nothing_is_fetched(published, clip, capsys):
    for command in ("transcribe", "run"):
        assert main([command, "-hf", REPO, "--offline", *([clip("ms100")] if command == "transcribe" else [])]) == 7
        assert capsys.readouterr().err.endswith(
            f"eardrop: {REPO} isn't in the cache; `eardrop models fetch {REPO}` brings it\n"
        )
    assert published.asked == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "a.gguf", "-hf", REPO], "give one of the two"),
        (["-hf", "LFM2-Audio"], "'LFM2-Audio' names no repository; expected USER/REPO[:TYPE]"),
        (["-hf", f"{REPO}:Q4_0"], f"{REPO} holds no text model of type Q4_0; there are F16"),
    ],
)
def test_names_that_can_not_be_are_told(published, words, message, capsys):
    assert main(["transcribe", "talk.wav", *words]) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), message in err) == (1, True)


def test_the_default_is_taken_where_none_is_named(fetched, clip, capsys):
    words = ["transcribe", clip("ms100"), "--max-tokens", "3", "-q"]
    assert main(words) == 2
    assert "no model was given" in capsys.readouterr().err
    assert main(["models", "use", REPO]) == 0
    assert capsys.readouterr().out == f"{REPO}:F16\n"
    assert main(words) == 0
    assert main(["models", "use", "--none"]) == 0
    assert main(words) == 2


def test_the_list_holds_models_for_speech_and_those_that_are_known(fetched, capsys):
    main(["models", "fetch", "other/vision-GGUF"])
    main(["models", "use", REPO])
    capsys.readouterr()
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(line["model"], line["commit"], line["default"]) for line in told["models"]] == [
        (f"{REPO}:F16", COMMIT, True)
    ]
    assert told["known"] == list(KNOWN)
    assert told["default"] == {"model": f"{REPO}:F16", "by": "eardrop models use"}
    for text in (f"{REPO}:F16", "8.7 MB", *KNOWN, "by eardrop models use"):
        assert text in out
    assert "vision" not in out


def test_a_removed_model_is_gone_and_a_default_is_missed(fetched, capsys):
    main(["models", "use", REPO])
    capsys.readouterr()
    assert main(["models", "remove", REPO]) == 0
    out, err = capsys.readouterr()
    assert out == f"{REPO}: 8.7 MB are free again\n"
    assert "is still the default, by eardrop models use" in err
    assert main(["models", "remove", REPO]) == 2
    assert "isn't in the cache" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["frobnicate"], ["fetch"], ["use"], ["use", "x", "--none"], ["--json", "x"]])
def test_words_that_make_no_sense_are_one_line(hub, words, capsys):
    assert main(["models", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_download_is_watched_on_a_terminal(published, terminal, capsys):
    terminal("stderr")
    assert main(["models", "fetch", REPO]) == 0
    assert "fetching" in capsys.readouterr().err
    assert len(published.downloads()) == 2


def test_the_model_that_ships_says_that_it_demonstrates(clip, capsys, monkeypatch):
    monkeypatch.setattr("eardrop.hub.resolve.BUNDLED", pair()[0].parent)
    words = ["transcribe", "-m", str(pair()[0]), clip("ms100"), "-f", "json", "--max-tokens", "1"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    said = "this is a small model for demonstration; for a real one: eardrop models fetch LiquidAI/"
    assert json.loads(out)["demonstration"].startswith(said)
    assert err.count(said) == 1
    monkeypatch.undo()
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert not json.loads(out)["demonstration"]
    assert "demonstration" not in err
