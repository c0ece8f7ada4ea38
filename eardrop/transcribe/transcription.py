"""One recording on its way to text.

    blocks ─→ windows, cut in pauses ─→ requests, several at a time ─→ texts, judged and tried again
        ─→ seams without a pause joined ─→ segments, in the order of time

Memory doesn't grow with the recording: as many windows are held as are asked about at a time.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eardrop.architecture import WindowSeconds
from eardrop.audio import SAMPLE_RATE, Blocks, Source, blocks, name_of
from eardrop.engine import Engine, Handle, Token
from eardrop.errors import Cancelled, OptionError
from eardrop.ops import Float32
from eardrop.search import Finish
from eardrop.stages import stage
from eardrop.text import Detokenizer
from eardrop.transcribe.options import Options
from eardrop.transcribe.question import language_of, question
from eardrop.transcribe.repair import Fault, faults, halves, weight
from eardrop.transcribe.seams import common_run
from eardrop.transcribe.windows import Window, windows
from eardrop.transcribe.words import WORDS_BY, spelled, words_of
from eardrop.transcript import Result, Segment, Word

ATTEMPTS = 2  # how often a stretch is halved before what is wrong with its text is told
MOST_SECONDS_OF_WORDS = 60.0  # of a window: what says where a real model looked takes 140 MB then, and grows squarely


@dataclass(frozen=True)
class Progress:
    """How far a transcription is. Seconds are of the recording."""

    source: str  # as messages call it
    done: float  # up to here the text is there
    spent: float  # seconds of the clock since it began
    announced: float | None  # how long the recording says it is
    text: str = ""  # of the window that is being written; it may still be taken back
    segment: Segment | None = None  # that was just finished


@dataclass(frozen=True)
class Heard:
    """A window and what was written for it."""

    window: Window
    tokens: tuple[Token, ...]
    finish: Finish | None
    looked: Float32 | None = None  # where the decoder looked for each token, if words are wanted
    faults: tuple[Fault, ...] = ()

    @property
    def text(self) -> str:
        """Without the spaces around it."""
        return b"".join(token.piece for token in self.tokens).decode(errors="replace").strip()


def nobody(progress: Progress) -> None:
    """Nobody watches."""


def nobody_of_many(number: int, progress: Progress) -> None:
    """Nobody watches any of them."""


@dataclass(eq=False)
class Transcription:
    """A recording, and what is known of it so far.

    ahead  windows that are asked about at a time
    told   given how far it is, whenever something was written
    read   how the recording becomes samples: `blocks`, or that of decoders in child processes
    channel, speaker   one channel alone, and who speaks there
    """

    engine: Engine
    source: Source
    options: Options
    ahead: int = 1
    told: Callable[[Progress], None] = nobody
    read: Callable[..., Blocks] = blocks
    channel: int | None = None
    speaker: str = ""
    seconds: float = 0.0
    skipped: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.language = language_of(self.engine.model, self.options.language)
        self._question = question(self.engine.model, self.language)
        self._blocks: Blocks | None = None
        self._asked: deque[tuple[Window, Handle]] = deque()
        self._done, self._began, self._cancelled = 0.0, time.monotonic(), False
        self._heard_nobody = False

    def result(self) -> Result:
        """All of it."""
        segments = tuple(self.segments())
        return self.result_of(segments, self.notes, self.skipped)

    def result_of(
        self, segments: tuple[Segment, ...], notes: tuple[str, ...], skipped: Sequence[tuple[float, float]]
    ) -> Result:
        """The transcript that these make."""
        model = self.engine.model
        return Result(
            segments,
            name_of(self.source),
            model.name,
            self.seconds,
            language=self.language,
            notes=notes,
            demonstration=model.demonstration,
            skipped=tuple(skipped),
            words_by=WORDS_BY if self.options.words else "",
        )

    def cancel(self) -> None:
        """End it now, from any thread: whoever waits for its segments gets Cancelled."""
        self._cancelled = True
        for _, handle in tuple(self._asked):
            handle.cancel()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with the recording; complete after the last segment."""
        least = self.engine.model.architecture.least_seconds
        short = f"the recording is shorter than {least:g} seconds and holds no word"
        unheard = "nobody seems to speak in it; only its beginning was transcribed"
        told = {short: self.seconds < least, unheard: self._heard_nobody and bool(self.skipped)}
        return (*(self._blocks.notes if self._blocks else ()), *(note for note, holds in told.items() if holds))

    def segments(self) -> Iterator[Segment]:
        """One for each window, or for each part of one that had to be split; none where nobody is heard."""
        held: Heard | None = None
        for heard in self._heard():
            if held is not None:
                held, heard = joined(held, heard, self._time, self.language)
                yield self._segment(held)
            held = heard if heard.window.seam == "overlap" else None
            if held is None:
                yield self._segment(heard)
        if held is not None:
            yield self._segment(held)

    def _heard(self) -> Iterator[Heard]:
        coming = self._windows()
        try:
            while True:
                while len(self._asked) < self.ahead and (window := next(coming, None)):
                    self._asked.append((window, self._ask(window)))
                if not self._asked:
                    return
                heard = self._answer(*self._asked[0])
                self._asked.popleft()
                yield from self._settled(heard)
        finally:
            for _, handle in self._asked:
                handle.cancel()
            coming.close()

    def _windows(self) -> Generator[Window, None, None]:
        """Those long enough to hold a word; what lies between them was skipped."""
        least = self.engine.model.architecture.least_seconds * SAMPLE_RATE
        reached = 0
        seconds = self._window_seconds()
        for window in windows(self._read(), target=seconds.target, longest=seconds.longest, skip=seconds.skip):
            self._skip(reached, window.start)
            reached, self._heard_nobody = window.stop, not window.speech
            if len(window.samples) >= least:
                yield window
        self._skip(reached, round(self.seconds * SAMPLE_RATE))

    def _read(self) -> Iterator[Float32]:
        """The recording's blocks, counted."""
        wishes = self.options
        self._blocks = self.read(
            self.source, track=wishes.track, channel=self.channel, start=wishes.start, end=wishes.end,
            max_seconds=wishes.max_seconds,
        )  # fmt: skip
        try:
            while True:
                self._check_wanted()
                with stage("audio"):
                    block = next(self._blocks, None)
                if block is None:
                    return
                self.seconds += len(block) / SAMPLE_RATE
                yield block
        finally:
            self._blocks.close()

    def _skip(self, start: int, stop: int) -> None:
        if stop > start:
            self.skipped.append((self._time(start), self._time(stop)))

    def _time(self, sample: int) -> float:
        """Seconds of the recording, to the millisecond."""
        return round(self.options.start + sample / SAMPLE_RATE, 3)

    def _window_seconds(self) -> WindowSeconds:
        """The model's, but for the longest that somebody wants."""
        model = self.engine.model
        longest = self.options.window or model.windows.longest
        if longest > model.architecture.most_seconds:
            raise OptionError(f"a window of {longest:g} s is too long: it holds {model.architecture.most_seconds:g} s")
        if self.options.words and longest > MOST_SECONDS_OF_WORDS:
            raise OptionError(f"words need windows of at most {MOST_SECONDS_OF_WORDS:g} s, found {longest:g}")
        return replace(model.windows, target=min(model.windows.target, longest), longest=longest)

    def _ask(self, window: Window) -> Handle:
        self._check_wanted()
        request = self._question.about(window.samples, limit=self.options.max_tokens)
        return self.engine.submit(replace(request, look=self.options.words))

    def _answer(self, window: Window, handle: Handle) -> Heard:
        """Wait for a window's text, telling how it grows, and judge it."""
        text, said, tokens = Detokenizer(), "", []
        try:
            for token in handle:
                tokens.append(token)
                with stage("detokenise"):
                    said += text.push(token.piece)
                self._tell(said)
        finally:
            handle.cancel()
        self._check_wanted()
        heard = Heard(window, tuple(tokens), handle.finish, handle.looked)
        speech = sum(stop - start for start, stop in window.speech) / SAMPLE_RATE
        found = faults(heard.text, heard.finish, len(tokens), speech=speech, seconds=len(window.samples) / SAMPLE_RATE)
        return replace(heard, faults=tuple(found))

    def _settled(self, heard: Heard, attempts: int = ATTEMPTS) -> list[Heard]:
        """What was heard, or what its halves were heard as, if less speaks against that."""
        wished = heard.finish is Finish.LENGTH and self.options.max_tokens
        parts = halves(heard.window) if heard.faults and attempts and not wished else []
        if not parts:
            return [heard]
        asked = [(part, self._ask(part)) for part in parts]
        found = [one for part in asked for one in self._settled(self._answer(*part), attempts - 1)]
        return found if sum(weight(one.faults) for one in found) < weight(heard.faults) else [heard]

    def _check_wanted(self) -> None:
        if self._cancelled:
            raise Cancelled("the transcription was cancelled")

    def _tell(self, text: str = "", segment: Segment | None = None) -> None:
        announced = self._blocks.announced if self._blocks else None
        spent = time.monotonic() - self._began
        self.told(Progress(name_of(self.source), self._done, spent, announced, text.strip(), segment))

    def _segment(self, heard: Heard) -> Segment:
        window = heard.window
        spans = window.speech or ((window.start, window.stop),)
        words = self._words(heard)
        segment = Segment(
            start=words[0].start if words else self._time(spans[0][0]),
            end=words[-1].end if words else self._time(spans[-1][1]),
            text=heard.text,
            tokens=tuple(token.id for token in heard.tokens),
            logprob=float(np.mean([token.logprob for token in heard.tokens])) if heard.tokens else 0.0,
            warnings=tuple(fault.told for fault in heard.faults if fault.told),
            words=words,
            speech=sum(stop - start for start, stop in window.speech) / SAMPLE_RATE,
            speaker=self.speaker,
        )
        self._done = self._time(window.stop)
        self._tell(segment=segment)
        return segment

    def _words(self, heard: Heard) -> tuple[Word, ...]:
        """The words with their times, where they are wanted."""
        if heard.looked is None or not heard.tokens:
            return ()
        start = self._time(heard.window.start)
        with stage("words"):
            return words_of(heard.tokens, heard.looked, heard.window.samples, start=start, language=self.language)


def joined(first: Heard, second: Heard, time_of: Callable[[int], float], language: str = "en") -> tuple[Heard, Heard]:
    """Two windows that overlap, each word of the overlap left to one of them; `time_of` a sample, for who is told."""
    seconds = (first.window.stop - second.window.start) / SAMPLE_RATE
    before, after = (list(spelled([token.piece for token in one.tokens], language)) for one in (first, second))
    place = common_run([word for word, _ in before], [word for word, _ in after], seconds)
    if place is None:
        if not (before and after):
            return first, second
        middle = time_of((first.window.stop + second.window.start) // 2)
        doubt = Fault(1, f"there is no pause at {middle:.1f} s: words there may be doubled or lost")
        return replace(first, faults=(*first.faults, doubt)), second
    kept, gone = place
    ends = [0, *(members[-1] + 1 for _, members in before)]
    begins = [*(members[0] for _, members in after), len(second.tokens)]  # a token of two words is doubled, not lost
    return _part(first, 0, ends[kept]), _part(second, begins[gone], None)


def _part(heard: Heard, start: int, stop: int | None) -> Heard:
    """Some of the tokens."""
    looked = None if heard.looked is None else heard.looked[start:stop]
    return replace(heard, tokens=heard.tokens[start:stop], looked=looked)
