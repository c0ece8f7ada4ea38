"""What is shown while recordings are transcribed."""

import io
import json
import signal
import sys
import threading

import pytest

from eardrop.cli.terminal import Region, Voice, undisturbed
from eardrop.cli.watch import BAR, NAME, watch
from eardrop.errors import AudioError
from eardrop.transcribe import Progress
from eardrop.transcript import Result, Segment

WIDE = Progress("a recording with quite a long name.wav", 3600.0, 60.0, 36000.0, "words that go on and on and on")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


def test_the_words_give_way_to_the_bar_on_a_narrow_terminal(shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", shown)
    with watch("auto", Voice(), 2) as bars:
        bars.told(0, WIDE)
    row = next(row for row in shown.getvalue().splitlines() if "1:00:00 of 10:00:00" in row)
    assert sum(row.count(sign) for sign in "━╸╺") == BAR
    assert WIDE.source[: NAME - 1] in row
    assert "60× 9:00 left" in row


def test_ctrl_c_while_rows_leave_for_a_text_comes_when_they_have_left(shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", shown)
    region = Region("a row", refresh=0)
    stop = region._live.stop

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        stop()

    monkeypatch.setattr(region._live, "stop", interrupted)
    region.__enter__()
    with pytest.raises(KeyboardInterrupt):
        region.above(lambda: None)
    assert shown.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back, the row gone


def test_rows_wipe_themselves_and_nothing_above(shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", shown)
    with Region("one\ntwo\nthree", refresh=0) as region:
        region.above(lambda: shown.write("a text that stays\n") and None)
    after = shown.getvalue().partition("a text that stays\n")[2]
    assert after.index("one") < after.index("\x1b[1A")


def test_what_is_undisturbed_in_another_thread_is_left_alone():
    came = []

    def enter() -> None:
        with undisturbed():
            came.append(signal.getsignal(signal.SIGINT))

    (thread := threading.Thread(target=enter)).start()
    thread.join()
    assert came == [signal.getsignal(signal.SIGINT)]


def test_a_program_reads_an_object_a_line(capsys):
    with watch("json", Voice(), 1) as objects:
        objects.told(0, Progress("a.wav", 1.0, 3.0, 2.0, segment=Segment(0.0, 1.0, "Hello.")))
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line) == {
        "event": "progress",
        "recording": 0, "source": "a.wav", "done": 1.0, "announced": 2.0, "speed": 0.33, "remaining": 3.0, "text": "",
        "segment": {"start": 0.0, "end": 1.0, "text": "Hello."},
    }  # fmt: skip


def test_a_program_reads_how_each_recording_ended(capsys):
    result = Result((Segment(0.0, 1.0, "Hello", warnings=("cut off",)),), "a.wav", "m", 2.0)
    with watch("json", Voice(), 2) as objects:
        objects.ended(0, "a.wav", result)
        objects.ended(1, "b.wav", AudioError("b.wav is damaged"))
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [
        {"event": "done", "recording": 0, "source": "a.wav", "duration": 2.0, "warnings": ["cut off"]},
        {"event": "failed", "recording": 1, "source": "b.wav", "error": "b.wav is damaged", "exit_code": 4},
    ]
