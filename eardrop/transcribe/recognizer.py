"""A recogniser: an engine, and what turns a recording into segments of text.

`stream` is the primitive; `transcribe` collects it. One clip is one window for now: windows over recordings of any
length come with the stage that cuts in pauses.
"""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Unpack

import numpy as np

from eardrop.audio import SAMPLE_RATE, Source, blocks, name_of
from eardrop.dialect import REFERENCE, Dialect
from eardrop.engine import Engine, Handle, Model, Request, Token
from eardrop.errors import AudioTooLong, OptionError
from eardrop.ops import Float32
from eardrop.printable import printable
from eardrop.search import Finish, Greedy, Search
from eardrop.stages import stage
from eardrop.text import MEDIA, Detokenizer, Part, prompt, split_markers
from eardrop.transcribe.options import Options, Wishes
from eardrop.transcribe.score import Score, score
from eardrop.transcript import Result, Segment


class Recognizer:
    """Transcribes recordings with a loaded model. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def model(self) -> Model:
        """What was loaded."""
        return self.engine.model

    def encode(self, samples: Float32) -> Float32:
        """What the decoder hears: samples (N,), mono, 16 kHz → rows (R, n_embd), one per 80 ms."""
        return self.engine.encode(samples)

    def generate(
        self,
        text: str = "",
        *,
        system: str | None = None,
        audio: Float32 | Sequence[Float32] = (),
        search: Search | None = None,
        max_tokens: int | None = None,
        parse_special: bool = False,
        dialect: Dialect = REFERENCE,
    ) -> Iterator[Token]:
        """Answer one prompt, token by token: text, recordings, or both.

        text           the user's; `<__media__>` marks the places of the recordings, which else come first
        system         the system's; "Perform ASR." makes LFM2-Audio transcribe
        audio          samples (N,), mono, 16 kHz, or rows from `encode`; one or several
        search         greedy by default
        max_tokens     most tokens of the answer; None: as many as fit
        parse_special  lets the text spell control tokens

        Closing the iterator cancels the request.
        """
        if max_tokens is not None and max_tokens < 0:
            raise OptionError(f"max_tokens is {max_tokens}, expected 0 or more, or None for as many as fit")
        audios = [audio] if isinstance(audio, np.ndarray) else list(audio)
        user = split_markers(text, len(audios))
        parts = prompt(self.model.tokenizer, system=system, user=user, dialect=dialect, parse_special=parse_special)
        return self._tokens(parts, audios, search or Greedy(), max_tokens, dialect)

    def _tokens(
        self, parts: list[Part], audios: list[Float32], search: Search, limit: int | None, dialect: Dialect
    ) -> Iterator[Token]:
        handle = self.engine.submit(Request(parts, audios, search=search, limit=limit, dialect=dialect))
        try:
            yield from handle
        finally:
            handle.cancel()

    def stream(self, source: Source, **options: Unpack[Wishes]) -> Iterator[Segment]:
        """Transcribe, giving each segment as it is ready. Keywords: the fields of `Options`."""
        return _Transcription(self, source, Options(**options)).segments()

    def transcribe(
        self, source: Source, *, told: Callable[[str], None] = lambda text: None, **options: Unpack[Wishes]
    ) -> Result:
        """Transcribe a recording: a path ("-" is standard input), bytes, a file object, or samples at 16 kHz.

        told  given each stretch of text as it is generated, for people to watch

        Keywords: the fields of `Options`. Raises AudioError for what can't be read, OptionError for wishes that
        can't be met.
        """
        transcription = _Transcription(self, source, Options(**options), told)
        segments = tuple(transcription.segments())
        return Result(
            segments,
            name_of(source),
            self.model.name,
            transcription.seconds,
            language=transcription.language,
            notes=transcription.notes,
            demonstration=self.model.demonstration,
        )

    def score(self, source: Source, text: str, *, language: str | None = None, track: int | None = None) -> Score:
        """How likely a given text is what a recording says, and when each of its words was said: forced alignment.

        source    as for `transcribe`; no longer than a window
        text      what was said, as the model writes: with capitals and marks, on one line or several
        language  that it is written in; None is the model's own
        track     of a container; None is the one marked as default

        Times are in seconds of the recording, estimated (docs/words.md); log-probabilities are natural. Raises
        OptionError for a text that is empty or too long for the recording, AudioTooLong for one longer than a window.
        """
        options = Options(language=language, track=track)
        samples, _ = one_window(source, self.model, options)
        return score(self.engine, samples, text, language=language_of(self.model, options))

    def close(self) -> None:
        """Stop computing; whoever waits for text is told."""
        self.engine.close()

    def __enter__(self) -> "Recognizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def one_window(source: Source, model: Model, options: Options) -> tuple[Float32, tuple[str, ...]]:
    """A recording's samples (N,), and what was wrong with it; AudioTooLong as soon as a window can't hold it."""
    most = model.architecture.most_seconds
    pieces, got = [], 0
    read = blocks(source, track=options.track, max_seconds=options.max_seconds)
    for piece in read:
        pieces.append(piece)
        got += len(piece)
        if got > most * SAMPLE_RATE:
            raise AudioTooLong(
                f"{name_of(source)} is longer than {most:g} seconds, the most one window holds; cut it first"
            )
    least = model.architecture.least_seconds
    short = (f"the recording is shorter than {least:g} seconds and holds no word",)
    return np.concatenate(pieces), (*read.notes, *(short if got < least * SAMPLE_RATE else ()))


def language_of(model: Model, options: Options) -> str:
    """The language a model is asked to write; OptionError where it can't."""
    wanted = options.language or model.languages[0]
    if wanted not in model.languages:
        there = " and ".join(model.languages)
        raise OptionError(f"the language is {printable(wanted)!r}, and {model.name} writes {there}; take another model")
    return wanted


class _Transcription:
    """One recording on its way to segments."""

    def __init__(
        self,
        asr: Recognizer,
        source: Source,
        options: Options,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._asr, self._source, self._options, self._told = asr, source, options, told
        self._architecture = asr.model.architecture
        self.language = language_of(asr.model, options)
        self.seconds = 0.0
        self.notes: tuple[str, ...] = ()

    def segments(self) -> Iterator[Segment]:
        """The window's segment; none for audio too short to hold a word."""
        with stage("audio"):
            samples, self.notes = one_window(self._source, self._asr.model, self._options)
        self.seconds = len(samples) / SAMPLE_RATE
        if self.seconds >= self._architecture.least_seconds:
            yield self._judged(self._handle(samples))

    def _handle(self, samples: Float32) -> Handle:
        model, architecture = self._asr.model, self._architecture
        system = architecture.prompts[self.language]
        parts = prompt(model.tokenizer, system=system, user=[MEDIA], dialect=REFERENCE)
        limit = self._options.max_tokens or architecture.token_limit(self.seconds)
        # what a transcript may not hold can't be chosen: control tokens that don't end it, words that aren't any
        allowed = ~(model.tokenizer.control_mask() | model.tokenizer.unused_mask())
        allowed[list(model.stop_tokens)] = True
        return self._asr.engine.submit(Request(parts, [samples], limit=limit, stop=model.stop_tokens, allowed=allowed))

    def _judged(self, handle: Handle) -> Segment:
        """The text, and what speaks against it."""
        text, said, tokens = Detokenizer(), "", []
        try:
            for token in handle:
                tokens.append(token)
                with stage("detokenise"):
                    said += (new := text.push(token.piece))
                self._told(new)
        finally:
            handle.cancel()
        said += text.flush()
        cut = handle.finish is not Finish.STOP
        return Segment(
            start=0.0,
            end=self.seconds,
            text=said.strip(),
            tokens=tuple(token.id for token in tokens),
            logprob=float(np.mean([token.logprob for token in tokens])) if tokens else 0.0,
            warnings=(f"the text was cut off after {len(tokens)} tokens ({handle.finish})",) if cut else (),
        )
