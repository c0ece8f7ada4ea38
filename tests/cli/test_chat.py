import io
import os
import select
import sys
import time

import numpy as np
import pytest

from eardrop.audio import read
from eardrop.cli.main import main
from eardrop.cli.talk import Page, Talk
from eardrop.cli.terminal import Screen
from eardrop.dialect import LLAMA_CPP, REFERENCE
from eardrop.errors import OptionError
from eardrop.search import Finish, Greedy
from eardrop.text import Media
from tests.cli.interrupts import heed_interrupts


@pytest.fixture
def say(monkeypatch, model, capsys):
    """Hold a conversation of these lines: exit code, standard output, standard error."""

    def converse(*lines, words=()):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = main(["run", "-m", model, "-n", "4", "--temp", "0", *words])
        return code, *capsys.readouterr()

    return converse


def ignore(token):
    pass


def flat(request):
    """A prompt to compare: ids, and rows for recordings."""
    audio = iter(request.audio)
    return [len(next(audio)) if isinstance(part, Media) else part.tolist() for part in request.prompt]


class Spy:
    """An engine that answers what it is told to, and remembers what it was asked."""

    def __init__(self, engine, answers):
        self.model, self._engine, self._answers = engine.model, engine, iter(answers)
        self.asked, self.requests = [], []

    def encode(self, samples, *, dialect):
        return self._engine.encode(samples, dialect=dialect)

    def submit(self, request):
        self.asked.append(flat(request))
        self.requests.append(request)
        return next(self._answers)


class Answer:
    """A handle that says these tokens, then ends so; an exception is raised instead of an end."""

    def __init__(self, ids, end=Finish.STOP):
        self._ids, self._end, self.finish = list(ids), end, None

    def __iter__(self):
        for token in self._ids:
            yield type("Token", (), {"id": token})()
        if isinstance(self._end, BaseException):
            raise self._end
        self.finish = self._end

    def cancel(self):
        pass


def talk_of(asr, answers, dialect=REFERENCE, system="Perform ASR."):
    return Talk(Spy(asr.engine, answers), dialect, Greedy(), system=system)


def test_a_conversation_is_sent_whole_with_each_recording_encoded_once(asr, clip):
    talk = talk_of(asr, [Answer([30, 31]), Answer([32])])
    rows = talk.hear(read(clip("ms100")))
    talk.ask("", ignore)
    talk.ask("go on", ignore)
    encode = asr.model.tokenizer.encode
    special = lambda text: encode(text, special=True)  # noqa: E731
    system = [1, *special("<|im_start|>system\nPerform ASR.<|im_end|>\n")]
    first = [system, special("<|im_start|>user\n"), rows, special("<|im_end|>\n<|im_start|>assistant\n")]
    second = special("<|im_end|>\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n")
    assert talk._parts[-1].tolist() == [32]
    assert talk.engine.asked[0] == first
    assert [part for part in talk.engine.asked[1] if part] == [*first, [30, 31], second]


def test_a_conversation_has_llama_cpps_quirks_in_its_dialect(asr):
    talk = talk_of(asr, [Answer([30]), Answer([31])], dialect=LLAMA_CPP)
    talk.ask("a", ignore)
    talk.ask("b", ignore)
    special = lambda text: asr.model.tokenizer.encode(text, special=True)  # noqa: E731
    turn = "\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert talk.engine.asked[1][1:] == [special(turn.format("a")), [30], special(turn.format("b"))]


def test_an_answer_ends_where_sound_begins_unless_control_tokens_are_written_out(asr):
    sound, ours, theirs = asr.model.tokenizer.written("<|audio_start|>"), [], []
    for dialect, asked in ((REFERENCE, ours), (LLAMA_CPP, theirs)):
        talk = talk_of(asr, [Answer([30])], dialect=dialect)
        talk.ask("a", ignore)
        asked += talk.engine.requests
    assert ours[0].dialect is REFERENCE
    assert theirs[0].dialect is LLAMA_CPP
    assert ours[0].stop == theirs[0].stop | {sound} == asr.model.stop_tokens
    assert sound not in theirs[0].stop


@pytest.mark.parametrize(
    ("dialect", "finish", "end"),
    [
        (REFERENCE, Finish.STOP, "\n"),
        (REFERENCE, Finish.LENGTH, "\n"),
        (LLAMA_CPP, Finish.STOP, "\n\n\n"),
        (LLAMA_CPP, Finish.LENGTH, "\n\n"),
    ],
)
def test_an_answer_ends_in_the_newlines_of_its_dialect(dialect, finish, end, asr, capsys):
    Page(Screen(raw=dialect.raw_output), asr.model.tokenizer, dialect).end(finish)
    assert capsys.readouterr().out == end


def test_a_turn_stopped_before_its_first_token_leaves_no_trace(asr, clip):
    talk = talk_of(asr, [Answer([], KeyboardInterrupt()), Answer([], OptionError("no")), Answer([30])])
    talk.hear(read(clip("ms20")))
    for error in (KeyboardInterrupt, OptionError):
        with pytest.raises(error):
            talk.ask("x", ignore)
    talk.ask("x", ignore)
    assert talk.engine.asked[0] == talk.engine.asked[1] == talk.engine.asked[2]
    assert talk.pending == []


def test_what_was_said_before_an_answer_was_stopped_stays_said(asr):
    talk = talk_of(asr, [Answer([30, 31], KeyboardInterrupt()), Answer([32])])
    with pytest.raises(KeyboardInterrupt):
        talk.ask("x", ignore)
    talk.ask("y", ignore)
    assert [30, 31] in talk.engine.asked[1]


def test_restarting_keeps_the_system_turn_alone(asr, clip):
    talk = talk_of(asr, [Answer([30]), Answer([31])])
    talk.hear(read(clip("ms20")))
    talk.ask("x", ignore)
    talk.hear(read(clip("ms20")))
    talk.restart()
    assert talk.rows == len(talk._parts[0])
    talk.ask("x", ignore)
    assert not any(isinstance(part, np.integer | int) for part in talk.engine.asked[1])


def test_neither_prompt_nor_recording_is_a_conversation(say, clip):
    code, out, err = say("hello", f"/audio {clip('ms20')}", "", "/quit", "never read")
    assert code == 0
    assert out.count("\n") >= 2
    assert "eardrop: heard ms20.wav; say something about it, or press Enter\n" in err


def test_a_recording_sent_alone_is_answered_as_in_one_turn(say, clip, model, capsys):
    main(["run", "-m", model, "-n", "4", "--temp", "0", "-sys", "Perform ASR.", "--audio", clip("ms20")])
    alone = capsys.readouterr().out
    _, out, _ = say(f'/audio "{clip("ms20")}"', "", words=["-sys", "Perform ASR."])
    assert out == alone


def test_after_clear_a_message_is_answered_as_the_first(say):
    _, first, _ = say("hello")
    _, both, err = say("hello", "something else", "/clear", "hello")
    assert both.endswith(first)
    assert both.startswith(first)
    assert "begun anew" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/audio none.wav", "none.wav"),
        ("/audio", "/audio needs the name of a recording"),
        ("/video x", "no command is called /video: there are /audio, /clear, /help, /quit, /exit"),
        ("two <__media__> <__media__>", "number of media markers (2)"),
        ("x " * 20_000, "rows are needed"),
    ],
)
def test_a_message_that_fails_is_one_line_and_the_conversation_goes_on(line, message, say):
    _, expected, _ = say("hello")
    code, out, err = say(line, "hello")
    assert code == 0
    assert out == expected
    assert message in err.splitlines()[0]


def test_empty_lines_are_passed_over(say):
    assert say("", "   ", "/exit")[:2] == (0, "")


def test_piped_lines_get_no_menu_and_no_prompt(say):
    _, out, err = say("/quit")
    assert (out, err) == ("", "")


def test_help_goes_to_standard_error(say):
    _, out, err = say("/help")
    assert out == ""
    assert all(name in err for name in ("/audio", "/clear", "/quit"))


def on_terminal(command, script, seconds=20.0):
    """What a command shows on a terminal that is typed at, and its exit code.

    script  (what to wait for, what to type then) pairs
    """
    pty = pytest.importorskip("pty")
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        heed_interrupts()
        os.execv(command[0], command)
    shown, seen, ends, steps = b"", 0, time.monotonic() + seconds, list(script)
    while time.monotonic() < ends:
        if steps and (at := shown.find(steps[0][0], seen)) >= 0:
            seen = at + len(steps[0][0])
            time.sleep(0.05)  # a person's moment: CPython's readline misses a Ctrl-C that comes with its prompt
            os.write(terminal, steps.pop(0)[1])
        try:
            if select.select([terminal], [], [], 0.05)[0]:
                shown += os.read(terminal, 65536)
        except OSError:  # Linux' way to say that the other side has closed
            break
    os.close(terminal)
    return shown, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_on_a_terminal_ctrl_c_stops_an_answer_and_ends_at_the_prompt(model, clip):
    shown, code = on_terminal(
        [sys.executable, "-m", "eardrop", "run", "-m", model, "--temp", "0"],
        [
            (b"> ", f"/audio {clip('ms20')}\n".encode()),
            (b"press Enter", b""),
            (b"> ", b"hi\n"),
            (b"reading", b""),
            (b"\x1b[2K", b""),  # the sign is wiped: an answer without end has begun
            (b" ", b"\x03"),
            (b"stopped; Ctrl-C once more", b""),
            (b"> ", b"\x10\x15/help\n"),  # the last line called back, and wiped
            (b"forget what was said", b""),
            (b"> ", b"\x03"),
        ],
    )
    assert code == 130, shown
    assert b"Traceback" not in shown


def test_on_a_terminal_ctrl_d_ends(model):
    shown, code = on_terminal([sys.executable, "-m", "eardrop", "run", "-m", model], [(b"> ", b"\x04")])
    assert code == 0, shown


def test_a_closed_standard_input_is_said_with_what_to_give_instead(monkeypatch, model, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["run", "-m", model]) == 2
    assert "standard input is closed: give a prompt with -p" in capsys.readouterr().err
