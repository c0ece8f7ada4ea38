"""The vocabulary of a text model, checked in full before anything is built from it.

    tokenizer.ggml.tokens      V texts; NORMAL ones in the byte alphabet below, all others as they are
    tokenizer.ggml.token_type  V numbers, see TokenKind
    tokenizer.ggml.merges      "left right", first is strongest; left, right and leftright are tokens themselves

The `tokenizers` library panics on some of what is refused here, in a way that `except Exception` doesn't catch.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import ModelFileError


class TokenKind(IntEnum):
    """What a token is for; the numbers are those of GGUF."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


# GPT-2's alphabet: a visible byte stands for itself, the other 68 are U+0100, U+0101, … in their order.
_VISIBLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
BYTE_ALPHABET = tuple(chr(byte if byte in _VISIBLE else 256 + _HIDDEN.index(byte)) for byte in range(256))

# Names of one and the same splitter: Llama 3's, which emits a whole word that is a token without merging.
PRE_TOKENIZERS = ("lfm2", "llama3", "llama-v3", "llama-bpe")

# llama.cpp ends an answer at any token spelt like one of these, whatever the file says of it (spec §7).
END_OF_GENERATION = frozenset(
    [
        *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "</s>"),
        *("<end_of_turn>", "<turn|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>"),
        *("<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>"),
    ]
)

_ABSENT = object()


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, their kinds and the merges between them.

    texts   V texts by id, each once; an empty one is called [EMPTY_id], as in llama.cpp
    ids     the id of each text, in the order of the ids
    kinds   (V,) int8, TokenKind
    merges  "left right" and its rank, 0 the strongest; each once, in this order
    bos     starts a conversation; None where the file wants none
    stop    the tokens that end an answer: eos and END_OF_GENERATION
    source  the file's name, for messages
    """

    texts: tuple[str, ...]
    ids: dict[str, int]
    kinds: NDArray[np.int8]
    merges: Mapping[str, int]
    bos: int | None
    eos: int
    stop: frozenset[int]
    source: str

    @classmethod
    def from_facts(cls, facts: Mapping[str, object], source: str) -> "Vocabulary":
        """The vocabulary in a text model's metadata. Raises ModelFileError with the key, what it needs and holds."""
        keys = _Keys(facts, source)
        keys.choice("model", ("gpt2",))
        keys.choice("pre", PRE_TOKENIZERS)
        if keys.flag("add_eos_token", absent=False):
            raise keys.refusal("add_eos_token", "false", "true", move="this kind of prompt isn't known here")
        ids = _ids(keys)
        kinds = _kinds(keys, len(ids))
        _require_bytes(keys, ids, kinds)
        eos = keys.token("eos_token_id", len(ids))
        spelled = [ids[text] for text in END_OF_GENERATION if text in ids]
        kinds[spelled] = TokenKind.CONTROL  # llama.cpp corrects a file that says otherwise
        return cls(
            texts=tuple(ids),
            ids=ids,
            kinds=kinds,
            merges=_merges(keys, ids),
            bos=keys.token("bos_token_id", len(ids)) if keys.flag("add_bos_token", absent=True) else None,
            eos=eos,
            stop=frozenset({eos, *spelled}),
            source=source,
        )


def _ids(keys: "_Keys") -> dict[str, int]:
    """Every token's text and id, in the order of the ids."""
    texts = keys.strings("tokens")
    if "" in texts:
        texts = [text or f"[EMPTY_{token}]" for token, text in enumerate(texts)]
    ids = dict(zip(texts, range(len(texts)), strict=True))
    if len(ids) < len(texts):
        last, text = next((token, text) for token, text in enumerate(texts) if token != ids[text])
        raise keys.refusal("tokens", "each token once", f"{_quoted(text)} as {last} and as {ids[text]}")
    return ids


def _kinds(keys: "_Keys", tokens: int) -> NDArray[np.int8]:
    numbers = keys.numbers("token_type")
    if numbers is None:
        return np.full(tokens, TokenKind.NORMAL, np.int8)
    if len(numbers) != tokens:
        raise keys.refusal("token_type", f"{tokens} types, one per token", str(len(numbers)))
    strange = np.flatnonzero((numbers < min(TokenKind)) | (numbers > max(TokenKind)))
    if len(strange):
        found = f"{numbers[strange[0]]} for token {strange[0]}"
        raise keys.refusal("token_type", f"types from {min(TokenKind)} to {max(TokenKind)}", found)
    return numbers.astype(np.int8)


def _require_bytes(keys: "_Keys", ids: Mapping[str, int], kinds: NDArray[np.int8]) -> None:
    for byte, text in enumerate(BYTE_ALPHABET):
        if text not in ids:
            raise keys.refusal("tokens", "a token for each of the 256 bytes", f"none for byte 0x{byte:02x} ({text!r})")
        if kinds[ids[text]] != TokenKind.NORMAL:
            found = f"{TokenKind(kinds[ids[text]]).name} for byte 0x{byte:02x} ({text!r}, token {ids[text]})"
            raise keys.refusal("token_type", "NORMAL for each of the 256 bytes", found)


def _merges(keys: "_Keys", ids: Mapping[str, int]) -> dict[str, int]:
    """Each merge once, at its strongest: the library would take a repeated one at its weakest."""
    merges = keys.strings("merges")
    parts = " ".join(merges).split(" ")  # all at once: one by one costs as much as the rest of the loading
    results = map(operator.add, parts[::2], parts[1::2])
    pairs = all(" " in merge for merge in merges) and len(parts) == 2 * len(merges)
    if merges and not (pairs and ids.keys() >= {*parts, *results}):
        raise _first_refused(keys, merges, ids)
    strongest = dict.fromkeys(merges)
    return dict(zip(strongest, range(len(strongest)), strict=True))


def _first_refused(keys: "_Keys", merges: Sequence[str], ids: Mapping[str, int]) -> ModelFileError:
    """What is wrong with the first merge that isn't one."""
    for rank, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        if not left or not right or " " in right:
            return keys.refusal("merges", "two tokens with one space between", f"{_quoted(merge)} as merge {rank}")
        for text in (left, right, left + right):
            if text not in ids:
                found = f"merge {rank}, {_quoted(merge)}, where {_quoted(text)} isn't"
                return keys.refusal("merges", "merges of tokens that give a token", found)
    raise AssertionError("every merge is one")


@dataclass(frozen=True)
class _Keys:
    """The `tokenizer.ggml.` keys of one file: each read checks the type and refuses in the same words."""

    facts: Mapping[str, object]
    source: str

    def refusal(
        self, key: str, expected: str, found: str, *, move: str = "download or convert the file again"
    ) -> ModelFileError:
        return ModelFileError(f"{self.source}: tokenizer.ggml.{key}: expected {expected}, found {found}; {move}")

    def get(self, key: str) -> object:
        return self.facts.get(f"tokenizer.ggml.{key}", _ABSENT)

    def choice(self, key: str, known: Sequence[str]) -> None:
        value = self.get(key)
        if not isinstance(value, str) or value not in known:
            raise self.refusal(key, " or ".join(known), _quoted(value))

    def flag(self, key: str, *, absent: bool) -> bool:
        value = self.get(key)
        if value is _ABSENT:
            return absent
        if not isinstance(value, bool | np.bool_):
            raise self.refusal(key, "true or false", _quoted(value))
        return bool(value)

    def token(self, key: str, tokens: int) -> int:
        value = self.get(key)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 0 <= value < tokens:
            raise self.refusal(key, f"a token below {tokens}", _quoted(value))
        return int(value)

    def numbers(self, key: str) -> NDArray[np.integer] | None:
        value = self.get(key)
        if value is _ABSENT:
            return None
        try:
            numbers = np.asarray(value)
        except ValueError:  # lists in a list, of different lengths
            raise self.refusal(key, "a list of whole numbers", _quoted(value)) from None
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise self.refusal(key, "a list of whole numbers", f"{numbers.dtype} of shape {numbers.shape}")
        return numbers

    def strings(self, key: str) -> list[str]:
        value = self.get(key)
        if not isinstance(value, Iterable) or isinstance(value, str | bytes):
            raise self.refusal(key, "a list of texts", _quoted(value))
        strings = list(value)
        try:
            "".join(strings).encode()  # all at once: one by one costs as much as the rest of the loading
        except (TypeError, UnicodeEncodeError):
            at = next(at for at, text in enumerate(strings) if not _is_text(text))
            raise self.refusal(key, "texts in UTF-8", f"{_quoted(strings[at])} at {at}") from None
        return strings


def _is_text(value: object) -> bool:
    """Whether it is a string without halves of surrogate pairs, which have no UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _quoted(value: object) -> str:
    """A stranger's value in a message: short, and with its control characters spelt out."""
    if value is _ABSENT:
        return "nothing"
    shown = repr(value[:40] if isinstance(value, str | bytes) else value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
