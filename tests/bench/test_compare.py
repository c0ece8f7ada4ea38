import copy
import json

import pytest

from eardrop.bench.compare import Limit, compare, markdown, read_review, shown
from eardrop.bench.noise import figure
from eardrop.cli.main import main
from eardrop.errors import OptionError

NOISE = (0.99, 1.0, 1.01, 1.0, 1.0, 0.995, 1.005)


def spent(seconds: float) -> dict:
    return figure([seconds * n for n in NOISE], "s", "lower")


def stage(name: str, own: float, inclusive: float) -> dict:
    return {"stage": name, "calls": 1, "own": spent(own), "inclusive": spent(inclusive)}


@pytest.fixture
def a() -> dict:
    return {
        "schema": 1,
        "machine": {"processor": "A", "cores": 2, "memory_bytes": 1},
        "flags": {"tokens": 20, "threads": 2, "backend": "cpu", "runs": 7},
        "files": [{"name": "a.gguf", "bytes": 1, "sha256": "0"}],
        "text": "one two three",
        "stages": [stage("encoder", 1.0, 1.0), stage("token", 0.1, 0.1), stage("whole", 0.1, 1.2)],
        "figures": {"tokens a second": figure([20.0 * n for n in NOISE], "tokens/s", "higher"), "energy": None},
    }


@pytest.fixture
def b(a: dict) -> dict:
    changed = copy.deepcopy(a)
    changed["stages"] = [stage("encoder", 0.9, 0.9), stage("token", 0.16, 0.16), stage("whole", 0.1, 1.16)]
    return changed


def files(tmp_path, *reports: dict) -> list[str]:
    paths = [tmp_path / f"{place}.json" for place in range(len(reports))]
    for path, report in zip(paths, reports, strict=True):
        path.write_text(json.dumps(report))
    return [str(path) for path in paths]


def test_the_largest_change_in_seconds_comes_first(a, b) -> None:
    lines = compare(a, b).stages
    assert [line.name for line in lines[:3]] == ["encoder", "token", "whole"]  # 100, 60, 40 ms; token is +60 %
    assert [line.verdict for line in lines[:2]] == ["better", "**worse**"]


def test_what_did_not_change_is_no_difference_seen(a) -> None:
    comparison = compare(a, copy.deepcopy(a))
    assert {line.verdict for line in comparison.lines} == {"no difference seen"}
    assert "0 of 5 figures changed beyond the noise; the same text." in markdown(comparison)


def test_more_tokens_a_second_are_better(a, b) -> None:
    b["figures"]["tokens a second"] = figure([30.0 * n for n in NOISE], "tokens/s", "higher")
    (line,) = compare(a, b).figures
    assert (line.verdict, round(line.change.median, 2)) == ("better", 0.5)


@pytest.mark.parametrize(("part", "key", "value"), [("machine", "processor", "B"), ("flags", "threads", 1)])
def test_another_machine_or_question_is_refused_unless_forced(part, key, value, a, b) -> None:
    b[part][key] = value
    with pytest.raises(OptionError, match=f"{key}.*--force"):
        compare(a, b)
    assert "Not the same question" in markdown(compare(a, b, force=True))


def test_other_files_are_refused(a, b) -> None:
    b["files"][0]["sha256"] = "1"
    with pytest.raises(OptionError, match="files are not the same"):
        compare(a, b)


@pytest.mark.parametrize(
    ("text", "name", "above", "share"),
    [
        ("token>3%", "token", True, 0.03),
        (" times real time < -2.5 % ", "times real time", False, -0.025),
        ("whole, itself>+10%", "whole, itself", True, 0.1),
    ],
)
def test_a_limit_is_a_name_a_sign_and_percent(text, name, above, share) -> None:
    assert Limit.parse(text) == Limit(name, above, pytest.approx(share))


@pytest.mark.parametrize("text", ["", "token", "token>3", "token=3%", ">3%", "token>x%"])
def test_anything_else_is_no_limit(text) -> None:
    with pytest.raises(OptionError, match="is no limit"):
        Limit.parse(text)


def test_a_limit_on_nothing_names_what_there_is(a, b) -> None:
    with pytest.raises(OptionError, match=r"called 'tokn'; there are encoder"):
        Limit.parse("tokn>3%").broken(compare(a, b).lines)


def test_a_broken_limit_is_the_exit_code(a, b, tmp_path, capsys) -> None:
    words = ["bench", "compare", *files(tmp_path, a, b), "--fail-if"]
    assert main([*words, "token>70%"]) == 0
    assert main([*words, "token>3%"]) == 1
    assert "**Beyond the limit**: token>3%." in capsys.readouterr().out
    assert main([*words, "token<-3%"]) == 0


def test_noise_breaks_no_limit(a, tmp_path) -> None:
    noisy = copy.deepcopy(a)
    noisy["stages"][1] = stage("token", 0.1, 0.1)
    noisy["stages"][1]["inclusive"] = figure([0.05, 0.08, 0.104, 0.104, 0.12, 0.2, 0.06], "s", "lower")
    assert main(["bench", "compare", *files(tmp_path, a, noisy), "--fail-if", "token>3%"]) == 0


def test_another_text_fails_unless_allowed(a, b, tmp_path, capsys) -> None:
    b["text"] = "one too three"
    words = ["bench", "compare", *files(tmp_path, a, b)]
    assert main(words) == 1
    assert "**another text**: 1 words differ" in capsys.readouterr().out
    assert main([*words, "--other-text"]) == 0


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 0}', '{"schema": 99}'])
def test_what_is_no_review_is_told(content, tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=r"a\.json"):
        read_review(path)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2e-6, "s", "2.0 µs"), (0.0123, "s", "12.3 ms"), (12.0, "s", "12.0 s"), (3 << 20, "bytes", "3 MiB"),
        (2.5e10, "bytes/s", "25.0 GB/s"), (0.914, "share", "91%"), (8.456, "tokens/s", "8.46 tokens/s"),
    ],
)  # fmt: skip
def test_figures_have_their_units(value, unit, text) -> None:
    assert shown(value, unit) == text
