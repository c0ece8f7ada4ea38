"""Recordings through a recogniser, one result after another, told as they come."""

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from eardrop.audio import name_of
from eardrop.cli.terminal import NOTES, Screen, Voice
from eardrop.cli.transcripts import Target
from eardrop.cli.watch import Watch, clock
from eardrop.errors import EardropError, Incomplete
from eardrop.transcribe import Outcome, Progress, Recognizer
from eardrop.transcript import Segment, txt


@dataclass(frozen=True)
class Work:
    """What is done with the recordings.

    several  say whose text comes
    strict   a warning is a failure
    """

    asr: Recognizer
    options: dict[str, Any]
    target: Target
    voice: Voice
    watch: Watch
    several: bool
    strict: bool
    _read: list[Segment] = field(default_factory=list)  # what somebody who reads along has seen

    def transcribe(self, files: Sequence[str]) -> int:
        """Take each recording's result, in their order; the first exit code that isn't 0."""
        there = {number: result for number, file in enumerate(files) if (result := self.target.found(file))}
        if there:
            self.voice.note(f"{len(there)} of {len(files)} recordings are done already")
        codes: list[int] = []
        try:
            for number, result in there.items():
                self._end(files[number], number, result)
            with closing(self._outcomes(files, [n for n in range(len(files)) if n not in there])) as outcomes:
                for number, outcome in outcomes:
                    codes.append(self._end(files[number], number, outcome))
        except KeyboardInterrupt:
            done = f"{len(there) + len(codes)} of {len(files)} recordings are done; {self.target.goes_on}"
            self.voice.note(done if self.several else self._stopped(files[0]))
            raise
        return next((code for code in codes if code), 0)

    def _stopped(self, file: str) -> str:
        """How to go on in the middle of the one recording."""
        name = name_of(file)
        if not self._read:
            return f"{name} is not done, and nothing of it was written"
        end = self._read[-1].end
        return f"{name} is written up to {clock(end)}; with --start {end:.1f} the next time goes on there"

    def _outcomes(self, files: Sequence[str], numbers: Sequence[int]) -> Generator[tuple[int, Outcome], None, None]:
        if len(numbers) == 1:
            yield numbers[0], self._alone(files[numbers[0]], numbers[0])
            return
        told = lambda place, progress: self.watch.told(numbers[place], progress)  # noqa: E731
        outcomes = self.asr.transcribe_many([files[number] for number in numbers], told=told, **self.options)
        yield from zip(numbers, outcomes, strict=True)

    def _alone(self, file: str, number: int) -> Outcome:
        try:
            return self.asr.transcribe(file, told=partial(self._told, number), **self.options)
        except EardropError as error:
            return error

    def _told(self, number: int, progress: Progress) -> None:
        self.watch.told(number, progress)
        if self._live and progress.segment is not None and progress.segment.text:
            self.watch.above(partial(_show, txt.line(progress.segment)))
            self._read.append(progress.segment)

    @property
    def _live(self) -> bool:
        return self.target.live and not self.several

    def _end(self, file: str, number: int, outcome: Outcome) -> int:
        """Write a recording's result, or say why there is none; its exit code."""
        ended: list[Outcome] = []
        self.watch.above(lambda: ended.append(self._written(file, outcome)))
        self.watch.ended(number, name_of(file), ended[0])
        if isinstance(ended[0], EardropError):
            return ended[0].exit_code
        return Incomplete.exit_code if self.strict and ended[0].warnings else 0

    def _written(self, file: str, outcome: Outcome) -> Outcome:
        """What became of a recording: its result, or the error, one of writing included."""
        name = name_of(file)
        if self.several and self.target.heads and self.voice.level >= NOTES:
            print(f"==> {name} <==", file=sys.stderr, flush=True)
        try:
            if isinstance(outcome, EardropError):
                raise outcome
            if not self._live:
                self.target.take(file, outcome)
        except EardropError as error:
            self.voice.complain(_about(name, str(error)))
            return error
        if not outcome.text and not outcome.warnings:
            self.voice.note(f"{name}: no speech was found")
        tell = self.voice.complain if self.strict else self.voice.warn
        for warning in outcome.warnings:
            tell(_about(name, warning))
        return outcome


def _show(text: str) -> None:
    screen = Screen()
    screen.write(text)
    screen.end_line()


def _about(name: str, message: str) -> str:
    """A message that says which recording it is about."""
    return message if name in message else f"{name}: {message}"
