import numpy as np
import pytest

from eardrop.bench.noise import change, estimate, paired


def test_the_interval_holds_the_median_and_stays_within_the_runs() -> None:
    samples = np.random.default_rng(0).lognormal(size=15).tolist()
    found = estimate(samples)
    assert found.median == np.median(samples)
    assert min(samples) <= found.low <= found.median <= found.high <= max(samples)


def test_the_same_runs_have_the_same_interval() -> None:
    assert estimate([1.0, 2.0, 5.0]) == estimate([1.0, 2.0, 5.0])


def test_more_runs_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(0)
    few, many = estimate(rng.normal(10, 1, 7).tolist()), estimate(rng.normal(10, 1, 400).tolist())
    assert many.high - many.low < few.high - few.low


def test_of_runs_from_one_distribution_the_interval_covers_its_median_nearly_always() -> None:
    rng = np.random.default_rng(0)
    intervals = [estimate(rng.normal(10, 1, 9).tolist()) for _ in range(200)]
    assert 0.88 <= np.mean([e.low <= 10 <= e.high for e in intervals]) <= 1.0  # of 9 runs a little less than 95 %


def test_one_run_alone_is_its_own_interval() -> None:
    found = estimate([3.0])
    assert (found.median, found.low, found.high) == (3.0, 3.0, 3.0)


def test_a_change_is_a_share_of_what_was_before() -> None:
    assert change([2.0, 2.0], [3.0, 3.0]).median == pytest.approx(0.5)


def test_pairs_are_compared_each_with_its_own() -> None:
    slow_and_fast = [1.0, 10.0, 100.0, 1000.0, 10000.0]  # the machine, meanwhile, did something else
    found = paired(slow_and_fast, [0.5 * x for x in slow_and_fast])
    assert (found.median, found.low, found.high) == (0.5, 0.5, 0.5)
