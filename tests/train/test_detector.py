"""The weights of the package's detector are fitted to synthetic speech."""

import json
from pathlib import Path

import numpy as np
import pytest

from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import FEATURES, FRAME
from train.codecs import Signal
from train.detector import COST, SCENE_FRAMES, fitted, regression, scene, speech_of
from train.speech import Corpus


def syllables(seconds: float, pitch: float) -> Signal:
    """Harmonics four times a second, below 2 kHz."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 12))
    return np.asarray(0.2 * sound * np.maximum(0, np.sin(2 * np.pi * 4 * t)) ** 0.5, np.float32)


def write_shard(folder: Path, number: int, pitches: list[float]) -> None:
    said = [(syllables(2, pitch) * 2**15).astype("<i2") for pitch in pitches]
    (folder / f"{number:05}.pcm").write_bytes(b"".join(samples.tobytes() for samples in said))
    (folder / f"{number:05}.json").write_text(json.dumps([["plain", "One.", "a/b", len(s)] for s in said]))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_shard(tmp_path, 0, [90, 120, 170, 210])
    found = Corpus(tmp_path, 1)
    found.refresh()
    return found


def test_newton_finds_the_weights_that_made_the_truth() -> None:
    draw = np.random.default_rng(1)
    features = draw.normal(0, 2, (60_000, 3))
    weights, bias = np.array([0.8, -0.4, 0.1]), -0.5
    truth = draw.random(60_000) < 1 / (1 + np.exp(-(features @ weights + bias)))
    found, offset = regression(features, truth)
    np.testing.assert_allclose(found, weights, atol=0.06)  # four standard errors, about 0.015 each
    assert offset == pytest.approx(bias + np.log(COST), abs=0.06)  # a cost moves the threshold alone


def test_newton_bears_features_that_go_together() -> None:
    draw = np.random.default_rng(2)
    feature = draw.normal(0, 1, (2000, 1))
    truth = feature[:, 0] + draw.normal(0, 1, 2000) > 0
    weights, _ = regression(np.column_stack([feature, feature]), truth)
    assert weights[0] == pytest.approx(weights[1])
    assert weights.sum() > 0


def test_speech_is_what_is_loud_and_the_short_gaps_between() -> None:
    loud = np.repeat(np.array([1, 1, 0, 0, 0, 1, *[0] * 12, 1, 1e-3], np.float32), FRAME)
    sentence = loud * np.tile(np.float32([0.3, -0.3]), len(loud) // 2)
    assert speech_of(sentence).tolist() == [True] * 6 + [False] * 12 + [True, False]


def test_a_scene_tells_where_speech_is_before_noise_and_level(corpus: Corpus) -> None:
    draw = np.random.default_rng(3)
    for _ in range(6):
        samples, truth = scene(corpus, draw)
        assert samples.shape == (SCENE_FRAMES * FRAME,)
        assert truth.shape == (SCENE_FRAMES,)
        assert np.abs(samples).max() <= 1
        assert 0.2 < truth.mean() < 0.8
        assert not truth[:15].any()  # a pause comes first


def test_the_same_seed_gives_the_same_weights_whatever_shards_came_since(corpus: Corpus, tmp_path: Path) -> None:
    weights, bias = fitted(corpus, 5, scenes=4)
    assert weights.shape == (FEATURES,)
    write_shard(tmp_path, 1, [300])
    corpus.refresh()
    again, offset = fitted(corpus, 5, scenes=4)
    np.testing.assert_array_equal(again, weights)
    assert offset == bias
    assert not np.array_equal(fitted(corpus, 6, scenes=4)[0], weights)
