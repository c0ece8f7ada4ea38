"""Where transcripts go: printed, or into a folder with a journal of what is done."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eardrop.cli.terminal import Screen
from eardrop.errors import OptionError
from eardrop.printable import printable
from eardrop.transcribe import Journal
from eardrop.transcript import FORMATS, Lines, Output, Recording, Result

STDIN = "-"


class Target(Protocol):
    """Takes the results."""

    @contextmanager
    def opened(self, job: str) -> Iterator[None]:
        """While results come; `job` is what they depend on besides the recordings."""
        ...

    def found(self, file: str) -> Result | None:
        """A result that is there already."""
        ...

    def take(self, file: str, result: Result) -> None:
        """Write one."""
        ...

    @property
    def heads(self) -> bool:
        """Whether a heading says whose text comes."""
        ...

    @property
    def live(self) -> bool:
        """Whether somebody reads along, a segment at a time."""
        ...

    @property
    def goes_on(self) -> str:
        """How to go on after an interruption."""
        ...


@dataclass
class Printed:
    """Standard output, one format after the other."""

    formats: Sequence[str]
    lines: Lines
    track: int | None
    heads: bool = True

    @contextmanager
    def opened(self, job: str) -> Iterator[None]:
        yield

    def found(self, file: str) -> Result | None:
        return None

    def take(self, file: str, result: Result) -> None:
        for form in self.formats:
            screen = Screen()
            recording = None if file == STDIN else Recording(file, self.track, None)
            text = FORMATS[form].write(result, lines=self.lines, recording=recording)
            screen.write(text if text.strip() else "")  # of a recording in which nobody speaks no line, as in whisper
            screen.end_line()

    @property
    def live(self) -> bool:
        return self.formats == ["txt"] and sys.stdout.isatty()

    @property
    def goes_on(self) -> str:
        return "with --output-dir and --resume a next time can go on"


@dataclass
class Folder:
    """Files, their names decided before anything is written.

    folder   where the journal is
    named    the names, those that were decided before staying
    outputs  the names as they are if none was
    keeps    the journal stays when all is done, so that recordings can be added later
    """

    formats: Sequence[str]
    lines: Lines
    track: int | None
    folder: Path
    named: Callable[..., dict[str, Output]]
    outputs: dict[str, Output]
    keeps: bool
    heads: bool = False
    live: bool = False
    goes_on: str = "the same command with --resume goes on"

    def __post_init__(self) -> None:
        self._left = set(self.outputs)

    @contextmanager
    def opened(self, job: str) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = printable(str(self.folder))
            raise OptionError(f"{where} can't be made: {error.strerror}; choose another folder") from None
        with Journal(self.folder, job) as self._journal:
            if self.keeps:
                self.outputs = self.named(kept=self._journal.outputs())
                self._journal.keep_outputs(self.outputs)
            yield
            if not self._left and not self.keeps:
                self._journal.remove()

    def found(self, file: str) -> Result | None:
        return self._journal.find(Path(file)) if self.keeps and Path(file).is_file() else None

    def take(self, file: str, result: Result) -> None:
        if file != STDIN:
            self._journal.keep(Path(file), result)
        for form, path in self.outputs[file].paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            result.write(path, form=form, lines=self.lines, audio=None if file == STDIN else file, track=self.track)
        self._left.discard(file)
