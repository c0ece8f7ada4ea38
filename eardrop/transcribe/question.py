"""What the model is asked about a stretch of sound: the family's prompt, a limit, and which tokens it may say."""

from dataclasses import dataclass

import numpy as np

from eardrop.audio import SAMPLE_RATE
from eardrop.dialect import REFERENCE
from eardrop.engine import Model, Request
from eardrop.errors import OptionError
from eardrop.ops import Float32
from eardrop.printable import printable
from eardrop.search import Mask
from eardrop.text import MEDIA, Part, prompt


@dataclass(frozen=True)
class Question:
    """Asked about one stretch after another."""

    model: Model
    prompt: list[Part]
    allowed: Mask  # (V,)

    def about(self, samples: Float32, *, limit: int | None = None) -> Request:
        """The request for samples (N,); by default as many tokens as their seconds allow."""
        most = limit or self.model.architecture.token_limit(len(samples) / SAMPLE_RATE)
        return Request(self.prompt, [samples], limit=most, stop=self.model.stop_tokens, allowed=self.allowed)


def question(model: Model, language: str | None) -> Question:
    """What a model is asked to write a language, its own by default; OptionError where it can't."""
    system = model.architecture.prompts[language_of(model, language)]
    # what a transcript may not hold can't be chosen: control tokens that don't end it, words that aren't any
    allowed = ~(model.tokenizer.control_mask() | model.tokenizer.unused_mask())
    allowed[np.array(list(model.stop_tokens), np.int64)] = True
    return Question(model, prompt(model.tokenizer, system=system, user=[MEDIA], dialect=REFERENCE), allowed)


def language_of(model: Model, language: str | None) -> str:
    """The language a model is asked to write; OptionError where it can't."""
    wanted = language or model.languages[0]
    if wanted not in model.languages:
        there = " and ".join(model.languages)
        raise OptionError(f"the language is {printable(wanted)!r}, and {model.name} writes {there}; take another model")
    return wanted
