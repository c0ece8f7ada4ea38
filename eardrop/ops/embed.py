"""Rows of the embedding: what a token looks like to the decoder."""

from collections.abc import Iterator

import numpy as np

from eardrop.ops.linear import random_weight
from eardrop.ops.record import EXACT, Arithmetic, Case, Cost, Float32, Int32, Op


def reference(ids: Int32, w: Float32) -> Float32:
    """ids (N,), w (V, D) → (N, D) float32, the file's values exactly."""
    return w[ids]


def cases(rng: "np.random.Generator") -> Iterator[Case]:
    """No token, the first and last, repeats; every kind of weight once."""
    for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q6_K"):
        w = random_weight(rng, name, 23, 256)
        yield Case(f"{name}", {"ids": np.array([22, 0, 7, 7, 1], np.int32), "w": w})
        yield Case(f"{name} none", {"ids": np.array([], np.int32), "w": w})


def cost(ids: Int32, w: Float32) -> Cost:
    """One row read and one written for each id."""
    return Cost(0.0, len(ids) * (w.nbytes / len(w) + 4.0 * w.shape[1]))


EMBED = Op("embed", reference, cases, dict.fromkeys(Arithmetic, EXACT), cost)
