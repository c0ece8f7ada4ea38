"""Rotary positions (arXiv 2104.09864), the form that pairs the two halves of a head."""

from collections.abc import Iterator

import numpy as np

from eardrop.ops.record import Arithmetic, Case, Cost, Float32, Int32, Op, Tolerance, normal


def reference(x: Float32, positions: Int32, base: float) -> Float32:
    """Turn (x[i], x[i + d/2]) by position · base^(−2i / d); x (N, H, d), positions (N,) → (N, H, d)."""
    half = x.shape[-1] // 2
    angles = positions[:, None, None] * np.power(base, -np.arange(half) / half)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    low, high = x[..., :half], x[..., half:]
    return np.concatenate([low * cos - high * sin, low * sin + high * cos], axis=-1)


def cases(rng: "np.random.Generator") -> Iterator[Case]:
    """The start, a gap, the far end of a context."""
    for heads, d in ((1, 2), (3, 6), (8, 64)):
        positions = np.array([0, 1, 2, 4097, 32_767], np.int32)
        yield Case(f"{heads}x{d}", {"x": normal(rng, 5, heads, d), "positions": positions, "base": 1e6})


def cost(x: Float32, positions: Int32, base: float) -> Cost:
    """Six flops a pair."""
    return Cost(3.0 * x.size, 8.0 * x.size)


_why = "the angle in float32: position 2¹⁵ leaves 2⁻⁹ of a turn's last bits for the fastest pair"
ROPE = Op("rope", reference, cases, dict.fromkeys(Arithmetic, Tolerance(2.0**-9, _why)), cost)
