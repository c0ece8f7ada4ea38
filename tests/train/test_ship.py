"""What a release takes from a run: formats measured, the card filled in, pair and log put where they belong."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import train.formats as formats  # noqa: E402
from eardrop.audio import read  # noqa: E402
from eardrop.bench.recordings import write_wav  # noqa: E402
from eardrop.tools.corpus import Heard, read_corpus  # noqa: E402
from eardrop.tools.evaluate import Run, score  # noqa: E402
from train.card import Training  # noqa: E402
from train.examples import CHOSEN, make_examples  # noqa: E402
from train.export import export  # noqa: E402
from train.formats import Measured, kept_run, measure, pair, table, verdict  # noqa: E402
from train.learn import Plan  # noqa: E402
from train.network import Lfm2Audio, Shape  # noqa: E402
from train.ship import ship, spoken_by_people  # noqa: E402
from train.vocabulary import learn_merges, tokenizer  # noqa: E402


def heard(*texts: str) -> Run:
    """A run over recordings of ten words each; "." says one wrong."""
    said = " ".join(["word"] * 10)
    wrong = {".": " ".join(["word"] * 9 + ["ward"])}
    return Run({}, "english", [score(f"{n}", "", said, Heard(wrong.get(t, said)), normalizer="english")
                               for n, t in enumerate(texts)], {})  # fmt: skip


def measured(form: str, wrong: int) -> Measured:
    return Measured(form, Path(), 3_200_000, 11_500_000, heard(*["."] * wrong, *[""] * (40 - wrong)))


def test_a_format_that_loses_more_than_a_point_is_told() -> None:
    plain = measured("F16", 4)
    assert verdict([plain, measured("Q8_0", 6), measured("Q5_K_M", 8), measured("Q4_0", 40)]) == (
        "No format down to Q5_K_M loses more than one point against F16."
    )
    assert verdict([plain, measured("Q8_0", 4), measured("Q5_K_M", 12)]).startswith("Q5_K_M loses 2.0 points against")


def test_the_table_has_sizes_rates_and_differences() -> None:
    plain, other = table([measured("F16", 4), measured("Q8_0", 8)]).splitlines()[2:]
    assert plain.startswith("| F16 | 3.2 MB | 11.5 MB | 14.7 MB | 1.0% | ")
    assert plain.endswith("|  |")
    assert "| 2.0% |" in other
    assert "| +1.00 (" in other


def test_the_log_is_of_the_steps_that_led_to_the_model(tmp_path: Path) -> None:
    for name, hours in (("log", [1.0, 2.0, 3.0, 4.0]), ("cooled", [2.5, 3.5])):
        (tmp_path / name).write_text("".join(json.dumps({"hours": hour}) + "\n" for hour in hours))
    training = Training(tmp_path, [tmp_path / "log", tmp_path / "cooled"], tmp_path, Plan())
    assert [line["hours"] for line in training.log()] == [1.0, 2.0, 2.5, 3.5]


@pytest.mark.parametrize("column", ["file", "audio"])
def test_recordings_for_other_tests_are_no_recorded_speech(tmp_path: Path, column: str) -> None:
    rows = [("a.flac", "speech", "Hello."), ("b.mp3", "speech-format", "Hello."), ("c.wav", "nonspeech", "")]
    (tmp_path / "manifest.jsonl").write_text(
        "".join(json.dumps({column: f, "kind": k, "text": t, "source": k}) + "\n" for f, k, t in rows)
    )
    corpus = spoken_by_people(tmp_path / "manifest.jsonl")
    assert [(one.name, one.group) for one in corpus.utterances] == [("a.flac", "speech"), ("c.wav", "nonspeech")]


def made_tests(folder: Path) -> Path:
    """A recording of noise for each set and kind that the examples are chosen from, and a short one before it."""
    folder.mkdir()
    draw, rows = np.random.default_rng(1), []
    for number, (group, kind) in enumerate(CHOSEN.values()):
        for seconds in (1, 2):
            name = f"{number}-{seconds}.wav"
            write_wav(folder / name, draw.integers(-3000, 3000, 16000 * seconds).astype(np.int16))
            text = "" if group == "nothing" else f"The {kind} {seconds}."
            rows.append({"audio": name, "text": text, "group": group, "kind": kind, "voice": "a/b"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_examples_are_the_first_of_their_kind_that_are_long_enough_bit_for_bit(tmp_path: Path) -> None:
    tests = made_tests(tmp_path / "tests")
    *files, manifest = make_examples(tests, tmp_path)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert {path.name for path in files} | {"harbour.flac"} == {row["audio"] for row in rows}
    for number, row in enumerate(rows[:-1]):
        np.testing.assert_array_equal(read(tmp_path / row["audio"]), read(tests / f"{number}-2.wav"))
        assert row["text"] in ("", f"The {row['kind']} 2.")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run that learnt nothing."""
    folder: Path = tmp_path_factory.mktemp("run")
    merges = learn_merges(["One two three."] * 3)
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    shape = Shape(
        tokenizer(merges).vocabulary_size, channels=8, encoder_layers=1, encoder_ffn=64, adapter=64, width=64, ffn=64,
        heads=2,
    )  # fmt: skip
    torch.manual_seed(4)
    weights = Lfm2Audio(shape).state_dict()
    held = {"shape": asdict(shape), "model": weights, "mean": weights, "step": 7, "seconds": 7200.0}
    torch.save(held, folder / "checkpoint.pt")
    (folder / "log.jsonl").write_text("".join(json.dumps({"hours": n / 900}) + "\n" for n in range(1800)))
    (folder / "speech").mkdir()
    (folder / "speech" / "00000.json").write_text(json.dumps([["digits", "One.", "a/b", 16000 * 360]]))
    return Training(folder, [folder / "log.jsonl"], folder / "speech", Plan(seed=99, cooldown=0.5))


def test_a_pair_its_card_and_its_log_are_put_in_place(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FORMATS", ("F16", "Q8_0"))
    monkeypatch.setattr("train.ship.FORM", "Q8_0")
    monkeypatch.setattr("train.ship.BUNDLED", tmp_path / "data")
    monkeypatch.setattr("train.ship.LOG", tmp_path / "shipped.jsonl")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "older-Q8_0.gguf").touch()
    export(training.folder, tmp_path / "model")
    told: list[str] = []
    tests = made_tests(tmp_path / "tests")
    ship(training, tmp_path / "model", tests, None, tell=told.append)
    names = {"README.md", "eardrop-small-Q8_0.gguf", "mmproj-eardrop-small-Q8_0.gguf"}
    assert {path.name for path in (tmp_path / "data").iterdir()} == names
    card = (tmp_path / "data" / "README.md").read_text()
    assert "{" not in card
    for fact in ("1 sentences, 0.1 hours", "7 steps over 2 hours", "seed 99", "| seen voices | 14 |", "| Q8_0 | "):
        assert fact in card
    plan, *lines = [json.loads(line) for line in (tmp_path / "shipped.jsonl").read_text().splitlines()]
    assert plan["plan"]["seed"] == 99
    assert 400 < len(lines) < 600
    assert lines[-1]["hours"] == 1799 / 900

    monkeypatch.setattr(formats, "heard_by", lambda *given, **named: pytest.fail("nothing changed"))
    measure(tmp_path / "model", tests, tell=told.append)
    text, _ = pair(tmp_path / "model" / "Q8_0")
    kept = tmp_path / "model" / "runs" / "Q8_0.json"
    os.utime(text, (text.stat().st_atime, kept.stat().st_mtime + 1))
    monkeypatch.setattr(formats, "heard_by", lambda *given, **named: heard("."))
    assert len(kept_run(text.parent, kept, read_corpus(tests), tell=told.append).scored) == 1
