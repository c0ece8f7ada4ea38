"""The vocabulary: LFM2's control tokens, the 256 bytes, a few merges, and the words of the prompt as whole tokens.

Few, as the encoder hears twelve and a half rows a second and the CTC head needs a row for each piece: with the merges
there are about 190 pieces that a transcript can hold.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from eardrop.gguf import Fact, Value
from eardrop.text import Tokenizer
from eardrop.text.tokenizer import WORD
from eardrop.text.vocabulary import BYTE_ALPHABET, TokenKind

MERGES = 128

# ids 0 to 13 as in the published vocabulary; the two after them stand at 128 and 130 there
CONTROL = [
    *("<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>"),
    *("<|im_end|>", "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>"),
    *("<|tool_response_start|>", "<|tool_response_end|>", "<|audio_start|>", "<|text_end|>"),
]
PAD, BOS, EOS = 0, 1, 7
PROMPT_WORDS = ["system", "user", "assistant", "Perform", "ĠASR"]  # no merges make them: the splitter finds them whole

TEMPLATE = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def learn_merges(texts: Iterable[str]) -> list[str]:
    """The most useful merges, "left right", strongest first."""
    learner = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(WORD), behavior="isolated")
    to_alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, to_alphabet])
    trainer = trainers.BpeTrainer(
        vocab_size=len(BYTE_ALPHABET) + MERGES, initial_alphabet=list(BYTE_ALPHABET), show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in _merges(learner)]


def _merges(learner: tokenizers.Tokenizer) -> list[str | list[str]]:
    merges: list[str | list[str]] = json.loads(learner.to_str())["model"]["merges"]
    return merges


def facts(merges: list[str]) -> dict[str, Value | Fact]:
    """The vocabulary as it stands in a GGUF file."""
    normal = [*BYTE_ALPHABET, *(merge.replace(" ", "") for merge in merges), *PROMPT_WORDS]
    kinds = [TokenKind.CONTROL] * len(CONTROL) + [TokenKind.NORMAL] * len(normal)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": [*CONTROL, *normal],
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.padding_token_id": PAD,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def tokenizer(merges: list[str]) -> Tokenizer:
    """The product's own, over this vocabulary."""
    return Tokenizer.from_facts(facts(merges), "the trained vocabulary")


def kept_merges(path: Path, texts: Iterable[str]) -> list[str]:
    """The merges in a file; learnt from `texts` and written there where it is missing."""
    if not path.exists():
        path.write_text("\n".join(learn_merges(texts)) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").splitlines()
