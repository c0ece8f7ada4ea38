"""Layer norm (Ba et al. 2016) in the encoder, root-mean-square norm (Zhang & Sennrich 2019) in the decoder."""

from collections.abc import Iterator

import numpy as np

from eardrop.ops.record import SUMMED, Arithmetic, Case, Cost, Float32, Op, normal


def layer_norm(x: Float32, weight: Float32, bias: Float32, epsilon: float) -> Float32:
    """(x − mean) / √(variance + ε) · weight + bias over the last axis, biased variance; x (N, D) → (N, D)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(epsilon)) * weight + bias)


def rms_norm(x: Float32, weight: Float32, epsilon: float) -> Float32:
    """x / √(mean x² + ε) · weight over the last axis; x (N, D) or (N, H, d) → the same shape."""
    power = np.square(x).mean(axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(power + np.float32(epsilon)) * weight)


def layer_norm_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """One value; a constant row; a mean far from zero."""
    for n, d in ((1, 1), (1, 7), (3, 61), (2, 512), (5, 2048)):
        x = normal(rng, n, d) * 3 + 5
        yield Case(f"{n}x{d}", {"x": x, "weight": normal(rng, d), "bias": normal(rng, d), "epsilon": 1e-5})
    still = np.full((2, 64), 0.25, np.float32)
    yield Case("constant rows", {"x": still, "weight": normal(rng, 64), "bias": normal(rng, 64), "epsilon": 1e-5})


def rms_norm_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """Rows, heads, silence."""
    for shape in ((1, 1), (1, 7), (3, 61), (2, 5, 64), (5, 2048)):
        label = "x".join(map(str, shape))
        yield Case(label, {"x": normal(rng, *shape), "weight": normal(rng, shape[-1]), "epsilon": 1e-5})
    yield Case("zeros", {"x": np.zeros((2, 64), np.float32), "weight": normal(rng, 64), "epsilon": 1e-5})


def cost(x: Float32, weight: Float32, bias: Float32 | None = None, epsilon: float = 0.0) -> Cost:
    """Read once, written once."""
    return Cost(5.0 * x.size, 8.0 * x.size)


_tolerance = dict.fromkeys(Arithmetic, SUMMED)  # norms are taken in float32 whatever the products are
LAYER_NORM = Op("layer_norm", layer_norm, layer_norm_cases, _tolerance, cost)
RMS_NORM = Op("rms_norm", rms_norm, rms_norm_cases, _tolerance, cost)
