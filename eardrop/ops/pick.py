"""The likeliest token of each row, how likely it is, and how close the next one came."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from eardrop.ops.record import SUMMED, Arithmetic, Case, Cost, Float32, Int32, Op, Tolerance, normal


def reference(logits: Float32, allowed: npt.NDArray[np.bool_] | None = None) -> tuple[Int32, Float32, Float32]:
    """logits (B, V); allowed (B, V) bool, at least one in a row, None for all.

    returns  ids (B,), the lowest of equals; log-probabilities (B,) among the allowed; margins (B,), the best logit
             minus the next, infinite where only one is allowed
    """
    scores = logits if allowed is None else np.where(allowed, logits, np.float32(-np.inf))
    ids = scores.argmax(axis=1).astype(np.int32)
    best = scores[np.arange(len(scores)), ids]
    total = np.exp(scores - best[:, None], dtype=np.float64).sum(axis=1)
    others = scores.copy()
    others[np.arange(len(scores)), ids] = -np.inf
    return ids, (-np.log(total)).astype(np.float32), best - others.max(axis=1, initial=-np.inf)


def cases(rng: "np.random.Generator") -> Iterator[Case]:
    """One word; ties, at the ends too; masks down to a single word; the real vocabulary's size."""
    for rows, words in ((1, 1), (1, 7), (3, 961), (5, 65_536)):
        yield Case(f"{rows}x{words}", {"logits": 5 * normal(rng, rows, words)})
    tied = np.zeros((3, 65), np.float32)
    tied[1, [3, 64]] = 2.0
    yield Case("ties", {"logits": tied})
    mask = rng.random((4, 961)) < 0.01
    mask[:, 960], mask[3, :960] = True, False
    yield Case("masked", {"logits": 5 * normal(rng, 4, 961), "allowed": mask})


def cost(logits: Float32, allowed: npt.NDArray[np.bool_] | None = None) -> Cost:
    """One pass over the logits."""
    return Cost(4.0 * logits.size, 4.0 * logits.size + (0 if allowed is None else allowed.size))


_sums = Tolerance(
    SUMMED.of_largest, "a log of a sum over the vocabulary; integers are compared exactly under every tolerance"
)
PICK = Op("pick", reference, cases, dict.fromkeys(Arithmetic, _sums), cost)
