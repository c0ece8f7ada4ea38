"""Functions that may stand behind a product or a convolution, by name: a part of it, no pass of their own."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.ops.record import Float32

Activation: TypeAlias = Literal["relu", "silu", "gelu"]


def activated(x: Float32, activation: Activation | None) -> Float32:
    """Each value by the function of that name; by none as it is."""
    return x if activation is None else ACTIVATIONS[activation](x)


def relu(x: Float32) -> Float32:
    """max(x, 0)."""
    return np.maximum(x, np.float32(0))


def silu(x: Float32) -> Float32:
    """x · σ(x), also called swish."""
    return x * sigmoid(x)


def gelu(x: Float32) -> Float32:
    """x · Φ(x) with the exact normal distribution, not the tanh form."""
    return (0.5 * x * (1.0 + _erf(x.astype(np.float64) * math.sqrt(0.5)))).astype(np.float32)


ACTIVATIONS: Mapping[Activation, Callable[[Float32], Float32]] = {"relu": relu, "silu": silu, "gelu": gelu}


def sigmoid(x: Float32) -> Float32:
    """1 / (1 + e⁻ˣ), by the exponential of a negative number only: exp(−x) overflows below −88."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def _erf(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # the C library's: NumPy has none, and a reference should not bring its own polynomial
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)
