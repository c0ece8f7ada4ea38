import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from eardrop.cli.side_by_side import side_by_side
from eardrop.transcript.align import align

TEXTS = (
    "so my fellow americans ask not what your country can do for you",
    "so my fellow american ask what your country can really do for you",
)
SAID, WRITTEN = (text.split() for text in TEXTS)


def lines(said, written, width=100):
    return [line.plain for line in side_by_side(align(said, written), width)]


def test_words_stand_above_each_other_with_their_marks():
    assert lines(SAID, WRITTEN) == [
        "  said     so my fellow americans ask not what your country can ****** do for you",
        "  written  so my fellow american  ask *** what your country can really do for you",
        "                        S             D                         I",
    ]


def test_long_runs_of_hits_are_shortened():
    said = [*"abcdefghijklmnop", "x", *"abcdefghijklmnop"]
    assert lines(said, [*said[:16], "y", *said[17:]])[0] == "  said     (12) m n o p x a b c d (12)"


def test_without_a_mistake_there_is_nothing_to_show():
    assert lines(SAID, SAID) == []


@pytest.mark.parametrize("width", [20, 30, 80, 200])
def test_lines_keep_to_the_terminals_width(width):
    said, written = SAID * 3, WRITTEN * 3
    shown = lines(said, written, width)
    assert max(map(cell_len, shown)) <= width
    words = " ".join(line.partition("said")[2] for line in shown if line.startswith("  said"))
    assert [word for word in words.split() if word.isalpha()] == said


def test_a_word_wider_than_the_terminal_stands_alone():
    shown = lines(["a" * 50, "b"], ["c", "d"], 20)
    assert len([line for line in shown if line.startswith("  said")]) == 2


def test_wide_characters_take_two_cells():
    above, below, _ = lines(["東京", "x"], ["a", "y"])
    assert above == "  said     東京 x"
    assert below == "  written  a    y"


def test_strangers_words_do_not_steer_a_terminal():
    assert not any("\x1b" in line for line in lines(["\x1b[31mred", "b"], ["x", "[red]b"]))


@pytest.mark.parametrize(("plain", "coloured"), [(False, True), (True, False)])
def test_mistakes_are_coloured_where_colours_are(plain, coloured):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, no_color=plain, color_system="standard", width=100)
    for line in side_by_side(align(SAID, WRITTEN), 100):
        console.print(line, soft_wrap=True)
    assert ("\x1b[" in out.getvalue()) is coloured
    assert "S" in out.getvalue()
