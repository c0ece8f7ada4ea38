"""Live captions: text while somebody speaks.

    blocks ─→ who speaks since when ─→ each second: the open utterance is encoded anew, the last hypothesis verified as
    a draft, decoding goes on from the first token that differs ─→ words on which two hypotheses agree are committed

A draft saves steps and changes nothing: the text is the one that decoding from nothing would give. What is committed is
never taken back; what follows it may change until the utterance ends, with a silence or at the model's window.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import Detector, Spans
from eardrop.engine import Engine, Token
from eardrop.errors import EngineClosed, OptionError
from eardrop.ops import Float32, Int32
from eardrop.stages import stage
from eardrop.transcribe.options import Options
from eardrop.transcribe.question import language_of, question
from eardrop.transcript import Result, Segment
from eardrop.transcript.align import distance, shared

PAD = round(0.25 * SAMPLE_RATE)  # samples before and behind speech that belong to an utterance


@dataclass(frozen=True)
class Hypothesis:
    """What was written for an utterance so far."""

    tokens: tuple[Token, ...] = ()
    seconds: float = 0.0  # of audio it was written for

    @property
    def ids(self) -> Int32:
        return np.array([token.id for token in self.tokens], np.int32)

    @property
    def words(self) -> list[str]:
        return b"".join(token.piece for token in self.tokens).decode(errors="replace").split()


@dataclass
class _Utterance:
    """Somebody speaks. committed: words of it that stay."""

    start: int  # sample of the recording
    hypothesis: Hypothesis = field(default_factory=Hypothesis)
    committed: list[str] = field(default_factory=list)

    def agree(self, new: Hypothesis) -> None:
        """Commit the words with which two hypotheses in a row go on."""
        before, self.hypothesis = self.volatile, new
        self.committed = [*self.committed, *before[: shared(before, self.volatile)]]

    @property
    def volatile(self) -> list[str]:
        """The words behind those that stay."""
        return self.hypothesis.words[behind(self.committed, self.hypothesis.words) :]


def behind(committed: Sequence[str], words: Sequence[str]) -> int:
    """How many of `words` say what is committed already: those that differ least from it, of several that end alike."""
    last = committed[-1:]
    return min(
        range(len(words) + 1),
        key=lambda j: (distance(committed, words[:j]), [*words[:j][-1:]] != [*last], abs(j - len(committed))),
    )


class Captions:
    """The state of live captions, one thread at a time: `feed` hears, `update` writes.

    ends  seconds of silence that end an utterance
    """

    def __init__(self, engine: Engine, options: Options, detector: Detector, *, ends: float = 0.8) -> None:
        self._engine, self._options, self._detector = engine, options, detector
        self._question = question(engine.model, options.language)
        self._ends = round(ends * SAMPLE_RATE)
        self._most = round((options.window or engine.model.windows.longest) * SAMPLE_RATE)
        self._spans = Spans()
        self._closed: list[tuple[int, int]] = []
        self._held: Float32 = np.zeros(0, np.float32)
        self._origin = self._heard_until = 0
        self._open: _Utterance | None = None
        self.segments: list[Segment] = []

    @property
    def seconds(self) -> float:
        """Of audio that was heard."""
        return (self._origin + len(self._held)) / SAMPLE_RATE

    @property
    def committed(self) -> str:
        """Text that stays."""
        return " ".join(filter(None, [*(segment.text for segment in self.segments), self.open]))

    @property
    def open(self) -> str:
        """What stays of the utterance that hasn't ended."""
        return " ".join(self._open.committed) if self._open else ""

    @property
    def volatile(self) -> str:
        """Text behind it that may change."""
        return " ".join(self._open.volatile) if self._open else ""

    def feed(self, samples: Float32) -> None:
        """Hear samples (n,), mono, 16 kHz."""
        self._held = np.concatenate([self._held, samples])
        self._listen(self._detector.push(samples))

    def update(self, *, over: bool = False) -> None:
        """Write what has been heard since; `over`: nothing more will come."""
        if over:
            self._listen(self._detector.finish())
        while (span := self._spoken()) is not None:
            start, stop = span
            if self._open is None:
                self._open = _Utterance(max(self._heard_until, start - PAD))
            ended = over or self._spans.now - stop >= self._ends
            if stop - self._open.start > self._most:
                stop, ended = self._quietest(self._open.start), True
            self._write(min(stop + PAD, round(self.seconds * SAMPLE_RATE)) if ended else None)
            if not ended:
                return
            self._end(stop)
        self._forget(self._spans.now - PAD)

    def _listen(self, probabilities: Float32) -> None:
        self._closed += self._spans.push(probabilities)

    def _spoken(self) -> tuple[int, int] | None:
        """From where to where somebody speaks that isn't written for good; short pauses are part of it."""
        current = self._spans.current
        spans = [*self._closed, *([current] if current else [])]
        spans = [(max(start, self._heard_until), stop) for start, stop in spans if stop > self._heard_until]
        if not spans:
            return None
        start, stop = spans[0]
        for first, last in spans[1:]:
            if first - stop >= self._ends:
                break
            stop = last
        return start, stop

    def _write(self, stop: int | None) -> None:
        """Write the open utterance anew, up to a sample, or to the last that was heard."""
        assert self._open is not None
        samples = self._held[self._open.start - self._origin : stop and stop - self._origin]
        last = self._open.hypothesis
        if len(samples) / SAMPLE_RATE < self._engine.model.architecture.least_seconds:
            return
        with stage("update"):
            request = replace(self._question.about(samples, limit=self._options.max_tokens), draft=last.ids)
            handle = self._engine.submit(request)
            try:
                tokens = tuple(handle)
            finally:
                handle.cancel()
        self._open.agree(Hypothesis(tokens, len(samples) / SAMPLE_RATE))

    def _quietest(self, start: int) -> int:
        """Where an utterance without a pause is cut: the faintest tenth of a second in the window's second half."""
        frame = SAMPLE_RATE // 10
        first = start - self._origin + self._most // 2
        frames = self._held[first : first + (self._most // 2) // frame * frame].reshape(-1, frame)
        return start + self._most // 2 + int((frames**2).mean(axis=1).argmin()) * frame + frame // 2

    def _end(self, stop: int) -> None:
        """What is written for the open utterance stays."""
        assert self._open is not None
        utterance, self._open, self._heard_until = self._open, None, stop
        self._closed = [span for span in self._closed if span[1] > stop]
        words, tokens = [*utterance.committed, *utterance.volatile], utterance.hypothesis.tokens
        if words:
            self.segments.append(
                Segment(
                    utterance.start / SAMPLE_RATE, stop / SAMPLE_RATE, " ".join(words),
                    tuple(token.id for token in tokens), float(np.mean([token.logprob for token in tokens])),
                    speech=(stop - utterance.start) / SAMPLE_RATE,
                )
            )  # fmt: skip
        self._forget(stop)

    def _forget(self, before: int) -> None:
        gone = min(max(0, before - self._origin), len(self._held))
        self._held, self._origin = self._held[gone:], self._origin + gone


def nobody_reads(live: "Live") -> None:
    """Nobody is told."""


class Live:
    """Live captions on a thread of their own: feed samples as they come, read the text at any time.

    committed  text that stays
    volatile   text behind it that may still change
    segments   utterances that ended, with their times
    open       what of the committed text belongs to the utterance that hasn't ended

    told  called on that thread after each change
    """

    def __init__(
        self, engine: Engine, options: Options, detector: Detector, *, every: float, ends: float,
        told: Callable[["Live"], None],
    ) -> None:  # fmt: skip
        if not every > 0 or not ends > 0:
            raise OptionError(f"every is {every:g} and ends {ends:g} seconds, expected more than 0")
        self.committed, self.open, self.volatile = "", "", ""
        self.segments: tuple[Segment, ...] = ()
        self._captions = Captions(engine, options, detector, ends=ends)
        self._engine, self._language = engine, language_of(engine.model, options.language)
        self._every, self._told = round(every * SAMPLE_RATE), told
        self._news = threading.Condition()
        self._fed: list[Float32] = []
        self._over = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="eardrop-live", daemon=True)
        self._thread.start()

    def feed(self, samples: Float32) -> None:
        """Hear samples (n,), mono, float32, 16 kHz. Returns at once; raises what went wrong while writing."""
        with self._news:
            self._check()
            if self._over:
                raise EngineClosed("the captions were finished; begin others with live()")
            self._fed.append(np.array(samples, np.float32))
            self._news.notify()

    def finish(self) -> Result:
        """Write the rest, and give all of it."""
        with self._news:
            self._over = True
            self._news.notify()
        self._thread.join()
        self._check()
        model = self._engine.model
        return Result(
            tuple(self._captions.segments), "live", model.name, self._captions.seconds, language=self._language,
            demonstration=model.demonstration,
        )  # fmt: skip

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            over = False
            while not over:
                over = self._take(self._every)
                self._captions.update(over=over)
                self._show()
        except BaseException as failure:  # whoever feeds or finishes is told
            self._failure = failure

    def _take(self, least: int) -> bool:
        """Hear what was fed, once it is enough for an update; whether it was the last."""
        with self._news:
            self._news.wait_for(lambda: self._over or sum(map(len, self._fed)) >= least)
            fed, self._fed, over = self._fed, [], self._over
        for samples in fed:
            self._captions.feed(samples)
        return over

    def _show(self) -> None:
        heard = self._captions
        shown = heard.committed, heard.open, heard.volatile, tuple(heard.segments)
        if shown != (self.committed, self.open, self.volatile, self.segments):
            self.committed, self.open, self.volatile, self.segments = shown
            self._told(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._thread.is_alive():
            self.finish()
