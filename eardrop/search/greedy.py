"""Greedy search: always the likeliest token. What transcription wants."""

from dataclasses import dataclass

from eardrop.search.choice import Choice, Logits, Mask


@dataclass(frozen=True)
class Greedy:
    """The likeliest token; of equals the lowest id."""

    def begin(self) -> "Greedy":
        """Itself: it remembers nothing."""
        return self

    def choose(self, best: Choice, logits: Logits, allowed: Mask | None) -> Choice:
        """The best."""
        return best
