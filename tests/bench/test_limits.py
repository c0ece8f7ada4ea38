"""The table of what is promised: every line has a limit where one was promised, and a verdict only where it is due."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import limits
from benchmarks.limits import CONTESTS, LEAST_PAIRS, LONGER, PART, SPEED, TIME, Contest, Limit, Line
from eardrop.bench import peers

LINES = {line.name: line for contest in CONTESTS for line in contest.lines}
HERE = {"machine": {"processor": "P", "cores": 2, "memory_bytes": 2**34}, "target": "avx2"}


def figures(number: float, share: float | None = None, pairs: int = LEAST_PAIRS) -> dict:
    def of(value: float) -> dict:
        return {"median": value, "low": value, "high": value, "samples": [value] * pairs}

    found = {"ours": of(number), "theirs": of(1.0), "number": of(number), "date": "2026-11-23T10:00", "commit": "abc"}
    return found if share is None else found | {"share": of(share)}


def test_names_are_unique_and_can_be_asked_for() -> None:
    names = [line.name for contest in CONTESTS for line in contest.lines]
    assert len(set(names)) == len(names)
    assert not any("," in name for name in names)  # --only takes several
    assert limits._names(",".join((*limits.GROUPS, *names)))


def test_what_is_promised_of_either_kind_of_processor() -> None:
    for name, avx2, avx512 in (
        ("decode Q4_0", 1.2, 1.15),
        ("decode Q8_0", 1.1, 1.1),
        ("decode Q4_K_M", 1.15, 1.15),
        ("decode F16", 0.97, 1.0),
        ("prefill Q8_0", 1.6, 3.0),
        ("encoder F16 300 s", 3.5, 5.0),
        ("8 streams Q4_0 beside one", 3.0, 5.0),
        ("whole process Q4_0 time", 0.6, 0.5),
        ("first start beside the second", 1.0, 1.0),
    ):
        assert (LINES[name].limit("avx2").value, LINES[name].limit("avx512-vnni-bf16").value) == (avx2, avx512)
    assert LINES["8 streams Q4_0 beside 8"].limit("avx2") is None
    assert LINES["decode Q4_0"].limit("neon") is None
    bf16 = [name for name in LINES if name.endswith("bf16")]
    assert len(bf16) == 3
    assert all(LINES[name].limit("avx2") is None and LINES[name].limit("avx512-vnni-bf16") for name in bf16)


@pytest.mark.parametrize(
    ("rule", "ours", "theirs", "number", "better"),
    [
        (SPEED, 6.0, 3.0, 2.0, 2.1),
        (TIME, 3.0, 6.0, 2.0, 2.1),
        (PART, 3.0, 6.0, 0.5, 0.4),
        (LONGER, 3.0, 2.0, 1.0, 0.9),
    ],
)
def test_each_rule_knows_which_way_is_better(rule, ours, theirs, number, better) -> None:
    assert rule.of(ours, theirs) == number
    assert rule.holds(number, number)
    assert rule.holds(better, number)
    assert not rule.holds(number, better)


@pytest.mark.parametrize(
    ("limit", "number", "share", "said"),
    [
        (Limit(1.2), 1.2, None, "yes"),
        (Limit(1.2), 1.19, None, "**no**"),
        (Limit(0.97, 0.9, either=True), 0.5, 0.91, "yes"),
        (Limit(0.97, 0.9, either=True), 0.97, 0.5, "yes"),
        (Limit(0.97, 0.9, either=True), 0.96, 0.89, "**no**"),
        (Limit(1.0, 0.9), 1.1, 0.89, "**no**"),
        (Limit(1.0, 0.9), 1.1, 0.9, "yes"),
        (None, 1.0, None, ""),
    ],
)
def test_a_line_holds_when_its_medians_do(limit, number, share, said) -> None:
    assert limits.verdict(SPEED, limit, figures(number, share)) == said


def test_fewer_than_nine_pairs_prove_nothing() -> None:
    assert limits.verdict(SPEED, Limit(1.0), figures(2.0, pairs=LEAST_PAIRS - 1)) == "8 of 9 pairs"


@pytest.fixture
def program(tmp_path: Path, monkeypatch) -> list[str]:
    """The program in a folder of its own, with one contest that takes three turns to go wrong."""
    turns = iter(range(1, 100))

    @contextmanager
    def prepare(course):
        yield lambda: {"ours": 2.0 * next(turns), "theirs": 1.0, "share": 0.5}

    contests = tuple(
        Contest(group, "something", prepare, (Line(f"{group} fast", SPEED, "tokens/s", Limit(3.0), Limit(3.0)),), need)
        for group, need in (("one", ""), ("two", ""), ("three", "bf16"))
    )
    for name in (peers.PROGRAM, peers.BENCH, peers.BATCHED):
        (tmp_path / name).write_text("#!/bin/sh\necho version: 7\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "README.md").write_text(f"before\n{limits.BEGIN}stale\n{limits.END}after\n")
    monkeypatch.setattr(limits, "CONTESTS", contests)
    monkeypatch.setattr(limits, "GROUPS", ("one", "two", "three"))
    monkeypatch.setattr(limits, "README", tmp_path / "README.md")
    monkeypatch.setattr(limits, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(limits, "choose", lambda name, threads=None: None)  # offers no other precision
    return ["--against", str(tmp_path)]


def test_the_first_turn_warms_up_and_is_not_counted(program, tmp_path: Path) -> None:
    limits.main([*program, "--only", "one"])
    (entry,) = json.loads((tmp_path / "measured.json").read_text())
    assert entry["lines"]["one fast"]["ours"]["samples"] == [4.0 + 2 * turn for turn in range(9)]


def test_the_table_goes_between_its_marks_and_other_lines_stay(program, tmp_path: Path) -> None:
    limits.main([*program, "--only", "one"])
    limits.main([*program, "--only", "two fast"])
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{limits.END}after\n")
    assert "stale" not in text
    assert "| one fast | 12.00 tokens/s |" in text
    assert "| two fast |" in text
    assert "three" not in text  # the backend offers no bfloat16


def test_too_few_pairs_are_shown_and_not_kept(program, tmp_path: Path, capsys) -> None:
    limits.main([*program, "--only", "one", "--pairs", "1"])
    said = capsys.readouterr()
    assert "| one fast | 4.00 tokens/s |" in said.out
    assert "prove nothing" in said.err
    assert not (tmp_path / "measured.json").exists()
    assert "stale" in (tmp_path / "README.md").read_text()


def test_another_machine_keeps_its_lines() -> None:
    there = HERE | {"target": "neon"}
    everything = limits.merged([there | {"lines": {"a": 1}}, HERE | {"lines": {"b": 2, "c": 3}}], HERE, {"c": 4})
    assert everything == [there | {"lines": {"a": 1}}, HERE | {"lines": {"b": 2, "c": 4}}]


def test_an_unknown_line_is_told_with_those_there_are(capsys) -> None:
    with pytest.raises(SystemExit):
        limits.main(["--against", ".", "--only", "decoed"])
    assert "decoed: choose from decode, prefill" in capsys.readouterr().err


def test_a_clip_has_the_length_asked_for(tmp_path: Path) -> None:
    from eardrop.audio import read

    course = limits.Course(None, 1, tmp_path)
    assert [len(read(course.clip(seconds))) for seconds in (0.5, 9.1)] == [8_000, 145_600]
