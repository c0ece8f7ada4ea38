"""Pairs of model files with random weights, from a seed: for tests, demonstrations and benchmarks.

A pair is what a real model is, a text model and its audio projector, in every particular that a loader looks at;
only its answers mean nothing. Small pairs are the same bytes everywhere, and their digests are written down here:
other engines were run on them, and what they computed is kept under these names.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eardrop.bench.random_weights import RandomWeight
from eardrop.errors import ModelFileError, OptionError
from eardrop.gguf import F32, BlockFormat, Fact, PlannedTensor, Value, file_bytes, write_gguf
from eardrop.gguf.mixes import MIXES, Mix, choose

ENCODER_WIDTH, ENCODER_HEADS, ENCODER_TAPS = 512, 8, 9  # of every model of this family


def _every(place: int, count: int) -> bool:
    return True


def _odd(place: int, count: int) -> bool:
    return place % 2 == 1


@dataclass(frozen=True)
class TextShape:
    """The decoder of a pair.

    layers  one letter each: c a short convolution, a attention
    mix     which weight has which format
    """

    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    layers: str
    seed: int = 0
    mix: Mix = MIXES["F16"]
    vocabulary: int = 960
    context: int = 32768
    rope_base: float = 1e6
    taps: int = 3


@dataclass(frozen=True)
class AudioShape:
    """The encoder and adapter of a pair, and the size of two tables for speech output that real files carry, too.

    mix  all of its matrices have the format that most weights have
    """

    layers: int
    feed_forward: int
    channels: int
    adapter: int
    positions: int
    seed: int
    mix: Mix
    sha256: str = ""
    codes: int = 64
    mel_bins: int = 128


@dataclass(frozen=True)
class Pair:
    """A text model and its projector; the digest of the text file is empty where nobody has written it down."""

    name: str
    text: TextShape
    audio: AudioShape
    sha256: str = ""


_MICRO = TextShape(width=128, feed_forward=192, heads=4, kv_heads=2, layers="caca")
_MINI = TextShape(width=256, feed_forward=512, heads=8, kv_heads=2, layers="ccacac")
_MICRO_F16 = AudioShape(
    layers=1, feed_forward=64, channels=16, adapter=128, positions=1536, seed=201, mix=MIXES["F16"],
    sha256="d759b334e763451877e57c6c97fb150d6fede519ce3f70af03b2f4eb8bb9edfa",
)  # fmt: skip
_MICRO_Q8_0 = replace(
    _MICRO_F16, seed=202, mix=MIXES["Q8_0"], sha256="885eb942771e5526ef03ddefcaf0118120a0fddbcdda44ded64ff5a3c1833c21"
)
_MINI_F16 = AudioShape(
    layers=2, feed_forward=1024, channels=256, adapter=1024, positions=4098, seed=401, mix=MIXES["F16"],
    sha256="7143f490ca9fcf9fc60038555685a60dccbecd0a7029ea7678cf6a96d63e3b99",
)  # fmt: skip
_MINI_Q8_0 = replace(
    _MINI_F16, seed=402, mix=MIXES["Q8_0"], sha256="53a7bca72581459e15f43e7d6246ef2ce45c374c2cf9eac25d92d2623f8c304a"
)


def _pair(name: str, shape: TextShape, audio: AudioShape, seed: int, mix: str, sha256: str) -> Pair:
    """A row: models of few layers, where the better format is met as often as the other."""
    few = replace(MIXES[mix], values=_every, downs=_odd)
    return Pair(name, replace(shape, seed=seed, mix=few), audio, sha256)


# fmt: off
_TABLE = (
    _pair("micro", _MICRO, _MICRO_F16, 3101, "F16",
          "aeaf6ddc44da6aa8a28984389afb999f24bcb95043b606c7c028cd74094b1940"),
    _pair("micro-q8_0", _MICRO, _MICRO_Q8_0, 2102, "Q8_0",
          "e68ce52373659f7b89fc81e335a6160a61d780128f278753fc485fcb4c11267c"),
    _pair("mini-f32", _MINI, _MINI_F16, 4302, "F32",
          "4097c7391367d66226a6269d35dc0e84def4faff1862ee26ecf83e5e9d0c0d3e"),
    _pair("mini-f16", _MINI, _MINI_F16, 2303, "F16",
          "3338b846a314cecc93f38a96d85cd93e0572496beeade044dd0be81ea53da143"),
    _pair("mini-bf16", _MINI, _MINI_F16, 4304, "BF16",
          "8f16f358972a151f7c12bf1189aee82d065cb04a25877b509d22858729ca4893"),
    _pair("mini-q8_0", _MINI, _MINI_Q8_0, 2305, "Q8_0",
          "7ee636c2aea8aa2c71145f00db8a4eb8984f362e1378594cda5b9be18a193aa7"),
    _pair("mini-q4_0", _MINI, _MINI_Q8_0, 2306, "Q4_0",
          "229deb289b818d446d9539a5826c0d23cd732dd032afc782c9b12de6d4c966e0"),
    _pair("mini-q4_1", _MINI, _MINI_Q8_0, 3307, "Q4_1",
          "ba27ea12c35c142dfa0a373bc22bce9e3616f4a571cfbaac295618335b02522f"),
    _pair("mini-q5_0", _MINI, _MINI_Q8_0, 4308, "Q5_0",
          "8f696cca518a8b14e9731c5d56283d95cff92a06fc9f88798dfc44e54dddfbdc"),
    _pair("mini-q4_k", _MINI, _MINI_Q8_0, 1309, "Q4_K_M",
          "af5bef8fe09bcc589fe21854bc6280df5f2d228d9739f1cdef693b1a60ced54b"),
    _pair("mini-q5_k", _MINI, _MINI_Q8_0, 3310, "Q5_K_M",
          "a84857942b271984130a826200b09a1df084151ec3fa081fc2c2eb8eecfe3dfa"),
    _pair("mini-q6_k", _MINI, _MINI_F16, 4311, "Q6_K",
          "5204af7cffd0c8b521aab0aae044cb568d898eccadea26987aeaf2b8f5892598"),
    _pair("mini-iq4_nl", _MINI, _MINI_F16, 6312, "IQ4_NL",
          "4b6dce37df0336ab4edfa8105c0f013a9eac814ab9a0ba2395de41eaf78c0295"),
    _pair("mini-iq4_xs", _MINI, _MINI_F16, 2313, "IQ4_XS",
          "08e6518081eea0193df4161ed0e9749fd86b55fcd048425bce6f76ef97e0118a"),
)
# fmt: on
PAIRS = {pair.name: pair for pair in _TABLE}


def full(name: str = "Q4_0") -> Pair:
    """A pair of the real size, 1.2 billion weights in the text model, for benchmarks where the real one isn't.

    The name is one of MIXES; the projector's matrices are all in the format of most.
    """
    mix = MIXES[name]
    text = TextShape(
        width=2048, feed_forward=8192, heads=32, kv_heads=8, layers="ccaccaccacacacac", seed=1, mix=mix,
        vocabulary=65536, context=128000,
    )  # fmt: skip
    audio = AudioShape(
        layers=17, feed_forward=2048, channels=256, adapter=2048, positions=16392, seed=1, mix=mix, codes=16392,
    )  # fmt: skip
    return Pair(f"full-{name.lower()}", text, audio)


def thin() -> Pair:
    """A text model that reads what a full projector says and costs nothing, to measure the encoder with."""
    pair = full("F16")
    text = replace(pair.text, layers="ca", feed_forward=256, vocabulary=4096)
    return replace(pair, name="thin-f16", text=text)


def write_pair(pair: Pair | str, folder: str | Path) -> tuple[Path, Path]:
    """The files of a pair, NAME.gguf and mmproj-NAME.gguf, written unless they are there in their right size.

    Needs some megabytes of memory, whatever the size of the pair.
    """
    if isinstance(pair, str):
        pair = by_pair_name(pair)
    return write_text(pair, folder), write_projector(pair, folder)


def write_text(pair: Pair, folder: str | Path) -> Path:
    """The text model of a pair alone."""
    path = Path(folder) / f"{pair.name}.gguf"
    return _write(path, _text_facts(pair), _planned(_text_weights(pair.text), pair.text.seed), pair.sha256)


def write_projector(pair: Pair, folder: str | Path) -> Path:
    """The projector of a pair alone."""
    path = Path(folder) / f"mmproj-{pair.name}.gguf"
    return _write(path, _audio_facts(pair), _planned(_audio_weights(pair), pair.audio.seed), pair.audio.sha256)


def by_pair_name(name: str) -> Pair:
    """The pair of that name."""
    if name not in PAIRS:
        raise OptionError(f"no pair is called {name!r}; there are {', '.join(PAIRS)}")
    return PAIRS[name]


def _planned(weights: Iterator[RandomWeight], seed: int) -> list[PlannedTensor]:
    return [weight.planned(seed) for weight in weights]


def _write(path: Path, facts: dict[str, Value | Fact], plans: list[PlannedTensor], sha256: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size == file_bytes(facts, plans):
        return path
    write_gguf(path, facts, plans)
    if sha256 and (found := _digest(path)) != sha256:
        path.unlink()
        raise ModelFileError(
            f"{path.name} came out as {found}, expected {sha256}: NumPy {np.__version__} draws other bits; report it"
        )
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# fmt: off
_CONTROL = [
    "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>",
    "<|im_end|>", "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>",
    "<|tool_response_start|>", "<|tool_response_end|>", "<|audio_start|>", "<|text_start|>", "<|text_end|>",
    "<|mimi|>", "<|reserved_4|>", "<|reserved_5|>",
]
# fmt: on
_USER_DEFINED = ["<think>", "</think>", "<image>", "ASR:", " [laugh]", "\n---\n"]
_UNREACHABLE = ["ĠTranscription", "Hello", "!!!!!", "ĠĠĠĠĠ"]  # normal tokens that no sequence of merges makes
_NORMAL_TYPE, _CONTROL_TYPE, _USER_DEFINED_TYPE, _UNUSED_TYPE = 1, 3, 4, 5

_TEMPLATE = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def _merges() -> list[str]:
    return Path(__file__).with_name("merges.txt").read_text(encoding="utf-8").splitlines()


def _byte_tokens() -> list[str]:
    """The 256 letters that stand for bytes in byte-level vocabularies: visible Latin-1, then U+0100 and on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in visible] + [chr(256 + k) for k in range(256 - len(visible))]


def _vocabulary(size: int) -> tuple[list[str], list[int]]:
    """The tokens and their types; what isn't needed is [PADn], as in real files."""
    normal = [*_byte_tokens(), *(merge.replace(" ", "") for merge in _merges()), *_UNREACHABLE]
    used = [*_CONTROL, *normal, *_USER_DEFINED]
    kinds = [_CONTROL_TYPE] * len(_CONTROL) + [_NORMAL_TYPE] * len(normal) + [_USER_DEFINED_TYPE] * len(_USER_DEFINED)
    unused = range(len(used), size)
    return used + [f"[PAD{k}]" for k in unused], kinds + [_UNUSED_TYPE] * len(unused)


def _kv_heads(text: TextShape) -> list[int]:
    return [text.kv_heads if letter == "a" else 0 for letter in text.layers]


def _text_facts(pair: Pair) -> dict[str, Value | Fact]:
    text = pair.text
    tokens, kinds = _vocabulary(text.vocabulary)
    return {
        "general.architecture": "lfm2",
        "general.type": "model",
        "general.name": pair.name,
        "general.size_label": "tiny",
        "lfm2.block_count": len(text.layers),
        "lfm2.context_length": text.context,
        "lfm2.embedding_length": text.width,
        "lfm2.feed_forward_length": text.feed_forward,
        "lfm2.attention.head_count": text.heads,
        "lfm2.attention.head_count_kv": np.array(_kv_heads(text), np.int32),
        "lfm2.rope.freq_base": text.rope_base,
        "lfm2.attention.layer_norm_rms_epsilon": 1e-5,
        "general.file_type": text.mix.file_type,
        "lfm2.vocab_size": text.vocabulary,
        "lfm2.shortconv.l_cache": text.taps,
        "general.quantization_version": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.merges": _merges(),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 7,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": _TEMPLATE,
    }


def _text_weights(text: TextShape) -> Iterator[RandomWeight]:
    weights = list(_plain_text_weights(text))
    choices = choose(text.mix, {weight.name: weight.shape for weight in weights})
    for weight in weights:
        yield replace(weight, format=choices[weight.name].format) if weight.name in choices else weight


def _plain_text_weights(text: TextShape) -> Iterator[RandomWeight]:
    """All of them in F32, as they come."""
    D = text.width
    # of both signs, so that the tied head doesn't just echo the token that came in
    yield RandomWeight("token_embd.weight", (text.vocabulary, D), F32, 0.25)
    yield RandomWeight("token_embd_norm.weight", (D,), F32, (256 / D) ** 0.5)
    for index, heads in enumerate(_kv_heads(text)):
        blk = f"blk.{index}."
        yield from _feed_forward(text, blk)
        yield from _attention(text, blk, heads) if heads else _short_conv(text, blk)


def _feed_forward(text: TextShape, blk: str) -> Iterator[RandomWeight]:
    D, F = text.width, text.feed_forward
    yield RandomWeight(blk + "attn_norm.weight", (D,), F32, 0.1, 1.0)
    yield RandomWeight(blk + "ffn_norm.weight", (D,), F32, 0.1, 1.0)
    yield RandomWeight(blk + "ffn_gate.weight", (F, D), F32, 1.2 / D**0.5)
    yield RandomWeight(blk + "ffn_up.weight", (F, D), F32, 1.0 / D**0.5)
    yield RandomWeight(blk + "ffn_down.weight", (D, F), F32, 0.2 / F**0.5)


def _attention(text: TextShape, blk: str, kv_heads: int) -> Iterator[RandomWeight]:
    D, head = text.width, text.width // text.heads
    yield RandomWeight(blk + "attn_q.weight", (D, D), F32, 1.0 / D**0.5)
    yield RandomWeight(blk + "attn_k.weight", (kv_heads * head, D), F32, 1.0 / D**0.5)
    yield RandomWeight(blk + "attn_v.weight", (kv_heads * head, D), F32, 1.0 / D**0.5)
    yield RandomWeight(blk + "attn_output.weight", (D, D), F32, 0.6 / D**0.5)
    yield RandomWeight(blk + "attn_q_norm.weight", (head,), F32, 0.2, 1.2)
    yield RandomWeight(blk + "attn_k_norm.weight", (head,), F32, 0.2, 1.2)


def _short_conv(text: TextShape, blk: str) -> Iterator[RandomWeight]:
    D = text.width
    yield RandomWeight(blk + "shortconv.conv.weight", (D, text.taps), F32, 0.5)
    yield RandomWeight(blk + "shortconv.in_proj.weight", (3 * D, D), F32, 1.0 / D**0.5)
    yield RandomWeight(blk + "shortconv.out_proj.weight", (D, D), F32, 0.15 / D**0.5)


def _audio_facts(pair: Pair) -> dict[str, Value | Fact]:
    audio = pair.audio
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": f"random-encoder-{audio.seed}",
        "general.file_type": audio.mix.file_type,
        "clip.has_audio_encoder": True,
        "clip.audio.projection_dim": pair.text.width,
        "clip.audio.embedding_length": ENCODER_WIDTH,
        "clip.audio.feed_forward_length": ENCODER_WIDTH,  # wrong, as in real files: trust the tensors
        "clip.audio.block_count": audio.layers,
        "clip.audio.attention.head_count": ENCODER_HEADS,
        "clip.projector_type": "lfm2a",
        "clip.audio.num_mel_bins": audio.mel_bins,
        "clip.audio.attention.layer_norm_epsilon": 1e-5,
        "general.quantization_version": 2,
    }


def _linear(
    name: str, out: int, width: int, form: BlockFormat, gain: float = 1.0, bias: bool = True
) -> Iterator[RandomWeight]:
    yield RandomWeight(name + ".weight", (out, width), form, gain / width**0.5)
    if bias:
        yield RandomWeight(name + ".bias", (out,), F32, 0.1)


def _norm(name: str) -> Iterator[RandomWeight]:
    yield RandomWeight(name + ".weight", (ENCODER_WIDTH,), F32, 0.15, 1.0)
    yield RandomWeight(name + ".bias", (ENCODER_WIDTH,), F32, 0.1)


def _audio_weights(pair: Pair) -> Iterator[RandomWeight]:
    audio, D, form = pair.audio, pair.text.width, pair.audio.mix.most
    yield RandomWeight("a.position_embd.weight", (audio.positions, D), F32, 0.5)
    yield RandomWeight("a.position_embd_norm.weight", (D,), F32, 0.1, 1.0)
    yield RandomWeight("a.embd_to_logits.weight", (audio.codes, D), form, 0.1)
    yield from _subsampling(audio)
    for index in range(audio.layers):
        yield from _conformer_layer(audio, f"a.blk.{index}.")
    yield from _norm("mm.a.mlp.0")
    yield from _linear("mm.a.mlp.1", audio.adapter, ENCODER_WIDTH, form)
    yield from _linear("mm.a.mlp.3", D, audio.adapter, form, 0.3)


def _subsampling(audio: AudioShape) -> Iterator[RandomWeight]:
    C = audio.channels
    for index, inputs, taps in ((0, 1, 3), (2, 1, 3), (3, C, 1), (5, 1, 3), (6, C, 1)):
        deviation = 1.5 / (inputs * taps * taps) ** 0.5
        yield RandomWeight(f"a.conv1d.{index}.weight", (C, inputs, taps, taps), F32, deviation)
        yield RandomWeight(f"a.conv1d.{index}.bias", (C, 1, 1), F32, 0.1)
    yield from _linear("a.pre_encode.out", ENCODER_WIDTH, C * (audio.mel_bins // 8), audio.mix.most, 1.5)


def _conformer_layer(audio: AudioShape, blk: str) -> Iterator[RandomWeight]:
    D, H, form = ENCODER_WIDTH, ENCODER_HEADS, audio.mix.most
    for suffix in ("", "_1"):
        yield from _norm(blk + "ffn_norm" + suffix)
        yield from _linear(blk + "ffn_up" + suffix, audio.feed_forward, D, form)
        yield from _linear(blk + "ffn_down" + suffix, D, audio.feed_forward, form, 1.2)
    yield from _norm(blk + "ln1")
    for letter in "qkv":
        yield from _linear(blk + "attn_" + letter, D, D, form, 1.1)
    yield from _linear(blk + "attn_out", D, D, form, 0.9)
    yield from _linear(blk + "linear_pos", D, D, form, 1.1, bias=False)
    yield RandomWeight(blk + "pos_bias_u", (H, D // H), F32, 0.3)
    yield RandomWeight(blk + "pos_bias_v", (H, D // H), F32, 0.3)
    yield from _norm(blk + "norm_conv")
    yield from _linear(blk + "conv_pw1", 2 * D, D, F32, 1.2)
    yield RandomWeight(blk + "conv_dw.weight", (D, ENCODER_TAPS), F32, 0.4)
    yield RandomWeight(blk + "conv_dw.bias", (D,), F32, 0.1)
    yield from _norm(blk + "conv_norm")
    yield from _linear(blk + "conv_pw2", D, D, F32, 1.2)
    yield from _norm(blk + "ln2")
