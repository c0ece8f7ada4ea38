"""Learning: batches, the flat start, the rate, and going on where it was."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.augment import Clip, Span, silent_clip, spoken_clip  # noqa: E402
from train.batches import NOWHERE, ROW, collate, prompts  # noqa: E402
from train.learn import Plan, Run, learn, started_cooldown  # noqa: E402
from train.network import Shape  # noqa: E402
from train.vocabulary import PAD, learn_merges, tokenizer  # noqa: E402

MERGES = learn_merges(["One two three four."] * 3)


def made_speech(folder: Path) -> Path:
    """A shard of three sentences, said by noise."""
    speech = folder / "speech"
    speech.mkdir()
    samples = np.random.default_rng(1).integers(-9000, 9000, 3 * 8000).astype("<i2")
    (speech / "00000.pcm").write_bytes(samples.tobytes())
    (speech / "00000.json").write_text(
        json.dumps([["digits", f"One {n}.", "a/b", 8000] for n in ("two", "ten", "six")])
    )
    (folder / "merges.txt").write_text("\n".join(MERGES) + "\n")
    return speech


def test_the_flat_start_spreads_the_pieces_over_the_speech_alone() -> None:
    tok = tokenizer(MERGES)
    clip = Clip(np.ones(20 * ROW, np.float32), (Span("One.", 4 * ROW, 12 * ROW),))
    flat = collate([clip], tok, prompts(tok)[0]).flat[0].tolist()
    assert flat[:4] == [PAD] * 4
    assert set(flat[12:]) == {PAD}
    pieces = tok.encode("One.", special=False)
    assert [token for at, token in enumerate(flat[4:12]) if at == 0 or token != flat[3 + at]] == pieces


def test_a_clip_without_speech_ends_at_once() -> None:
    tok = tokenizer(MERGES)
    batch = collate([silent_clip(np.random.default_rng(2))], tok, prompts(tok)[1])
    assert batch.labels[batch.labels != NOWHERE].tolist() == [tok.eos]


def test_augmented_speech_lies_in_its_span() -> None:
    said = np.full(8000, 8000, np.int16)
    clip = spoken_clip([(said, "One."), (said, "Two.")], np.random.default_rng(3))
    first, second = clip.spans
    assert 0 <= first.start < first.stop <= second.start < second.stop <= len(clip.samples)
    assert clip.text == "One. Two."
    assert np.abs(clip.samples).max() <= 1


def test_the_rate_warms_up_stays_and_falls_in_a_line() -> None:
    plan = Plan(hours=100, cooldown=20, rate=1.0, warmup=10)
    assert plan.rate_at(0, 0.0) == pytest.approx(0.1)
    assert plan.rate_at(500, 80.0) == 1.0
    assert plan.rate_at(500, 90.0) == pytest.approx(0.5)
    assert plan.rate_at(500, 100.0) == pytest.approx(0.03)


def test_a_run_goes_on_where_it_was_and_cools_on_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(Shape, channels=8, encoder_layers=1, encoder_ffn=32, adapter=32, width=32, ffn=32, heads=2)
    monkeypatch.setattr("train.learn.Shape", small)
    monkeypatch.setattr("train.batches.POOL", 4)
    speech = made_speech(tmp_path)
    plan = Plan(batch_seconds=2.0, joins=0.0, hours=2 / 3600)
    assert list(learn(tmp_path, plan, speech))[-1]["step"] >= 1
    before = Run(tmp_path, plan)
    assert before.seconds >= 2
    assert before.optimizer.state
    cooled, cooling = started_cooldown(tmp_path, plan, 1 / 3600)
    assert list(learn(cooled, cooling, speech))
    assert Run(cooled, plan).seconds >= before.seconds + 1
    assert Run(tmp_path, plan).step == before.step


def test_a_checkpoint_of_half_the_layers_is_made_deeper_and_hears_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"channels": 8, "encoder_ffn": 32, "adapter": 32, "width": 32, "ffn": 32, "heads": 2}
    made_speech(tmp_path)
    monkeypatch.setattr("train.learn.Shape", partial(Shape, encoder_layers=1, **sizes))
    run = Run(tmp_path, Plan())
    norm = run.model.conformer.layers[0].norm_out
    torch.nn.init.normal_(norm.weight)  # as if learnt
    torch.nn.init.normal_(norm.bias)
    run.mean = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.save()
    monkeypatch.setattr("train.learn.Shape", partial(Shape, encoder_layers=2, **sizes))
    deep = Run(tmp_path, Plan())
    mel, lengths = torch.randn(2, 80, 128), torch.tensor([80, 56])
    with torch.no_grad():
        before, after = (model.eval().encode(mel, lengths)[0] for model in (run.model, deep.model))
    assert len(deep.model.conformer.layers) == 2
    assert not deep.optimizer.state
    torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[1, :7], before[1, :7], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(deep.mean["conformer.layers.1.norm_out.weight"], norm.weight.detach())
