import importlib
import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from eardrop import errors
from eardrop.cli import main as command_line
from eardrop.cli.main import COMMANDS, main
from tests.cli.derived import chat, codes, commands, flags

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EardropError)]
HERE = [name for name, command in COMMANDS.items() if importlib.util.find_spec(command.module)]


def failing(monkeypatch, error):
    def command(words):
        raise error

    monkeypatch.setattr(command_line, "_command", lambda name: command)


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_version_and_help_need_neither_numpy_nor_a_terminal_library(word):
    program = (
        "import sys; from eardrop.cli.main import main; code = main(sys.argv[1:])\n"
        "print(code, [name for name in ('numpy', 'rich', 'tokenizers', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_python_dash_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "eardrop", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"eardrop {command_line.__version__}\n"


@pytest.mark.parametrize("while_importing", ["eardrop.cli.main", "eardrop.cli.info"])
def test_ctrl_c_while_eardrop_is_imported_ends_it_without_a_word(while_importing):
    program = (
        "import runpy, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{while_importing}': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "sys.argv = ['eardrop', 'info']\n"
        "runpy.run_module('eardrop', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("name", "meant"), [("version", "--version"), ("--verion", "--version"), ("transcibe", "transcribe")]
)
def test_a_misspelt_command_is_answered_with_the_nearest(name, meant, capsys):
    assert main([name]) == 2
    assert f"no command is called '{name}'; did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message", "told"),
    [
        (["run", "--max_tokens=0"], "max_tokens is 0, expected 1", "--max_tokens is 0, expected 1"),
        (["run", "--max-tokens", "0"], "max_tokens is 0, expected 1", "--max-tokens is 0, expected 1"),
        (["run", "-t", "0"], "threads is 0, expected 1", "-t is 0, expected 1"),
        (["run"], "streams is 0, expected 1", "streams is 0, expected 1"),
        (["run", "--audio", "x"], "this audio is bad", "this audio is bad"),
    ],
)
def test_a_refused_keyword_is_told_as_the_flag_that_was_typed(words, message, told, monkeypatch, capsys):
    failing(monkeypatch, errors.OptionError(message))
    assert main(words) == 2
    assert capsys.readouterr().err == f"eardrop: {told}\n"


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and command.about in shown for name, command in COMMANDS.items())


def test_without_a_command_the_help_is_an_error(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("usage: eardrop COMMAND")) == ("", True)


@pytest.mark.parametrize("name", HERE)
def test_every_command_has_help_with_examples(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: eardrop {name}" in shown
    assert "examples:" in shown
    assert f"  eardrop {name}" in shown


@pytest.mark.parametrize(
    ("word", "next_move"),
    [
        ("transcibe", "did you mean transcribe?"),
        ("serve-me-tea", "there are transcribe, listen, ray, run"),
        (__file__, "eardrop tr"),
    ],
)
def test_an_unknown_command_is_told_with_the_next_move(word, next_move, capsys):
    assert main([word]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"eardrop: no command is called {word!r}; ")
    assert next_move in err


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_is_one_line_and_its_own_exit_code(kind, monkeypatch, capsys):
    failing(monkeypatch, kind("expected this, found that; do so"))
    assert main(["run"]) == kind.exit_code
    assert capsys.readouterr() == ("", "eardrop: expected this, found that; do so\n")


def test_an_error_can_not_steer_the_terminal(monkeypatch, capsys):
    failing(monkeypatch, errors.AudioError("\x1b]0;owned\x07.wav\nsecond line"))
    main(["run"])
    assert capsys.readouterr().err == "eardrop: \\x1b]0;owned\\x07.wav\\nsecond line\n"


def test_a_bug_says_that_it_is_one_and_how_to_see_where(monkeypatch, capsys):
    monkeypatch.setenv("EARDROP_DEBUG", "0")
    failing(monkeypatch, ZeroDivisionError("by nothing"))
    assert main(["run"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "bug of eardrop" in err
    assert "ZeroDivisionError: by nothing" in err
    assert "EARDROP_DEBUG=1" in err


@pytest.mark.parametrize("error", [errors.AudioError("bad"), ZeroDivisionError("bad")])
def test_the_traceback_is_for_those_who_ask(error, monkeypatch, capsys):
    monkeypatch.setenv("EARDROP_DEBUG", "1")
    failing(monkeypatch, error)
    main(["run"])
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130_and_the_next_one_ends_at_once(monkeypatch, capsys):
    handlers = []
    monkeypatch.setattr(signal, "signal", lambda *given: handlers.append(given))
    failing(monkeypatch, KeyboardInterrupt())
    assert main(["run"]) == 130
    assert capsys.readouterr().err == ""
    assert handlers == [(signal.SIGINT, signal.SIG_DFL)]


def test_ctrl_c_loses_nothing_that_was_written_and_waits_for_no_teardown():
    program = (
        "import atexit; from eardrop.cli import main as line\n"
        "def command(words): print('written'); raise KeyboardInterrupt\n"
        "line._command = lambda name: command; atexit.register(print, 'taken down')\n"
        "raise SystemExit(line.main())"
    )
    done = subprocess.run([sys.executable, "-c", program, "run"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "written\n", "")


def test_ctrl_c_shows_the_cursor_again_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "_die_at_the_next_one", lambda: None)
    failing(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["run"]) == 130
    assert capsys.readouterr() == ("", "\x1b[?25h")


def test_a_wrong_wish_shows_no_trace_of_how_it_was_read(monkeypatch, capsys):
    def command(words):
        try:
            int("many")
        except ValueError as error:
            raise errors.OptionError("threads is 'many', expected a number") from error

    monkeypatch.setenv("EARDROP_DEBUG", "1")
    monkeypatch.setattr(command_line, "_command", lambda name: command)
    assert main(["run"]) == 2
    err = capsys.readouterr().err
    assert err.count("Traceback") == 1
    assert "direct cause" not in err
    assert err.endswith("eardrop: threads is 'many', expected a number\n")


def test_a_reader_who_leaves_early_is_no_error():
    command = [sys.executable, "-m", "eardrop", "info"]
    read, write = os.pipe()
    os.close(read)  # before anything is written
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("table", [commands, codes, chat, flags], ids=lambda table: table.__name__)
def test_the_document_holds_the_tables(table, document):
    assert table() in document, f"docs/command-line.md should have:\n{table()}"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("no 5 GiB"), "memory is full (no 5 GiB); take a smaller weight type"),
        (OSError(28, "No space left on device"), "No space left on device; check the disk"),
    ],
)
def test_what_the_machine_refuses_is_no_bug_of_ours(error, words, monkeypatch, capsys):
    monkeypatch.setenv("EARDROP_DEBUG", "0")
    monkeypatch.setattr(command_line, "_let_go_of_stdout", lambda: None)
    failing(monkeypatch, error)
    assert main(["run"]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert "bug" not in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
def test_a_full_disk_is_told_in_one_line():
    command = [sys.executable, "-m", "eardrop", "info"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_an_output_that_the_shell_closed_changes_nothing(closed):
    command = f'"{sys.executable}" -m eardrop info {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("operations" in done.stdout) is (closed == "2>&-")


def test_a_word_too_long_to_be_a_file_is_an_unknown_command(capsys):
    assert main(["a" * 300]) == 2
    assert "no command is called" in capsys.readouterr().err
