"""A checkpoint, exported, computes in eardrop what it computes in torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import eardrop  # noqa: E402
from eardrop.model.decoder import embed, prefill  # noqa: E402
from eardrop.model.state import Streams  # noqa: E402
from eardrop.tools.convert import convert  # noqa: E402
from train.augment import Clip, Span  # noqa: E402
from train.batches import NOWHERE, collate, prompts  # noqa: E402
from train.export import POSITIONS, publish  # noqa: E402
from train.network import Lfm2Audio, Shape  # noqa: E402
from train.vocabulary import learn_merges, tokenizer  # noqa: E402

TEXTS = ["One two three.", "It is half past four.", "Turn the light on."]
SAMPLES = [5000, 16000, 24317]  # of odd numbers of rows, so that two of three are padded


@pytest.fixture(scope="module")
def merges() -> list[str]:
    return learn_merges(TEXTS * 3)


@pytest.fixture(scope="module")
def model(merges: list[str]) -> Lfm2Audio:
    torch.manual_seed(3)
    size = tokenizer(merges).vocabulary_size
    made = Lfm2Audio(Shape(size, channels=16, encoder_layers=1, encoder_ffn=96, adapter=64, width=64, ffn=96, heads=2))
    for value in made.buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    for parameter in made.parameters():
        if parameter.ndim == 1 or parameter.shape == (8, 64):
            parameter.data += 0.2 * torch.randn_like(parameter)
    return made.eval()


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
    tok = tokenizer(merges)
    before, after = prompts(tok)[form]
    batch = collate(clips, tok, (before, after))
    wanted = batch.labels != NOWHERE
    with torch.no_grad():
        heard, rows = model.encode(batch.mel, batch.frames)
        embeddings = model.audio_adapter(heard).numpy()
        logits = model.answer(heard, batch.tokens, batch.places, wanted).numpy()
    at, w, ops = 0, asr.model.decoder, asr.model.backend
    for index, clip in enumerate(clips):
        ours = asr.encode(clip.samples)
        np.testing.assert_allclose(embeddings[index, : int(rows[index])], ours, atol=2e-4)
        text = tok.encode(clip.text, special=False)
        tail = np.array([*after, *text], np.int32)
        x = embed(w, [np.array(before, np.int32), ops.upload(ours), tail], ops)
        streams = Streams(w.shape, ops, slots=1, rows=len(x))
        answers = range(len(x) - len(text) - 1, len(x))
        expected = np.asarray(prefill(w, [x], streams, [streams.join()], ops, logits_for=[list(answers)]))
        np.testing.assert_allclose(logits[at : at + len(answers)], expected, atol=2e-3)
        at += len(answers)
    assert at == len(logits)


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
