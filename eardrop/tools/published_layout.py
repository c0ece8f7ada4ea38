"""The published layout, tensor by tensor: its name in the checkpoint and in GGUF, its shapes (spec §3.1).

Shapes are names of sizes and numbers, separated by spaces. Of the text model:

    V tokens   D width   KV width of keys and values   d of a head   F feed-forward   K taps

and of the encoder, its adapter and two tables of speech output:

    C channels   CB channels × bands   E width   G feed-forward   H heads   e of a head   T taps   A adapter
    P, L codes of sound
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """One tensor's way.

    shape    in the checkpoint
    becomes  the shape in GGUF, where it is another: the same values, without axes of one, or with more of them
    """

    source: str
    target: str
    shape: str
    becomes: str = ""

    def under(self, source: str, target: str) -> "Row":
        """The same tensor of one layer."""
        return replace(self, source=source + self.source, target=target + self.target)


def _linear(source: str, target: str, shape: str) -> tuple[Row, Row]:
    """A matrix (out, in) and its bias."""
    return Row(f"{source}.weight", f"{target}.weight", shape), Row(f"{source}.bias", f"{target}.bias", shape.split()[0])


def _norm(source: str, target: str) -> tuple[Row, Row]:
    return _linear(source, target, "E")


def _conv2d(index: int, shape: str) -> tuple[Row, Row]:
    source, target = f"conformer.pre_encode.conv.{index}", f"a.conv1d.{index}"
    return Row(f"{source}.weight", f"{target}.weight", shape), Row(f"{source}.bias", f"{target}.bias", "C", "C 1 1")


_TEXT = (
    Row("lfm.embed_tokens.weight", "token_embd.weight", "V D"),
    Row("lfm.embedding_norm.weight", "token_embd_norm.weight", "D"),  # behind the last layer, despite both names
)
_TEXT_LAYER = (
    Row("operator_norm.weight", "attn_norm.weight", "D"),
    Row("ffn_norm.weight", "ffn_norm.weight", "D"),
    Row("feed_forward.w1.weight", "ffn_gate.weight", "F D"),
    Row("feed_forward.w3.weight", "ffn_up.weight", "F D"),
    Row("feed_forward.w2.weight", "ffn_down.weight", "D F"),
)
MIXERS = {
    "full_attention": (
        Row("self_attn.q_proj.weight", "attn_q.weight", "D D"),
        Row("self_attn.k_proj.weight", "attn_k.weight", "KV D"),
        Row("self_attn.v_proj.weight", "attn_v.weight", "KV D"),
        Row("self_attn.out_proj.weight", "attn_output.weight", "D D"),
        Row("self_attn.q_layernorm.weight", "attn_q_norm.weight", "d"),
        Row("self_attn.k_layernorm.weight", "attn_k_norm.weight", "d"),
    ),
    "conv": (
        Row("conv.conv.weight", "shortconv.conv.weight", "D 1 K", "D K"),
        Row("conv.in_proj.weight", "shortconv.in_proj.weight", "3D D"),
        Row("conv.out_proj.weight", "shortconv.out_proj.weight", "D D"),
    ),
}
_AUDIO = (
    Row("audio_embedding.embedding.weight", "a.position_embd.weight", "P D"),  # of speech output; llama.cpp wants it
    Row("audio_embedding.embedding_norm.weight", "a.position_embd_norm.weight", "D"),
    Row("audio_embedding.to_logits.weight", "a.embd_to_logits.weight", "L D"),
    *_conv2d(0, "C 1 3 3"),
    *_conv2d(2, "C 1 3 3"),
    *_conv2d(3, "C C 1 1"),
    *_conv2d(5, "C 1 3 3"),
    *_conv2d(6, "C C 1 1"),
    *_linear("conformer.pre_encode.out", "a.pre_encode.out", "E CB"),
    *_norm("audio_adapter.model.0", "mm.a.mlp.0"),
    *_linear("audio_adapter.model.1", "mm.a.mlp.1", "A E"),
    *_linear("audio_adapter.model.3", "mm.a.mlp.3", "D A"),
)
_AUDIO_LAYER = (
    *_norm("norm_feed_forward1", "ffn_norm"),
    *_linear("feed_forward1.linear1", "ffn_up", "G E"),
    *_linear("feed_forward1.linear2", "ffn_down", "E G"),
    *_norm("norm_self_att", "ln1"),
    *_linear("self_attn.linear_q", "attn_q", "E E"),
    *_linear("self_attn.linear_k", "attn_k", "E E"),
    *_linear("self_attn.linear_v", "attn_v", "E E"),
    *_linear("self_attn.linear_out", "attn_out", "E E"),
    Row("self_attn.linear_pos.weight", "linear_pos.weight", "E E"),
    Row("self_attn.pos_bias_u", "pos_bias_u", "H e"),
    Row("self_attn.pos_bias_v", "pos_bias_v", "H e"),
    *_norm("norm_conv", "norm_conv"),
    Row("conv.pointwise_conv1.weight", "conv_pw1.weight", "2E E 1", "2E E"),
    Row("conv.pointwise_conv1.bias", "conv_pw1.bias", "2E"),
    Row("conv.depthwise_conv.weight", "conv_dw.weight", "E 1 T", "E T"),
    Row("conv.depthwise_conv.bias", "conv_dw.bias", "E"),
    Row("conv.pointwise_conv2.weight", "conv_pw2.weight", "E E 1", "E E"),
    Row("conv.pointwise_conv2.bias", "conv_pw2.bias", "E"),
    *_norm("norm_feed_forward2", "ffn_norm_1"),
    *_linear("feed_forward2.linear1", "ffn_up_1", "G E"),
    *_linear("feed_forward2.linear2", "ffn_down_1", "E G"),
    *_norm("norm_out", "ln2"),
)
_BATCH_NORM = (
    Row("conv.batch_norm.weight", "", "E"),
    Row("conv.batch_norm.bias", "", "E"),
    Row("conv.batch_norm.running_mean", "", "E"),
    Row("conv.batch_norm.running_var", "", "E"),
)  # four that become two, a factor and an offset

# What speaks, what trains, and a counter: no part of recognition.
_DROPPED = ("codebook_offsets", "audio_loss_weights", "depth_linear.", "depth_embeddings.", "depthformer.")
_COUNTER = ".batch_norm.num_batches_tracked"


def is_dropped(name: str) -> bool:
    """Whether a tensor of the checkpoint has no place in the GGUF files."""
    return name.startswith(_DROPPED) or name.endswith(_COUNTER)


def text_rows(mixers: list[str]) -> Iterator[Row]:
    """The text model's, whose layers are of these kinds."""
    yield from _TEXT
    for layer, kind in enumerate(mixers):
        for row in (*_TEXT_LAYER, *MIXERS[kind]):
            yield row.under(f"lfm.layers.{layer}.", f"blk.{layer}.")


def audio_rows(layers: int) -> Iterator[Row]:
    """The projector's that are moved as they are."""
    yield from _AUDIO
    for layer in range(layers):
        for row in _AUDIO_LAYER:
            yield row.under(f"conformer.layers.{layer}.", f"a.blk.{layer}.")


def batch_norm_rows(layer: int) -> list[Row]:
    """The four of one layer that are folded."""
    return [row.under(f"conformer.layers.{layer}.", "") for row in _BATCH_NORM]


def sized(shape: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape of the tables as numbers."""
    return tuple(int(name) if name.isdigit() else sizes[name] for name in shape.split())
