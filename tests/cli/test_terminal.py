import pytest

from eardrop.cli.terminal import ERRORS, Screen, Voice, bar, console, spinner

HOSTILE = b"\x1b]0;owned\x07[red]red[/red]\x9b2J\r\xe2\x80\xae"
SPELT = "\\x1b]0;owned\\x07[red]red[/red]\ufffd2J\\r\\u202e"


def test_a_piece_can_not_steer_a_terminal(capsys):
    screen = Screen()
    screen.piece(HOSTILE)
    screen.piece(b"two\tlines\n")
    assert capsys.readouterr().out == SPELT + "two\tlines\n"


def test_raw_pieces_reach_a_pipe_as_they_are(capsysbinary):
    screen = Screen(raw=True)
    screen.write("\n")
    screen.piece(HOSTILE)
    screen.write("\n")
    assert capsysbinary.readouterr().out == b"\n" + HOSTILE + b"\n"


def test_raw_pieces_reach_no_terminal(terminal, capsys):
    terminal("stdout")
    screen = Screen(raw=True)
    screen.piece(HOSTILE)
    assert capsys.readouterr().out == SPELT


def test_half_a_character_waits_for_the_other_half(capsys):
    screen = Screen()
    screen.piece("é".encode()[:1])
    assert capsys.readouterr().out == ""
    screen.piece("é".encode()[1:])
    screen.piece(b"\xc3")
    screen.end_text()
    assert capsys.readouterr().out == "é\ufffd"


@pytest.mark.parametrize(("pieces", "shown"), [([], ""), ([b"a"], "a\n"), ([b"a\n"], "a\n"), ([b"\xc3"], "\ufffd\n")])
def test_a_line_that_was_begun_is_ended_once(pieces, shown, capsys):
    screen = Screen()
    for piece in pieces:
        screen.piece(piece)
    screen.end_line()
    screen.end_line()
    assert capsys.readouterr().out == shown


def test_a_voice_tells_up_to_its_level(capsys):
    voice = Voice(ERRORS)
    voice.warn("careful")
    voice.note("by the way")
    voice.complain("bad \x1b[31m")
    assert capsys.readouterr() == ("", "eardrop: bad \\x1b[31m\n")


def test_bars_and_spinners_are_silent_where_nobody_watches(capsys):
    with bar("loading") as progress, spinner("listening") as hide:
        progress(0.5)
        hide()
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_a_strangers_name_literally(terminal, capsys):
    terminal("stderr")
    with bar("[red]\x1b[31mx.gguf[/red] :smile:") as progress:
        progress(1.0)
    shown = capsys.readouterr().err
    assert "[red]\\x1b[31mx.gguf[/red] :smile:" in shown
    assert "\x1b[31mx" not in shown


def test_a_spinner_shows_a_strangers_name_literally(terminal, capsys):
    terminal("stderr")
    with spinner("[link=http://x]\x1b[31my[/link]"):
        pass
    assert "\x1b[31my" not in capsys.readouterr().err


def test_no_color_is_honoured(terminal, capsys, monkeypatch):
    import sys

    from rich.text import Text

    terminal("stdout")
    monkeypatch.setenv("TERM", "xterm")
    for value, colored in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        console(sys.stdout).print(Text("x", style="red"))
        assert ("\x1b[31m" in capsys.readouterr().out) is colored
