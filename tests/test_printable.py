"""What a stranger's string may do to a terminal: nothing."""

import pytest

from eardrop.printable import printable


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("two\nlines\r\tand\x00nothing", r"two\nlines\r\tand\x00nothing"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
        ("\u2066a\u2069\u200e\u200f\u061c", r"\u2066a\u2069\u200e\u200f\u061c"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("delete\x7f next\x85", r"delete\x7f next\x85"),
        ("name\udc80.gguf", r"name\udc80.gguf"),
    ],
)
def test_what_steers_a_terminal_is_spelt_out(hostile: str, harmless: str) -> None:
    assert printable(hostile) == harmless


@pytest.mark.parametrize("text", ["", "blk.0.attn_q.weight", "Ärger, naïve", "今日は", "Ġthe", "🎧 שלום مرحبا"])
def test_letters_of_every_script_stay(text: str) -> None:
    assert printable(text) == text


def test_line_breaks_stay_where_they_are_wanted() -> None:
    assert printable("a\n\tb\x1b[2J", keep="\n\t") == "a\n\tb\\x1b[2J"


def test_a_long_name_is_cut_to_its_limit() -> None:
    assert printable("x" * 50, most=10) == "x" * 9 + "…"
    assert printable("x" * 10, most=10) == "x" * 10


def test_the_result_can_always_be_encoded() -> None:
    everything = "".join(map(chr, range(0x3000))) + "\ud800\udfff"
    shown = printable(everything)
    shown.encode("utf-8")
    assert len(shown.splitlines()) == 1
