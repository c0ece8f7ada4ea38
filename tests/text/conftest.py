"""The vocabulary of the small random models: 20 control tokens, 256 bytes, 640 merges, six user-defined tokens."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import eardrop
from eardrop.text import Tokenizer
from eardrop.text.vocabulary import BYTE_ALPHABET

MERGES = (Path(eardrop.__file__).parent / "bench" / "merges.txt").read_text(encoding="utf-8").splitlines()
CONTROL = [
    *("<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>"),
    *("<|im_end|>", "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>"),
    *("<|tool_response_start|>", "<|tool_response_end|>", "<|audio_start|>", "<|text_start|>", "<|text_end|>"),
    *("<|mimi|>", "<|reserved_4|>", "<|reserved_5|>"),
]
USER_DEFINED = ["<think>", "</think>", "<image>", "ASR:", " [laugh]", "\n---\n"]
NO_MERGES = ["ĠTranscription", "Hello", "!!!!!", "ĠĠĠĠĠ"]  # words that no merges reach
V = 960

Facts = dict[str, object]


def _facts() -> Facts:
    # The byte tokens come in the order of the alphabet: visible bytes first.
    normal = [*sorted(BYTE_ALPHABET), *(merge.replace(" ", "") for merge in MERGES), *NO_MERGES]
    tokens = [*CONTROL, *normal, *USER_DEFINED]
    types = [3] * len(CONTROL) + [1] * len(normal) + [4] * len(USER_DEFINED) + [5] * (V - len(tokens))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": [*tokens, *(f"[PAD{token}]" for token in range(len(tokens), V))],
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 7,
        "tokenizer.ggml.add_bos_token": True,
    }


@pytest.fixture(scope="session")
def facts() -> Callable[..., Facts]:
    """The facts of the small vocabulary; keywords replace keys below `tokenizer.ggml.`, None leaves one out."""

    def changed(**changes: object) -> Facts:
        new = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
        return {key: value for key, value in (_facts() | new).items() if value is not None}

    return changed


@pytest.fixture(scope="session")
def load(facts: Callable[..., Facts]) -> Callable[..., Tokenizer]:
    """A tokenizer of the small vocabulary with changes as in `facts`."""
    return lambda **changes: Tokenizer.from_facts(facts(**changes), "micro.gguf")


@pytest.fixture(scope="session")
def micro(load: Callable[..., Tokenizer]) -> Tokenizer:
    return load()
