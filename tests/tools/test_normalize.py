"""Our normaliser beside whisper-normalizer, which holds the code of openai/whisper."""

import functools
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from eardrop.tools import numbers
from eardrop.tools.normalize import NORMALIZERS, _spellings, basic, english, unspaced

# Where rules meet: signs, currencies, ordinals, decimals, contractions, brackets, other scripts' digits.
PIECES = [
    *numbers._WORDS, "half", "a", "0", "1", "2", "10", "100", "3.5", "$2", "£5", "¢7", "-4", "+3", "20%", "5.", "1.2.3",
    ".5", "$", "%", "'s", "won't", "colour", "it's", "mr.", "st", "hmm", "1st", "2s", "mp3", "1,000", "$0.5", "$0 5",
    "and a half", "Ünïcode", "œuvre", "[x]", "(y z)", "o'clock", "n't", "٣", "½", "²", "100th", "<a>", "I'd been",
    "1960s", "gonna", "!", "--", "€1.50", "$0125", "ﬁne", "ǅ",
]  # fmt: skip


@functools.cache
def whisper():
    return EnglishTextNormalizer()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Mr. Brown's 20 colours, um, won't do!", "mister brown is 20 colors will not do"),
        ("twenty-one dollars and seven cents", "$21.07"),
        ("two hundred and fifty thousand and three", "250003"),
        ("one oh one", "101"),
        ("the twenty first of nineteen sixty five", "the 21st of 1965"),
        ("double seven, three point one four", "773.14"),
        ("minus five and a half percent", "-5.5%"),
        ("I've 1,000 (or so) [laughter] pounds", "i have £1000"),
        ("one by one, the ones", "one by one the ones"),
        ("I'd been café-ing", "i had been cafe ing"),
        ("", ""),
        ("[noise] (…)", ""),
    ],
)
def test_known_texts(text, normal):
    assert english(text) == normal
    assert whisper()(text).split() == normal.split()


def test_every_spelling_is_whispers():
    mapping = {b: a for b, a in whisper().standardize_spellings.mapping.items() if " " not in b}
    assert _spellings() == mapping


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=10), st.sampled_from([" ", " ", " ", ", ", "-", ""]))
def test_pieces_of_numbers_and_contractions_come_out_as_whispers(pieces, between):
    text = between.join(pieces)
    assert english(text) == " ".join(whisper()(text).split())


def test_many_rows_of_number_words_come_out_as_whispers():
    draw = random.Random(1)
    words = sorted(numbers._WORDS)
    for _ in range(2000):
        text = " ".join(draw.choices(words, k=draw.randint(1, 8)))
        assert english(text) == " ".join(whisper()(text).split()), text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_comes_out_as_whispers(text):
    assert basic(text) == " ".join(BasicTextNormalizer()(text).split())
    assert english(text) == " ".join(whisper()(text).split())


@pytest.mark.parametrize(
    "text",
    [
        "one " * 5000 + "thousand",
        "nine " * 990 + "million billion",
        "7" * 5000,
        "9" * 999 + " decillion",
        "point " * 99,
    ],
)
def test_numbers_of_absurd_length_do_no_harm(text):
    assert english(text)


def test_unspaced_leaves_characters_alone():
    assert unspaced("ﾄｰｷｮｰ は、 夜。") == "トーキョーは夜"


def test_none_leaves_words_as_they_are():
    assert NORMALIZERS["none"](" Mr.  Brown ") == "Mr. Brown"


def test_texts_of_the_recordings_come_out_as_whispers(recordings):
    for line in (recordings / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"] or ""
        assert english(text) == " ".join(whisper()(text).split())
