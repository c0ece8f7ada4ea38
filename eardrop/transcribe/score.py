"""A text that people have already, held against its recording: how likely the model thinks it, and its word times."""

from dataclasses import dataclass, replace

import numpy as np

from eardrop.audio import SAMPLE_RATE
from eardrop.engine import Engine, Token
from eardrop.errors import AudioError, Cancelled, ContextFull, OptionError
from eardrop.ops import Float32
from eardrop.search import Finish, Forced
from eardrop.transcribe.question import question
from eardrop.transcribe.words import words_of
from eardrop.transcript import Segment


@dataclass(frozen=True)
class Score:
    """What a model makes of a given text."""

    segment: Segment  # the text with its words; its times are the first word's and the last one's
    logprob: float  # of the whole text and that it ends there, natural: texts of one recording compare by it


def score(engine: Engine, samples: Float32, text: str, *, language: str) -> Score:
    """How likely a model holds a text to be what a window says, and when its words were said.

    samples  (N,), mono, 16 kHz
    text     as the model writes: with capitals and marks, in one line or several

    Raises OptionError for a text that is empty or longer than a transcript of the window may be, AudioError for a
    window that is too short to hold a word, AudioTooLong for more than a window, ContextFull for a text that doesn't
    fit into the model's context behind the window.
    """
    (*tokens, end), looked = forced(engine, samples, text, language=language)
    found = words_of(tokens, looked[:-1], samples, language=language)
    logprobs, ids = [token.logprob for token in tokens], tuple(token.id for token in tokens)
    spoken, mean = " ".join(text.split()), float(np.mean(logprobs))
    segment = Segment(found[0].start, found[-1].end, spoken, ids, mean, words=found)
    return Score(segment, float(np.sum(logprobs)) + end.logprob)


def forced(engine: Engine, samples: Float32, text: str, *, language: str) -> tuple[list[Token], Float32]:
    """The tokens of a text and the one that ends it, and where the model looked for each, (tokens, heads, R)."""
    model = engine.model
    ids = model.tokenizer.encode(" ".join(text.split()), special=False)
    _check(engine, ids, len(samples) / SAMPLE_RATE)
    given = np.array([*ids, model.tokenizer.eos], np.int32)
    request = replace(
        question(model, language).about(samples, limit=len(given)),
        search=Forced(given.tolist()), stop=frozenset(), draft=given[:-1], look=True,
    )  # fmt: skip
    handle = engine.submit(request)
    try:
        tokens = list(handle)
    finally:
        handle.cancel()
    if handle.finish is Finish.CONTEXT:
        raise ContextFull(
            f"recording and text need more rows than the model's context has ({model.decoder.shape.context:,})"
            "; give a shorter recording, and the text of it alone"
        )
    if handle.looked is None:
        raise Cancelled("the text was cancelled before it was scored")
    return tokens, handle.looked


def _check(engine: Engine, ids: list[int], seconds: float) -> None:
    architecture = engine.model.architecture
    if not ids:
        raise OptionError("the text is empty, expected what the recording says")
    if seconds < architecture.least_seconds:
        least = f"expected at least {architecture.least_seconds:g}"
        raise AudioError(f"the recording has {seconds:g} seconds and holds no word, {least}")
    most = architecture.token_limit(seconds)
    if len(ids) > most:
        found = f"the text has {len(ids):,} tokens, and {seconds:.2f} seconds of audio hold at most {most:,}"
        raise OptionError(f"{found}; give the text of this recording alone")
