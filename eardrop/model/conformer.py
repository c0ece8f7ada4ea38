"""The audio encoder: a FastConformer and an adapter, as equations (Gulati et al. 2020; spec §5).

Shapes: T mel frames, R = ⌈T / 8⌉ rows of a clip, N rows of all clips together, D the width, H heads of d.
Several clips are encoded at once as packed rows; each comes out as it would alone.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from eardrop.model.positions import Positions
from eardrop.model.weights import (
    Adapter,
    ConformerLayer,
    ConvModule,
    Encoder,
    FeedForward,
    Linear,
    Norm,
    RelAttention,
    Subsampler,
    to_half,
)
from eardrop.ops import Activation, Array, Int32, grouped, halved, ragged, tap
from eardrop.ops.backend import Backend

FRAMES = 8  # of mel, that become a row
EPSILON = 1e-5  # of every norm; the file states it and no reader believes anything else


def encode(w: Encoder, mels: Sequence[Array], ops: Backend, *, half_input: bool = False) -> tuple[Array, Int32]:
    """Encode clips.

    mels        (T, M) each, from `ops.log_mel`
    half_input  round the input and the kernel of the first convolution to float16, as llama.cpp does
    returns     (N, n_embd) rows for the decoder, one per 80 ms, and their offsets
    """
    offsets = ragged(*(len(mel) for mel in mels))
    packed = mels[0] if len(mels) == 1 else ops.concatenate(mels)
    if half_input:
        packed = ops.upload(to_half(ops.download(packed)))
    with ops.ahead():
        x, offsets = subsample(w.subsampler, packed.reshape(*packed.shape, 1), offsets, ops, half_input)
        for index, layer in enumerate(w.layers):
            x = conformer_layer(layer, x, w.positions, offsets, ops, f"conformer.layers.{index}")
        return tap("audio_adapter", adapter(w.adapter, x, ops)), offsets


def subsample(w: Subsampler, mel: Array, offsets: Int32, ops: Backend, half_input: bool) -> tuple[Array, Int32]:
    """Packed mel frames (N, M, 1) → (N', D), time ÷ 8, and the new offsets.

    Some clips at a time, and long ones in pieces: between the convolutions a frame of 128 mel takes 40 kB, ten times
    what it takes later.
    """
    bounds, rows = offsets.tolist(), list[Array]()
    for clips in grouped(np.diff(offsets).tolist(), ops.together_frames):
        begin, end = bounds[clips.start], bounds[clips.stop]
        if end - begin <= ops.together_frames:
            inside = offsets[clips.start : clips.stop + 1] - np.int32(begin)
            rows.append(_subsample(w, mel[begin:end], inside, ops, half_input))
        else:
            rows += (
                _subsample(w, mel[start:behind], ragged(behind - start), ops, half_input)[early:]
                for start, behind, early in _pieces(begin, end, ops.together_frames)
            )
    x = rows[0] if len(rows) == 1 else ops.concatenate(rows)
    return tap("conformer.pre_encode", x), halved(halved(halved(offsets)))


def _pieces(begin: int, end: int, most: int) -> Iterator[tuple[int, int, int]]:
    """A clip's frames in pieces of about the same size: the first, the one behind the last, rows to leave out.

    A row sees frames of the one before it: a piece within a clip begins a row early, and leaves that row out.
    """
    count = -(-(end - begin) // most)
    bounds = [begin + (end - begin) * i // (FRAMES * count) * FRAMES for i in range(count)]
    for first, behind in itertools.pairwise((*bounds, end)):
        early = int(first > begin)
        yield first - FRAMES * early, behind, early


def _subsample(w: Subsampler, mel: Array, offsets: Int32, ops: Backend, half_input: bool) -> Array:
    first = w.first_half if half_input else w.first
    x = ops.conv2d(mel, offsets, first.weight, first.bias, "relu")
    for kernel, pointwise in ((w.second, w.second_pointwise), (w.third, w.third_pointwise)):
        offsets = halved(offsets)
        x = ops.conv2d(x, offsets, kernel.weight, kernel.bias)
        x = linear(pointwise, x.reshape(-1, x.shape[2]), ops, "relu").reshape(*x.shape)
    return linear(w.out, ops.flatten(x), ops)


def conformer_layer(
    w: ConformerLayer, x: Array, positions: Positions, offsets: Int32, ops: Backend, name: str
) -> Array:
    """Equation 1 of the paper: half a feed-forward, attention, convolution, half a feed-forward, norm."""
    x = ops.add(x, tap(f"{name}.feed_forward1", feed_forward(w.ffn1, norm(w.norm_ffn1, x, ops), ops)), 0.5)
    x = ops.add(
        x, tap(f"{name}.self_attn", attention(w.attention, norm(w.norm_attention, x, ops), positions, offsets, ops))
    )
    x = ops.add(x, tap(f"{name}.conv", convolution(w.convolution, norm(w.norm_convolution, x, ops), offsets, ops)))
    x = ops.add(x, tap(f"{name}.feed_forward2", feed_forward(w.ffn2, norm(w.norm_ffn2, x, ops), ops)), 0.5)
    return tap(name, norm(w.norm_out, x, ops))


def feed_forward(w: FeedForward, x: Array, ops: Backend) -> Array:
    """down(silu(up(x)))."""
    return linear(w.down, linear(w.up, x, ops, "silu"), ops)


def attention(w: RelAttention, x: Array, positions: Positions, offsets: Int32, ops: Backend) -> Array:
    """Every row of a clip attends to every row of it, by content and by distance."""
    heads, d = w.bias_u.shape
    q, k, v = (linear(part, x, ops).reshape(-1, heads, d) for part in (w.q, w.k, w.v))
    p = positions.of(w.position, int(np.diff(offsets).max()), ops).reshape(-1, heads, d)
    heard = ops.rel_attention(q, k, v, p, w.bias_u, w.bias_v, offsets)
    return linear(w.out, heard.reshape(-1, heads * d), ops)


def convolution(w: ConvModule, x: Array, offsets: Int32, ops: Backend) -> Array:
    """Gate, convolve over time within each clip, activate, project back."""
    gated = ops.glu(linear(w.expand, x, ops))
    mixed, _ = ops.short_conv(gated, w.taps, offsets, bias=w.bias, activation="silu")
    return linear(w.contract, mixed, ops)


def adapter(w: Adapter, x: Array, ops: Backend) -> Array:
    """Rows of the encoder → rows of the decoder."""
    return linear(w.project, linear(w.widen, norm(w.norm, x, ops), ops, "gelu"), ops)


def linear(w: Linear, x: Array, ops: Backend, activation: Activation | None = None) -> Array:
    """f(x · wᵀ + bias)."""
    return ops.linear(x, w.w, w.bias, activation)


def norm(w: Norm, x: Array, ops: Backend) -> Array:
    """Layer norm."""
    return ops.layer_norm(x, w.weight, w.bias, EPSILON)
