"""Words of an overlap get one owner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eardrop.transcribe.seams import common_run


def merged(before: str, after: str, seconds: float = 2.0) -> str | None:
    place = common_run(before.split(), after.split(), seconds)
    if place is None:
        return None
    kept, gone = place
    return " ".join([*before.split()[:kept], *after.split()[gone:]])


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("we went to the old house", "old house by the sea", "we went to the old house by the sea"),
        ("we went to the old hou", "the old house by the sea", "we went to the old house by the sea"),
        ("we went to the old house", "rold house by the sea", "we went to the old house by the sea"),
        ("it was very", "very very good", "it was very very good"),
        ("and so. On", "so on we go", "and so. On we go"),
        ("one two three", "four five six", None),
        ("", "four five", None),
        ("one two", "", None),
    ],
)
def test_a_sentence_across_a_seam_is_whole(before, after, whole):
    assert merged(before, after) == whole


def test_only_as_many_words_are_looked_at_as_the_overlap_can_hold():
    before = "sea " + " ".join(f"w{i}" for i in range(30))
    assert merged(before, "sea and land", seconds=1.0) is None


@given(st.lists(st.integers(0, 1000), min_size=8, max_size=30, unique=True), st.data())
def test_distinct_words_are_neither_lost_nor_doubled(numbers, data):
    words = [str(number) for number in numbers]
    stop = data.draw(st.integers(2, len(words)))
    start = data.draw(st.integers(max(0, stop - 6), stop - 1))
    assert merged(" ".join(words[:stop]), " ".join(words[start:])) == " ".join(words)
