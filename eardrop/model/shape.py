"""The facts of a pair of files: read once, checked against the tensors, never defaulted.

Where metadata is known to lie, the tensors decide (spec §2.2, traps 1 to 7): the feed-forward widths, the kinds of
the layers, the key/value heads, the kernel size. What a file leaves out and llama.cpp would guess wrongly is noted.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from eardrop.errors import ModelFileError
from eardrop.gguf import GgufFile
from eardrop.printable import printable

MOST_LAYERS = 1024  # of hostile files; the real decoder has 16, the encoder 17


@dataclass(frozen=True)
class AttentionShape:
    """A layer that attends: query heads that share key/value heads."""

    heads: int
    kv_heads: int
    head_width: int


@dataclass(frozen=True)
class ShortConvShape:
    """A layer that convolves."""

    taps: int


MixerShape: TypeAlias = AttentionShape | ShortConvShape


@dataclass(frozen=True)
class DecoderShape:
    """The text model."""

    width: int
    ffn: int
    vocabulary: int
    mixers: tuple[MixerShape, ...]  # one per layer
    rope_base: float
    epsilon: float
    context: int  # rows, prompt and answer together
    notes: tuple[str, ...] = ()  # what the file left out, for people to see


@dataclass(frozen=True)
class EncoderShape:
    """The audio encoder and its adapter."""

    mels: int
    channels: int  # of the subsampler
    width: int
    heads: int
    ffn: int
    taps: int  # of the convolution module
    layers: int
    adapter: int  # width between the adapter's two linears
    out: int  # width of the decoder it speaks to

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


SUBSAMPLING = 8  # mel frames to one encoder row, and mel bins to one of its bands: three strides of two


def _fail(file: GgufFile, message: str) -> ModelFileError:
    return ModelFileError(f"{printable(str(file.path))}: {message}; re-download or re-convert the file")


def _size(file: GgufFile, name: str, axis: int, dimensions: int = 2) -> int:
    """One dimension of a tensor that decides a width."""
    shape = file.tensor(name).shape
    if len(shape) != dimensions or 0 in shape:
        raise _fail(file, f"tensor {name} has the shape {shape}, expected {dimensions} dimensions, none of them 0")
    return shape[axis]


def _divided(file: GgufFile, what: str, whole: int, parts: int) -> int:
    if parts < 1 or whole % parts:
        raise _fail(file, f"{what} {whole} can't be divided into {parts} heads")
    return whole // parts


def decoder_shape(file: GgufFile) -> DecoderShape:
    """The text model's facts.

    Raises ModelFileError where a key or tensor is missing or contradicts another.
    """
    layers = _layers(file, "lfm2.block_count")
    width, vocabulary = _size(file, "token_embd.weight", 1), _size(file, "token_embd.weight", 0)
    stated = file.fact("lfm2.embedding_length", int)
    if stated != width:
        raise _fail(file, f"lfm2.embedding_length is {stated}, but token_embd.weight is {width} wide")
    _refuse_windows(file)
    notes = []
    base = file.fact("lfm2.rope.freq_base", float, 0.0)
    if base <= 0 or not np.isfinite(base):
        notes.append("lfm2.rope.freq_base is missing; taking the published 1,000,000, not llama.cpp's 10,000")
        base = 1e6
    return DecoderShape(
        width=width,
        ffn=_size(file, "blk.0.ffn_gate.weight", 0),
        vocabulary=vocabulary,
        mixers=tuple(_mixer(file, layer, width) for layer in range(layers)),
        rope_base=base,
        epsilon=_epsilon(file, "lfm2.attention.layer_norm_rms_epsilon"),
        context=max(1, file.fact("lfm2.context_length", int)),
        notes=tuple(notes),
    )


def _layers(file: GgufFile, key: str) -> int:
    count = file.fact(key, int)
    if not 1 <= count <= min(MOST_LAYERS, len(file.tensors)):
        raise _fail(file, f"{key} is {count}, with {len(file.tensors)} tensors in the file")
    return count


def _epsilon(file: GgufFile, key: str) -> float:
    epsilon = file.fact(key, float)
    if not 0 < epsilon < 1:
        raise _fail(file, f"{key} is {epsilon}, expected a small positive number")
    return epsilon


def _refuse_windows(file: GgufFile) -> None:
    """Forms of attention that no published speech recogniser of this family has."""
    if file.fact("lfm2.attention.sliding_window", int, 0) or not file.fact("lfm2.attention.causal", bool, True):
        raise _fail(file, "has sliding or non-causal attention, which no text model of LFM2-Audio has")
    scaling = file.fact("lfm2.rope.scaling.type", str, "none")
    if scaling != "none":
        raise _fail(file, f"scales its rotary positions ({printable(scaling, most=40)}), which eardrop can't do")


def _mixer(file: GgufFile, layer: int, width: int) -> MixerShape:
    """What a layer is, by the tensors it has; the per-layer array of key/value heads must agree."""
    convolves = f"blk.{layer}.shortconv.conv.weight" in file.tensors
    stated = file.facts.get("lfm2.attention.head_count_kv")
    if isinstance(stated, np.ndarray) and (layer >= len(stated) or bool(stated[layer] > 0) is convolves):
        found = "none" if layer >= len(stated) else stated[layer]
        has = "a short convolution" if convolves else "no short convolution"
        raise _fail(file, f"lfm2.attention.head_count_kv has {found} for layer {layer}, which has {has}")
    if convolves:
        return _short_conv(file, layer)
    return _attention(file, layer, width)


def _short_conv(file: GgufFile, layer: int) -> ShortConvShape:
    name = f"blk.{layer}.shortconv.conv.weight"
    taps = _size(file, name, 1)
    if taps < 2:
        raise _fail(file, f"tensor {name} has {taps} tap, expected at least 2")
    return ShortConvShape(taps)


def _attention(file: GgufFile, layer: int, width: int) -> AttentionShape:
    heads = file.fact("lfm2.attention.head_count", int)
    head_width = file.fact("lfm2.attention.key_length", int, 0) or _divided(file, "the width", width, heads)
    if head_width < 2 or head_width % 2 or heads < 1 or heads > width:
        raise _fail(file, f"has {heads} heads of width {head_width}, expected at least one of an even width")
    fused = f"blk.{layer}.attn_qkv.weight"
    if fused in file.tensors:
        kv_width = (_size(file, fused, 0) - heads * head_width) // 2
    else:
        kv_width = _size(file, f"blk.{layer}.attn_k.weight", 0)
    kv_heads = kv_width // head_width
    if kv_heads < 1 or kv_width % head_width or heads % kv_heads:
        raise _fail(file, f"layer {layer}: keys of width {kv_width} don't fit {heads} query heads of {head_width}")
    return AttentionShape(heads, kv_heads, head_width)


def encoder_shape(file: GgufFile) -> EncoderShape:
    """The projector's facts.

    Raises ModelFileError where a key or tensor is missing or contradicts another.
    """
    if not file.fact("clip.has_audio_encoder", bool, False):
        raise _fail(file, "clip.has_audio_encoder is not true: this projector hears nothing")
    width = _size(file, "a.pre_encode.out.weight", 0)
    heads = file.fact("clip.audio.attention.head_count", int)
    if _divided(file, "the encoder's width", width, heads) * heads != width or width % 2:
        raise _fail(file, f"the encoder's width is {width}, expected an even number")
    mels = file.fact("clip.audio.num_mel_bins", int)
    if not 1 <= mels <= 256:
        raise _fail(file, f"clip.audio.num_mel_bins is {mels}, expected 1 to 256")
    return EncoderShape(
        mels=mels,
        channels=_channels(file),
        width=width,
        heads=heads,
        ffn=_size(file, "a.blk.0.ffn_up.weight", 0),
        taps=_size(file, "a.blk.0.conv_dw.weight", 1),
        layers=_layers(file, "clip.audio.block_count"),
        adapter=_size(file, "mm.a.mlp.1.weight", 0),
        out=_size(file, "mm.a.mlp.3.weight", 0),
    )


def _channels(file: GgufFile) -> int:
    early = "conv1d.0.weight"  # files from before llama.cpp's names settled lack the prefix
    return _size(file, early if early in file.tensors else f"a.{early}", 0, dimensions=4)
