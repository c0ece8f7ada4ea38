"""The short depthwise convolution of every size and kind in these networks (spec §9).

kernel  context              gates  behind it        where
3       causal, with state   yes    –                LFM2's mixer
4       causal, with state   no     + bias, silu     Mamba's
9       centred              no     + bias, silu     the conformer (its batch norm folded into taps and bias)
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from eardrop.ops.activations import Activation, activated
from eardrop.ops.record import SUMMED, Arithmetic, Case, Cost, Float32, Int32, Op, normal, ragged, spans


def reference(
    x: Float32,
    taps: Float32,
    offsets: Int32,
    bias: Float32 | None = None,
    activation: Activation | None = None,
    state: Float32 | None = None,
    slots: Int32 | None = None,
) -> tuple[Float32, Float32]:
    """y[t] = Σₖ taps[k] · u[t + k − left], channel by channel, each sequence by itself.

    x        (N, C): u = x;  or (N, 3·C), cut into B, C, X: u = B · X, and y is multiplied by C
    taps     (K, C), oldest first
    state    (S, K − 1, C): causal. left = K − 1, and before a sequence stand its slot's values, the u of the rows
             before; afterwards the slot holds the last K − 1 u. None: centred. left = (K − 1) // 2, zeros around
    slots    (B,) the slot of each sequence, with a state
    returns  y (N, C), + bias (C,) where given, then the activation; and u (N, C), from which a state can be cut
             back (`Streams.keep`)
    """
    channels, gate = taps.shape[1], None
    if x.shape[1] == 3 * channels:
        before, gate, x = np.split(x, 3, axis=1)
        x = before * x
    y = np.empty_like(x)
    for index, rows in enumerate(spans(offsets)):
        if state is None or slots is None:
            left = (len(taps) - 1) // 2
            seen = np.pad(x[rows], ((left, len(taps) - 1 - left), (0, 0)))
        else:
            seen = np.concatenate([state[slots[index]], x[rows]])
            state[slots[index]] = seen[len(seen) - len(taps) + 1 :]
        y[rows] = sum(seen[k : k + rows.stop - rows.start] * tap for k, tap in enumerate(taps))
    y = y if bias is None else y + bias
    y = activated(y, activation)
    return (y if gate is None else gate * y), x


def cases(rng: "np.random.Generator") -> Iterator[Case]:
    """Every kind and several sizes; sequences shorter than the state; the lengths where tilings end."""
    for taps in (2, 3, 4, 5, 9):
        for lengths in ((1,), (1, 7, 130), (31, 32, 33)):
            channels = 48 if taps % 2 else 37
            yield Case(f"centred {taps} {lengths}", _centred(rng, taps, channels, lengths))
            for gates in (1, 3):
                yield Case(f"causal {taps} {lengths} x{gates}", _causal(rng, taps, channels, lengths, gates))


def _centred(rng: "np.random.Generator", taps: int, channels: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    return {
        "x": normal(rng, sum(lengths), channels),
        "taps": normal(rng, taps, channels),
        "offsets": ragged(*lengths),
        "bias": normal(rng, channels),
        "activation": "silu",
    }


def _causal(
    rng: "np.random.Generator", taps: int, channels: int, lengths: tuple[int, ...], gates: int
) -> dict[str, Any]:
    return {
        "x": normal(rng, sum(lengths), gates * channels),
        "taps": normal(rng, taps, channels),
        "offsets": ragged(*lengths),
        "bias": normal(rng, channels) if gates == 1 else None,
        "activation": "silu" if gates == 1 else None,
        "state": normal(rng, len(lengths) + 1, taps - 1, channels),
        "slots": np.arange(len(lengths), 0, -1, dtype=np.int32),
    }


def cost(
    x: Float32,
    taps: Float32,
    offsets: Int32,
    bias: Float32 | None = None,
    activation: Activation | None = None,
    state: Float32 | None = None,
    slots: Int32 | None = None,
) -> Cost:
    """K products an output; inputs and outputs once."""
    size = len(x) * taps.shape[1]
    return Cost(2.0 * size * len(taps), 4.0 * (x.size + 2 * size))


SHORT_CONV = Op("short_conv", reference, cases, dict.fromkeys(Arithmetic, SUMMED), cost, changes=("state",))
