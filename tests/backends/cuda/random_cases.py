"""Calls of random shapes for each operation, drawn from what the networks may ask; the smallest are drawn often.

`python -m tests.backends.cuda.campaign` runs any number of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from eardrop.gguf import FORMATS
from eardrop.ops import Case
from eardrop.ops.activations import ACTIVATIONS
from eardrop.ops.linear import BLOCKED, random_weight
from eardrop.ops.record import normal

Rng = np.random.Generator
BLOCKS = {form.name: form.block for form in FORMATS.values()}
FLOATS = ("F32", "F16", "BF16")


def size(rng: Rng, most: int) -> int:
    """1 … most, each order of magnitude as likely as the next."""
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def linear(rng: Rng) -> dict[str, Any]:
    name = str(rng.choice([*FLOATS, *BLOCKED]))
    block = BLOCKS[name]
    columns = size(rng, 700) if block == 1 else block * size(rng, 1024 // block)
    rows = size(rng, 300)
    x = normal(rng, size(rng, 150), columns)
    given = {"x": x, "w": random_weight(rng, name, rows, columns)}
    if rng.random() < 0.5:
        given["bias"] = normal(rng, rows)
    if rng.random() < 0.5:
        given["activation"] = str(rng.choice(list(ACTIVATIONS)))
    return given


def embed(rng: Rng) -> dict[str, Any]:
    name = str(rng.choice([*FLOATS, *BLOCKED]))
    rows = size(rng, 100)
    ids = rng.integers(0, rows, size(rng, 40)).astype(np.int32)
    return {"ids": ids, "w": random_weight(rng, name, rows, BLOCKS[name] * size(rng, 4))}


def rms_norm(rng: Rng, *, heads: bool = True) -> dict[str, Any]:
    d = size(rng, 5000)
    shape = (size(rng, 20), size(rng, 8), d) if heads and d < 300 and rng.random() < 0.5 else (size(rng, 40), d)
    return {"x": normal(rng, *shape), "weight": normal(rng, d), "epsilon": 1e-5}


def layer_norm(rng: Rng) -> dict[str, Any]:
    given = rms_norm(rng, heads=False)
    return {**given, "x": 3 * given["x"] + 5, "bias": normal(rng, given["x"].shape[-1])}


def glu(rng: Rng) -> dict[str, Any]:
    return {"x": 4 * normal(rng, size(rng, 60), 2 * size(rng, 700))}


def swiglu(rng: Rng) -> dict[str, Any]:
    shape = size(rng, 60), size(rng, 700)
    return {"gate": 4 * normal(rng, *shape), "up": normal(rng, *shape)}


def add(rng: Rng) -> dict[str, Any]:
    shape = size(rng, 60), size(rng, 700)
    return {"x": normal(rng, *shape), "y": normal(rng, *shape), "scale": float(rng.choice([0.5, 1.0]))}


def rope(rng: Rng) -> dict[str, Any]:
    count = size(rng, 30)
    positions = rng.integers(0, 32_768, count).astype(np.int32)
    return {"x": normal(rng, count, size(rng, 8), 2 * size(rng, 64)), "positions": positions, "base": 1e6}


def pick(rng: Rng) -> dict[str, Any]:
    logits = np.round(4 * normal(rng, size(rng, 8), size(rng, 20_000)), int(rng.integers(0, 5)))  # with ties
    if rng.random() < 0.5:
        return {"logits": logits}
    allowed = rng.random(logits.shape) < rng.choice([0.001, 0.5])
    allowed[np.arange(len(logits)), rng.integers(0, logits.shape[1], len(logits))] = True
    return {"logits": logits, "allowed": allowed}


RANDOM: dict[str, Callable[[Rng], dict[str, Any]]] = {
    made.__name__: made for made in (linear, embed, layer_norm, rms_norm, glu, swiglu, add, rope, pick)
}


def case(name: str, rng: Rng) -> Case:
    """One call of the operation of that name, its shapes in the label."""
    given = RANDOM[name](rng)
    told = (f"{key} {getattr(value, 'shape', value)}" for key, value in given.items())
    return Case(", ".join(told), given)
