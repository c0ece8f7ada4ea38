"""What is measured of a model in use is what the engine computes: the same operations, the same number of rows."""

import numpy as np
import pytest

from eardrop.backends.numpy import NumpyBackend
from eardrop.bench.warm import Warm
from eardrop.loading import load_model
from tests.pairs import pair


class Counting(NumpyBackend):
    """Says how many rows each product with the embedding had: the heads, one for each set of logits."""

    def __init__(self) -> None:
        self.heads: list[int] = []

    def linear(self, x, w, bias=None, activation=None):
        if len(w) == 960:  # the vocabulary
            self.heads.append(len(x))
        return super().linear(x, w, bias, activation)


@pytest.fixture
def warm() -> Warm:
    return Warm(load_model(*pair(), Counting()))


def test_a_prefill_computes_the_logits_of_its_last_row_alone(warm: Warm) -> None:
    assert warm.prefill(20) > 0
    assert warm.model.backend.heads == [1]


def test_streams_take_their_steps_together(warm: Warm) -> None:
    assert warm.decode(5, prompt=3, streams=2) > 0
    assert warm.model.backend.heads[:2] == [1, 1]  # a prompt each
    assert warm.model.backend.heads[-5:] == [2] * 5


def test_nothing_is_left_over_for_the_next_measurement(warm: Warm) -> None:
    for _ in range(3):
        warm.decode(4, streams=2)
        warm.prefill(30)


def test_the_encoder_takes_frames_of_any_number(warm: Warm) -> None:
    for frames in (1, 100):
        assert warm.encode(np.zeros((frames, 128), np.float32)) > 0
