"""Checkpoints in the published layout, made from a random pair: the way back, written without looking at the way there.

The files are written by hand (json, struct), not by anything of the package.
"""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eardrop.gguf import open_gguf

# GGUF → checkpoint, as regular expressions; the first that fits counts.
NAMES = [
    (r"token_embd\.weight", "lfm.embed_tokens.weight"),
    (r"token_embd_norm\.weight", "lfm.embedding_norm.weight"),
    (r"blk\.(\d+)\.attn_norm\.", r"lfm.layers.\1.operator_norm."),
    (r"blk\.(\d+)\.ffn_norm\.", r"lfm.layers.\1.ffn_norm."),
    (r"blk\.(\d+)\.ffn_gate\.", r"lfm.layers.\1.feed_forward.w1."),
    (r"blk\.(\d+)\.ffn_down\.", r"lfm.layers.\1.feed_forward.w2."),
    (r"blk\.(\d+)\.ffn_up\.", r"lfm.layers.\1.feed_forward.w3."),
    (r"blk\.(\d+)\.attn_([qkv])\.", r"lfm.layers.\1.self_attn.\2_proj."),
    (r"blk\.(\d+)\.attn_output\.", r"lfm.layers.\1.self_attn.out_proj."),
    (r"blk\.(\d+)\.attn_([qk])_norm\.", r"lfm.layers.\1.self_attn.\2_layernorm."),
    (r"blk\.(\d+)\.shortconv\.", r"lfm.layers.\1.conv."),
    (r"a\.position_embd\.", "audio_embedding.embedding."),
    (r"a\.position_embd_norm\.", "audio_embedding.embedding_norm."),
    (r"a\.embd_to_logits\.", "audio_embedding.to_logits."),
    (r"a\.conv1d\.", "conformer.pre_encode.conv."),
    (r"a\.pre_encode\.", "conformer.pre_encode."),
    (r"a\.blk\.(\d+)\.ffn_norm\.", r"conformer.layers.\1.norm_feed_forward1."),
    (r"a\.blk\.(\d+)\.ffn_norm_1\.", r"conformer.layers.\1.norm_feed_forward2."),
    (r"a\.blk\.(\d+)\.ffn_up\.", r"conformer.layers.\1.feed_forward1.linear1."),
    (r"a\.blk\.(\d+)\.ffn_down\.", r"conformer.layers.\1.feed_forward1.linear2."),
    (r"a\.blk\.(\d+)\.ffn_up_1\.", r"conformer.layers.\1.feed_forward2.linear1."),
    (r"a\.blk\.(\d+)\.ffn_down_1\.", r"conformer.layers.\1.feed_forward2.linear2."),
    (r"a\.blk\.(\d+)\.ln1\.", r"conformer.layers.\1.norm_self_att."),
    (r"a\.blk\.(\d+)\.ln2\.", r"conformer.layers.\1.norm_out."),
    (r"a\.blk\.(\d+)\.norm_conv\.", r"conformer.layers.\1.norm_conv."),
    (r"a\.blk\.(\d+)\.attn_(q|k|v|out)\.", r"conformer.layers.\1.self_attn.linear_\2."),
    (r"a\.blk\.(\d+)\.linear_pos\.", r"conformer.layers.\1.self_attn.linear_pos."),
    (r"a\.blk\.(\d+)\.pos_bias_", r"conformer.layers.\1.self_attn.pos_bias_"),
    (r"a\.blk\.(\d+)\.conv_pw([12])\.", r"conformer.layers.\1.conv.pointwise_conv\2."),
    (r"a\.blk\.(\d+)\.conv_dw\.", r"conformer.layers.\1.conv.depthwise_conv."),
    (r"a\.blk\.(\d+)\.conv_norm\.", r"conformer.layers.\1.conv.batch_norm."),
    (r"mm\.a\.mlp\.", "audio_adapter.model."),
]
# Axes of one that GGUF lacks, by the ends of the checkpoint's names; and those that only GGUF has.
SQUEEZED = {"conv.conv.weight": 1, "depthwise_conv.weight": 1, "pointwise_conv1.weight": 2, "pointwise_conv2.weight": 2}

DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}

Arrays = dict[str, np.ndarray]


def bf16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32; only for values that lose nothing by it."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype("<u2")


def published(pair: tuple[Path, Path]) -> Arrays:
    """The tensors of a pair under their published names, and what published files hold besides.

    The batch norm gets a mean of 0 and a variance of 1 − ε, so that folding it changes no bit.
    """
    arrays: Arrays = {}
    for path in pair:
        with open_gguf(path) as file:
            for name, tensor in file.tensors.items():
                dtype = {"F32": np.float32, "F16": np.float16}[tensor.format.name]
                arrays[_published_name(name)] = tensor.dequantize().astype(dtype)
    for name, array in [*arrays.items()]:
        axis = next((axis for end, axis in SQUEEZED.items() if name.endswith(end)), None)
        if axis is not None:
            arrays[name] = np.expand_dims(array, axis)
        if re.fullmatch(r"conformer\.pre_encode\.conv\.\d\.bias", name):
            arrays[name] = array.reshape(-1)
        if name.endswith("batch_norm.bias"):
            stem = name.removesuffix("bias")
            arrays[stem + "running_mean"] = np.zeros_like(array)
            arrays[stem + "running_var"] = np.full_like(array, np.float32(1) - np.float32(1e-5))
            arrays[stem + "num_batches_tracked"] = np.array(7, np.int64)
    arrays["codebook_offsets"] = np.arange(8, dtype=np.int64)
    arrays["depthformer.layers.0.operator.qkv_proj.weight"] = np.ones((2, 3), np.float32)
    return arrays


def _published_name(name: str) -> str:
    for pattern, replacement in NAMES:
        found, times = re.subn("^" + pattern, replacement, name)
        if times:
            return found
    raise AssertionError(name)


def safetensors(arrays: Mapping[str, np.ndarray], **metadata: str) -> bytes:
    """A file; uint16 stands for bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    place = 0
    for name, array in arrays.items():
        end = place + array.nbytes
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [place, end],
        }
        place = end
    return framed(json.dumps(header).encode(), b"".join(array.tobytes() for array in arrays.values()))


def framed(header: bytes, values: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + values


def config(pair: tuple[Path, Path]) -> dict[str, Any]:
    """A config.json, with the feed-forward width that published ones have wrong."""
    with open_gguf(pair[0]) as text, open_gguf(pair[1]) as audio:
        kv_heads = text.facts["lfm2.attention.head_count_kv"].tolist()
        return {
            "architectures": ["Lfm2AudioForConditionalGeneration"],
            "codebooks": 8,
            "lfm": {
                "num_hidden_layers": len(kv_heads),
                "layer_types": ["full_attention" if heads else "conv" for heads in kv_heads],
                "num_key_value_heads": max(kv_heads),
                "num_attention_heads": text.facts["lfm2.attention.head_count"],
                "hidden_size": text.facts["lfm2.embedding_length"],
                "intermediate_size": 12288,
                "block_auto_adjust_ff_dim": True,
                "conv_L_cache": text.facts["lfm2.shortconv.l_cache"],
                "max_position_embeddings": text.facts["lfm2.context_length"],
                "norm_eps": 1e-5,
                "rope_theta": 1000000.0,
                "vocab_size": text.facts["lfm2.vocab_size"],
                "bos_token_id": 1,
                "eos_token_id": 7,
                "pad_token_id": 0,
            },
            "encoder": {
                "d_model": audio.facts["clip.audio.embedding_length"],
                "n_layers": audio.facts["clip.audio.block_count"],
                "n_heads": audio.facts["clip.audio.attention.head_count"],
                "feat_in": audio.facts["clip.audio.num_mel_bins"],
                "subsampling": "dw_striding",
                "subsampling_factor": 8,
                "self_attention_model": "rel_pos",
                "att_context_size": [-1, -1],
                "xscaling": False,
                "conv_norm_type": "batch_norm",
            },
            "preprocessor": {"sample_rate": 16000, "features": 128, "n_fft": 512, "window_size": 0.025},
        }


SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer(pair: tuple[Path, Path]) -> dict[str, Any]:
    """A tokenizer.json of the pair's vocabulary."""
    with open_gguf(pair[0]) as text:
        tokens, merges = text.facts["tokenizer.ggml.tokens"], text.facts["tokenizer.ggml.merges"]
        kinds = text.facts["tokenizer.ggml.token_type"].tolist()
    added = [
        {"id": number, "content": token, "special": kind == 3, "normalized": False, "single_word": False}
        | {"lstrip": False, "rstrip": False}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (3, 4)
    ]
    template = [{"SpecialToken": {"id": tokens[1], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    processor = {"type": "TemplateProcessing", "single": template, "pair": template}
    processor["special_tokens"] = {tokens[1]: {"id": tokens[1], "ids": [1], "tokens": [tokens[1]]}}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                to_bytes,
            ],
        },
        "post_processor": {"type": "Sequence", "processors": [to_bytes, processor]},
        "decoder": to_bytes,
        "model": {
            "type": "BPE",
            "ignore_merges": True,
            "vocab": {token: n for n, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == 1},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_checkpoint(folder: Path, pair: tuple[Path, Path], arrays: Mapping[str, np.ndarray] | None = None) -> Path:
    """A whole checkpoint of one file of weights."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors(published(pair) if arrays is None else arrays))
    write_json(folder / "config.json", config(pair))
    write_json(folder / "tokenizer.json", tokenizer(pair))
    write_json(
        folder / "tokenizer_config.json", {"bos_token": "<|startoftext|>", "eos_token": {"content": "<|im_end|>"}}
    )
    write_json(folder / "special_tokens_map.json", {"pad_token": "<|pad|>", "eos_token": "<|pad|>"})
    with open_gguf(pair[0]) as text:
        template = str(text.facts["tokenizer.chat_template"])
    (folder / "chat_template.jinja").write_bytes(template.encode())
    return folder
