"""Random pairs: the same bytes everywhere, those that llama.cpp was run on."""

import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from eardrop.bench import random_weights
from eardrop.bench.pairs import PAIRS, full, thin, write_pair, write_projector, write_text
from eardrop.bench.random_weights import Draws, RandomWeight
from eardrop.errors import ModelFileError, OptionError
from eardrop.gguf import by_name, open_gguf
from eardrop.gguf.mixes import MIXES


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_micro_has_its_digest(tmp_path: Path) -> None:
    text, projector = write_pair("micro", tmp_path)
    assert (text.name, projector.name) == ("micro.gguf", "mmproj-micro.gguf")
    assert sha256(text) == "aeaf6ddc44da6aa8a28984389afb999f24bcb95043b606c7c028cd74094b1940"
    assert sha256(projector) == "d759b334e763451877e57c6c97fb150d6fede519ce3f70af03b2f4eb8bb9edfa"


def test_every_recorded_pair_is_in_the_table(golden: Path) -> None:
    recorded = json.loads((golden / "pairs.json").read_text())
    assert {name: (pair["sha256"], pair["sha256_mmproj"]) for name, pair in recorded.items()} == {
        pair.name: (pair.sha256, pair.audio.sha256) for pair in PAIRS.values()
    }


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_the_bytes_that_llama_cpp_was_run_on(name: str, tmp_path: Path) -> None:
    text, projector = write_pair(name, tmp_path)
    digests = sha256(text), sha256(projector)
    text.unlink()  # pytest keeps the folder for days, and fourteen pairs are 500 MB
    projector.unlink()
    assert digests == (PAIRS[name].sha256, PAIRS[name].audio.sha256)


@pytest.mark.parametrize("name", ["micro-q8_0", "mini-q4_k"])
def test_gguf_reads_a_pair_as_we_do(name: str, tmp_path: Path) -> None:
    text, _ = write_pair(name, tmp_path)
    ours = open_gguf(text)
    theirs = gguf.GGUFReader(text)
    assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(ours.tensor(tensor.name, values.shape).dequantize(), values)
    for key, value in ours.facts.items():
        np.testing.assert_array_equal(theirs.fields[key].contents(), value)


def test_a_pair_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    paths = write_pair("micro", tmp_path)
    before = [path.stat().st_mtime_ns for path in paths]
    assert write_pair("micro", tmp_path) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_a_file_of_another_size_is_written_again(tmp_path: Path) -> None:
    text, _ = write_pair("micro", tmp_path)
    text.write_bytes(b"GGUF")
    write_pair("micro", tmp_path)
    assert sha256(text) == PAIRS["micro"].sha256


def test_other_bits_than_recorded_are_refused_and_removed(tmp_path: Path) -> None:
    changed = replace(PAIRS["micro"], text=replace(PAIRS["micro"].text, seed=1))
    with pytest.raises(ModelFileError, match=r"micro\.gguf came out as .*, expected aeaf"):
        write_pair(changed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_is_answered_with_the_list() -> None:
    with pytest.raises(OptionError, match=r"'maxi'.*mini-q4_k"):
        write_pair("maxi", "unused")


FORMATS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_size_of_the_pieces_does_not_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = RandomWeight("w", (37, 256), by_name(name), 0.5)

    def content() -> bytes:
        return b"".join(piece.tobytes() for piece in weight.planned(7).pieces())

    whole = content()
    monkeypatch.setattr(random_weights, "PIECE", 8 * 256)
    assert content() == whole


def test_draws_follow_one_sequence_word_by_word() -> None:
    sequence = np.random.Philox(key=5).random_raw(16).astype("<u8").view(np.uint8)
    draws = Draws(5, n=3, start=0, stop=3)
    for width, first in ((5, 0), (9, 16), (1, 48), (2, 56)):  # 2, 4 and 1 words each
        assert draws.bytes(width).tobytes() == sequence[first : first + 3 * width].tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_weights_have_about_the_deviation_asked_for(name: str) -> None:
    weight = RandomWeight("w", (64, 256), by_name(name), 0.5)
    raw = np.concatenate([piece.reshape(-1).view(np.uint8) for piece in weight.planned(7).pieces()])
    form = by_name(name)
    assert form.dequantize is not None
    values = form.dequantize(raw.view(form.layout))
    assert abs(values.mean()) < 0.06
    assert 0.45 < values.std() < 0.55


def test_the_full_pair_has_the_real_shapes_and_is_made_in_little_memory(tmp_path: Path) -> None:
    pair = full("Q4_0")
    assert pair.text.layers.count("a") == 6
    assert len(pair.text.layers) == 16
    # the real widths and vocabulary, one layer of each kind
    short = replace(pair, text=replace(pair.text, layers="ca", feed_forward=256, vocabulary=4096))
    small = replace(short, audio=replace(pair.audio, layers=1, positions=64, codes=32))
    tracemalloc.start()
    text, _ = write_pair(small, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    file = open_gguf(text)
    assert (file.tensor("token_embd.weight").format.name, file.tensor("blk.0.ffn_up.weight").format.name) == (
        "Q6_K",
        "Q4_0",
    )
    assert file.tensor("token_embd.weight", (4096, 2048)).nbytes > 6e6
    assert peak < 24 << 20


def formats(mix: str, tmp_path: Path) -> dict[str, str]:
    """The formats of a full text model's matrices, layer after layer, made as narrow as they can be."""
    pair = full(mix)
    small = replace(pair, text=replace(pair.text, width=256, feed_forward=256, heads=4, kv_heads=2, vocabulary=1024))
    file = open_gguf(write_text(small, tmp_path))
    return {name: tensor.format.name for name, tensor in file.tensors.items()}


@pytest.mark.parametrize("mix", MIXES)
def test_a_full_pair_is_mixed_as_the_quantizer_mixes_a_model(mix: str, tmp_path: Path) -> None:
    found, chosen = formats(mix, tmp_path), MIXES[mix]
    better = {name for name, form in found.items() if form == chosen.better.name and "token_embd" not in name}
    assert found["token_embd.weight"] == chosen.output.name
    assert found["blk.2.attn_q.weight"] == found["blk.0.shortconv.in_proj.weight"] == chosen.most.name
    if chosen.better is not chosen.most:
        assert all("attn_v" in name or "ffn_down" in name for name in better)
        assert "blk.0.ffn_down.weight" in better


def test_the_thin_model_takes_a_full_projectors_rows() -> None:
    assert thin().audio == full("F16").audio
    assert thin().text.width == full("F16").text.width


def test_a_projector_is_written_alone(tmp_path: Path) -> None:
    assert write_projector(PAIRS["micro"], tmp_path).name == "mmproj-micro.gguf"
    assert len(list(tmp_path.iterdir())) == 1
