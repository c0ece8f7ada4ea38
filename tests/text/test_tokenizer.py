"""Text becomes the ids that llama.cpp gives it, and ids become the bytes they spell."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from eardrop.errors import OptionError
from eardrop.text import Detokenizer, Tokenizer, TokenKind
from eardrop.text.tokenizer import LONGEST_TEXT, SHORT_TEXT, WORD
from eardrop.text.vocabulary import BYTE_ALPHABET

RECORDED = json.loads((Path(__file__).parent.parent / "data" / "text" / "tokenizer.json").read_text(encoding="utf-8"))
CASES = RECORDED["cases"]

# What a text is split into before merging: llama.cpp's splitter, the regular expression and the library agree on these.
WORDS = {
    "Hello world": ["Hello", " world"],
    "Hello  world": ["Hello", " ", " world"],
    "Perform ASR.": ["Perform", " ASR", "."],
    "system\nPerform ASR.": ["system", "\n", "Perform", " ASR", "."],
    "user\n": ["user", "\n"],
    " leading": [" leading"],
    "trailing ": ["trailing", " "],
    "a   b": ["a", "  ", " b"],
    "\n\n": ["\n\n"],
    "\n \n  x": ["\n \n", " ", " x"],
    "  \n\n  y": ["  \n\n", " ", " y"],
    "a\r\nb": ["a", "\r\n", "b"],
    "don't": ["don", "'t"],
    "DON'T I'LL we'Ve": ["DON", "'T", " I", "'LL", " we", "'Ve"],
    "'sandwich'": ["'s", "andwich", "'"],
    "'S": ["'S"],
    "it's.": ["it", "'s", "."],
    "x'y": ["x", "'y"],
    "1234567": ["123", "456", "7"],
    "3.14159": ["3", ".", "141", "59"],
    "12:30pm": ["12", ":", "30", "pm"],
    "€1,234.56": ["€", "1", ",", "234", ".", "56"],
    "foo_bar-baz": ["foo", "_bar", "-baz"],
    "...!!!\n\nok": ["...!!!\n\n", "ok"],
    "end.\n": ["end", ".\n"],
    "   ": ["   "],
    "\t\ttab": ["\t", "\ttab"],
    "a\tb": ["a", "\tb"],
    "日本語テスト": ["日本語テスト"],
    "こんにちは、世界。": ["こんにちは", "、世界", "。"],
    "नमस्ते दुनिया": ["नमस", "\u094dत", "\u0947", " द", "\u0941न", "\u093fय", "\u093e"],
    "Привет, мир!": ["Привет", ",", " мир", "!"],
    "é e\u0301": ["é", " e", "\u0301"],
    "🚀🚀 go": ["🚀🚀", " go"],
    "👨\u200d👩\u200d👧": ["👨\u200d👩\u200d👧"],
    "x\u00a0y": ["x", "\u00a0y"],
    "a\u3000b": ["a", "\u3000b"],
    "½ ² Ⅷ": ["½", " ", "²", " ", "Ⅷ"],
    "C++ & C#": ["C", "++", " &", " C", "#"],
    "http://a.b/c?d=1": ["http", "://", "a", ".b", "/c", "?d", "=", "1"],
    "<|im_end|>": ["<|", "im", "_end", "|>"],
    "<__media__>": ["<__", "media", "__>"],
    "\u200bzero": ["\u200bzero"],
    "مرحبا 123": ["مرحبا", " ", "123"],
    "A'\u017f": ["A", "'\u017f"],
    "\u02bcs": ["\u02bcs"],
    "\u0085x": ["\u0085x"],
    "a\u2028b": ["a", "\u2028b"],
}

# Texts rich in what is matched as written, and in the seams between it.
written = st.sampled_from(
    ["<|im_end|>", "<|im_start|>", "<|", "im_end", "|>", "ASR:", " [laugh]", "\n---\n", "\n", " "]
)
marked = st.lists(st.text(max_size=5) | written, max_size=8).map("".join)
fuzz = settings(max_examples=150, deadline=None)


def spelled(tokenizer: Tokenizer, tokens: list[int]) -> bytes:
    return b"".join(map(tokenizer.piece, tokens))


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["text"][:20]))
def test_ids_and_pieces_are_those_of_llama_cpp(micro: Tokenizer, case: dict[str, object]) -> None:
    text = str(case["text"])
    ids = micro.encode(text, special=True)
    assert ids == case["ids"]
    assert [micro.bos, *ids] == case["ids_add_special"]
    assert micro.encode(text, special=False) == case["ids_no_special"]
    assert spelled(micro, ids).hex() == case["pieces_hex"]


def test_the_recorded_cases_are_llama_cpps(golden: Path) -> None:
    recorded = json.loads((golden / "expected" / "tokenizer.json").read_text(encoding="utf-8"))["cases"]
    assert len(recorded) == len(CASES) == 125
    for theirs, ours in zip(recorded, CASES, strict=True):
        assert {key: theirs[key] for key in ours} == ours


def test_tokens_spell_what_llama_cpp_printed(golden: Path, micro: Tokenizer) -> None:
    records = sorted((golden / "expected").glob("mi*/*.npz"))
    assert len(records) > 50
    for record in records:
        with np.load(record) as arrays:
            tokens, text = arrays["greedy"].tolist(), arrays["text"].tobytes()
        end = next((at for at, token in enumerate(tokens) if token in micro.stop_tokens), len(tokens))
        assert spelled(micro, tokens[:end]) == text, record


@pytest.mark.parametrize("text", WORDS, ids=ascii)
def test_text_is_split_into_words_as_llama_cpp_splits_it(text: str) -> None:
    split = pre_tokenizers.Split(Regex(WORD), "isolated").pre_tokenize_str(text)
    assert [word for word, _ in split] == WORDS[text]


@fuzz
@given(text=marked, special=st.booleans())
def test_ids_spell_the_text_they_came_from(micro: Tokenizer, text: str, special: bool) -> None:
    assert spelled(micro, micro.encode(text, special=special)) == text.encode()


@fuzz
@given(text=marked)
def test_text_that_may_not_spell_control_tokens_never_does(micro: Tokenizer, text: str) -> None:
    assert not any(micro.is_control(token) for token in micro.encode(text, special=False))


@fuzz
@given(spans=st.lists(marked, max_size=5), special=st.booleans())
def test_spans_of_one_kind_are_one_text(micro: Tokenizer, spans: list[str], special: bool) -> None:
    whole = micro.encode("".join(spans), special=special)
    assert micro.encode_spans([(span, special) for span in spans]) == whole


@fuzz
@given(text=st.text(st.sampled_from("thein aEr.\n'1"), max_size=60) | marked, special=st.booleans())
def test_a_short_text_has_the_ids_that_it_has_in_a_long_one(micro: Tokenizer, text: str, special: bool) -> None:
    end = "<think>"  # a seam: no word reaches over it
    long = micro.encode(text + end + "x" * SHORT_TEXT, special=special)
    ids = micro.encode(text + end, special=special)
    assert len(text.encode()) <= SHORT_TEXT
    assert long[: len(ids)] == ids


def test_words_reach_over_the_seams_of_spans(micro: Tokenizer) -> None:
    newlines = micro.encode("\n\n", special=False)
    assert len(newlines) == 1
    assert micro.encode_spans([("<|im_start|>\n", True), ("\n", False)]) == [6, *newlines]


def test_a_control_token_may_not_begin_or_end_in_a_span_that_forbids_it(micro: Tokenizer) -> None:
    as_text = micro.encode("<|im_end|>", special=False)
    assert micro.encode_spans([("<|im_", True), ("end|>", False)]) == as_text
    assert micro.encode_spans([("<|im_", False), ("end|>", True)]) == as_text
    assert micro.encode_spans([("<|im_end|>", False), ("<|im_end|>", True)])[-1] == 7


def test_user_defined_tokens_match_inside_any_text(micro: Tokenizer) -> None:
    assert micro.encode("xASR:y", special=False) == micro.encode("xASR:y", special=True)
    assert micro.written("ASR:") in micro.encode("xASR:y", special=False)


def test_the_longest_token_matches_first_even_where_a_shorter_one_begins_before_it() -> None:
    tokens = [*BYTE_ALPHABET, "<ab>", "ab>cd>", "d>d"]
    facts = {"model": "gpt2", "pre": "lfm2", "tokens": tokens, "merges": [], "eos_token_id": 0, "add_bos_token": False}
    facts["token_type"] = np.array([1] * 256 + [4, 4, 4])
    tokenizer = Tokenizer.from_facts({f"tokenizer.ggml.{key}": value for key, value in facts.items()}, "overlap.gguf")
    assert tokenizer.encode("<ab>cd>", special=False) == [ord("<"), 257]
    assert tokenizer.encode("<ab>ab>cd>", special=False) == [256, 257]
    assert tokenizer.encode("ab>cd>d>d", special=False) == [257, 258]  # the first "d>d" is taken, not the second


def test_half_a_character_is_refused(micro: Tokenizer) -> None:
    with pytest.raises(OptionError, match=r"found half of a character, U\+DC80 at 1"):
        micro.encode("a\udc80", special=True)


def test_a_text_too_long_for_any_context_is_refused_before_the_splitter_panics(micro: Tokenizer) -> None:
    longest = "x" + " " * (LONGEST_TEXT - 2) + "x"
    assert len(micro.encode(longest, special=False)) > 1
    with pytest.raises(OptionError, match="at most 1000000 characters of text, found 1000001"):
        micro.encode(longest + "x", special=False)


@fuzz
@given(text=st.text(st.characters(codec=None)), special=st.booleans())
def test_no_text_makes_the_library_panic(micro: Tokenizer, text: str, special: bool) -> None:
    with contextlib.suppress(OptionError):  # a panic is neither this nor an Exception, and would end the test
        micro.encode(text, special=special)


def test_kinds_and_masks_agree_and_come_from_the_file(micro: Tokenizer) -> None:
    kinds = [micro.kind(token) for token in range(micro.vocabulary_size)]
    assert [kinds[0], kinds[100], kinds[922], kinds[959]] == [
        *(TokenKind.CONTROL, TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED)
    ]
    assert micro.control_mask().tolist() == [kind is TokenKind.CONTROL for kind in kinds]
    assert micro.control_mask().tolist() == [micro.is_control(token) for token in range(960)]
    assert micro.unused_mask().tolist() == [kind is TokenKind.UNUSED for kind in kinds]


def test_an_unknown_token_is_control_and_spelt_out(load: Callable[..., Tokenizer]) -> None:
    tokenizer = load(token_type=np.array([2] + [1] * 959))
    assert tokenizer.is_control(0)
    assert tokenizer.control_mask()[0]
    assert tokenizer.piece(0) == b"<|pad|>"


def test_control_tokens_are_spelt_as_written_and_unused_ones_spell_nothing(micro: Tokenizer) -> None:
    assert micro.piece(14) == b"<|audio_start|>"
    assert micro.piece(959) == b""


def test_tokens_from_numpy_are_tokens(micro: Tokenizer) -> None:
    assert micro.piece(np.int32(917)) == b"Hello"


@pytest.mark.parametrize("token", [-1, 960, 10**12])
def test_a_token_outside_the_vocabulary_is_refused(micro: Tokenizer, token: int) -> None:
    with pytest.raises(OptionError, match=f"token {token} isn't in the vocabulary of micro.gguf: 960 tokens"):
        micro.piece(token)
    with pytest.raises(ValueError, match="isn't in the vocabulary"):
        micro.is_control(token)


def test_a_token_is_found_by_what_it_is_written_as(micro: Tokenizer) -> None:
    assert micro.written("<|audio_start|>") == 14
    assert micro.written("Hello") is None
    assert micro.written("<|nothing|>") is None


@fuzz
@given(pieces=st.lists(st.binary(max_size=4) | st.text(max_size=2).map(str.encode), max_size=8))
def test_pushed_pieces_give_the_text_of_the_whole(pieces: list[bytes]) -> None:
    detokenizer = Detokenizer()
    text = "".join(map(detokenizer.push, pieces)) + detokenizer.flush()
    assert text == b"".join(pieces).decode("utf-8", "replace")


@fuzz
@given(text=st.text(max_size=6))
def test_a_character_is_held_back_until_it_is_whole_and_no_longer(text: str) -> None:
    detokenizer = Detokenizer()
    so_far = b""
    shown = ""
    for byte in text.encode():
        so_far += bytes([byte])
        shown += detokenizer.push(bytes([byte]))
        assert shown == so_far.decode("utf-8", "ignore")
    assert detokenizer.flush() == ""


def test_a_flush_shows_what_never_ended_and_starts_anew() -> None:
    detokenizer = Detokenizer()
    assert detokenizer.push("…".encode()[:2]) == ""
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.push(b"a") == "a"


def test_a_vocabulary_of_the_real_size_is_read_and_used() -> None:
    draw = random.Random(1)
    tokens = [*BYTE_ALPHABET, *(f"<|{token}|>" for token in range(500))]
    known, parts, merges = set(tokens), list(BYTE_ALPHABET), []
    while len(merges) < 63_683:
        left, right = draw.choice(parts), draw.choice(parts)
        if left + right not in known and len(left + right) <= 16:
            known.add(left + right)
            parts.append(left + right)
            merges.append(f"{left} {right}")
    tokens += parts[256:]
    tokens += [f"[PAD{token}]" for token in range(len(tokens), 65_536)]
    types = np.array([1] * 256 + [3] * 500 + [1] * (65_536 - 756), np.int32)
    facts = {"model": "gpt2", "pre": "lfm2", "tokens": tokens, "token_type": types, "merges": merges}
    facts |= {"bos_token_id": 256, "eos_token_id": 257}
    tokenizer = Tokenizer.from_facts({f"tokenizer.ggml.{key}": value for key, value in facts.items()}, "real.gguf")
    assert spelled(tokenizer, tokenizer.encode("Perform ASR.", special=True)) == b"Perform ASR."
