"""The conversation that `eardrop run` holds without a prompt: one line a turn, `/audio FILE` for recordings.

On a terminal lines can be edited and called back (readline); the history is kept in memory and written nowhere.
Prompts and the menu are for terminals; what is piped in is read line by line, and standard output holds the answers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from eardrop.audio import name_of
from eardrop.cli.talk import Session
from eardrop.errors import EardropError, EngineClosed, ModelFileError, OptionError

PROMPT = "> "


class Command(NamedTuple):
    """What a line that begins with / does; `do` gives whether the conversation goes on."""

    about: str
    do: Callable[["Chat", str], bool]


@dataclass(frozen=True)
class Chat:
    """Reads lines until there are no more."""

    session: Session

    def run(self) -> int:
        """The exit code: 0, for what fails in a conversation is told and goes by."""
        if sys.stdin is None:
            raise OptionError("standard input is closed: give a prompt with -p or a recording with --audio")
        if sys.stdin.isatty():
            self.help()
        try:
            for line in _lines():
                if not self._obeyed(line.strip()):
                    break
        except KeyboardInterrupt:
            print(file=sys.stderr)  # behind the ^C
            raise
        return 0

    def _obeyed(self, line: str) -> bool:
        """Whether the conversation goes on; a message that fails, or is stopped by Ctrl-C, does not end it."""
        try:
            return self._obey(line)
        except KeyboardInterrupt:
            self.session.voice.note("stopped; Ctrl-C once more, or /quit, ends")
        except (ModelFileError, EngineClosed):
            raise  # nor would anything else work
        except EardropError as error:
            self.session.voice.complain(error)
        return True

    def _obey(self, line: str) -> bool:
        word, _, rest = line.partition(" ")
        if word in COMMANDS:
            return COMMANDS[word].do(self, rest.strip())
        if word.startswith("/"):
            raise OptionError(f"no command is called {word}: there are {', '.join(COMMANDS)}")
        if line or self.session.talk.pending:
            self.session.answer(line)
        return True

    def audio(self, path: str) -> bool:
        """Take a recording into the next message."""
        if not path:
            raise OptionError("/audio needs the name of a recording, as /audio talk.wav")
        unquoted = path[1:-1] if path[0] == path[-1] in "'\"" and len(path) > 1 else path
        found = str(Path(unquoted).expanduser())
        self.session.listen(found)
        self.session.voice.note(f"heard {name_of(found)}; say something about it, or press Enter")
        return True

    def clear(self, _: str = "") -> bool:
        """Begin anew."""
        self.session.talk.restart()
        self.session.voice.note("begun anew: what was said and heard is forgotten")
        return True

    def help(self, _: str = "") -> bool:
        """Show the commands."""
        for name, command in COMMANDS.items():
            print(f"  {name:<8}{command.about}", file=sys.stderr)
        return True

    def quit(self, _: str = "") -> bool:
        """Go."""
        return False


COMMANDS = {
    "/audio": Command("FILE: take a recording into the next message; Enter alone sends it", Chat.audio),
    "/clear": Command("forget what was said and heard", Chat.clear),
    "/help": Command("these lines", Chat.help),
    "/quit": Command("end; so does Ctrl-D", Chat.quit),
    "/exit": Command("the same", Chat.quit),
}


def _lines() -> Iterator[str]:
    """The lines of standard input; names of files in any bytes survive."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with suppress(EOFError):
        while True:
            yield _asked()
    print(file=sys.stderr)  # behind the ^D


def _asked() -> str:
    """A line from the terminal, the prompt kept out of results."""
    if not sys.stdout.isatty():
        print(PROMPT, end="", file=sys.stderr, flush=True)
        if line := sys.stdin.readline():
            return line
        raise EOFError
    with suppress(ImportError):
        import readline  # noqa: F401  # from now on `input` edits lines and remembers them
    return input(PROMPT)
