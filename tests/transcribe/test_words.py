"""When words were said: the best cut of a line, who listens, what a word is."""

import itertools

import numpy as np
import pytest

from eardrop.audio import SAMPLE_RATE
from eardrop.engine import Token
from eardrop.transcribe import words_of
from eardrop.transcribe.words import cut, listened, sound

ROW = SAMPLE_RATE * 8 // 100  # samples of one row of the encoder


def tokens_of(*pieces: str | bytes) -> list[Token]:
    return [
        Token(i, piece if isinstance(piece, bytes) else piece.encode(), -0.1 * (i + 1), 1.0)
        for i, piece in enumerate(pieces)
    ]


def looked_at(stretches: list[tuple[int, int]], rows: int, heads: int = 1) -> np.ndarray:
    """(tokens, heads, rows): each token looks at its stretch of rows alone, evenly."""
    looked = np.zeros((len(stretches), heads, rows), np.float32)
    for token, (first, last) in enumerate(stretches):
        looked[token, :, first:last] = 1 / (last - first)
    return looked


def spoken_at(stretches: list[tuple[float, float]], seconds: float) -> np.ndarray:
    """Samples that sound in these stretches of seconds alone."""
    samples = np.random.default_rng(1).normal(0, 1e-4, round(seconds * SAMPLE_RATE))
    for begun, ended in stretches:
        span = slice(round(begun * SAMPLE_RATE), round(ended * SAMPLE_RATE))
        samples[span] = np.sin(np.arange(span.stop - span.start) * 0.3) * 0.3
    return samples.astype(np.float32)


def times(found) -> list[tuple[float, float]]:
    return [(word.start, word.end) for word in found]


def test_a_cut_is_worth_as_much_as_any() -> None:
    rng = np.random.default_rng(4)
    for states, cells in ((1, 1), (1, 5), (2, 6), (4, 7), (5, 3)):
        curves = np.concatenate([np.zeros((states, 1)), rng.normal(size=(states, cells)).cumsum(axis=1)], axis=1)
        cuts, worth = cut(curves)
        ways = [(0, *way, cells) for way in itertools.combinations_with_replacement(range(cells + 1), states - 1)]
        worths = [sum(curves[s, way[s + 1]] - curves[s, way[s]] for s in range(states)) for way in ways]
        assert worth == pytest.approx(max(worths))
        assert tuple(cuts) in ways
        assert worths[ways.index(tuple(cuts))] == pytest.approx(worth)


def test_a_cut_gives_each_state_its_shortest_length() -> None:
    rng, shortest = np.random.default_rng(4), np.array([0, 2, 0, 3])
    for cells in (5, 6, 9):
        curves = np.concatenate([np.zeros((4, 1)), rng.normal(size=(4, cells)).cumsum(axis=1)], axis=1)
        cuts, worth = cut(curves, shortest)
        ways = [(0, *way, cells) for way in itertools.combinations_with_replacement(range(cells + 1), 3)]
        fit = [way for way in ways if (np.diff(way) >= shortest).all()]
        assert tuple(cuts) in fit
        assert worth == pytest.approx(max(sum(curves[s, w[s + 1]] - curves[s, w[s]] for s in range(4)) for w in fit))


def test_a_known_path_is_found_exactly() -> None:
    stretches = [(2, 5), (5, 8), (8, 11), (15, 18)]
    samples = spoken_at([(0.16, 0.88), (1.2, 1.44)], 20 * 0.08)
    found = times(words_of(tokens_of("One", " two", " three", " four"), looked_at(stretches, 20), samples))
    expected = [(first * 0.08, last * 0.08) for first, last in stretches]
    np.testing.assert_allclose(found, expected, atol=0.0151)  # beside the pauses: levels are those of 25 ms
    np.testing.assert_allclose([found[0][1], *found[1], found[2][0]], [0.4, 0.4, 0.64, 0.64], atol=1e-9)


def test_no_word_is_without_a_length_while_there_is_room() -> None:
    samples = spoken_at([(0.0, 0.3), (1.3, 1.6)], 1.6)
    found = words_of(tokens_of("So", " very", " quiet"), looked_at([(0, 4), (6, 12), (16, 20)], 20), samples)
    assert all(word.end - word.start >= 0.05 - 1e-9 for word in found)


def test_a_pause_belongs_to_no_word_though_the_model_looks_at_it() -> None:
    samples = spoken_at([(0.4, 1.0), (1.5, 2.0)], 2.4)
    found = words_of(tokens_of("One", " two"), looked_at([(3, 16), (16, 27)], 30), samples)
    np.testing.assert_allclose(times(found), [(0.4, 1.0), (1.5, 2.0)], atol=0.03)


def test_only_heads_that_listen_are_heard() -> None:
    stretches = [(2, 5), (5, 6), (6, 11), (15, 18)]
    listening, rng = looked_at(stretches, 20), np.random.default_rng(2)
    backwards = listening[::-1]
    everywhere = np.full_like(listening, 0.01)
    noise = rng.random(listening.shape, dtype=np.float32)
    deaf = np.zeros_like(listening)
    looked = np.concatenate([noise, backwards, 0.1 * listening, everywhere, deaf], axis=1)
    np.testing.assert_allclose(listened(looked), listening[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["It", " was", " Jan", "uar", "y", "."], {"It": [0], "was": [1], "January.": [2, 3, 4]}),
        ([" ", "J", "an"], {"Jan": [1, 2]}),
        (["So", ",", ' "', "yes", '"', " -", " no", "!"], {"So,": [0], '"yes" -': [3], "no!": [6]}),
        (["-", " well"], {"- well": [1]}),
        (["caf", b"\xc3", b"\xa9", " x"], {"café": [0], "x": [3]}),
        (["a b", " c"], {"a": [0], "b": [0], "c": [1]}),
        (["..."], {"...": [0]}),
        ([" ", "\n"], {}),
        ([], {}),
    ],
)
def test_words_are_split_at_spaces_and_marks_stay_at_their_word(pieces: list, words: dict[str, list[int]]) -> None:
    looked = looked_at([(2 * i, 2 * i + 2) for i in range(len(pieces))], 2 * len(pieces) + 1)
    samples = spoken_at([], looked.shape[2] * 0.08)
    found = words_of(tokens_of(*pieces), looked, samples)
    assert [word.text for word in found] == list(words)


def test_a_words_time_is_that_of_its_letters() -> None:
    samples = spoken_at([(0.0, 1.6)], 1.6)
    found = words_of(tokens_of("So", ",", " yes"), looked_at([(2, 6), (12, 13), (13, 19)], 20), samples)
    assert found[0].end < 0.96  # not at the comma's


def test_japanese_is_split_sign_by_sign() -> None:
    pieces = tokens_of("はい", "、", "「", "日", "本", "」", "。")
    looked = looked_at([(2 * i, 2 * i + 2) for i in range(7)], 15)
    found = words_of(pieces, looked, spoken_at([(0, 1.2)], 1.2), language="ja")
    assert [word.text for word in found] == ["は", "い、", "「日", "本」。"]


def test_words_are_in_order_and_in_the_window_whatever_was_looked_at() -> None:
    rng = np.random.default_rng(6)
    for count, rows in ((1, 1), (3, 2), (9, 40), (40, 9)):
        looked = (rng.random((count, 3, rows)) ** 20).astype(np.float32)
        for samples in (rng.normal(size=(rows - 1) * ROW + 17).astype(np.float32), np.zeros(rows * ROW, np.float32)):
            found = words_of(tokens_of(*[f" w{i}" for i in range(count)]), looked, samples, start=100.0)
            edges = [100.0, *(edge for word in found for edge in (word.start, word.end))]
            assert len(found) == count
            assert edges == sorted(edges)
            assert edges[-1] <= 100 + len(samples) / SAMPLE_RATE


def test_a_word_is_as_probable_as_all_of_its_tokens_together() -> None:
    found = words_of(
        tokens_of("One", " t", "wo", "."), looked_at([(0, 2), (2, 4), (4, 6), (6, 8)], 8), spoken_at([], 0.64)
    )
    assert [word.probability for word in found] == pytest.approx(np.exp([-0.1, -0.9]).tolist())


def test_sound_is_where_it_is_louder_than_the_quiet() -> None:
    for noise in (0.0, 1e-3, 0.03):
        samples = spoken_at([(0.5, 1.0)], 2.0)
        heard = sound(samples + np.random.default_rng(1).normal(0, noise, len(samples)).astype(np.float32), 200)
        assert (heard[52:98] > 0.9).all()
        assert (heard[:46] < 0.3).all()
        assert (heard[104:] < 0.3).all()


def test_a_recording_of_one_level_says_nothing_about_sound() -> None:
    for samples in (np.zeros(3, np.float32), np.zeros(32_000, np.float32), spoken_at([(0, 2)], 2)):
        np.testing.assert_allclose(sound(samples, 200), 0.5, atol=0.2)
