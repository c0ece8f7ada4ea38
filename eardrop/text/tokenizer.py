"""Text to token ids and back: byte-level BPE with Llama 3's splitter, as llama.cpp does it (spec §7).

Text is first cut at tokens that are matched as written (control tokens only where that is allowed), the rest is split
into words, and each word becomes the token it spells, or is merged from its bytes.
"""

import codecs
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, models, pre_tokenizers

from eardrop.errors import OptionError
from eardrop.text.vocabulary import BYTE_ALPHABET, TokenKind, Vocabulary

# Leftmost, and there the first alternative that fits: contraction, letters with at most one sign before them, up to
# three digits, signs with at most one space before them, line ends, white space (leaving one for the next word).
WORD = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_SPLITTER = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(WORD), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),  # into the byte alphabet
    ]
)

# The splitter tries ten million ways to match and then panics: at twelve million spaces in a row, for one. This is far
# below, and twice the text that fills the longest context.
LONGEST_TEXT = 1_000_000

# Bytes of a text that has a merger made for its words alone, in half a millisecond: a process that transcribes wants
# no more than the words around its recording, and the merger of all words takes a tenth of a second.
SHORT_TEXT = 256

_CONTROL = (TokenKind.CONTROL, TokenKind.UNKNOWN)
_AS_WRITTEN = (*_CONTROL, TokenKind.USER_DEFINED)
_BYTE = {character: bytes([byte]) for byte, character in enumerate(BYTE_ALPHABET)}


def _from_alphabet(text: str) -> bytes:
    return b"".join(_BYTE.get(character) or character.encode() for character in text)


def _nothing(text: str) -> bytes:
    return b""


_SPELLING: Mapping[TokenKind, Callable[[str], bytes]] = {
    TokenKind.NORMAL: _from_alphabet,
    TokenKind.UNKNOWN: str.encode,
    TokenKind.CONTROL: str.encode,
    TokenKind.USER_DEFINED: str.encode,
    TokenKind.UNUSED: _nothing,
    TokenKind.BYTE: _nothing,  # has no meaning in byte-level BPE; llama.cpp prints nothing for it either
}


class Tokenizer:
    """One vocabulary, ready to use. Immutable, safe to share between threads.

    source           the file it came from
    vocabulary_size  V
    bos              the token that starts a conversation; None where the file wants none
    eos, stop_tokens the end token of the file; all that end an answer
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.source = vocabulary.source
        self.vocabulary_size = len(vocabulary.texts)
        self.bos = vocabulary.bos
        self.eos = vocabulary.eos
        self.stop_tokens = vocabulary.stop
        self._vocabulary = vocabulary
        self._written = _written(vocabulary)

    @classmethod
    def from_facts(cls, facts: Mapping[str, object], source: str) -> "Tokenizer":
        """The tokenizer in a text model's metadata; `source` names the file in messages."""
        return cls(Vocabulary.from_facts(facts, source))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text, no start token added; `special` lets text spell control tokens."""
        return self.encode_spans([(text, special)])

    def encode_spans(self, spans: Sequence[tuple[str, bool]]) -> list[int]:
        """The ids of (text, special) spans put together: words and merges reach over the seams.

        A control token is recognised only where all of it lies in spans that allow it, so all spans special, or
        none, is the same as `encode` of the whole.
        """
        text = _encodable("".join(text for text, _ in spans))
        allowed = b"".join(bytes([special]) * len(text) for text, special in spans)
        cuts = self._cuts(text, allowed)
        seams = [0, *chain.from_iterable((start, end) for start, end, _ in cuts), len(text)]
        between = [_words(text[start:end]) for start, end in zip(seams[::2], seams[1::2], strict=True)]
        merger = self._merger(list(chain.from_iterable(between)))
        ids = _merged(between[0], merger)
        for (_, _, token), words in zip(cuts, between[1:], strict=True):
            ids += [token, *_merged(words, merger)]
        return ids

    def _merger(self, words: Sequence[str]) -> models.BPE:
        """What merges these words as the whole vocabulary would."""
        return _merger_of(words, self._vocabulary) if sum(map(len, words)) <= SHORT_TEXT else self._merger_of_all

    @cached_property
    def _merger_of_all(self) -> models.BPE:
        return _merger(self._vocabulary.ids, self._vocabulary.merges)

    def _cuts(self, text: str, allowed: bytes) -> list[tuple[int, int, int]]:
        """(start, end, token) of what is matched as written: the longest token first, left to right, none overlapping.

        allowed  one byte per character: 1 where control tokens may stand
        """
        taken = bytearray(len(text))
        cuts = []
        for written, token, anywhere in self._written:
            start = text.find(written)
            while start >= 0:
                end = start + len(written)
                fits = 1 not in taken[start:end] and (anywhere or 0 not in allowed[start:end])
                if fits:
                    taken[start:end] = b"\1" * len(written)
                    cuts.append((start, end, token))
                start = text.find(written, end if fits else start + 1)
        return sorted(cuts)

    def piece(self, token: int) -> bytes:
        """What a token spells, possibly half a character; control tokens as they are written in the vocabulary."""
        return _SPELLING[self.kind(token)](self._vocabulary.texts[token])

    def kind(self, token: int) -> TokenKind:
        if not 0 <= operator.index(token) < self.vocabulary_size:
            raise OptionError(f"token {token} isn't in the vocabulary of {self.source}: {self.vocabulary_size} tokens")
        return TokenKind(self._vocabulary.kinds[token])

    def is_control(self, token: int) -> bool:
        """Whether it steers the conversation rather than spells text: CONTROL, or UNKNOWN."""
        return self.kind(token) in _CONTROL

    def control_mask(self) -> NDArray[np.bool_]:
        """(V,) bool, `is_control` of every token."""
        return np.isin(self._vocabulary.kinds, _CONTROL)

    def unused_mask(self) -> NDArray[np.bool_]:
        """(V,) bool, the tokens that fill the table up and mean nothing."""
        return np.isin(self._vocabulary.kinds, TokenKind.UNUSED)

    def written(self, text: str) -> int | None:
        """The id of the token that is matched as written by this text, as `<|im_end|>`; None where there is none."""
        return next((token for written, token, _ in self._written if written == text), None)


class Detokenizer:
    """Bytes of tokens to text, as they come: the text of all pushes and the flush is that of all bytes at once.

    Holds back the start of a character until its end arrives; what can't become one is U+FFFD at once.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, piece: bytes) -> str:
        """The text that is complete now."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What is left, U+FFFD for a character that never ended; then as new."""
        return self._decoder.decode(b"", final=True)


def _words(text: str) -> list[str]:
    """The words of a text, in the byte alphabet."""
    return [word for word, _ in _SPLITTER.pre_tokenize_str(text)]


def _merged(words: Sequence[str], merger: models.BPE) -> list[int]:
    return [token.id for word in words for token in merger.tokenize(word)]


def _merger(ids: dict[str, int], merges: Iterable[str]) -> models.BPE:
    """The library's; a word that is a token becomes it without merging, as in llama.cpp.

    merges  from the strongest on
    """
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    return models.BPE(vocab=ids, merges=pairs, ignore_merges=True)


def _merger_of(words: Iterable[str], vocabulary: Vocabulary) -> models.BPE:
    """The same for these words alone: what they are merged from, and what comes of that, are parts of them."""
    parts = {word[start:end] for word in words for end in range(1, len(word) + 1) for start in range(end)}
    ids = {part: vocabulary.ids[part] for part in parts if part in vocabulary.ids}
    merges = {f"{part[:cut]} {part[cut:]}" for part in ids for cut in range(1, len(part))}
    return _merger(ids, sorted(merges & vocabulary.merges.keys(), key=vocabulary.merges.__getitem__))


def _written(vocabulary: Vocabulary) -> list[tuple[str, int, bool]]:
    """(text, token, whether it is matched anywhere) of the tokens that are matched as written, longest first."""
    tokens = np.flatnonzero(np.isin(vocabulary.kinds, _AS_WRITTEN)).tolist()
    anywhere = vocabulary.kinds == TokenKind.USER_DEFINED
    written = [(vocabulary.texts[token], token, bool(anywhere[token])) for token in tokens]
    return sorted(written, key=lambda entry: -len(entry[0].encode()))


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at {error.start}"
        raise OptionError(f"expected text, found half of a character, {found}; give the text in UTF-8") from None
    if len(text) > LONGEST_TEXT:
        raise OptionError(f"expected at most {LONGEST_TEXT} characters of text, found {len(text)}; give less")
    return text
