"""The subsampler's strided convolutions over (time, mel), channels last, and the flattening behind them.

A depthwise kernel (C input channels) and one from a single channel are the same sum: each output channel sees one
input channel. Clips are convolved apart: beyond a clip's ends stand zeros, whatever its neighbours hold.
"""

from collections.abc import Iterator

import numpy as np

from eardrop.ops.activations import Activation, activated
from eardrop.ops.record import EXACT, SUMMED, Arithmetic, Case, Cost, Float32, Int32, Op, normal, ragged, spans

STRIDE = 2


def halved(offsets: Int32) -> Int32:
    """The offsets behind one `conv2d`: every clip has half as many rows, rounded up."""
    return ragged(*(-(-np.diff(offsets) // STRIDE)))


def conv2d(x: Float32, offsets: Int32, weight: Float32, bias: Float32, activation: Activation | None = None) -> Float32:
    """Convolve with stride 2 in both directions and zeros around.

    x       (N, F, C) or (N, F, 1), weight (C, 3, 3) over (time, mel), not flipped; bias (C,)
    returns (N', ⌈F / 2⌉, C) of the rows `halved(offsets)`
    """
    return activated(np.concatenate([_convolved(x[rows], weight, bias) for rows in spans(offsets)]), activation)


def _convolved(clip: Float32, weight: Float32, bias: Float32) -> Float32:
    time, mel = weight.shape[1:]
    padded = np.pad(clip, ((time // 2,) * 2, (mel // 2,) * 2, (0, 0)))
    height, width = (-(-size // STRIDE) for size in clip.shape[:2])
    sums = np.zeros((height, width, len(weight)), np.float32)
    for i in range(time):
        for j in range(mel):
            sums += padded[i : i + STRIDE * height : STRIDE, j : j + STRIDE * width : STRIDE] * weight[:, i, j]
    return sums + bias


def flatten(x: Float32) -> Float32:
    """(N, F, C) → (N, C · F), channel-major: the order the checkpoint's next linear was trained with."""
    return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(len(x), -1)


def conv2d_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """Clips of one row; ragged batches; odd widths; from one channel and depthwise."""
    for lengths, f, c, channels, activation in (
        ((1,), 1, 1, 1, None),
        ((2,), 5, 1, 3, None),
        ((1, 7, 130), 8, 1, 16, "relu"),
        ((3, 1), 7, 5, 5, "silu"),
        ((1, 2), 2, 33, 33, "gelu"),
        ((33,), 64, 48, 48, None),
    ):
        yield Case(
            f"{lengths} {f}x{c}->{channels}",
            {
                "x": normal(rng, sum(lengths), f, c),
                "offsets": ragged(*lengths),
                "weight": normal(rng, channels, 3, 3),
                "bias": normal(rng, channels),
                "activation": activation,
            },
        )


def flatten_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """Sizes that can't be mistaken for each other."""
    for shape in ((1, 1, 1), (3, 2, 5), (7, 16, 48)):
        yield Case("x".join(map(str, shape)), {"x": normal(rng, *shape)})


def conv2d_cost(
    x: Float32, offsets: Int32, weight: Float32, bias: Float32, activation: Activation | None = None
) -> Cost:
    """Nine products an output."""
    size = halved(offsets)[-1] * -(-x.shape[1] // STRIDE) * len(weight)
    return Cost(2.0 * size * weight[0].size, 4.0 * (x.size + size))


CONV2D = Op("conv2d", conv2d, conv2d_cases, dict.fromkeys(Arithmetic, SUMMED), conv2d_cost)
FLATTEN = Op("flatten", flatten, flatten_cases, dict.fromkeys(Arithmetic, EXACT), lambda x: Cost(0.0, 8.0 * x.size))
