"""How far a transcription is, for whoever waits: bars on a terminal, a line now and then in a log, JSON for programs.

All of it goes to standard error. Bars show, for each recording under way, the audio that is done, its speed as a
multiple of real time, what is left, and the words that are being written, which may still be taken back.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from eardrop.cli.terminal import NOTES, Region, Voice
from eardrop.printable import printable
from eardrop.transcribe import Outcome, Progress
from eardrop.transcript import Result

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

EVERY = 10.0  # seconds between two lines of a log
BARS = 8  # at most, as many as fit without a thought for the terminal's height
BAR = 16  # columns, so that a row with a name of 24 and the times of a day fits into 80
NAME = 24  # characters, at most
TAIL = 24  # characters of what is being written, where they fit


class Watch(Protocol):
    """Shows how far recordings are. `told` and `ended` may come from several threads."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def told(self, number: int, progress: Progress) -> None:
        """A recording, by its number, is so far."""

    def ended(self, number: int, source: str, outcome: Outcome) -> None:
        """A recording, as messages call it, is done, or failed."""

    def above(self, write: Callable[[], None]) -> None:
        """Write something that is to stay, without a bar in its way."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def told(self, number: int, progress: Progress) -> None:
        pass

    def ended(self, number: int, source: str, outcome: Outcome) -> None:
        pass

    def above(self, write: Callable[[], None]) -> None:
        write()


class Lines(Silent):
    """A line for each recording every ten seconds, for logs."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._last: dict[int, float] = {}

    def told(self, number: int, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last.setdefault(number, now) >= EVERY and progress.done:
            self._last[number] = now
            self._voice.note(f"{progress.source}: {_far(progress)}, {_speed(progress):.0f} × real time")


class Json(Silent):
    """An object a line, for programs: at most five a second of each recording, one for each segment, one at its end."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def told(self, number: int, progress: Progress) -> None:
        now = time.monotonic()
        if progress.segment is None and now - self._last.get(number, -1.0) < 0.2:
            return
        self._last[number] = now
        line = {
            "event": "progress",
            "recording": number,
            "source": progress.source,
            "done": round(progress.done, 3),
            "announced": progress.announced,
            "speed": round(_speed(progress), 2),
            "remaining": None if (left := _remaining(progress)) is None else round(left, 2),
            "text": progress.text,
        }
        if progress.segment is not None:
            line["segment"] = {name: getattr(progress.segment, name) for name in ("start", "end", "text")}
        self._write(line)

    def ended(self, number: int, source: str, outcome: Outcome) -> None:
        how: dict[str, Any]
        if isinstance(outcome, Result):
            how = {"event": "done", "duration": outcome.duration, "warnings": outcome.warnings}
        else:
            how = {"event": "failed", "error": str(outcome), "exit_code": outcome.exit_code}
        self._write({"recording": number, "source": source, **how})

    def _write(self, line: Mapping[str, Any]) -> None:
        sys.stderr.write(json.dumps(line) + "\n")  # at once: several threads tell
        sys.stderr.flush()


class Bars(Silent):
    """A bar for each recording under way, and one for all where there are several."""

    def __init__(self, count: int) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Shown
        from rich.table import Column

        kept = partial(Column, no_wrap=True)  # the tail alone gives way on a narrow terminal
        self._shown = Shown(
            TextColumn("{task.description}", markup=False, table_column=kept()),
            BarColumn(BAR, table_column=kept()),
            TextColumn("{task.fields[far]}", table_column=kept()),
            _tail(),
        )
        self._region = Region(self._shown, refresh=8)
        self._tasks: dict[int, TaskID] = {}
        self._count, self._ended = count, 0
        self._all = self._shown.add_task("recordings", total=count, far=f"0/{count}", tail="", visible=count > 1)

    def __enter__(self) -> Self:
        self._region.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._region.__exit__(kind, error, trace)

    def told(self, number: int, progress: Progress) -> None:
        if number not in self._tasks:
            if len(self._tasks) >= BARS:
                return
            self._tasks[number] = self._shown.add_task(
                printable(progress.source, most=NAME), total=None, far="", tail=""
            )
        left = _remaining(progress)
        far = [
            _far(progress),
            f"{_speed(progress):.0f}×" if progress.done else "",
            f"{clock(left)} left" if left else "",
        ]
        self._shown.update(
            self._tasks[number], completed=progress.done, total=progress.announced, far=" ".join(filter(None, far)),
            tail=printable(progress.text[-TAIL:]),
        )  # fmt: skip

    def ended(self, number: int, source: str, outcome: Outcome) -> None:
        if (task := self._tasks.pop(number, None)) is not None:
            self._shown.remove_task(task)
        self._ended += 1
        self._shown.update(self._all, completed=self._ended, far=f"{self._ended}/{self._count}")

    def above(self, write: Callable[[], None]) -> None:
        self._region.above(write)


def _tail() -> "ProgressColumn":
    """What is being written, in what is left of the row."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Tail(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["tail"], style="dim", no_wrap=True, overflow="ellipsis")

    return Tail()


def _speed(progress: Progress) -> float:
    """Seconds of audio in a second of the clock."""
    return progress.done / max(1e-3, progress.spent)


def _remaining(progress: Progress) -> float | None:
    """Seconds of the clock."""
    if not progress.announced or not progress.done:
        return None
    return max(0.0, progress.announced - progress.done) / _speed(progress)


def _far(progress: Progress) -> str:
    return clock(progress.done) + (f" of {clock(progress.announced)}" if progress.announced else "")


def clock(seconds: float) -> str:
    """h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


WATCHES: Mapping[str, Callable[[Voice, int], Watch]] = {
    "auto": lambda voice, count: Bars(count) if sys.stderr.isatty() else Lines(voice),
    "lines": lambda voice, count: Lines(voice),
    "json": lambda voice, count: Json(),
    "off": lambda voice, count: Silent(),
}


def watch(kind: str, voice: Voice, count: int) -> Watch:
    """What shows how far `count` recordings are: a row of WATCHES; nothing where only errors are wanted."""
    return WATCHES[kind](voice, count) if voice.level >= NOTES or kind == "json" else Silent()
