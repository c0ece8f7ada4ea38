import numpy as np
import pytest

from eardrop.tools.bootstrap import DRAWS, difference, interval


def test_an_interval_holds_the_rate_and_narrows_with_more_utterances():
    few, many = interval([1, 0, 3, 2] * 5, [10] * 20), interval([1, 0, 3, 2] * 80, [10] * 320)
    assert few.low < 0.15 < few.high
    assert many.low < 0.15 < many.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_an_interval_is_the_normal_one_where_that_holds():
    """Of 400 utterances of 10 words with 0 or 2 edits each: 0.1 ± 1.96 · 0.1 / √400."""
    found = interval([0, 2] * 200, [10] * 400)
    assert found.low == pytest.approx(0.1 - 0.0098, abs=0.001)
    assert found.high == pytest.approx(0.1 + 0.0098, abs=0.001)


def test_it_covers_the_true_rate_in_about_95_of_100_cases():
    rng = np.random.default_rng(7)
    found = [interval(rng.poisson(2, 60).tolist(), [10] * 60) for _ in range(60)]
    assert 0.85 <= np.mean([one.low <= 0.2 <= one.high for one in found]) <= 1


@pytest.mark.parametrize(("edits", "lengths"), [([], []), ([1], [5]), ([1, 2], [0, 0])])
def test_there_is_none_of_one_utterance_or_of_no_words(edits, lengths):
    assert interval(edits, lengths) is None


def test_draws_without_words_are_passed_over():
    assert interval([1, 0], [4, 0]).low > 0


def test_the_same_run_twice_has_no_difference():
    found = difference([1, 0, 2], [1, 0, 2], [5, 5, 5])
    assert (found.value, found.interval.low, found.interval.high, found.p) == (0, 0, 0, 1)


def test_pairs_see_what_separate_intervals_do_not():
    """Utterances differ by far more than the runs do, but B is better on each of them."""
    rng = np.random.default_rng(3)
    before = rng.integers(1, 40, 100)
    after = before - 1
    alone = [interval(run.tolist(), [50] * 100) for run in (before, after)]
    assert alone[0].low < alone[1].high
    found = difference(before.tolist(), after.tolist(), [50] * 100)
    assert found.value == pytest.approx(-0.02)
    assert found.interval.high < 0
    assert found.p == pytest.approx(2 / (DRAWS + 1))


def test_chance_is_no_difference():
    rng = np.random.default_rng(5)
    before, after = rng.poisson(3, (2, 200)).tolist()
    assert difference(before, after, [20] * 200).p > 0.05


def test_without_words_there_is_no_difference():
    assert difference([1], [0], [0]) is None
    assert difference([1], [0], [2]).interval is None
