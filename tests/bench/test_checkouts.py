"""Two checkouts take turns, each in a process that takes its code from there. Here they are stand-ins."""

import json
from pathlib import Path

import pytest

from eardrop.bench.checkouts import in_turns, joined
from eardrop.bench.noise import figure
from eardrop.bench.review import SCHEMA
from eardrop.errors import EardropError, OptionError

STAND_IN = """\
import json, sys, eardrop
from pathlib import Path
seen = Path({seen!r})
with seen.open("a") as file:
    file.write({name!r} + " " + " ".join(sys.argv[1:]) + "\\n")
if {name!r} == "broken":
    sys.exit("no \\x1b model")
turn = len(seen.read_text().splitlines())
spent = lambda value: dict(unit="s", better="lower", median=value, low=value, high=value, samples=[value])
stages = [dict(stage="whole", calls=1, own=spent(turn), inclusive=spent(turn + 0.5))]
figures = {{"first text": spent(turn), "energy": None}}
said = dict(stages=stages, figures=figures, flags=dict(runs=1, tokens=4), text=eardrop.NAME)
print(json.dumps(dict(schema={schema}) | said))
"""


@pytest.fixture
def checkouts(tmp_path: Path):
    def made(name: str, schema: int = SCHEMA) -> Path:
        package = tmp_path / name / "eardrop"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"NAME = {name!r}\n")
        program = STAND_IN.format(seen=str(tmp_path / "seen"), name=name, schema=schema)
        (package / "__main__.py").write_text(program)
        return package.parent

    return made


def test_checkouts_take_turns_and_run_their_own_code(checkouts, tmp_path: Path) -> None:
    a, b = in_turns(checkouts("a"), checkouts("b"), ["--tokens", "4"], runs=3)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert [line.split()[0] for line in seen] == ["a", "b"] * 3
    assert all(line.endswith("bench stages --tokens 4 --runs 1 --json") for line in seen)
    assert (a["text"], b["text"]) == ("a", "b")
    assert a["figures"]["first text"]["samples"] == [1, 3, 5]
    assert b["stages"][0]["inclusive"]["median"] == 4.5
    assert a["flags"]["runs"] == 3


def test_a_relative_checkout_is_found_all_the_same(checkouts, monkeypatch, tmp_path: Path) -> None:
    checkouts("a"), checkouts("b")
    monkeypatch.chdir(tmp_path / "b")
    a, b = in_turns(Path("../a"), Path(), [], runs=1)
    assert (a["text"], b["text"]) == ("a", "b")


def test_what_one_turn_did_not_measure_is_not_measured() -> None:
    def review(*, measured: bool) -> dict:
        one = figure([1.0], "s", "lower")
        stages = [{"stage": "token", "own": one, "inclusive": one}] if measured else []
        return {"stages": stages, "figures": {"energy": one if measured else None}, "flags": {}}

    both = joined([review(measured=True), review(measured=False)])
    assert (both["stages"], both["figures"]) == ([], {"energy": None})


def test_a_folder_that_is_no_checkout_is_told_before_anything_runs(checkouts, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"is no checkout of eardrop: expected eardrop/__main__\.py"):
        in_turns(checkouts("a"), tmp_path, [], runs=1)
    assert not (tmp_path / "seen").exists()


def test_a_turn_that_fails_is_told_with_its_last_words(checkouts) -> None:
    with pytest.raises(EardropError, match=r"broken ended with 1: no \\x1b model"):
        in_turns(checkouts("broken"), checkouts("b"), [], runs=1)


def test_a_checkout_with_another_schema_is_refused(checkouts) -> None:
    with pytest.raises(OptionError, match="has schema 7, expected 1"):
        in_turns(checkouts("a", 7), checkouts("b"), [], runs=1)


def test_reviews_of_turns_can_be_written_as_json(checkouts) -> None:
    a, _ = in_turns(checkouts("a"), checkouts("b"), [], runs=2)
    assert json.loads(json.dumps(a)) == a
