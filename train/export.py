"""A checkpoint → the published layout → the pair of GGUF files, by the product's own converter.

What llama.cpp wants and recognition doesn't use, two tables of speech output, is zeros.
"""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from torch import Tensor

from eardrop.text.tokenizer import WORD
from eardrop.tools.convert import convert
from train.network import EPSILON, HEADS, ROPE_BASE, WIDTH, Lfm2Audio, Shape
from train.vocabulary import BOS, CONTROL, EOS, PAD, TEMPLATE, facts

NAME = "eardrop-small"
POSITIONS, CODES = 1500, 32  # rows of the two tables: llama.cpp's warm-up wants the first, and no fewer
CONTEXT = 8192


def load(folder: Path, *, mean: bool = True) -> tuple[Lfm2Audio, list[str]]:
    """The model of a checkpoint, with the running mean of its weights or the weights themselves; and the merges."""
    held = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    model = Lfm2Audio(Shape(**held["shape"]))
    model.load_state_dict(held["mean" if mean else "model"])
    return model.eval(), (folder / "merges.txt").read_text(encoding="utf-8").splitlines()


def export(folder: Path, target: Path, *, form: str = "F16", mean: bool = True) -> tuple[Path, Path]:
    """Write the pair of a run's checkpoint into `target`, and what it was converted from into `target`/published."""
    model, merges = load(folder, mean=mean)
    publish(model, merges, target / "published")
    return convert(target / "published", target, form=form, name=NAME, force=True)


def publish(model: Lfm2Audio, merges: list[str], folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """The published layout: config.json, model.safetensors, tokenizer.json and its companions.

    dtype  of the weights; the published models' are bfloat16
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(dtype) if value.is_floating_point() else value for name, value in _tensors(model).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(_tokenizer(merges), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    named = {"bos_token": CONTROL[BOS], "eos_token": CONTROL[EOS], "pad_token": CONTROL[PAD]}
    for name, held in (
        ("config.json", _config(model.shape)),
        ("tokenizer_config.json", named),
        ("special_tokens_map.json", named),
    ):
        (folder / name).write_text(json.dumps(held, indent=1), encoding="utf-8")


def _tensors(model: Lfm2Audio) -> dict[str, Tensor]:
    width = model.shape.width
    kept = {name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith("ctc.")}
    return kept | {
        "audio_embedding.embedding.weight": torch.zeros(POSITIONS, width),
        "audio_embedding.embedding_norm.weight": torch.ones(width),
        "audio_embedding.to_logits.weight": torch.zeros(CODES, width),
    }


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["Lfm2AudioForConditionalGeneration"],
        "lfm": {
            "num_hidden_layers": len(shape.layers),
            "layer_types": [{"c": "conv", "a": "full_attention"}[letter] for letter in shape.layers],
            "hidden_size": shape.width,
            "intermediate_size": shape.ffn,
            "block_auto_adjust_ff_dim": False,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "conv_L_cache": shape.taps,
            "max_position_embeddings": CONTEXT,
            "norm_eps": EPSILON,
            "rope_theta": ROPE_BASE,
            "vocab_size": shape.vocabulary,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
        },
        "encoder": {
            "d_model": WIDTH,
            "n_heads": HEADS,
            "n_layers": shape.encoder_layers,
            "feat_in": shape.mels,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "self_attention_model": "rel_pos",
            "att_context_size": [-1, -1],
            "xscaling": False,
            "conv_norm_type": "batch_norm",
        },
        "preprocessor": {"sample_rate": 16000, "features": shape.mels, "n_fft": 512, "window_size": 0.025},
    }


def _tokenizer(merges: list[str]) -> str:
    """tokenizer.json of the vocabulary in `facts`."""
    texts = facts(merges)["tokenizer.ggml.tokens"]
    assert isinstance(texts, list)
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    ids = {text: token for token, text in enumerate(texts)}
    made = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=True))
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(tokenizers.Regex(WORD), behavior="isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    made.decoder = decoders.ByteLevel()
    start = CONTROL[BOS]
    made.post_processor = processors.TemplateProcessing(f"{start} $A", f"{start} $A $B", [(start, BOS)])
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    written: str = made.to_str(pretty=True)
    return written
