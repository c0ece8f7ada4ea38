"""How facts look: numbers end at one place, words begin at one."""

import json

import pytest

from eardrop.cli.sheet import show

LINES = {
    "stages": [
        {"stage": "encoder", "calls": 1, "takes": "1,150.3 ms", "95 %": "", "note": "12 of 3"},
        {"stage": "load", "calls": 1200, "takes": "2.8 ms", "95 %": "91%", "note": "words"},
    ]
}


def test_columns_of_numbers_are_aligned_at_their_ends_with_their_headings(capsys):
    show(LINES)
    assert capsys.readouterr().out.splitlines() == [
        "stages",
        "  stage    calls       takes  95 %  note",
        "  encoder      1  1,150.3 ms        12 of 3",
        "  load     1,200      2.8 ms   91%  words",
        "",
    ]


def test_on_a_terminal_too(terminal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    terminal("stdout")
    show(LINES)
    lines = capsys.readouterr().out.splitlines()
    first, second = (next(line for line in lines if word in line) for word in ("encoder", "load"))
    assert first.index("ms") == second.index("ms")
    assert first.rindex("1 ") == second.rindex("0 ")


def test_among_other_facts_numbers_end_at_one_place(capsys):
    show({"file": {"name": "a.gguf", "bytes": 1_330_400, "bits per weight": 16.05, "epsilon": 1e-5, "base": 1e6}})
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "  name             a.gguf",
        "  bytes            1,330,400",
        "  bits per weight      16.05",
        "  epsilon              1e-05",
        "  base             1,000,000",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [((960, 128), "960 × 128"), ((), "one value"), ([2, 7], "2 7"), (True, "yes"), (None, ""), (2.5, "2.5")],
)
def test_values_are_shown_for_people_and_stay_what_they_are_for_programs(value, text, capsys):
    show({"facts": [{"fact": value}]})
    assert capsys.readouterr().out.splitlines()[-2:][0].strip() == text
    show({"facts": [{"fact": value}]}, as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps({"facts": [{"fact": value}]}))
