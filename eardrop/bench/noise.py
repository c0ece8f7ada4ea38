"""What repeated measurements say: a median, and how far it could be off.

The interval is the bootstrap's: the runs are drawn again and again from themselves, and 95 % of the medians lie
within. It says nothing of what was the same in all runs, as another program on the machine.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DRAWS = 4000
COVERED = (2.5, 97.5)  # percentiles: 95 % lie between
SEED = 1  # the same runs have the same interval


@dataclass(frozen=True)
class Estimate:
    """A median and the 95 % interval of it."""

    median: float
    low: float
    high: float


def estimate(samples: Sequence[float]) -> Estimate:
    """The median of at least one run; of one run alone the interval is empty, which is no praise."""
    return _estimate(float(np.median(samples)), _medians(samples, np.random.default_rng(SEED)))


def change(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """after ÷ before − 1, of two series that were measured one after the other."""
    rng = np.random.default_rng(SEED)
    first, second = _medians(before, rng), _medians(after, rng)
    return _estimate(float(np.median(after) / np.median(before)) - 1, second / first - 1)


def paired(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """after ÷ before, of runs that were measured in turns, A B A B …: the median of the pairs' ratios."""
    return estimate([b / a for a, b in zip(before, after, strict=True)])


def figure(samples: Sequence[float] | None, unit: str, better: str) -> dict[str, Any] | None:
    """A figure for the report: what was measured, and what it says; None where it was not measured."""
    if not samples:
        return None
    return {"unit": unit, "better": better, **asdict(estimate(samples)), "samples": list(samples)}


def _medians(samples: Sequence[float], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The median of each draw."""
    drawn = rng.choice(np.asarray(samples, np.float64), (DRAWS, len(samples)))
    return np.asarray(np.median(drawn, axis=1))


def _estimate(median: float, medians: npt.NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(medians, COVERED)
    return Estimate(median, float(low), float(high))
