"""Equality with llama.cpp: mel, encoder rows, prompt, logits and greedy tokens against its own outputs.

The micro pair's records are in the repository; with EARDROP_GOLDEN every pair and clip is compared by the
records' own `check.py`, at its tolerances.
"""

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from eardrop.audio import log_mel
from eardrop.backends import BACKENDS
from eardrop.bench.pairs import PAIRS, write_pair
from eardrop.dialect import LLAMA_CPP, REFERENCE
from eardrop.engine import Model
from eardrop.gguf import by_name
from eardrop.loading import load_model
from eardrop.model import decoder
from eardrop.model.conformer import encode
from eardrop.model.state import Streams
from eardrop.ops import Arithmetic
from eardrop.text import MEDIA, prompt
from tests.pairs import CACHE, CLIPS, Record, pair, pcm16, record, sharp_pair

STEPS = 24


@functools.lru_cache(maxsize=1)  # pairs are visited one after another
def model_of(name: str, backend: str) -> Model:
    text, projector = write_pair(name, CACHE)
    return load_model(text, projector, BACKENDS[backend].make())


@functools.lru_cache(maxsize=1)
def sharp_model(backend: str) -> Model:
    """The micro pair, multiplied in float32."""
    ops = BACKENDS[backend].make()
    return load_model(*sharp_pair(ops), ops)


@pytest.fixture(params=[name for name, choice in BACKENDS.items() if choice.missing() is None])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rows_of(model: Model, mel: np.ndarray, *, half: bool) -> np.ndarray:
    rows, _ = encode(model.encoder, [model.backend.upload(mel)], model.backend, half_input=half)
    return model.backend.download(rows)


def forced_logits(model: Model, rows: np.ndarray, gold: Record | dict, steps: int) -> np.ndarray:
    """Logits after the prompt and after each of the recorded tokens."""
    get = gold.__getitem__ if isinstance(gold, dict) else gold.arrays.__getitem__
    ops, w = model.backend, model.decoder
    streams = Streams(w.shape, ops, slots=1, rows=len(rows) + 64 + steps, kv="float32")
    slot = streams.join()
    inputs = decoder.embed(w, [get("tokens_before"), ops.upload(rows), get("tokens_after")], ops)
    found = [ops.download(decoder.prefill(w, [inputs], streams, [slot], ops))[0]]
    step = decoder.Step(w, streams, 1, ops)
    for token in get("greedy")[: steps - 1]:
        logits, _ = step([int(token)], [slot])
        found.append(np.array(ops.download(logits)[0]))
    return np.array(found)


@pytest.mark.parametrize("clip", CLIPS)
def test_log_mel_equals_llama_cpps(clip: str) -> None:
    gold = record(clip)
    mel = log_mel(gold.samples)[gold.mel_frames]
    np.testing.assert_allclose(mel, gold.mel, atol=1.5e-3)
    if clip == "silence1":
        assert not mel.any()


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if clip != "ms20"])
def test_sharp_records_are_met_tightly_in_llama_cpps_dialect(clip: str, backend: str) -> None:
    gold, model = record(clip), sharp_model(backend)
    rows = rows_of(model, log_mel(gold.samples), half=LLAMA_CPP.half_first_convolution)
    assert np.abs(rows - gold.embd_f32).max() <= 1e-4
    assert np.abs(forced_logits(model, rows, gold, 9) - gold.logits_f32).max() <= 1e-3


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if clip != "ms20"])
def test_sharp_logits_are_met_from_recorded_rows(clip: str, backend: str) -> None:
    gold = record(clip)
    logits = forced_logits(sharp_model(backend), gold.embd_f32, gold, 9)
    assert np.abs(logits - gold.logits_f32).max() <= 2e-4


@pytest.mark.parametrize("clip", CLIPS)
def test_ordinary_records_are_met_in_the_reference_dialect(clip: str, backend: str) -> None:
    gold, model = record(clip), model_of("micro", backend)
    rows = rows_of(model, log_mel(gold.samples), half=REFERENCE.half_first_convolution)
    assert np.abs(rows - gold.embd).max() <= 1.2e-3
    logits = forced_logits(model, rows, gold, STEPS)
    assert np.abs(logits[:9] - gold.logits).max() <= 0.053
    wrong = np.flatnonzero(logits.argmax(axis=1) != gold.greedy)
    assert all(gold.margin[step] <= 0.027 for step in wrong)


def test_prompt_is_llama_cpps_in_its_dialect() -> None:
    gold, model = record("ms100"), model_of("micro", "numpy")
    before, _, after = prompt(model.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=LLAMA_CPP)
    assert np.array_equal(before, gold.tokens_before)
    assert np.array_equal(after, gold.tokens_after)


def load_check(golden: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", golden / "check.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["check"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def multiplies_in_float32(model: Model, format_: str) -> bool:
    return model.backend.arithmetic(by_name(format_)) is Arithmetic.FLOAT32


def samples_of(golden: Path, gold: dict, clip: str) -> np.ndarray:
    """llama.cpp's own samples where decoding is more than reading 16-bit numbers."""
    if "pcm" in gold:
        return np.asarray(gold["pcm"], np.float32)
    path = golden / "clips" / f"{clip}.wav"
    if path.exists():
        return pcm16(path)
    from eardrop.audio import read

    return read(path.with_suffix(".flac"))


def freely(model: Model, rows: np.ndarray, gold: dict, steps: int) -> list[int]:
    """The engine's own greedy tokens."""
    ops, w = model.backend, model.decoder
    streams = Streams(w.shape, ops, slots=1, rows=len(rows) + 64 + steps, kv="float32")
    slot, token, said = streams.join(), 0, []
    inputs = decoder.embed(w, [gold["tokens_before"], ops.upload(rows), gold["tokens_after"]], ops)
    picks = ops.pick(decoder.prefill(w, [inputs], streams, [slot], ops))
    step = decoder.Step(w, streams, 1, ops)
    for _ in range(steps):
        token = int(ops.download(picks[0])[0])
        said.append(token)
        _, picks = step([token], [slot])
    return said


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_and_clip_is_within_check_pys_tolerances(golden: Path, name: str, backend: str) -> None:
    for path in sorted((golden / "expected" / name).glob("*.npz")):
        check_clip(golden, model_of(name, backend), name, path.stem)


def check_clip(golden: Path, model: Model, name: str, clip: str) -> None:
    """Everything that is recorded of a pair and a clip, at the tolerances of its arithmetic."""
    check = load_check(golden)
    gold = check.load(name, clip, golden)
    mel = log_mel(samples_of(golden, gold, clip))
    rows = rows_of(model, mel, half=False)
    before, _, after = prompt(model.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=LLAMA_CPP)
    reports = [
        check.compare(
            gold,
            mel=mel.T,
            embd=rows,
            logits=forced_logits(model, rows, gold, STEPS),
            greedy=freely(model, rows, gold, STEPS),
            tokens_before=before,
            tokens_after=after,
        )
    ]
    hears, speaks = (multiplies_in_float32(model, gold[kind]) for kind in ("audio_type", "text_type"))
    if "embd_f32" in gold and hears:  # the sharp records hold where nothing is rounded to bytes
        half = rows_of(model, mel, half=True)
        reports.append(check.compare(gold, embd=rows, f32=True))
        assert np.abs(half - gold["embd_f32"]).max() <= 1e-4, clip
    if "embd_f32" in gold and speaks:
        given = forced_logits(model, gold["embd_f32"], gold, 9)
        reports.append(check.compare(gold, logits=given, f32=True, given_embd=True))
    if "embd_f32" in gold and hears and speaks:
        reports.append(check.compare(gold, logits=forced_logits(model, rows, gold, 9), f32=True))
        logits = forced_logits(model, half, gold, 9)
        assert np.abs(logits - gold["logits_f32"]).max() <= 1e-3, clip
    for report in reports:
        assert report.ok, f"{name} {clip}\n{report}"


def test_whispers_front_end_is_another_row_of_the_same_function() -> None:
    from dataclasses import replace

    from eardrop.audio import WHISPER

    with np.load(Path(__file__).parent.parent / "data" / "mel_whisper.npz") as f:
        gold = dict(f)
    samples = record("chirp1").samples
    for mels in (80, 128):
        mel = log_mel(samples, replace(WHISPER, mels=mels)).T
        assert mel.shape == tuple(gold[f"shape{mels}"])
        np.testing.assert_allclose(mel[:, :112], gold[f"mel{mels}"], atol=1e-5)
        np.testing.assert_allclose([mel[:, 112:].min(), mel[:, 112:].max()], gold[f"rest{mels}"], atol=1e-5)


def test_pair_files_exist_for_everyone() -> None:
    assert all(path.exists() for path in pair())
