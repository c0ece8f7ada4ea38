"""What is said in training."""

import re
from itertools import islice
from random import Random

import pytest

from train.text import CLOSED, expand, grammar, is_held_out, number_words, sentences, spoken, written
from train.voices import ENGINES, VOICES


def test_every_name_in_the_grammar_is_there() -> None:
    named = {name for parts in grammar().values() for part in parts for name in re.findall(r"\{(\w+)\}", part)}
    assert named <= grammar().keys()


def test_training_never_hears_a_test_sentence() -> None:
    mix = {kind: weight for kind, weight in CLOSED.items() if kind != "plain"}  # which needs Debian's WordNet
    trained = {sentence.text for sentence in islice(sentences(Random(1), mix), 3000)}
    tested = {sentence.text for sentence in islice(sentences(Random(1), mix, held_out=True), 60)}
    assert not trained & tested
    assert is_held_out("Turn it off!") == is_held_out("turn it off")


def test_sentences_are_written_with_capitals_and_stops() -> None:
    for name in ("sentence", "command", "date", "time_of_day"):
        for seed in range(50):
            assert re.fullmatch(r"[A-Z].*[.?]", said := expand(name, Random(seed))), said
            assert "  " not in said
            assert "{" not in said


@pytest.mark.parametrize(
    ("said", "expected"),
    [("i saw a apple and i ran.", "I saw an apple and I ran."), ("at three p.m..", "At three p.m."), ("a  b.", "A b.")],
)
def test_a_sentence_is_tidied(said: str, expected: str) -> None:
    assert written(said) == expected


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (40, "forty"), (101, "one hundred one"), (21_013, "twenty one thousand thirteen")],
)
def test_numbers_are_spelt(number: int, words: str) -> None:
    assert number_words(number) == words


def test_letters_are_named_one_by_one_and_only_letters() -> None:
    assert spoken("letters", "It is spelled A I Z.") == "It is spelled ay, eye, Z."
    assert spoken("prose", "I saw A.") == "I saw A."


def test_the_held_out_engine_has_no_voice_that_is_trained_on() -> None:
    groups = {engine: {voice.group for voice in VOICES if voice.engine == engine} for engine in ENGINES}
    assert groups["festival"] == {"held-out"}
    seen = {voice.name for voice in VOICES if voice.group == "seen"}
    assert not seen & {voice.name for voice in VOICES if voice.group != "seen"}
