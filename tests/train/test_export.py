"""A checkpoint, exported, computes in eardrop what it computes in torch."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import eardrop  # noqa: E402
from eardrop.model.decoder import embed, prefill  # noqa: E402
from eardrop.model.state import Streams  # noqa: E402
from eardrop.text.tokenizer import Tokenizer  # noqa: E402
from eardrop.tools.convert import convert  # noqa: E402
from train.augment import Clip, Span  # noqa: E402
from train.batches import NOWHERE, collate, prompts  # noqa: E402
from train.export import POSITIONS, publish  # noqa: E402
from train.network import Lfm2Audio, Shape  # noqa: E402
from train.vocabulary import learn_merges, tokenizer  # noqa: E402

TEXTS = ["One two three.", "It is half past four.", "Turn the light on."]
SMALL = {"channels": 16, "encoder_layers": 1, "encoder_ffn": 96, "adapter": 64, "width": 64, "ffn": 96, "heads": 2}
REAL = {
    "vocabulary": 65536, "channels": 256, "encoder_layers": 17, "encoder_ffn": 2048, "adapter": 2048, "width": 2048,
    "ffn": 8192, "heads": 32, "kv_heads": 8, "layers": "ccaccaccacacacac",
}  # fmt: skip
LONG = pytest.mark.skipif(
    not os.environ.get("EARDROP_TEST_LONG"),
    reason="minutes, 9 GB of memory and 6 GB below TMPDIR: `make test-long` runs it where torch is",
)
SAMPLES = [5000, 16000, 24317]  # of odd numbers of rows, so that two of three are padded


@pytest.fixture(scope="module")
def merges() -> list[str]:
    return learn_merges(TEXTS * 3)


def made(vocabulary: int, **sizes: Any) -> Lfm2Audio:
    """A model in which nothing is still what it was initialised to."""
    torch.manual_seed(3)
    model = Lfm2Audio(Shape(vocabulary, **sizes))
    for value in model.buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    for parameter in model.parameters():
        if parameter.ndim == 1 or parameter.shape == (8, 64):
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def model(merges: list[str]) -> Lfm2Audio:
    return made(tokenizer(merges).vocabulary_size, **SMALL)


@pytest.fixture(scope="module")
def asr(model: Lfm2Audio, merges: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[eardrop.Recognizer]:
    folder: Path = tmp_path_factory.mktemp("exported")
    publish(model, merges, folder / "published")
    text, _ = convert(folder / "published", folder, form="F32", name="small")
    with eardrop.load(text, backend="numpy") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    draw = np.random.default_rng(4)
    noises = [0.1 * draw.standard_normal(n).astype(np.float32) for n in SAMPLES]
    return [Clip(noise, (Span(text, 900, len(noise)),)) for noise, text in zip(noises, TEXTS, strict=True)]


@pytest.mark.parametrize("form", [0, 1], ids=["reference", "llama.cpp"])
def test_torch_and_eardrop_agree(
    model: Lfm2Audio, merges: list[str], asr: eardrop.Recognizer, clips: list[Clip], form: int
) -> None:
    for name, (theirs, ours) in compared(model, merges, asr, clips, form).items():
        np.testing.assert_allclose(ours, theirs, atol={"rows": 2e-4, "logits": 2e-3}[name])


@pytest.mark.parametrize("sizes", [pytest.param(SMALL, id="small"), pytest.param(REAL, id="real", marks=LONG)])
def test_what_is_published_in_bfloat16_agrees_as_it_is_converted_and_loaded_by_default(
    merges: list[str], clips: list[Clip], sizes: dict[str, Any]
) -> None:
    vocabulary = sizes.get("vocabulary", tokenizer(merges).vocabulary_size)
    model = made(**{**sizes, "vocabulary": vocabulary}).bfloat16().float()
    with TemporaryDirectory() as held:  # what pytest keeps for later would be gigabytes
        folder = Path(held)
        publish(model, merges, folder / "published", dtype=torch.bfloat16)
        text, _ = convert(folder / "published", folder)
        with eardrop.load(text) as asr:
            found = compared(model, merges, asr, clips, form=0)
    for name, (theirs, ours) in found.items():
        np.testing.assert_allclose(ours, theirs, rtol=0, atol={"rows": 2e-3, "logits": 1e-2}[name])


def compared(
    model: Lfm2Audio, merges: list[str], asr: eardrop.Recognizer, clips: list[Clip], form: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Encoder rows of all clips, and logits of all answers: torch's, and eardrop's."""
    tok = tokenizer(merges)
    before, after = prompts(tok)[form]
    batch = collate(clips, tok, (before, after))
    with torch.no_grad():
        heard, rows = model.encode(batch.mel, batch.frames)
        embeddings = model.audio_adapter(heard).numpy()
        logits = model.answer(heard, batch.tokens, batch.places, batch.labels != NOWHERE).numpy()
    ours = [asr.encode(clip.samples) for clip in clips]
    answers = [answered(asr, tok, before, mine, after, clip.text) for clip, mine in zip(clips, ours, strict=True)]
    theirs = [part[: int(count)] for part, count in zip(embeddings, rows, strict=True)]
    return {
        "rows": (np.concatenate(theirs), np.concatenate(ours)),
        "logits": (logits, np.concatenate(answers)),
    }


def answered(
    asr: eardrop.Recognizer, tok: Tokenizer, before: list[int], rows: np.ndarray, after: list[int], text: str
) -> np.ndarray:
    """The logits of each token of the answer and of what follows it."""
    w, ops = asr.model.decoder, asr.model.backend
    said = tok.encode(text, special=False)
    tail = np.array([*after, *said], np.int32)
    x = embed(w, [np.array(before, np.int32), ops.upload(rows), tail], ops)
    streams = Streams(w.shape, ops, slots=1, rows=len(x))
    wanted = [*range(len(x) - len(said) - 1, len(x))]
    return np.array(prefill(w, [x], streams, [streams.join()], ops, logits_for=[wanted]))


def test_the_projector_has_what_llama_cpp_wants(asr: eardrop.Recognizer) -> None:
    projector = asr.model.files[1]
    assert projector.tensors["a.position_embd.weight"].shape[0] == POSITIONS >= 1500


def test_a_transcript_reaches_the_decoder_whole(merges: list[str], clips: list[Clip]) -> None:
    tok = tokenizer(merges)
    batch = collate(clips, tok, prompts(tok)[0])
    for labels, clip in zip(batch.labels, clips, strict=True):
        said = labels[labels != NOWHERE].tolist()
        assert b"".join(tok.piece(token) for token in said[:-1]).decode() == clip.text
        assert said[-1] == tok.eos
