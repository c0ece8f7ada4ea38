"""The encoder: a clip among others equals it alone, and every length has its rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eardrop.audio import log_mel
from eardrop.backends import BACKENDS
from eardrop.engine import Model
from eardrop.loading import load_model
from eardrop.model.conformer import encode, norm, subsample
from eardrop.model.positions import Positions, relative_positions
from eardrop.model.weights import Norm
from eardrop.ops import listening, ragged
from tests.pairs import record, sharp_pair


@pytest.fixture(scope="module", params=[name for name, choice in BACKENDS.items() if choice.missing() is None])
def model(request: pytest.FixtureRequest) -> Model:
    ops = BACKENDS[request.param].make()
    return load_model(*sharp_pair(ops), ops)


def encoded(model: Model, *mels: np.ndarray, half: bool = False) -> tuple[np.ndarray, np.ndarray]:
    heard = [model.backend.upload(mel) for mel in mels]
    rows, offsets = encode(model.encoder, heard, model.backend, half_input=half)
    return np.array(model.backend.download(rows)), offsets


def afresh(model: Model) -> Model:
    """The same model, which knows nothing of any clip."""
    return replace(model, encoder=replace(model.encoder, positions=Positions(model.encoder.shape.width)))


def test_clips_encoded_together_equal_each_alone(model: Model) -> None:
    mels = [log_mel(record(clip).samples) for clip in ("ms20", "speech3", "ms100", "chirp1")]
    together, offsets = encoded(model, *mels)
    for index, mel in enumerate(mels):
        alone, _ = encoded(model, mel)
        np.testing.assert_allclose(together[offsets[index] : offsets[index + 1]], alone, atol=2e-5)


@pytest.mark.parametrize(
    ("samples", "rows"), [(320, 1), (480, 1), (1_280, 2), (16_000, 13), (16_160, 13), (100_000, 79)]
)
def test_rows_are_an_eighth_of_the_mel_frames_rounded_up(model: Model, samples: int, rows: int) -> None:
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    found, offsets = encoded(model, log_mel(noise))
    assert found.shape == (rows, model.decoder.shape.width)
    assert offsets.tolist() == [0, rows]


@pytest.mark.parametrize("frames", [257, 511, 641])
def test_a_clip_subsampled_in_pieces_has_the_rows_of_the_whole(
    model: Model, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [np.random.default_rng(n).standard_normal((n, 128, 1), dtype=np.float32) for n in (70, frames, 100, 90, 80)]
    offsets, mel = ragged(*map(len, clips)), model.backend.upload(np.concatenate(clips))
    monkeypatch.setattr(type(model.backend), "together_frames", 256)
    in_pieces, rows = subsample(model.encoder.subsampler, mel, offsets, model.backend, False)
    monkeypatch.setattr(type(model.backend), "together_frames", len(mel))
    whole, _ = subsample(model.encoder.subsampler, mel, offsets, model.backend, False)
    assert np.diff(rows).tolist() == [-(-length // 8) for length in (70, frames, 100, 90, 80)]
    np.testing.assert_allclose(in_pieces, whole, atol=1e-5 * np.abs(whole).max())


def test_half_input_rounds_and_nothing_else(model: Model) -> None:
    mel = log_mel(record("speech3").samples)
    plain, half = encoded(model, mel)[0], encoded(model, mel, half=True)[0]
    assert 0 < np.abs(plain - half).max() < 1e-3
    zeros = np.zeros_like(mel)
    assert np.abs(encoded(model, zeros)[0] - encoded(model, zeros, half=True)[0]).max() == 0


def test_norms_take_the_published_epsilon(model: Model) -> None:
    a = np.float32(1e-5**0.5)  # the variance is ε: half of what is under the root
    ones, zeros, rows = (
        model.backend.upload(x) for x in (np.ones(2, np.float32), np.zeros(2, np.float32), np.array([[-a, a]]))
    )
    found = model.backend.download(norm(Norm(ones, zeros), rows, model.backend))
    np.testing.assert_allclose(found, [[-(0.5**0.5), 0.5**0.5]], rtol=1e-5)


def test_relative_positions_run_from_the_furthest_behind_to_the_furthest_ahead() -> None:
    table = relative_positions(3, 4)
    distances = [2, 1, 0, -1, -2]
    np.testing.assert_allclose(table[:, 0], np.sin(distances), atol=1e-6)
    np.testing.assert_allclose(table[:, 1], np.cos(distances), atol=1e-6)
    np.testing.assert_allclose(table[:, 2], np.sin(np.array(distances) * 0.01), atol=1e-6)


def test_a_clip_has_the_same_rows_after_a_longer_and_after_a_shorter_one(model: Model) -> None:
    rng, clips = np.random.default_rng(5), (100, 300, 130, 4_100, 220, 300, 100)
    noise = {frames: rng.standard_normal((frames, 128), dtype=np.float32) for frames in clips}
    fresh = {frames: encoded(afresh(model), mel)[0] for frames, mel in noise.items()}
    kept = afresh(model)
    for frames in clips:
        found, atol = encoded(kept, noise[frames])[0], 0 if model.backend.name == "cpu" else 2e-5
        np.testing.assert_allclose(found, fresh[frames], rtol=0, atol=atol)


def test_positions_are_projected_once_for_clips_of_a_window_and_kept_of_none_longer(model: Model) -> None:
    multiplied: list[int] = []

    class Counting:
        upload = staticmethod(model.backend.upload)

        def linear(self, x: Any, w: Any) -> Any:
            multiplied.append(len(x))
            return model.backend.linear(x, w)

    positions, w = Positions(512), model.encoder.layers[0].attention.position
    for rows in (20, 375, 375, 100, 600, 600, 375, 9):
        assert len(positions.of(w, rows, Counting())) == 2 * rows - 1
    assert multiplied == [39, 749, 1_199, 1_199, 17]
    assert len(positions.projected[id(w)][1]) == 749


def test_taps_name_every_module(model: Model) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    with listening(lambda name, x: seen.__setitem__(name, x.shape)):
        encoded(model, log_mel(record("ms100").samples))
    parts = ("feed_forward1", "self_attn", "conv", "feed_forward2")
    expected = [
        "conformer.pre_encode",
        *(f"conformer.layers.0.{part}" for part in parts),
        "conformer.layers.0",
        "audio_adapter",
    ]
    assert list(seen) == expected
    assert seen["conformer.layers.0"] == (2, 512)
