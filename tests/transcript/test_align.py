"""Alignments beside jiwer's."""

import jiwer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eardrop.transcript.align import Counts, align, count, distance

words = st.lists(st.sampled_from("abcdef"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(words.filter(bool), words)
@example(["a"] * 70 + ["b"], ["b"] + ["a"] * 80)
def test_counts_are_jiwers(reference, heard):
    theirs = jiwer.process_words(" ".join(reference), " ".join(heard))
    ours = count(align(reference, heard))
    assert ours == Counts(theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions)
    assert ours.length == len(reference)


@settings(max_examples=300, deadline=None)
@given(words, words)
def test_an_alignment_holds_both_texts_and_nothing_else(reference, heard):
    pairs = align(reference, heard)
    assert [word for word, _ in pairs if word is not None] == reference
    assert [word for _, word in pairs if word is not None] == heard
    assert (None, None) not in pairs


@settings(max_examples=300, deadline=None)
@given(st.text("ab é𝄞", min_size=1, max_size=100), st.text("ab é𝄞", max_size=100))
def test_characters_are_counted_as_jiwer_counts_them(reference, heard):
    reference, heard = " ".join(reference.split()) or "a", " ".join(heard.split())
    theirs = jiwer.process_characters(reference, heard)
    assert distance(reference, heard) == theirs.substitutions + theirs.deletions + theirs.insertions


@pytest.mark.parametrize(
    ("reference", "heard", "counts"),
    [
        ("", "", Counts()),
        ("", "a b", Counts(insertions=2)),
        ("a b", "", Counts(deletions=2)),
        ("the cat sat", "the sat", Counts(hits=2, deletions=1)),
        ("a b c", "a x c d", Counts(hits=2, substitutions=1, insertions=1)),
    ],
)
def test_odd_lengths(reference, heard, counts):
    assert count(align(reference.split(), heard.split())) == counts


def test_rates():
    assert Counts().rate is None
    assert Counts(insertions=3).rate is None
    assert Counts(hits=1, insertions=3).rate == 3.0
    assert Counts(1, 2, 3, 4) + Counts(1, 1, 1, 1) == Counts(2, 3, 4, 5)


def test_long_texts_are_no_table_of_cells():
    """10,000 × 10,000 words: a table would be 100 million cells."""
    reference = [f"w{i % 997}" for i in range(10_000)]
    heard = [f"w{i % 991}" for i in range(10_000)]
    pairs = align(reference, heard)
    assert count(pairs).length == 10_000
    assert count(pairs).edits == distance(reference, heard)


@pytest.mark.parametrize(
    ("a", "b", "edits"), [("", "", 0), ("a b", "", 2), ("a b c", "a c", 1), ("a b", "b a", 2), ("a", "b c", 2)]
)
def test_the_distance_of_words(a, b, edits):
    assert distance(a.split(), b.split()) == distance(b.split(), a.split()) == edits
