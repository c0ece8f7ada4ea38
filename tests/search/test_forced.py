"""A given text in place of a search: its tokens, as likely as they are."""

import numpy as np
import pytest

from eardrop.search import Choice, Forced

LOGITS = np.float32([0.5, 3.0, -1.0, 2.0])


def best_of(logits: np.ndarray) -> Choice:
    shares = np.exp(logits - logits.max())
    token, runner_up = int(logits.argmax()), np.sort(logits)[-2]
    return Choice(token, float(-np.log(shares.sum())), float(logits[token] - runner_up))


def test_each_token_is_as_likely_as_the_model_holds_it() -> None:
    chooser = Forced([2, 1, 0]).begin()
    logprobs = LOGITS - np.log(np.exp(LOGITS).sum())
    for token in (2, 1, 0):
        choice = chooser.choose(best_of(LOGITS), lambda: LOGITS, None)
        assert choice.token == token
        assert choice.logprob == pytest.approx(logprobs[token], abs=1e-6)
        assert choice.margin == pytest.approx(LOGITS[token] - (3.0 if token != 1 else 2.0), abs=1e-6)


def test_the_likeliest_token_costs_no_logits_and_keeps_its_numbers() -> None:
    def fetched() -> np.ndarray:
        raise AssertionError("nobody needs them")

    best = best_of(LOGITS)
    assert Forced([1]).begin().choose(best, fetched, None) is best


def test_behind_the_text_the_search_is_greedy() -> None:
    chooser, best = Forced([]).begin(), best_of(LOGITS)
    assert chooser.choose(best, lambda: LOGITS, None) is best


def test_each_text_begins_at_its_own_first_token() -> None:
    search = Forced([2, 0])
    first, second = search.begin(), search.begin()
    for chooser in (first, second, first, second):
        chooser.choose(best_of(LOGITS), lambda: LOGITS, None)
    assert first.choose(best_of(LOGITS), lambda: LOGITS, None).token == 1
