"""LFM2-Audio as torch modules, under the names of the published checkpoint (spec §5, §6, §3.1).

What eardrop/model writes as equations over packed rows stands here over padded batches that can be differentiated.
Shapes: B clips, T mel frames of the longest, R = ⌈T / 8⌉ rows, D the width, P rows of the longest prompt with its
answer. A CTC head on the encoder's rows, used in training alone, helps it learn to listen; its blank is <|pad|>.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5
ROPE_BASE = 1e6
TAPS = 9  # of the encoder's convolution; width, heads and taps are what llama.cpp assumes
WIDTH, HEADS = 512, 8


@dataclass(frozen=True)
class Shape:
    """The sizes that are ours to choose.

    layers  of the decoder, one letter each: c a short convolution, a attention
    """

    vocabulary: int
    mels: int = 128
    channels: int = 48
    encoder_layers: int = 4
    encoder_ffn: int = 1024
    adapter: int = 512
    width: int = 256
    ffn: int = 640
    heads: int = 4
    kv_heads: int = 2
    layers: str = "caca"
    taps: int = 3


def halved(lengths: Tensor) -> Tensor:
    """Frames after a stride of two."""
    return (lengths + 1) // 2


def mask(lengths: Tensor, longest: int) -> Tensor:
    """(B, longest) bool, true where a clip has a frame."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


class Subsampling(nn.Module):
    """Mel frames to rows, time ÷ 8; beyond a clip's end there are zeros before each stride."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        C = shape.channels
        self.conv = nn.ModuleDict(
            {
                "0": nn.Conv2d(1, C, 3, 2, 1),
                "2": nn.Conv2d(C, C, 3, 2, 1, groups=C),
                "3": nn.Conv2d(C, C, 1),
                "5": nn.Conv2d(C, C, 3, 2, 1, groups=C),
                "6": nn.Conv2d(C, C, 1),
            }
        )
        self.out = nn.Linear(C * -(-shape.mels // 8), WIDTH)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) → (B, R, D), and the lengths in rows."""
        x = functional.relu(self.conv["0"](mel[:, None].to(memory_format=torch.channels_last)))
        lengths = halved(lengths)
        for depthwise, pointwise in (("2", "3"), ("5", "6")):
            x = x * mask(lengths, x.shape[2])[:, None, :, None]
            with torch.autocast(x.device.type, enabled=False):  # backward in bfloat16 takes a processor 7 times as long
                x = self.conv[depthwise](x.float())
            x = functional.relu(self.conv[pointwise](x))
            lengths = halved(lengths)
        return self.out(x.transpose(1, 2).flatten(2)), lengths


class FeedForward(nn.Module):
    """The encoder's: down(silu(up(x)))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.linear1 = nn.Linear(WIDTH, shape.encoder_ffn)
        self.linear2 = nn.Linear(shape.encoder_ffn, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        return self.linear2(functional.silu(self.linear1(x)))


class RelAttention(nn.Module):
    """Self-attention by content and distance (Transformer-XL)."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
            self.add_module(name, nn.Linear(WIDTH, WIDTH))
        self.linear_pos = nn.Linear(WIDTH, WIDTH, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(HEADS, WIDTH // HEADS))
        self.pos_bias_v = nn.Parameter(torch.zeros(HEADS, WIDTH // HEADS))

    def forward(self, x: Tensor, positions: Tensor, hidden: Tensor) -> Tensor:
        """(B, R, D) → (B, R, D); positions (2R − 1, D); hidden (B, 1, 1, R), −∞ beyond a clip's end."""
        B, R, _ = x.shape
        d = WIDTH // HEADS
        q, k, v = (linear(x).view(B, R, HEADS, d) for linear in (self.linear_q, self.linear_k, self.linear_v))
        p = self.linear_pos(positions).view(2 * R - 1, HEADS, d)
        by_distance = torch.einsum("brhd,mhd->bhrm", q + self.pos_bias_v, p)
        # row i of the result is the row of distances shifted by i: pad, refold, cut
        by_distance = functional.pad(by_distance, (1, 0)).view(B, HEADS, 2 * R, R)[:, :, 1:]
        by_distance = by_distance.reshape(B, HEADS, R, 2 * R - 1)[..., :R]
        bias = by_distance * d**-0.5 + hidden
        q, k, v = ((q + self.pos_bias_u).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        heard = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.linear_out(heard.transpose(1, 2).reshape(B, R, WIDTH))


class MaskedBatchNorm(nn.BatchNorm1d):
    """A batch norm over the rows that are there."""

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """(B, R, D) and (B, R) bool → (B, R, D), zero where nothing is."""
        assert there is not None
        normed = torch.zeros_like(x)
        normed[there] = super().forward(x[there]).to(x.dtype)
        return normed


class ConvModule(nn.Module):
    """Gate, convolve over time, norm, activate, project."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.depthwise_conv = nn.Conv1d(WIDTH, WIDTH, TAPS, padding=TAPS // 2, groups=WIDTH)
        self.batch_norm = MaskedBatchNorm(WIDTH, eps=EPSILON)
        self.pointwise_conv2 = nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(B, R, D) → (B, R, D)."""
        gated = functional.glu(functional.linear(x, self.pointwise_conv1.weight[..., 0], self.pointwise_conv1.bias))
        mixed = self.depthwise_conv((gated * there[..., None]).transpose(1, 2)).transpose(1, 2)
        mixed = functional.silu(self.batch_norm(mixed, there))
        return functional.linear(mixed, self.pointwise_conv2.weight[..., 0], self.pointwise_conv2.bias)


class ConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        for name in ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out"):
            self.add_module(name, nn.LayerNorm(WIDTH, eps=EPSILON))
        self.feed_forward1 = FeedForward(shape)
        self.self_attn = RelAttention()
        self.conv = ConvModule()
        self.feed_forward2 = FeedForward(shape)

    def forward(self, x: Tensor, positions: Tensor, there: Tensor, hidden: Tensor) -> Tensor:
        """(B, R, D) → (B, R, D)."""
        x = x + 0.5 * self.feed_forward1(self.norm_feed_forward1(x))
        x = x + self.self_attn(self.norm_self_att(x), positions, hidden)
        x = x + self.conv(self.norm_conv(x), there)
        x = x + 0.5 * self.feed_forward2(self.norm_feed_forward2(x))
        return self.norm_out(x)


class Conformer(nn.Module):
    """The encoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.pre_encode = Subsampling(shape)
        self.layers = nn.ModuleList(ConformerLayer(shape) for _ in range(shape.encoder_layers))

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) → (B, R, 512), and the lengths in rows."""
        x, rows = self.pre_encode(mel, lengths)
        there = mask(rows, x.shape[1])
        hidden = torch.zeros(there.shape, device=x.device).masked_fill(~there, -torch.inf)[:, None, None]
        positions = relative_positions(x.shape[1], x.device)
        for layer in self.layers:
            x = layer(x, positions, there, hidden)
        return x, rows


OUTWARD = ("feed_forward1.linear2", "self_attn.linear_out", "conv.pointwise_conv2", "feed_forward2.linear2")


def deepened(weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of half as many encoder layers as `fresh` has, and behind each one of `fresh` that changes nothing.

    What a new layer adds to its input is zero, and it takes over the last norm of the layer before it, which keeps a
    plain one: to norm once more what is normed leaves it as it is.
    """
    layer = re.compile(r"conformer\.layers\.(\d+)\.(.+)")
    kept = {layer.sub(lambda found: f"conformer.layers.{2 * int(found[1])}.{found[2]}", name): value.clone()
            for name, value in weights.items()}  # fmt: skip
    for name, value in fresh.items():
        found = layer.fullmatch(name)
        if found and int(found[1]) % 2:
            kept[name] = torch.zeros_like(value) if found[2].startswith(OUTWARD) else value.clone()
            if found[2].startswith("norm_out."):
                before = f"conformer.layers.{int(found[1]) - 1}.{found[2]}"
                kept[name], kept[before] = kept[before], value.clone()
    return kept


def relative_positions(rows: int, device: torch.device) -> Tensor:
    """(2R − 1, 512): row m is the distance R − 1 − m as sines (even columns) and cosines (odd)."""
    distance = torch.arange(rows - 1, -rows, -1, device=device, dtype=torch.float32)[:, None]
    steps = torch.arange(0, WIDTH, 2, device=device, dtype=torch.float32)
    angles = distance * torch.exp(steps * (-torch.log(torch.tensor(10_000.0)).item() / WIDTH))
    return torch.stack([angles.sin(), angles.cos()], dim=2).view(2 * rows - 1, WIDTH)


class Adapter(nn.Module):
    """The encoder's rows to the decoder's."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.LayerNorm(WIDTH, eps=EPSILON),
            nn.Linear(WIDTH, shape.adapter),
            nn.GELU(),
            nn.Linear(shape.adapter, shape.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, R, 512) → (B, R, D)."""
        rows: Tensor = self.model(x)
        return rows


class RmsNorm(nn.RMSNorm):
    """The decoder's norm, in float32 whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        return super().forward(x.float())


class Attention(nn.Module):
    """Grouped-query attention with normed heads and rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.d = shape.heads, shape.kv_heads, shape.width // shape.heads
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, self.kv_heads * self.d, bias=False)
        self.v_proj = nn.Linear(shape.width, self.kv_heads * self.d, bias=False)
        self.out_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.q_layernorm = RmsNorm(self.d, eps=EPSILON)
        self.k_layernorm = RmsNorm(self.d, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, D) → (B, P, D), each row attending to those so far."""
        B, P, D = x.shape
        q = _rotated(self.q_layernorm(self.q_proj(x).view(B, P, self.heads, self.d)))
        k = _rotated(self.k_layernorm(self.k_proj(x).view(B, P, self.kv_heads, self.d)))
        v = self.v_proj(x).view(B, P, self.kv_heads, self.d)
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=2) for part in (k, v))
        q, k, v = (part.transpose(1, 2).to(x.dtype) for part in (q, k, v))
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(seen.transpose(1, 2).reshape(B, P, D))


def _rotated(x: Tensor) -> Tensor:
    """Rotary positions, halves together (NEOX)."""
    half = x.shape[-1] // 2
    speeds = ROPE_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)[:, None] * speeds
    sine, cosine = angles.sin()[:, None].to(x.dtype), angles.cos()[:, None].to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


class ShortConv(nn.Module):
    """C · conv(B · x), each row from itself and those before it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.in_proj = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.conv = nn.Conv1d(shape.width, shape.width, shape.taps, groups=shape.width, bias=False)
        self.out_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, D) → (B, P, D)."""
        b, c, x = self.in_proj(x).chunk(3, dim=-1)
        gated, taps = b * x, self.conv.weight[:, 0]
        before = functional.pad(gated, (0, 0, taps.shape[1] - 1, 0))
        P = gated.shape[1]
        mixed = sum(before[:, tap : tap + P] * taps[:, tap] for tap in range(taps.shape[1]))
        return self.out_proj(c * mixed)


class SwiGlu(nn.Module):
    """The decoder's feed-forward: w2(silu(w1 x) · w3 x)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.width, shape.ffn, bias=False)
        self.w3 = nn.Linear(shape.width, shape.ffn, bias=False)
        self.w2 = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        return self.w2(functional.silu(self.w1(x)) * self.w3(x))


class DecoderLayer(nn.Module):
    """A mixer and a feed-forward, each behind its norm."""

    def __init__(self, shape: Shape, letter: str) -> None:
        super().__init__()
        self.operator_norm = RmsNorm(shape.width, eps=EPSILON)
        self.ffn_norm = RmsNorm(shape.width, eps=EPSILON)
        self.mixer = {"c": "conv", "a": "self_attn"}[letter]
        self.add_module(self.mixer, ShortConv(shape) if letter == "c" else Attention(shape))
        self.feed_forward = SwiGlu(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, D) → (B, P, D)."""
        x = x + getattr(self, self.mixer)(self.operator_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Lfm(nn.Module):
    """The decoder; its head is its embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape, letter) for letter in shape.layers)
        self.embedding_norm = RmsNorm(shape.width, eps=EPSILON)

    def forward(self, x: Tensor, wanted: Tensor) -> Tensor:
        """(B, P, D), and (B, P) bool with n true → logits (n, V)."""
        for layer in self.layers:
            x = layer(x)
        return functional.linear(self.embedding_norm(x[wanted]), self.embed_tokens.weight)


class Lfm2Audio(nn.Module):
    """The model, and the CTC head that trains with it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.conformer = Conformer(shape)
        self.audio_adapter = Adapter(shape)
        self.lfm = Lfm(shape)
        self.ctc = nn.Linear(WIDTH, shape.vocabulary)
        self.apply(_initialised)

    def encode(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) → (B, R, 512), and the lengths in rows."""
        heard: tuple[Tensor, Tensor] = self.conformer(mel, lengths)
        return heard

    def answer(self, heard: Tensor, tokens: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        """The logits (n, V) of the rows that are wanted.

        heard   (B, R, 512)
        tokens  (N,) ids of all prompts and answers, one after the other
        places  (B, P) of each row of each prompt among those tokens and, behind them, all rows of `heard`
        wanted  (B, P) bool, n true
        """
        rows = self.audio_adapter(heard)
        embedded = self.lfm.embed_tokens(tokens).to(rows.dtype)
        all_rows = torch.cat([embedded, rows.flatten(0, 1)])
        logits: Tensor = self.lfm(functional.embedding(places, all_rows), wanted)
        return logits


def _initialised(module: nn.Module) -> None:
    """Small and even, as both parents of the model begin."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)
