"""`eardrop COMMAND …`: finds the command, runs it, turns what happened into one line and an exit code.

A command is a module with `main(words) -> int`; it is imported only when it is called, so that `eardrop --version`
needs neither NumPy nor a terminal library. Results go to standard output, everything else to standard error.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from eardrop.version import __version__


class Command(NamedTuple):
    """One row of the table below."""

    module: str
    about: str


COMMANDS = {
    "transcribe": Command("eardrop.cli.transcribe", "turn recordings into text"),
    "listen": Command("eardrop.cli.listen", "live captions of a microphone, or of standard input"),
    "ray": Command("eardrop.cli.ray", "turn a corpus into text, on many machines with Ray"),
    "run": Command("eardrop.cli.run", "prompt the model with text and recordings, as llama-mtmd-cli does"),
    "info": Command("eardrop.cli.info", "describe this machine, or a GGUF file"),
    "convert": Command("eardrop.cli.convert", "turn a published checkpoint into GGUF files"),
    "quantize": Command("eardrop.cli.quantize", "write a GGUF file in another weight type, and tell what it costs"),
    "models": Command("eardrop.cli.models", "list, fetch, use and remove models"),
    "verify": Command("eardrop.cli.verify", "prove an installation against published values of the real model"),
    "eval": Command("eardrop.cli.eval", "word error rates over recordings with known texts, and of two runs"),
    "bench": Command("eardrop.cli.bench", "measure stages and operations here, beside llama.cpp too, and what changed"),
}

INTERRUPTED = 130  # Ctrl-C: 128 and the signal's number, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eardrop` with these words; returns the exit code of docs/command-line.md.

    Of None, which is the process's own words, it doesn't return: the process is ours, and ends here.
    """
    if argv is None:
        _let_blas_sleep()
        _collect_seldom()
    code = _code_of(list(sys.argv[1:] if argv is None else argv))
    if argv is None:
        _leave_at_once(code)
    return code


def _code_of(words: list[str]) -> int:
    _fill_closed_streams()
    _speak_utf8()
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except SystemExit as stopped:  # argparse, after --help
        return stopped.code if isinstance(stopped.code, int) else 0
    except KeyboardInterrupt:
        _die_at_the_next_one()
        _show_cursor()
        return INTERRUPTED
    except BrokenPipeError:  # whoever read us has what he wanted
        _let_go_of_stdout()
        return 0
    except Exception as error:
        code = _failed(error, words)
        if isinstance(error, OSError):  # maybe what is left in its buffer can't be written either
            _let_go_of_stdout()
        return code


def _let_blas_sleep() -> None:
    """OpenBLAS starts its threads with NumPy, and lets them spin 50 ms for work that a short process never has."""
    import os

    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # the least: 2⁴ cycles


def _collect_seldom() -> None:
    """Python looks for dead cycles every 700 objects: 90 times while a model is loaded, where all live on, in 30 ms."""
    import gc

    gc.set_threshold(100_000)


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_help(), file=sys.stderr)
        return 2
    head, *rest = words
    if head in ("-h", "--help", "help"):
        return _run(rest[0], ["--help"]) if rest else _say(_help())
    if head in ("-V", "--version"):
        return _say(f"eardrop {__version__}")
    return _run(head, rest)


def _run(name: str, words: list[str]) -> int:
    """A command; under EARDROP_DEBUG each stage is told with its time."""
    from eardrop.knobs import DEBUG

    command = _command(name)
    if not DEBUG.level():
        return command(words)
    from eardrop.cli.debug import told

    with told():
        return command(words)


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS:
        from eardrop.errors import OptionError

        raise OptionError(f"no command is called {name!r}; {_next_move(name)}")
    run: Callable[[list[str]], int] = import_module(COMMANDS[name].module).main
    return run


def _next_move(name: str) -> str:
    import os
    from difflib import get_close_matches

    meant = get_close_matches(name, [*COMMANDS, "--version", "--help"], n=1)
    if meant:
        return f"did you mean {meant[0]}?"
    if os.path.exists(name):  # noqa: PTH110  # of a name too long to be one `Path` raises
        return f"to transcribe a recording: eardrop transcribe {name}"
    return f"there are {', '.join(COMMANDS)}"


def _say(text: str) -> int:
    print(text)
    return 0


def _help() -> str:
    rows = "\n".join(f"  {name:<12}{command.about}" for name, command in COMMANDS.items())
    return f"""\
usage: eardrop COMMAND …

Local speech recognition with LFM2-Audio models, from the GGUF files that llama.cpp runs.

commands:
{rows}

  eardrop COMMAND --help   what a command can do, with examples
  eardrop --version        the version

examples:
  eardrop transcribe -m LFM2-Audio-1.5B-F16.gguf talk.mp3
  eardrop info LFM2-Audio-1.5B-F16.gguf"""


def _fill_closed_streams() -> None:
    """Where the shell closed an output (`>&-`), what would go there goes nowhere, and not to the other one."""
    import os

    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115  # it stays open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _speak_utf8() -> None:
    """UTF-8 out, whatever the locale says; what it can't hold (halves of characters in file names) is spelt out."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _die_at_the_next_one() -> None:
    """Ctrl-C once more, while threads are waited for, ends the process instead of showing a traceback."""
    import signal

    with suppress(ValueError):  # signals belong to the main thread
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _show_cursor() -> None:
    """A bar that Ctrl-C met in the instant it began has hidden the terminal's cursor, and doesn't know it."""
    with suppress(OSError, ValueError):  # the terminal is gone
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")
            sys.stderr.flush()


def _leave_at_once(code: int) -> None:
    """End without taking the interpreter and its libraries down: with a model that takes 0.1 seconds and more."""
    import os

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def _let_go_of_stdout() -> None:
    """Nobody reads it any more: at exit Python would flush it once more, and complain."""
    import os

    with suppress(OSError, ValueError):  # it has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_SHORT = {"threads": "-t"}


def _about_the_flag(message: str, words: list[str]) -> str:
    """A refusal that begins with a keyword of Python, as `max_tokens is 0`, about the flag that was typed."""
    keyword, is_, rest = message.partition(" is ")
    names = (f"--{keyword}", f"--{keyword.replace('_', '-')}", _SHORT.get(keyword))
    typed = next((flag for word in words if (flag := word.partition("=")[0]) in names), None)
    return f"{typed}{is_}{rest}" if typed else message


# What a machine refuses: no bug of ours, and no wish of the user's.
_NOT_OURS: dict[type[Exception], Callable[[Exception], str]] = {
    MemoryError: lambda error: f"memory is full ({error}); take a smaller weight type, or end other programs",
    OSError: lambda error: f"the system refused to read or write: {error}; check the disk, the path and your rights",
}


def _failed(error: Exception, words: list[str]) -> int:
    """One line on standard error, the traceback only for those who ask; the error's exit code."""
    import traceback

    from eardrop.errors import EardropError, OptionError
    from eardrop.knobs import DEBUG
    from eardrop.printable import printable

    with suppress(OSError):
        sys.stdout.flush()
    if DEBUG.level() >= 1:
        chain = not isinstance(error, OptionError)  # of a wrong wish it says how it was read: nobody's business
        trace = "".join(traceback.format_exception(error, chain=chain))
        print(printable(trace, keep="\n\t"), end="", file=sys.stderr)
    if isinstance(error, EardropError):
        said = _about_the_flag(str(error), words) if isinstance(error, OptionError) else str(error)
        print(f"eardrop: {printable(said)}", file=sys.stderr)
        return error.exit_code
    for kind, explained in _NOT_OURS.items():
        if isinstance(error, kind):
            print(f"eardrop: {printable(explained(error), most=300)}", file=sys.stderr)
            return 1
    what = printable(f"{type(error).__name__}: {error}", most=300)
    print(f"eardrop: this is a bug of eardrop, please report it: {what}", end="", file=sys.stderr)
    print("" if DEBUG.level() >= 1 else " (EARDROP_DEBUG=1 shows where)", file=sys.stderr)
    return 1
