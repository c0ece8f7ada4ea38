"""How far an error rate could be off: the bootstrap over utterances (Bisani and Ney 2004).

The utterances are drawn again and again from themselves; 95 % of the rates so drawn lie in the interval. It speaks of
other utterances of the same kind, not of another kind.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 4000
COVERED = (2.5, 97.5)  # percentiles: 95 % lie between
SEED = 1  # the same utterances have the same interval
_AT_ONCE = 1 << 22  # indices drawn at a time, to bound memory

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """95 % of the draws."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Rate of B − rate of A, on the same utterances."""

    value: float
    interval: Interval | None
    p: float | None  # two-sided: how often a draw says the opposite, or no difference, times two


def interval(edits: Sequence[int], lengths: Sequence[int]) -> Interval | None:
    """Of the rate sum(edits) ÷ sum(lengths), one entry an utterance; None of fewer than two."""
    return _interval(_drawn(lengths, edits)[0])


def difference(before: Sequence[int], after: Sequence[int], lengths: Sequence[int]) -> Difference | None:
    """Of two runs over the same utterances, drawn in pairs; None where there are no words."""
    if not sum(lengths):
        return None
    value = (sum(after) - sum(before)) / sum(lengths)
    draws = np.subtract(*_drawn(lengths, after, before))
    return Difference(value, _interval(draws), _two_sided(draws))


def _two_sided(draws: _Floats) -> float | None:
    """The p-value; the observed rate counts as one more draw, so that none is 0 (Davison and Hinkley 1997, 4.2)."""
    if not len(draws):
        return None
    least = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return min(1.0, 2 * (int(least) + 1) / (len(draws) + 1))


def _interval(draws: _Floats) -> Interval | None:
    if not len(draws):
        return None
    low, high = np.percentile(draws, COVERED)
    return Interval(float(low), float(high))


def _drawn(lengths: Sequence[int], *every: Sequence[int]) -> list[_Floats]:
    """The rate of each kind of edits in each draw, (DRAWS,), the utterances being the same; draws of no words miss."""
    if len(lengths) < 2 or not any(lengths):
        return [np.empty(0) for _ in every]
    table = np.array([lengths, *every], np.float64)  # (1 + kinds, N)
    sums = np.concatenate([table[:, chosen].sum(axis=-1) for chosen in _choices(len(lengths))], axis=1)
    words, *edits = sums[:, sums[0] > 0]
    return [np.asarray(kind / words) for kind in edits]


def _choices(n: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices (draws, n), DRAWS in all."""
    rng = np.random.default_rng(SEED)
    step = max(1, _AT_ONCE // n)
    for start in range(0, DRAWS, step):
        yield rng.integers(0, n, (min(step, DRAWS - start), n))
