"""Operations on each value by itself: gates and the residual sum."""

from collections.abc import Callable, Iterator

import numpy as np

from eardrop.ops.activations import sigmoid, silu
from eardrop.ops.record import ROUNDED, Arithmetic, Case, Cost, Float32, Op, normal


def glu(x: Float32) -> Float32:
    """First half · σ(second half); x (N, 2·D) → (N, D) (Dauphin et al. 2017)."""
    value, gate = np.split(x, 2, axis=-1)
    return value * sigmoid(gate)


def swiglu(gate: Float32, up: Float32) -> Float32:
    """silu(gate) · up (Shazeer 2020)."""
    return silu(gate) * up


def add(x: Float32, y: Float32, scale: float = 1.0) -> Float32:
    """x + scale · y: the residual sum, ½ in the encoder's feed-forward halves."""
    return x + np.float32(scale) * y


def _one(rng: "np.random.Generator") -> Iterator[Case]:
    for n, d in ((1, 2), (1, 6), (3, 62), (130, 96)):
        yield Case(f"{n}x{d}", {"x": 4 * normal(rng, n, d)})
    yield Case("far out", {"x": np.array([[-1e4, -88.8, -1e-38, 0.0, 88.8, 1e4]], np.float32)})


def _pair(first: str, second: str, **more: float) -> "Callable[[np.random.Generator], Iterator[Case]]":
    def cases(rng: "np.random.Generator") -> Iterator[Case]:
        for n, d in ((1, 1), (3, 61), (130, 96)):
            yield Case(f"{n}x{d}", {first: 4 * normal(rng, n, d), second: normal(rng, n, d), **more})

    return cases


_tolerance = dict.fromkeys(Arithmetic, ROUNDED)
GLU = Op("glu", glu, _one, _tolerance, lambda x: Cost(6.0 * x.size, 6.0 * x.size))
SWIGLU = Op(
    "swiglu", swiglu, _pair("gate", "up"), _tolerance, lambda gate, up: Cost(12.0 * gate.size, 12.0 * gate.size)
)
ADD = Op("add", add, _pair("x", "y", scale=0.5), _tolerance, lambda x, y, scale: Cost(2.0 * x.size, 12.0 * x.size))
