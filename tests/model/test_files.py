"""What a loader makes of files that lie, lack, or are something else: every refusal names the file and the thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eardrop.backends.numpy import NumpyBackend
from eardrop.errors import ModelFileError
from eardrop.gguf import FORMATS, GgufTensor, open_gguf, write_gguf
from eardrop.loading import load_model
from eardrop.model import weights
from eardrop.model.kinds import Kind, kind_of, require
from eardrop.model.shape import AttentionShape, ShortConvShape, decoder_shape, encoder_shape
from tests.pairs import pair, rewritten

TEXT, PROJECTOR = pair()
F32 = FORMATS[0]


def tensor(name: str, *shape: int) -> GgufTensor:
    return GgufTensor.from_array(name, np.zeros(shape, np.float32))


def text_with(tmp_path: Path, **changes) -> Path:
    return rewritten(TEXT, tmp_path / "text.gguf", **changes)


def projector_with(tmp_path: Path, **changes) -> Path:
    return rewritten(PROJECTOR, tmp_path / "mmproj-text.gguf", **changes)


def load(text: Path = TEXT, projector: Path = PROJECTOR):
    return load_model(text, projector, NumpyBackend())


def test_shapes_are_read_from_tensors() -> None:
    with open_gguf(TEXT) as text, open_gguf(PROJECTOR) as projector:
        d, e = decoder_shape(text), encoder_shape(projector)
    assert (d.width, d.ffn, d.vocabulary, d.rope_base) == (128, 192, 960, 1e6)
    assert d.mixers == (ShortConvShape(3), AttentionShape(4, 2, 32)) * 2
    assert (e.channels, e.width, e.ffn, e.layers, e.adapter, e.out, e.taps) == (16, 512, 64, 1, 128, 128, 9)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("lfm2.feed_forward_length", 12288, 192),  # what early converters wrote
        ("lfm2.shortconv.l_cache", 7, 192),
        ("lfm2.attention.head_count_kv", 2, 192),  # a scalar: the tensors say which layers attend
    ],
)
def test_metadata_that_lies_is_not_believed(tmp_path: Path, key: str, value: int, found: int) -> None:
    with open_gguf(text_with(tmp_path, facts={key: value})) as file:
        shape = decoder_shape(file)
    assert shape.ffn == found
    assert [type(mixer) for mixer in shape.mixers] == [ShortConvShape, AttentionShape] * 2
    assert shape.mixers[0] == ShortConvShape(3)


def test_missing_rope_base_is_the_published_one_and_noted(tmp_path: Path) -> None:
    with open_gguf(text_with(tmp_path, facts={"lfm2.rope.freq_base": None})) as file:
        shape = decoder_shape(file)
    assert shape.rope_base == 1e6
    assert "rope.freq_base" in shape.notes[0]


def test_unknown_tensors_and_facts_are_ignored(tmp_path: Path) -> None:
    extra = {"some.thing": tensor("some.thing", 3, 4)}
    path = text_with(tmp_path, facts={"lfm2.new_key": 3}, tensors=extra)
    assert load(path).decoder.shape == load().decoder.shape


@pytest.mark.parametrize(
    "name", ["token_embd.weight", "blk.1.attn_v.weight", "blk.2.shortconv.out_proj.weight", "blk.3.ffn_norm.weight"]
)
def test_a_missing_tensor_of_the_text_model_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=name) as error:
        load(text_with(tmp_path, tensors={name: None}))
    assert "text.gguf" in str(error.value)


@pytest.mark.parametrize(
    "name", ["a.conv1d.5.bias", "a.blk.0.linear_pos.weight", "mm.a.mlp.3.bias", "a.pre_encode.out.weight"]
)
def test_a_missing_tensor_of_the_projector_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=name):
        load(projector=projector_with(tmp_path, tensors={name: None}))


def test_a_misshapen_tensor_is_named_with_expected_and_found(tmp_path: Path) -> None:
    name = "blk.1.attn_output.weight"
    with pytest.raises(ModelFileError, match=name) as error:
        load(text_with(tmp_path, tensors={name: tensor(name, 64, 128)}))
    assert "(64, 128)" in str(error.value)
    assert "(128, 128)" in str(error.value)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"lfm2.block_count": 10**9}, "lfm2.block_count is 1000000000"),
        ({"lfm2.block_count": 0}, "lfm2.block_count is 0"),
        ({"lfm2.block_count": 5}, "none for layer 4"),
        ({"lfm2.embedding_length": 64}, "lfm2.embedding_length is 64"),
        ({"lfm2.attention.head_count": 0}, "0 heads"),
        ({"lfm2.attention.head_count": 7}, "7 heads"),
        ({"lfm2.attention.head_count_kv": np.array([0, 2], np.int32)}, "head_count_kv has none for layer 2"),
        ({"lfm2.attention.head_count_kv": np.array([2, 2, 0, 2], np.int32)}, "layer 0"),
        ({"lfm2.attention.layer_norm_rms_epsilon": 0.0}, "layer_norm_rms_epsilon"),
        ({"lfm2.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon"),
        ({"lfm2.attention.sliding_window": 30}, "sliding"),
        ({"lfm2.rope.scaling.type": "yarn"}, "yarn"),
        ({"lfm2.context_length": "long"}, "lfm2.context_length"),
        ({"tokenizer.chat_template": "[INST] {{ x }}"}, "Llama 2"),
        ({"tokenizer.chat_template": None}, "chat_template"),
    ],
)
def test_facts_that_cannot_be_are_refused_by_name(tmp_path: Path, facts: dict, words: str) -> None:
    with pytest.raises(ModelFileError) as error:
        load(text_with(tmp_path, facts=facts))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"clip.audio.num_mel_bins": 0}, "num_mel_bins is 0"),
        ({"clip.audio.num_mel_bins": 257}, "num_mel_bins is 257"),
        ({"clip.audio.attention.head_count": 7}, "divided into 7 heads"),
        ({"clip.has_audio_encoder": False}, "hears nothing"),
        ({"clip.audio.block_count": 2}, "a.blk.1"),
    ],
)
def test_projectors_that_cannot_be_are_refused_by_name(tmp_path: Path, facts: dict, words: str) -> None:
    with pytest.raises(ModelFileError) as error:
        load(projector=projector_with(tmp_path, facts=facts))
    assert words in str(error.value)


def test_names_of_other_converters_are_understood(tmp_path: Path) -> None:
    with open_gguf(TEXT) as text, open_gguf(PROJECTOR) as projector:
        norm = text.tensors["token_embd_norm.weight"]
        early = {name: t for name, t in projector.tensors.items() if name.startswith("a.conv1d.")}
        ours = text_with(
            tmp_path, tensors={norm.name: None, "output_norm.weight": replace(norm, name="output_norm.weight")}
        )
        renamed = {name.removeprefix("a."): replace(t, name=name.removeprefix("a.")) for name, t in early.items()}
        theirs = projector_with(tmp_path, tensors={**dict.fromkeys(early), **renamed})
    model, plain = load(ours, theirs), load()
    assert np.array_equal(model.decoder.final_norm, plain.decoder.final_norm)
    assert np.array_equal(model.encoder.subsampler.third.bias, plain.encoder.subsampler.third.bias)


def test_fused_queries_keys_and_values_are_cut(tmp_path: Path) -> None:
    with open_gguf(TEXT) as file:
        parts = [file.tensors[f"blk.1.attn_{x}.weight"] for x in "qkv"]
        name = "blk.1.attn_qkv.weight"
        fused = GgufTensor(name, (256, 128), parts[0].format, np.concatenate([part.raw for part in parts]))
        path = text_with(tmp_path, tensors={**{part.name: None for part in parts}, name: fused})
    mixer, plain = load(path).decoder.layers[1].mixer, load().decoder.layers[1].mixer
    assert isinstance(mixer, weights.Attention)
    assert isinstance(plain, weights.Attention)
    assert mixer.shape == plain.shape
    for x in "qkv":
        assert np.array_equal(getattr(mixer, x), getattr(plain, x))


def test_an_untied_head_is_used(tmp_path: Path) -> None:
    head = GgufTensor.from_array("output.weight", np.ones((960, 128), np.float32))
    model = load(text_with(tmp_path, tensors={"output.weight": head}))
    assert np.array_equal(model.decoder.head, np.ones((960, 128)))
    assert load().decoder.head is not None
    plain = load().decoder
    assert plain.head is plain.embedding


def test_a_float32_pair_gives_the_same_logits_as_the_float16_one_it_was_made_from(tmp_path: Path) -> None:
    from tests.model.test_goldens import forced_logits, record, rows_of

    def expanded(source: Path, target: Path) -> Path:
        with open_gguf(source) as file:
            wide = {name: GgufTensor.from_array(name, t.dequantize()) for name, t in file.tensors.items()}
            return rewritten(source, target, tensors=wide)

    wide = load(expanded(TEXT, tmp_path / "wide.gguf"), expanded(PROJECTOR, tmp_path / "mmproj-wide.gguf"))
    gold = record("ms100")
    for model in (wide, load()):
        rows = rows_of(model, gold.mel, half=False)
        logits = forced_logits(model, rows, gold, 9)
        first = logits if model is wide else first  # noqa: F821
    assert np.array_equal(first, logits)


def test_mismatched_files_are_refused(tmp_path: Path) -> None:
    other = pair("mini-q8_0")[1]
    with pytest.raises(ModelFileError, match="belongs to another model"):
        load(projector=other)
    tokens = [f"t{i}" for i in range(3)]
    with pytest.raises(ModelFileError, match=r"text\.gguf"):
        load(text_with(tmp_path, facts={"tokenizer.ggml.tokens": tokens}))


def small(tmp_path: Path, name: str, facts: dict, *names: str) -> Path:
    path = tmp_path / name
    write_gguf(path, facts, [tensor(n, 2, 2) for n in names])
    return path


@pytest.mark.parametrize(
    ("name", "facts", "names", "kind", "words"),
    [
        ("tokenizer-X-Q8_0.gguf", {"general.architecture": "lfm2"}, ("a",), Kind.SPEECH_TOKENIZER, "tokenizer file"),
        ("vocoder-X-Q8_0.gguf", {}, ("a",), Kind.VOCODER, "vocoder"),
        ("x.gguf", {"general.architecture": "other"}, ("depthformer.0.weight",), Kind.VOCODER, "vocoder"),
        ("x.gguf", {"general.architecture": "clip", "clip.projector_type": "mlp"}, ("a",), Kind.OTHER, "'mlp'"),
        ("x.gguf", {"general.architecture": "llama\x1b[31m"}, ("a",), Kind.OTHER, r"llama\x1b[31m"),
        ("x.gguf", {"general.architecture": "lfm2moe"}, ("a",), Kind.OTHER, "'lfm2moe'"),
    ],
)
def test_files_of_the_repositories_are_told_apart(tmp_path: Path, name, facts, names, kind, words) -> None:
    with open_gguf(small(tmp_path, name, facts, *names)) as file:
        assert kind_of(file) is kind
        for wanted, flag in ((Kind.TEXT, "-m"), (Kind.PROJECTOR, "--mmproj")):
            with pytest.raises(ModelFileError) as error:
                require(file, wanted)
            assert words in str(error.value)
            assert flag in str(error.value)
            assert "\x1b" not in str(error.value)


def test_swapped_files_are_named() -> None:
    with pytest.raises(ModelFileError, match=r"this is the projector \(mmproj\), expected the text model"):
        load(text=PROJECTOR)
    with pytest.raises(ModelFileError, match=r"this is the text model, expected the projector"):
        load(projector=TEXT)


def test_loading_touches_no_tensor_that_recognition_does_not_need() -> None:
    taken: list[str] = []
    backend = NumpyBackend()
    with open_gguf(PROJECTOR) as projector, open_gguf(TEXT) as text:
        weights.load_encoder(projector, encoder_shape(projector), backend, taken.append)
        weights.load_decoder(text, decoder_shape(text), backend, taken.append)
        unneeded = {*projector.tensors, *text.tensors} - set(taken)
    assert unneeded == {"a.position_embd.weight", "a.position_embd_norm.weight", "a.embd_to_logits.weight"}
