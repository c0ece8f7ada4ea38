"""A vocabulary is refused by name before the library, which panics, sees it."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eardrop.errors import ModelFileError
from eardrop.text import Tokenizer, TokenKind
from eardrop.text.vocabulary import BYTE_ALPHABET

Load = Callable[..., Tokenizer]
BYTES = list(BYTE_ALPHABET)


def small(tokens: list[str], **changes: object) -> dict[str, object]:
    """Facts of a vocabulary of the 256 bytes and a few tokens from id 256 on."""
    facts = {"model": "gpt2", "pre": "lfm2", "tokens": BYTES + tokens, "merges": [], "bos_token_id": 0}
    facts |= {"eos_token_id": 0} | changes
    return {f"tokenizer.ggml.{key}": value for key, value in facts.items()}


REFUSED = {
    "no model": ({"model": None}, "model: expected gpt2, found nothing"),
    "another model": ({"model": "llama"}, "model: expected gpt2, found 'llama'"),
    "a model that is no text": ({"model": np.zeros(3)}, "model: expected gpt2, found array"),
    "no splitter": ({"pre": None}, "pre: expected lfm2 or llama3 or llama-v3 or llama-bpe, found nothing"),
    "another splitter": ({"pre": "qwen2"}, "pre: expected lfm2 .*, found 'qwen2'"),
    "no tokens": ({"tokens": None}, "tokens: expected a list of texts, found nothing"),
    "tokens that are one text": ({"tokens": "abc"}, "tokens: expected a list of texts, found 'abc'"),
    "a token that is no text": ({"tokens": ["a", 5]}, "tokens: expected texts in UTF-8, found 5 at 1"),
    "half a character": ({"tokens": ["a", "\ud800"]}, r"tokens: expected texts in UTF-8, found '\\ud800' at 1"),
    "a token twice": (
        {"tokens": [*BYTES, "ab", "cd", "ab"]},
        "tokens: expected each token once, found 'ab' as 256 and",
    ),
    "a missing byte": (
        {"tokens": BYTES[:10], "token_type": None},
        "tokens: expected .* 256 bytes, found none for byte 0x0a",
    ),
    "a byte that is control": (
        {"token_type": np.full(960, 3)},
        "token_type: expected NORMAL .*, found CONTROL for byte",
    ),
    "too few types": ({"token_type": np.ones(959, np.int32)}, "token_type: expected 960 types, .*, found 959"),
    "a type of zero": ({"token_type": np.zeros(960, np.int32)}, "token_type: expected types from 1 to 6, found 0 for"),
    "types that are text": ({"token_type": ["1"] * 960}, "token_type: expected a list of whole numbers, found <U1"),
    "types in a list in a list": ({"token_type": [[1], [1, 2]]}, "token_type: expected a list of whole numbers"),
    "no merges": ({"merges": None}, "merges: expected a list of texts, found nothing"),
    "a merge without space": ({"merges": ["ab"]}, "merges: expected two tokens .*, found 'ab' as merge 0"),
    "a merge with two spaces": ({"merges": ["a b c"]}, "merges: expected two tokens .*, found 'a b c' as merge 0"),
    "a merge of nothing": ({"merges": [" b"]}, "merges: expected two tokens .*, found ' b' as merge 0"),
    "an unknown part": ({"merges": ["a 你"]}, "merges: expected .*, found merge 0, 'a 你', where '你' isn't"),
    "an unknown result": ({"merges": ["Q q"]}, "merges: expected .*, found merge 0, 'Q q', where 'Qq' isn't"),
    "no end token": ({"eos_token_id": None}, "eos_token_id: expected a token below 960, found nothing"),
    "an end token too high": ({"eos_token_id": 960}, "eos_token_id: expected a token below 960, found 960"),
    "an end token that is true": ({"eos_token_id": True}, "eos_token_id: expected a token below 960, found True"),
    "a negative start token": ({"bos_token_id": -1}, "bos_token_id: expected a token below 960, found -1"),
    "a wish that is no wish": ({"add_bos_token": "yes"}, "add_bos_token: expected true or false, found 'yes'"),
    "an end token in prompts": ({"add_eos_token": True}, "add_eos_token: expected false, found true"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_vocabulary_is_refused_by_file_key_expected_and_found(
    load: Load, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelFileError, match=f"^micro.gguf: tokenizer.ggml.{message}"):
        load(**changes)


def test_a_message_spells_out_control_characters_and_cuts_long_texts(load: Load) -> None:
    with pytest.raises(ModelFileError) as refusal:
        load(pre="\x1b]0;owned\x07" + "x" * 1000)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize("name", ["lfm2", "llama3", "llama-v3", "llama-bpe"])
def test_every_name_of_the_splitter_is_known(load: Load, name: str) -> None:
    assert load(pre=name).encode("Hello", special=False) == [917]


def test_without_types_every_token_is_normal(load: Load) -> None:
    plain = load(token_type=None)
    assert {plain.kind(token) for token in (0, 100, 959)} == {TokenKind.NORMAL}


def test_an_empty_token_gets_the_name_llama_cpp_gives_it() -> None:
    tokenizer = Tokenizer.from_facts(small(["", ""]), "small.gguf")
    assert [tokenizer.piece(256), tokenizer.piece(257)] == [b"[EMPTY_256]", b"[EMPTY_257]"]


def test_a_repeated_merge_counts_at_its_strongest() -> None:
    merges = ["a b", "b c", "a b"]
    tokenizer = Tokenizer.from_facts(small(["ab", "bc"], merges=merges), "small.gguf")
    assert tokenizer.encode("xabc", special=False) == [BYTES.index("x"), 256, BYTES.index("c")]


def test_the_start_token_is_absent_where_the_file_wants_none(load: Load) -> None:
    assert load(add_bos_token=False, bos_token_id=None).bos is None
    assert load(add_bos_token=None).bos == 1  # the default of this splitter


def test_stop_tokens_are_the_end_token_and_all_that_llama_cpp_knows_by_spelling(load: Load) -> None:
    assert load().stop_tokens == {2, 7}
    assert load(eos_token_id=100).stop_tokens == {2, 7, 100}


def test_a_stop_token_is_control_whatever_the_file_says(load: Load) -> None:
    types = np.ones(960, np.int8)
    tokenizer = load(token_type=types)
    assert tokenizer.kind(7) is TokenKind.CONTROL
    assert tokenizer.kind(6) is TokenKind.NORMAL
    assert (types == 1).all()  # the caller's array is his


texts = st.text(max_size=4)
values = st.one_of(st.none(), st.integers(-2, 300), st.booleans(), texts, st.lists(texts, max_size=5))
merges = st.lists(st.one_of(texts, st.tuples(texts, texts).map(" ".join)), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    tokens=st.lists(st.text(st.characters(codec=None), max_size=3) | st.sampled_from(["ab", "abc"]), max_size=5),
    types=st.lists(st.integers(-1, 9), max_size=5),
    merges=merges | st.just(["a b", "ab c"]),
    changes=st.dictionaries(st.sampled_from(["model", "pre", "eos_token_id", "add_bos_token"]), values, max_size=1),
)
def test_whatever_the_file_holds_only_a_model_file_error_comes_out(
    tokens: list[str], types: list[int], merges: list[str], changes: dict[str, object]
) -> None:
    facts = small(tokens, token_type=np.array([1] * 256 + types), merges=merges, **changes)
    try:
        tokenizer = Tokenizer.from_facts(facts, "small.gguf")
    except ModelFileError:
        return
    assert b"".join(map(tokenizer.piece, tokenizer.encode("abc 你", special=False))) == "abc 你".encode()
