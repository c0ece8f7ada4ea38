"""A conversation with the model: what `run` has in one turn, and the chat in many.

Talk     what was said and heard, and how the next turn is asked
Page     how turns and answers look on standard output, by the dialect
Session  the two together, with recordings by name and notes on standard error
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from eardrop.audio import SAMPLE_RATE, name_of, one_window
from eardrop.cli.terminal import WARNINGS, Screen, Voice, spinner
from eardrop.dialect import ControlText, Dialect
from eardrop.engine import Engine, Request, Token
from eardrop.ops import Float32
from eardrop.search import Finish, Search
from eardrop.text import After, Conversation, Part, Tokenizer, split_markers


@dataclass(eq=False)
class Talk:
    """What was said and heard so far.

    An engine keeps nothing between requests, so each turn sends the conversation from its beginning; a recording is
    encoded once.

    limit   tokens of an answer; None: as many as fit
    Always  a turn that failed, or was stopped before its first token, has left no trace: it may be sent again.
    """

    engine: Engine
    dialect: Dialect
    search: Search
    limit: int | None = None
    system: str | None = None
    parse_special: bool = False
    pending: list[Float32] = field(default_factory=list, init=False)  # encoded recordings of the turn to come
    _parts: list[Part] = field(default_factory=list, init=False)
    _heard: list[Float32] = field(default_factory=list, init=False)
    _after: After = field(default=After.NOTHING, init=False)

    def __post_init__(self) -> None:
        tokenizer = self.engine.model.tokenizer
        self._conversation = Conversation(tokenizer=tokenizer, dialect=self.dialect, parse_special=self.parse_special)
        silent = self.dialect.control_text is ControlText.LEFT_OUT  # who may not write sound can't go on after it
        self._stop = self.engine.model.stop_tokens if silent else tokenizer.stop_tokens
        self.restart()

    def restart(self) -> None:
        """Forget everything but the system's turn."""
        self.pending, self._heard, self._parts, self._after = [], [], [], After.NOTHING
        if self.system is not None:
            self._parts, self._after = self._conversation.system_turn(self.system), After.SYSTEM

    def hear(self, samples: Float32) -> int:
        """Encode a recording, samples (N,) at 16 kHz, for the turn to come; gives its rows."""
        self.pending.append(self.engine.encode(samples, dialect=self.dialect))
        return len(self.pending[-1])

    @property
    def rows(self) -> int:
        """Rows of the conversation so far."""
        return sum(part.size for part in self._parts if isinstance(part, np.ndarray)) + sum(map(len, self._heard))

    def ask(self, text: str, show: Callable[[Token], None]) -> Finish | None:
        """Send a text and the pending recordings; `show` is given each token as it comes."""
        turn = self._conversation.user_turn(split_markers(text, len(self.pending)), after=self._after)
        parts, heard, said = [*self._parts, *turn], [*self._heard, *self.pending], list[int]()
        request = Request(parts, heard, self.search, self.limit, stop=self._stop, dialect=self.dialect)
        handle = self.engine.submit(request)
        try:
            for token in handle:
                said.append(token.id)
                show(token)
        finally:  # after Ctrl-C, too: what was said so far was said
            handle.cancel()
            if said or handle.finish:
                self._parts, self._heard = [*parts, np.array(said, np.int32)], heard
                self._after, self.pending = After.ANSWER, []
        return handle.finish


@dataclass(frozen=True)
class Page:
    """How a conversation looks on standard output (spec §8.1), as the dialect has it."""

    screen: Screen
    tokenizer: Tokenizer
    dialect: Dialect

    def turn(self) -> None:
        """A turn was given to the model."""
        if self.dialect.raw_output:
            self.screen.write("\n")

    def token(self, token: Token) -> None:
        """A token of the answer."""
        if self.dialect.control_text is ControlText.WRITTEN_OUT or not self.tokenizer.is_control(token.id):
            self.screen.piece(token.piece)

    def end(self, finish: Finish | None) -> None:
        """The answer is over."""
        self.screen.end_text()
        newlines = 2 + (finish is Finish.STOP) if self.dialect.raw_output else 1
        self.screen.write("\n" * newlines)


@dataclass(frozen=True)
class Session:
    """A conversation in front of somebody."""

    talk: Talk
    page: Page
    voice: Voice
    max_seconds: float  # of a recording

    def listen(self, path: str) -> None:
        """Take a recording into the turn to come."""
        name, started = name_of(path), time.perf_counter()
        with spinner(f"listening to {name}", shown=self.voice.level >= WARNINGS):
            window = self.talk.engine.model.architecture
            samples, notes = one_window(
                path, least=window.least_seconds, most=window.most_seconds, max_seconds=self.max_seconds
            )
            rows = self.talk.hear(samples)
        for note in notes:
            self.voice.warn(note)
        seconds, spent = len(samples) / SAMPLE_RATE, time.perf_counter() - started
        self.voice.time(f"heard {name}: {seconds:.1f} s of audio became {rows} rows in {spent:.2f} s")

    def answer(self, text: str) -> None:
        """Ask, and write the answer as it comes. Whatever happens, the line is ended."""
        times = [time.perf_counter()]
        self.page.turn()
        try:
            with spinner("reading", shown=self.voice.level >= WARNINGS) as answering:

                def show(token: Token) -> None:
                    answering()
                    times.append(time.perf_counter())
                    self.page.token(token)

                finish = self.talk.ask(text, show)
            self.page.end(finish)
        finally:
            self.page.screen.end_line()
        self._say_how_it_went(finish, times)

    def _say_how_it_went(self, finish: Finish | None, times: list[float]) -> None:
        """times  when the question was asked, and each token came"""
        tokens = len(times) - 1
        if finish is Finish.LENGTH:
            self.voice.note(f"stopped after {tokens} tokens (-n {tokens})")
        if finish is Finish.CONTEXT:
            self.voice.warn(f"stopped: the context of {self.talk.engine.model.decoder.shape.context:,} rows is full")
        if tokens > 1:
            speed = (tokens - 1) / (times[-1] - times[1])
            first = f"first token after {times[1] - times[0]:.2f} s"
            self.voice.time(f"{first}, then {speed:.1f} tokens a second; {self.talk.rows:,} rows of context")
