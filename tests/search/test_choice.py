"""Ways to choose the next token, and rules to stop."""

import numpy as np
import pytest

from eardrop.errors import OptionError
from eardrop.search import Choice, Finish, Greedy, Sample, Stop

LOGITS = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32))
BEST = Choice(0, float(LOGITS[0]), float(LOGITS[0] - LOGITS[1]))


def never() -> np.ndarray:
    raise AssertionError("greedy search needs no logits")


def shares(search: Sample, draws: int = 4000, allowed: np.ndarray | None = None) -> np.ndarray:
    choose = search.begin().choose
    tokens = [choose(BEST, lambda: LOGITS, allowed).token for _ in range(draws)]
    return np.bincount(tokens, minlength=5) / draws


def everything(**wishes: float) -> Sample:
    """No filter but those given."""
    return Sample(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 7, **wishes})


def test_greedy_takes_the_best_and_fetches_nothing() -> None:
    assert Greedy().begin().choose(BEST, never, None) is BEST


def test_draws_follow_the_distribution() -> None:
    np.testing.assert_allclose(shares(everything()), np.exp(LOGITS), atol=0.03)


def test_temperature_sharpens_and_flattens() -> None:
    np.testing.assert_allclose(
        shares(everything(temperature=0.5)), np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum(), atol=0.03
    )
    assert shares(everything(temperature=0.01))[0] == 1.0
    assert shares(everything(temperature=100.0))[4] > 0.15


def test_top_k_keeps_the_largest() -> None:
    kept = shares(everything(top_k=2))
    assert kept[2:].sum() == 0
    assert kept[1] > 0.25


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.6, 2), (0.75, 2), (0.8, 3), (0.99, 5)])
def test_top_p_keeps_the_token_that_crosses(top_p: float, kept: int) -> None:
    assert len(everything(top_p=top_p).kept(LOGITS)[0]) == kept


def test_top_p_sees_the_distribution_at_temperature_one() -> None:
    assert len(everything(top_p=0.6, temperature=100.0).kept(LOGITS)[0]) == 2


def test_min_p_keeps_what_is_a_share_of_the_best() -> None:
    assert len(everything(min_p=0.2).kept(LOGITS)[0]) == 3


def test_equal_logits_keep_the_lowest_ids_first() -> None:
    ids, _ = everything(top_k=3).kept(np.zeros(5, np.float32))
    assert ids.tolist() == [0, 1, 2]


def test_a_seed_repeats_its_draws_for_every_stream() -> None:
    search = everything(seed=3)
    runs = []
    for _ in range(2):
        choose = search.begin().choose
        runs.append([choose(BEST, lambda: LOGITS, None).token for _ in range(50)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 2


def test_a_mask_is_obeyed_and_log_probabilities_are_among_the_allowed() -> None:
    allowed = np.array([False, True, True, False, False])
    best = Choice(1, float(np.log(2 / 3)), 1.0)
    choose = everything().begin().choose
    seen = {choice.token: choice.logprob for choice in (choose(best, lambda: LOGITS, allowed) for _ in range(100))}
    assert set(seen) == {1, 2}
    assert seen[2] == pytest.approx(np.log(1 / 3), abs=1e-5)


def test_a_margin_belongs_to_the_likeliest_token_alone() -> None:
    choose = everything(temperature=100.0).begin().choose
    choices = [choose(BEST, lambda: LOGITS, None) for _ in range(50)]
    assert {choice.margin for choice in choices if choice.token == 0} == {BEST.margin}
    assert {choice.margin for choice in choices if choice.token != 0} == {0.0}


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_without_meaning_is_refused(temperature: float) -> None:
    with pytest.raises(OptionError, match="temperature"):
        Sample(temperature=temperature)


def test_stop_tokens_and_limits_end_a_text_before_the_token() -> None:
    stop = Stop(frozenset({2, 7}), limit=3)
    assert stop.before(7, 0) is Finish.STOP
    assert stop.before(5, 2) is None
    assert stop.before(5, 3) is Finish.LENGTH
    assert Stop(frozenset()).before(7, 10**9) is None


def test_a_min_p_beyond_one_keeps_the_likeliest() -> None:
    assert everything(min_p=5.0).kept(LOGITS)[0].tolist() == [0]


@pytest.mark.parametrize(("temperature", "tokens"), [(5e-324, 1), (1e-300, 1), (1e300, 5)])
def test_temperatures_beyond_float32_draw_as_their_limits_do(temperature: float, tokens: int) -> None:
    assert np.count_nonzero(shares(everything(temperature=temperature), draws=200)) == tokens


@pytest.mark.parametrize("wish", [{"temperature": float("inf")}, {"seed": -1}])
def test_draws_that_cannot_be_are_refused_before_anyone_waits_for_them(wish: dict) -> None:
    with pytest.raises(OptionError, match=next(iter(wish))):
        Sample(**wish)
