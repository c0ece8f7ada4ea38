"""What people see: answers on standard output, word by word; notes, bars and spinners on standard error.

A model's words and a file's names are a stranger's: what could steer a terminal is spelt out before it is shown, and
rich never reads them as markup.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from eardrop.knobs import NO_COLOR
from eardrop.printable import printable
from eardrop.text import Detokenizer

if TYPE_CHECKING:
    from rich.console import Console

ERRORS, WARNINGS, NOTES, TIMES, EVERYTHING = 1, 2, 3, 4, 5  # llama.cpp's levels of -lv


@dataclass(frozen=True)
class Voice:
    """What is told on standard error: everything up to a level. Errors are raised, not told."""

    level: int = NOTES

    def warn(self, text: str) -> None:
        """Something may be wrong with a result."""
        self._tell(WARNINGS, text)

    def note(self, text: str) -> None:
        """Something a user may not expect."""
        self._tell(NOTES, text)

    def time(self, text: str) -> None:
        """What took how long."""
        self._tell(TIMES, text)

    def complain(self, error: Exception | str) -> None:
        """One thing of several failed; the others go on."""
        self._tell(0, str(error))

    def _tell(self, level: int, text: str) -> None:
        if level <= self.level:
            sys.stderr.write(f"eardrop: {printable(text)}\n")  # at once: several threads tell
            sys.stderr.flush()


class Screen:
    """Standard output, where text appears as it comes.

    raw     tokens' bytes as they are, unless a terminal would read them
    Always  a line that was begun is ended by `end_line`, whatever had happened.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw and not sys.stdout.isatty()
        self._text = Detokenizer()
        self._begun = False

    def piece(self, piece: bytes) -> None:
        """What a token spells, maybe half a character."""
        if not self._raw:
            self.write(self._text.push(piece))
        elif piece:
            self._begun = True  # before it is: Ctrl-C may come at any time
            sys.stdout.flush()
            sys.stdout.buffer.write(piece)
            self._show(piece.endswith(b"\n"))

    def write(self, text: str) -> None:
        """Text, made harmless."""
        if text:
            self._begun = True
            sys.stdout.write(printable(text, keep="\n\t"))
            self._show(text.endswith("\n"))

    def end_line(self) -> None:
        """Whatever half character is left, and a newline unless the line is empty."""
        self.write(self._text.flush())
        if self._begun:
            self.write("\n")

    def end_text(self) -> None:
        """Whatever half character is left."""
        self.write(self._text.flush())

    def _show(self, ended: bool) -> None:
        sys.stdout.flush()
        self._begun = not ended


def console(stream: TextIO) -> "Console":
    """A rich console that takes every text literally."""
    from rich.console import Console

    return Console(file=stream, no_color=bool(NO_COLOR.read()) or None, markup=False, emoji=False, highlight=False)


@contextmanager
def bar(title: str, *, shown: bool = True) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that follows a share, 0 to 1; nothing where nobody watches."""
    if not (shown and sys.stderr.isatty()):
        yield lambda share: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task(printable(title, most=60), total=1.0)
        yield lambda share: progress.update(task, completed=share)


@contextmanager
def spinner(title: str, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """A sign on standard error that something is at work, until the function it gives is called."""
    if not (shown and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.text import Text

    with console(sys.stderr).status(Text(printable(title, most=60))) as status:
        yield status.stop
