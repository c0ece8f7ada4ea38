"""What people see: answers on standard output, word by word; notes, bars and spinners on standard error.

A model's words and a file's names are a stranger's: what could steer a terminal is spelt out before it is shown, and
rich never reads them as markup.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from eardrop.knobs import NO_COLOR
from eardrop.printable import printable
from eardrop.text import Detokenizer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

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
def undisturbed() -> Iterator[None]:
    """Ctrl-C comes when this is done: a region of rich that is interrupted while it begins or ends stays as a ruin."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C never comes here
        yield
        return
    came: list[None] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and before is not signal.SIG_IGN:
        raise KeyboardInterrupt


class Region:
    """The terminal's last rows, drawn on standard error again and again; they go when it ends.

    rows     what they show
    refresh  times a second they are drawn anew, besides when they are told to; 0: never
    """

    def __init__(self, rows: "RenderableType", *, refresh: float) -> None:
        self._rows, self._refresh = rows, refresh
        self._live = self._made()

    def _made(self) -> "Live":
        from rich.live import Live

        how = {"auto_refresh": True, "refresh_per_second": self._refresh} if self._refresh else {"auto_refresh": False}
        return Live(self._rows, console=console(sys.stderr), transient=True, **how)

    def __enter__(self) -> Self:
        with undisturbed():
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with undisturbed():
            self._live.stop()

    def draw(self, rows: "RenderableType") -> None:
        """Show other rows."""
        self._rows = rows
        self._live.update(rows, refresh=True)

    def above(self, write: Callable[[], None]) -> None:
        """Write something that is to stay, maybe to the same terminal: the rows leave meanwhile."""
        self.__exit__(None, None, None)
        try:
            write()
        finally:
            self._live = self._made()  # rich's own, begun again, would wipe as many rows as it had
            self.__enter__()


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
