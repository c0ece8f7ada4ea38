"""Drawing tokens at random, by llama.cpp's chain: top-k, top-p, min-p, temperature, draw (spec §8.1).

Top-p and min-p see the distribution at temperature one; temperature acts last. Draws are ours, not llama.cpp's:
the same seed gives the same text here, another there.
"""

from dataclasses import dataclass

import numpy as np

from eardrop.errors import OptionError
from eardrop.ops import Float32
from eardrop.search.choice import Choice, Logits, Mask


@dataclass(frozen=True)
class Sample:
    """Draw from the likeliest tokens. Raises OptionError for values without a meaning."""

    temperature: float = 0.8  # above 0; `Greedy` is the limit
    top_k: int = 40  # ≤ 0: all
    top_p: float = 0.95  # ≥ 1: all
    min_p: float = 0.05  # ≤ 0: all
    seed: int | None = None  # None: another draw each time

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise OptionError(f"temperature is {self.temperature}, expected more than 0; for 0 search greedily")
        if self.seed is not None and self.seed < 0:
            raise OptionError(f"seed is {self.seed}, expected 0 or more, or none for another draw each time")

    def begin(self) -> "Draws":
        """A sequence of draws from the seed's beginning."""
        return Draws(self)

    def kept(self, logits: Float32) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], Float32]:
        """The tokens that may be drawn, likeliest first, and their logits."""
        ids = np.argsort(-logits, kind="stable")
        ids = ids[: self.top_k] if self.top_k > 0 else ids
        logits = logits[ids]
        chance = np.exp(logits - logits[0], dtype=np.float64)
        if self.top_p < 1:
            reached = np.cumsum(chance) / chance.sum() >= self.top_p
            logits = logits[: int(np.argmax(reached)) + 1] if reached.any() else logits
        if self.min_p > 0:
            logits = logits[logits >= logits[0] + min(np.log(self.min_p), 0.0)]  # the likeliest always stays
        return ids[: len(logits)], logits


class Draws:
    """One stream's draws."""

    def __init__(self, search: Sample) -> None:
        self._search = search
        self._random = np.random.Generator(np.random.MT19937(search.seed))

    def choose(self, best: Choice, logits: Logits, allowed: Mask | None) -> Choice:
        """A token drawn from those that are kept; log-probability at temperature one among the allowed."""
        scores = logits() if allowed is None else np.where(allowed, logits(), np.float32(-np.inf))
        ids, kept = self._search.kept(scores)
        with np.errstate(over="ignore"):  # beside a tiny temperature all but the likeliest are infinitely far
            distance = (kept.astype(np.float64) - kept[0]) / self._search.temperature
        weights = np.cumsum(np.exp(distance))
        drawn = int(np.searchsorted(weights, self._random.random() * weights[-1], side="right"))
        token = int(ids[min(drawn, len(ids) - 1)])
        logprob = best.logprob + float(scores[token] - scores[best.token])
        return Choice(token, logprob, best.margin if token == best.token else 0.0)
