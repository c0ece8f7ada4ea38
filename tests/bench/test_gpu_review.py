"""What a review says of a GPU: shares of its roofs, from what a model needs and how long it took; no GPU is needed."""

from pathlib import Path

import numpy as np
import pytest

from eardrop.audio import log_mel
from eardrop.backends.numpy import NumpyBackend
from eardrop.bench import gpu, plot
from eardrop.bench.review import weight_bytes
from eardrop.bench.warm import Warm
from eardrop.cli.bench import _on_gpu
from eardrop.loading import load_model
from tests.bench.test_review import report  # noqa: F401
from tests.pairs import pair

MODEL = load_model(*pair(), NumpyBackend())
MEL = log_mel(np.random.default_rng(1).standard_normal(3200).astype(np.float32))
ROOF = gpu.Roof("a GPU", (1e9, 2e9), (4e12,))


@pytest.fixture(scope="module")
def section() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "launches", lambda model: 212.0)
        patch.setattr(gpu, "STREAMS", (1, 3))
        patch.setattr(gpu, "PROMPT", 5)
        return gpu.measured(MODEL, MEL, ROOF, tokens=2, runs=2)


def test_a_step_needs_its_weights_and_little_else() -> None:
    one, three = gpu.step_cost(MODEL), gpu.step_cost(MODEL, streams=3)
    assert 1 < one.bytes / (2 * weight_bytes(MODEL)) < 1.1  # the reference keeps halves in float32
    assert one.bytes < three.bytes < 2 * one.bytes
    assert 2.9 < three.flops / one.flops < 3.1
    assert one.calls == three.calls


def test_shares_are_what_is_needed_by_the_seconds_and_the_best_that_was_seen(section: dict) -> None:
    assert [stage["stage"] for stage in section["stages"]] == ["encoder", "prefill", "token"]
    token, needed = section["stages"][-1], gpu.step_cost(MODEL)
    for share, need, most in (("of memory", needed.bytes, 2e9), ("of products", needed.flops, 4e12)):
        expected = [need / seconds / most for seconds in token["seconds"]["samples"]]
        assert token[share]["samples"] == pytest.approx(expected)


def test_streams_are_swept_until_memory_ends(section: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line["streams"] for line in section["streams"]] == [1, 3]
    three = section["streams"][1]
    assert three["rate"]["samples"] == pytest.approx([3 / seconds for seconds in three["seconds"]["samples"]])
    decode = Warm.decode

    def full(warm: Warm, tokens: int, *, prompt: int = 1, streams: int = 1) -> float:
        if streams > 1:
            raise MemoryError
        return decode(warm, tokens, prompt=prompt, streams=streams)

    monkeypatch.setattr(Warm, "decode", full)
    assert [line["streams"] for line in gpu.sweep(MODEL, ROOF, tokens=1, runs=1)] == [1]


def test_the_sheet_has_both_roofs_for_every_stage(section: dict) -> None:
    sheet = _on_gpu(section)
    assert sheet["gpu"] == {
        "name": "a GPU", "copies": "1.5 GB/s", "products of halves": "4.0 TFLOP/s", "launches of a token": 212.0,
    }  # fmt: skip
    for title, rows in (("on the gpu, waited for", 3), ("streams together", 2)):
        assert len(sheet[title]) == rows
        assert all(line["of memory"].endswith("%") and line["of products"].endswith("%") for line in sheet[title])


def test_the_picture_has_the_streams_too(report: dict, section: dict, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("matplotlib")
    target = tmp_path / "gpu.svg"
    plot.plot(report | {"gpu": section}, target)
    said = target.read_text()
    assert said.count('<g id="axes_') == 3
