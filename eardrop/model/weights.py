"""The networks' weights: every GGUF name stands here once, and every re-layout is done here (spec §2.2, §3.0b).

Matrices keep their blocks and become a backend's `Weight`; norms, biases and small kernels become float32 arrays.
Tensors that recognition doesn't need are never touched. A missing or misshapen one is named, with what was
expected and found.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from eardrop.gguf import GgufFile, GgufTensor
from eardrop.model.positions import Positions
from eardrop.model.shape import SUBSAMPLING, AttentionShape, DecoderShape, EncoderShape, ShortConvShape
from eardrop.ops.backend import Backend, Weight, floats
from eardrop.ops.record import Array, Float32

Progress: TypeAlias = Callable[[str], None]  # told each tensor's name as it is taken


@dataclass(frozen=True)
class Linear:
    """y = x · wᵀ + bias; w (out, in)."""

    w: Weight
    bias: Array


@dataclass(frozen=True)
class Norm:
    """A layer norm's factor and offset."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Kernel:
    """A 3 × 3 kernel for each channel, (C, 3, 3), and a bias, (C,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Subsampler:
    """Three strided convolutions with pointwise linears between, and the linear into the encoder."""

    first: Kernel
    first_half: Kernel  # `first` rounded to float16, for llama.cpp's dialect
    second: Kernel
    second_pointwise: Linear
    third: Kernel
    third_pointwise: Linear
    out: Linear


@dataclass(frozen=True)
class FeedForward:
    """The encoder's: down(silu(up(x)))."""

    up: Linear
    down: Linear


@dataclass(frozen=True)
class RelAttention:
    """Self-attention with relative positions; u and v of Transformer-XL, (H, d)."""

    q: Linear
    k: Linear
    v: Linear
    out: Linear
    position: Weight
    bias_u: Array
    bias_v: Array


@dataclass(frozen=True)
class ConvModule:
    """Pointwise to a gate, depthwise over time with the batch norm folded in, pointwise back."""

    expand: Linear
    taps: Array  # (K, D)
    bias: Array
    contract: Linear


@dataclass(frozen=True)
class ConformerLayer:
    """One layer of the encoder."""

    norm_ffn1: Norm
    ffn1: FeedForward
    norm_attention: Norm
    attention: RelAttention
    norm_convolution: Norm
    convolution: ConvModule
    norm_ffn2: Norm
    ffn2: FeedForward
    norm_out: Norm


@dataclass(frozen=True)
class Adapter:
    """From the encoder's width to the decoder's."""

    norm: Norm
    widen: Linear
    project: Linear


@dataclass(frozen=True)
class Encoder:
    """The projector file."""

    shape: EncoderShape
    subsampler: Subsampler
    layers: tuple[ConformerLayer, ...]
    adapter: Adapter
    positions: Positions  # not in the file: what its weights make of distances


@dataclass(frozen=True)
class Attention:
    """Grouped-query attention, without biases; the norms are of one head's width."""

    shape: AttentionShape
    q: Weight
    k: Weight
    v: Weight
    out: Weight
    q_norm: Array
    k_norm: Array


@dataclass(frozen=True)
class ShortConv:
    """The gated convolution: into B, C, x, and out; taps (K, D), oldest first."""

    shape: ShortConvShape
    expand: Weight
    taps: Array
    contract: Weight


@dataclass(frozen=True)
class SwiGlu:
    """The decoder's feed-forward."""

    gate: Weight
    up: Weight
    down: Weight


@dataclass(frozen=True)
class DecoderLayer:
    """One layer of the decoder: a mixer and a feed-forward, each behind its norm."""

    norm_mixer: Array
    mixer: Attention | ShortConv
    norm_ffn: Array
    ffn: SwiGlu


@dataclass(frozen=True)
class Decoder:
    """The text file."""

    shape: DecoderShape
    embedding: Weight
    layers: tuple[DecoderLayer, ...]
    final_norm: Array
    head: Weight  # the embedding itself where it is tied


# Names that other converters gave: ours → theirs.
ALIASES = {
    "token_embd_norm.weight": "output_norm.weight",
    **{f"a.conv1d.{i}.{part}": f"conv1d.{i}.{part}" for i in (0, 2, 3, 5, 6) for part in ("weight", "bias")},
}


@dataclass(frozen=True)
class Tensors:
    """A file's tensors under a prefix, taken as what the networks need; each checked for its shape."""

    file: GgufFile
    backend: Backend
    taken: Progress
    prefix: str = ""

    def under(self, prefix: str) -> "Tensors":
        """The same with a longer prefix."""
        return replace(self, prefix=self.prefix + prefix)

    def tensor(self, name: str, *shape: int) -> GgufTensor:
        """The tensor of this name, or of its alias."""
        name = self.prefix + name
        self.taken(name)
        alias = ALIASES.get(name, name)
        return self.file.tensor(alias if name not in self.file.tensors and alias in self.file.tensors else name, shape)

    def matrix(self, name: str, rows: int, columns: int) -> Weight:
        """A matrix without a bias."""
        return self.backend.weight(self.tensor(name + ".weight", rows, columns))

    def array(self, name: str, *shape: int) -> Array:
        """A small tensor as float32."""
        return floats(self.backend, self.tensor(name, *shape))

    def linear(self, name: str, out: int, in_: int) -> Linear:
        """A matrix and its bias."""
        return Linear(self.matrix(name, out, in_), self.array(name + ".bias", out))

    def norm(self, name: str, width: int) -> Norm:
        """A layer norm."""
        return Norm(self.array(name + ".weight", width), self.array(name + ".bias", width))

    def kernel(self, name: str, channels: int, round_: Callable[[Float32], Float32] = lambda x: x) -> Kernel:
        """A 3 × 3 kernel, its values passed through `round_`."""
        values = self.tensor(name + ".weight", channels, 1, 3, 3).dequantize().reshape(channels, 3, 3)
        bias = self.tensor(name + ".bias", channels, 1, 1).dequantize().reshape(channels)
        return Kernel(self.backend.upload(round_(values)), self.backend.upload(bias))

    def pointwise(self, name: str, channels: int) -> Linear:
        """A 1 × 1 convolution: a linear over the channels."""
        tensor = self.tensor(name + ".weight", channels, channels, 1, 1)
        bias = self.tensor(name + ".bias", channels, 1, 1).dequantize().reshape(channels)
        matrix = replace(tensor, shape=(channels, channels), raw=tensor.raw.reshape(channels, -1))
        return Linear(self.backend.weight(matrix), self.backend.upload(bias))


def to_half(x: Float32) -> Float32:
    """Rounded to float16 and back: what llama.cpp's first convolution does to its input and its kernel."""
    return x.astype(np.float16).astype(np.float32)


def _untold(name: str) -> None:
    """Nobody wants to know."""


def load_encoder(file: GgufFile, shape: EncoderShape, backend: Backend, taken: Progress = _untold) -> Encoder:
    """The encoder and adapter of a projector file."""
    t = Tensors(file, backend, taken)
    return Encoder(
        shape,
        _subsampler(t.under("a."), shape),
        tuple(_conformer_layer(t.under(f"a.blk.{layer}."), shape) for layer in range(shape.layers)),
        Adapter(
            norm=t.norm("mm.a.mlp.0", shape.width),
            widen=t.linear("mm.a.mlp.1", shape.adapter, shape.width),
            project=t.linear("mm.a.mlp.3", shape.out, shape.adapter),
        ),
        Positions(shape.width),
    )


def _subsampler(t: Tensors, shape: EncoderShape) -> Subsampler:
    channels, bands = shape.channels, -(-shape.mels // SUBSAMPLING)
    return Subsampler(
        first=t.kernel("conv1d.0", channels),
        first_half=t.kernel("conv1d.0", channels, to_half),
        second=t.kernel("conv1d.2", channels),
        second_pointwise=t.pointwise("conv1d.3", channels),
        third=t.kernel("conv1d.5", channels),
        third_pointwise=t.pointwise("conv1d.6", channels),
        out=t.linear("pre_encode.out", shape.width, channels * bands),
    )


def _conformer_layer(t: Tensors, shape: EncoderShape) -> ConformerLayer:
    width = shape.width
    return ConformerLayer(
        norm_ffn1=t.norm("ffn_norm", width),
        ffn1=_feed_forward(t, "", shape),
        norm_attention=t.norm("ln1", width),
        attention=_rel_attention(t, shape),
        norm_convolution=t.norm("norm_conv", width),
        convolution=_conv_module(t, shape),
        norm_ffn2=t.norm("ffn_norm_1", width),
        ffn2=_feed_forward(t, "_1", shape),
        norm_out=t.norm("ln2", width),  # the layer's last step, despite its name
    )


def _feed_forward(t: Tensors, which: str, shape: EncoderShape) -> FeedForward:
    return FeedForward(
        up=t.linear(f"ffn_up{which}", shape.ffn, shape.width),
        down=t.linear(f"ffn_down{which}", shape.width, shape.ffn),
    )


def _rel_attention(t: Tensors, shape: EncoderShape) -> RelAttention:
    width = shape.width
    return RelAttention(
        q=t.linear("attn_q", width, width),
        k=t.linear("attn_k", width, width),
        v=t.linear("attn_v", width, width),
        out=t.linear("attn_out", width, width),
        position=t.matrix("linear_pos", width, width),
        bias_u=t.array("pos_bias_u", shape.heads, shape.head_width),
        bias_v=t.array("pos_bias_v", shape.heads, shape.head_width),
    )


def _conv_module(t: Tensors, shape: EncoderShape) -> ConvModule:
    """The batch norm, a factor and an offset in the file, is folded into the kernel: (w·x + b)·a + c."""
    width = shape.width
    factor, offset = (t.tensor(f"conv_norm.{part}", width).dequantize() for part in ("weight", "bias"))
    taps = t.tensor("conv_dw.weight", width, shape.taps).dequantize()
    bias = t.tensor("conv_dw.bias", width).dequantize()
    return ConvModule(
        expand=t.linear("conv_pw1", 2 * width, width),
        taps=t.backend.upload(np.ascontiguousarray(taps.T) * factor),
        bias=t.backend.upload(bias * factor + offset),
        contract=t.linear("conv_pw2", width, width),
    )


def load_decoder(file: GgufFile, shape: DecoderShape, backend: Backend, taken: Progress = _untold) -> Decoder:
    """The decoder of a text file."""
    t, width = Tensors(file, backend, taken), shape.width
    embedding = t.matrix("token_embd", shape.vocabulary, width)
    untied = "output.weight" in file.tensors
    return Decoder(
        shape,
        embedding,
        tuple(_decoder_layer(t.under(f"blk.{layer}."), shape, layer) for layer in range(len(shape.mixers))),
        final_norm=t.array("token_embd_norm.weight", width),  # behind the last layer, despite its name
        head=t.matrix("output", shape.vocabulary, width) if untied else embedding,
    )


def load_layer(file: GgufFile, shape: DecoderShape, backend: Backend, layer: int) -> DecoderLayer:
    """One layer of the decoder of a text file, for those who want no more of it."""
    return _decoder_layer(Tensors(file, backend, _untold).under(f"blk.{layer}."), shape, layer)


def _decoder_layer(t: Tensors, shape: DecoderShape, layer: int) -> DecoderLayer:
    width, ffn, mixer = shape.width, shape.ffn, shape.mixers[layer]
    return DecoderLayer(
        norm_mixer=t.array("attn_norm.weight", width),
        mixer=_attention(t, mixer, width) if isinstance(mixer, AttentionShape) else _short_conv(t, mixer, width),
        norm_ffn=t.array("ffn_norm.weight", width),
        ffn=SwiGlu(
            gate=t.matrix("ffn_gate", ffn, width),
            up=t.matrix("ffn_up", ffn, width),
            down=t.matrix("ffn_down", width, ffn),
        ),
    )


def _attention(t: Tensors, shape: AttentionShape, width: int) -> Attention:
    rows = {"q": shape.heads * shape.head_width, **dict.fromkeys("kv", shape.kv_heads * shape.head_width)}
    if f"{t.prefix}attn_qkv.weight" in t.file.tensors:
        q, k, v = _cut(t.tensor("attn_qkv.weight", sum(rows.values()), width), rows)
    else:
        q, k, v = (t.tensor(f"attn_{name}.weight", count, width) for name, count in rows.items())
    return Attention(
        shape,
        q=t.backend.weight(q),
        k=t.backend.weight(k),
        v=t.backend.weight(v),
        out=t.matrix("attn_output", width, rows["q"]),
        q_norm=t.array("attn_q_norm.weight", shape.head_width),
        k_norm=t.array("attn_k_norm.weight", shape.head_width),
    )


def _cut(fused: GgufTensor, rows: dict[str, int]) -> list[GgufTensor]:
    """Queries, keys and values that one tensor holds, one below the other."""
    ends = np.cumsum(list(rows.values()))
    return [
        replace(fused, name=f"{fused.name}:{part}", shape=(count, fused.shape[1]), raw=fused.raw[end - count : end])
        for (part, count), end in zip(rows.items(), ends, strict=True)
    ]


def _short_conv(t: Tensors, shape: ShortConvShape, width: int) -> ShortConv:
    taps = t.tensor("shortconv.conv.weight", width, shape.taps).dequantize()
    return ShortConv(
        shape,
        expand=t.matrix("shortconv.in_proj", 3 * width, width),
        taps=t.backend.upload(np.ascontiguousarray(taps.T)),
        contract=t.matrix("shortconv.out_proj", width, width),
    )
