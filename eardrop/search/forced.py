"""A given text instead of a search: how likely the model holds each of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from eardrop.search.choice import Choice, Logits, Mask


@dataclass(frozen=True)
class Forced:
    """These tokens in their order, and then the likeliest ones; give the request as many as its limit."""

    tokens: Sequence[int]

    def begin(self) -> "_Forcing":
        """At the first of them."""
        return _Forcing(self.tokens)


@dataclass
class _Forcing:
    """A chooser that has no choice."""

    tokens: Sequence[int]
    said: int = 0

    def choose(self, best: Choice, logits: Logits, allowed: Mask | None) -> Choice:
        """The next token, as likely as it is; a negative margin says how far it stood below the best.

        Where it is the best, these are the numbers of greedy search, to the bit.
        """
        token = self.tokens[self.said] if self.said < len(self.tokens) else best.token
        self.said += 1
        if token == best.token:
            return best
        scores = logits()
        below = float(scores[best.token] - scores[token])
        return Choice(token, best.logprob - below, -below)
