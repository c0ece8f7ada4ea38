"""The weights of the package's detector of speech, fitted to synthetic speech with made noises; no person is heard.

    sentences of the first shards + sounds of augment.py → scenes → SpectralFeatures → logistic regression

`python -m train detector` prints WEIGHTS and BIAS of eardrop/audio/speech.py. The same seed and shards
give the same ones.
"""

import numpy as np
from numpy.typing import NDArray

from eardrop.audio import SAMPLE_RATE
from eardrop.audio.speech import FRAME, Spans, SpectralFeatures
from train.augment import NOISES, Draw, bank
from train.codecs import Signal
from train.speech import Corpus

Float64 = NDArray[np.float64]
Truth = NDArray[np.bool_]

SHARDS = 4  # about half an hour of speech
SCENES = 120
SCENE_FRAMES = 40 * SAMPLE_RATE // FRAME
SNRS = (60, 40, 20, 10, 5, 0)  # decibels, over the frames of speech; at 60 the pauses are nearly silent
STEADY = 0.5  # share of the scenes under white noise; in the others the sounds of the bank
LOUDNESS = 0.05  # of the frames of speech, before the level of the scene
DEPTH = 30  # decibels below the loud frames of a clean sentence that still are speech
BRIDGED = 5  # frames, 80 ms: a gap of so many between frames of speech belongs to it
COST = 8.0  # of a lost frame of speech, in frames of noise kept
RIDGE = 1e-6  # keeps the Newton step defined where features go together


def fitted(corpus: Corpus, seed: int, scenes: int = SCENES) -> tuple[Float64, float]:
    """(FEATURES,) weights and bias, from so many scenes drawn from the seed."""
    draw = np.random.default_rng(seed)
    features, truths = [], []
    for _ in range(scenes):
        samples, truth = scene(corpus, draw)
        heard = SpectralFeatures()
        features += [heard.push(samples), heard.finish()]
        truths.append(truth)
    return regression(np.concatenate(features), np.concatenate(truths))


def scene(corpus: Corpus, draw: Draw) -> tuple[Signal, Truth]:
    """Sentences with pauses of 0.3 to 4 seconds, a noise and a level: samples, and which frames are speech."""
    parts: list[Signal] = []
    truths: list[Truth] = []
    while sum(map(len, truths)) < SCENE_FRAMES:
        sentence, truth = _sentence(corpus, draw)
        pause = round(draw.uniform(0.3, 4) * SAMPLE_RATE / FRAME)
        parts += [np.zeros(pause * FRAME, np.float32), sentence]
        truths += [np.zeros(pause, np.bool_), truth]
    samples = np.concatenate(parts)[: SCENE_FRAMES * FRAME]
    noise = _noise(len(samples), draw) * np.float32(LOUDNESS * 10 ** (-draw.choice(SNRS) / 20))
    level = np.float32(10 ** draw.uniform(-2, 0.5))
    return np.clip((samples + noise) * level, -1, 1), np.concatenate(truths)[:SCENE_FRAMES]


def _sentence(corpus: Corpus, draw: Draw) -> tuple[Signal, Truth]:
    """Whole frames of LOUDNESS, and which of them are speech."""
    samples, _ = corpus.draw(draw)
    sentence = np.pad(samples.astype(np.float32) / np.float32(2**15), (0, -len(samples) % FRAME))
    truth = speech_of(sentence)
    loudness = np.sqrt(np.mean(sentence.reshape(-1, FRAME)[truth] ** 2))
    return np.asarray(sentence * (LOUDNESS / loudness), np.float32), truth


def speech_of(sentence: Signal) -> Truth:
    """Which frames of a clean sentence are speech: by their energy, with the short gaps between them."""
    power = sentence.reshape(-1, FRAME).var(axis=1)
    loud = np.asarray(power > np.percentile(power, 95) * 10 ** (-DEPTH / 10), np.float32)
    spans = Spans(on=1, off=1, least=1, hang=BRIDGED)
    truth = np.zeros(len(loud), np.bool_)
    for start, stop in [*spans.push(loud), *([spans.current] if spans.current else [])]:
        truth[start // FRAME : stop // FRAME] = True
    return truth


def _noise(length: int, draw: Draw) -> Signal:
    """White noise, or a sound of the bank over and over, of unit loudness."""
    if draw.random() < STEADY:
        return draw.standard_normal(length, np.float32)
    return np.resize(np.roll(bank(int(draw.integers(NOISES))), draw.integers(SAMPLE_RATE)), length)


def regression(features: Float64, truth: Truth) -> tuple[Float64, float]:
    """Logistic regression by Newton's method: (n, k) → (k,) weights, bias. A frame of speech counts COST times."""
    columns = np.column_stack([features, np.ones(len(features))])
    counts = np.where(truth, COST, 1.0)
    solution = np.zeros(columns.shape[1])
    while True:
        probabilities = 1 / (1 + np.exp(-(columns @ solution)))
        slope = columns.T @ (counts * (probabilities - truth)) / len(truth) + RIDGE * solution
        bend = (columns.T * (counts * probabilities * (1 - probabilities))) @ columns / len(truth)
        step = np.linalg.solve(bend + RIDGE * np.eye(len(bend)), slope)
        solution -= step
        if np.abs(step).max() < 1e-6:
            return solution[:-1], float(solution[-1])
