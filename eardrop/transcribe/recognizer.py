"""A recogniser: an engine, and what turns a recording into segments of text.

`stream` is the primitive; `transcribe` collects it, `transcribe_many` runs several. What happens to a recording on its
way is `transcription.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TypeAlias, Unpack

import numpy as np

from eardrop.audio import Blocks, Source, blocks, channels, one_window
from eardrop.audio.apart import Decoders
from eardrop.audio.speech import SpectralDetector
from eardrop.dialect import REFERENCE, Dialect
from eardrop.engine import Engine, Model, Request, Token
from eardrop.errors import OptionError
from eardrop.ops import Float32
from eardrop.search import Greedy, Search
from eardrop.text import Part, prompt, split_markers
from eardrop.transcribe.channels import Channels
from eardrop.transcribe.live import Live, nobody_reads
from eardrop.transcribe.many import Outcome, many
from eardrop.transcribe.options import Options, Wishes
from eardrop.transcribe.question import language_of
from eardrop.transcribe.score import Score, score
from eardrop.transcribe.transcription import Progress, Transcription, nobody, nobody_of_many
from eardrop.transcript import Result, Segment

Journey: TypeAlias = Transcription | Channels
DECODERS = 2  # child processes: they are far faster than what follows


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
        return self._journey(source, Options(**options)).segments()

    def transcribe(
        self, source: Source, *, told: Callable[[Progress], None] = nobody, **options: Unpack[Wishes]
    ) -> Result:
        """Transcribe a recording: a path ("-" is standard input), bytes, a file object, or samples at 16 kHz.

        told  how far it is, whenever something was written, for people to watch; an exception ends the transcription

        Keywords: the fields of `Options`. Raises AudioError for what can't be read, OptionError for wishes that
        can't be met.
        """
        return self._journey(source, Options(**options), told).result()

    def transcribe_many(
        self,
        sources: Iterable[Source],
        *,
        batch: int | None = None,
        told: Callable[[int, Progress], None] = nobody_of_many,
        **options: Unpack[Wishes],
    ) -> Iterator[Outcome]:
        """Transcribe recordings, several at a time; the results in the order of the recordings.

        sources  taken one by one as there is room, so that a generator may be endless
        batch    recordings at a time; None: as many as the engine decodes at once
        told     the number of a recording, from 0, and how far it is, on the thread that transcribes it

        A recording that fails is an error among the results, and the others go on. Closing the iterator cancels what
        is under way. Keywords: the fields of `Options`.
        """
        wishes, most = Options(**options), self.engine.streams if batch is None else batch
        if most < 1:
            raise OptionError(f"batch is {batch}, expected at least 1")
        return self._many(sources, most, told, wishes)

    def _many(
        self, sources: Iterable[Source], most: int, told: Callable[[int, Progress], None], wishes: Options
    ) -> Iterator[Outcome]:
        # a decoder is a recording's own until that is read: those that hold one ask about more windows at a time
        ahead = -(-self.engine.streams // DECODERS)
        with Decoders(min(most, DECODERS)) as decoders:

            def journey(number: int, source: Source) -> Journey:
                return self._journey(source, wishes, partial(told, number), ahead=ahead, read=decoders.blocks)

            yield from many(enumerate(sources), most, journey)

    def live(
        self,
        *,
        every: float = 1.0,
        ends: float = 0.8,
        told: Callable[[Live], None] = nobody_reads,
        **options: Unpack[Wishes],
    ) -> Live:
        """Live captions: feed samples as they come, and read what is committed and what may still change.

        every  seconds of sound after which the text is brought up to date
        ends   seconds of silence that end an utterance
        told   called after each change, on the thread that writes

            with asr.live() as live:
                for block in microphone:          # float32 samples at 16 kHz
                    live.feed(block)
                    print(live.committed, live.volatile)
        """
        return Live(self.engine, Options(**options), SpectralDetector(), every=every, ends=ends, told=told)

    def score(self, source: Source, text: str, *, language: str | None = None, track: int | None = None) -> Score:
        """How likely a given text is what a recording says, and when each of its words was said: forced alignment.

        source    as for `transcribe`; no longer than a window
        text      what was said, as the model writes: with capitals and marks, on one line or several
        language  that it is written in; None is the model's own
        track     of a container; None is the one marked as default

        Times are in seconds of the recording, estimated (docs/words.md); log-probabilities are natural. Raises
        OptionError for a text that is empty or too long for the recording, AudioTooLong for one longer than a window.
        """
        window, options = self.model.architecture, Options(track=track)
        samples, _ = one_window(source, least=window.least_seconds, most=window.most_seconds, track=options.track)
        return score(self.engine, samples, text, language=language_of(self.model, language))

    def _journey(
        self, source: Source, options: Options, told: Callable[[Progress], None] = nobody, *, ahead: int | None = None,
        read: Callable[..., Blocks] = blocks,
    ) -> Journey:  # fmt: skip
        most = ahead or self.engine.streams
        if options.channels == "mix" or (count := channels(source, track=options.track)) < 2:
            return Transcription(self.engine, source, options, most, told, read)
        # all channels are read at a time, and decoders are given to one recording after another: they would wait
        # for each other
        return Channels(
            count, lambda channel, speaker: Transcription(
                self.engine, source, options, most, told, blocks, channel, speaker
            )
        )  # fmt: skip

    def close(self) -> None:
        """Stop computing; whoever waits for text is told."""
        self.engine.close()

    def __enter__(self) -> "Recognizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
