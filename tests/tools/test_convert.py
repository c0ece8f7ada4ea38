import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import eardrop
from eardrop.errors import EardropError, ModelFileError, OptionError
from eardrop.gguf import BF16, F16, F32, from_bf16, open_gguf, to_bf16
from eardrop.gguf.mixes import MIXES
from eardrop.tools import safetensors
from eardrop.tools.convert import convert
from eardrop.tools.requantize import requantize
from tests.pairs import DATA, pair
from tests.tools import made_checkpoint as made

PAIR = "micro"
LAYER = "conformer.layers.0."
GPT_2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NARROW = np.ones((63, 128), np.float32)


@pytest.fixture(scope="module")
def arrays() -> made.Arrays:
    return made.published(pair(PAIR))


@pytest.fixture
def checkpoint(tmp_path, arrays) -> Path:
    return made.write_checkpoint(tmp_path / "LFM2-Audio", pair(PAIR), arrays)


@pytest.fixture
def stored(checkpoint, arrays) -> Callable[..., Path]:
    """The checkpoint with some tensors replaced, added, or, where None is given, left out."""

    def write(changes: dict[str, np.ndarray | None]) -> Path:
        held = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
        (checkpoint / "model.safetensors").write_bytes(made.safetensors(held))
        return checkpoint

    return write


@pytest.fixture
def configured(checkpoint) -> Callable[..., Path]:
    """The checkpoint with keys of a JSON file changed, or, where None is given, left out."""

    def write(file: str, section: str, **changes: object) -> Path:
        whole = json.loads((checkpoint / file).read_text())
        part = whole[section] if section else whole
        part.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del part[key]
        made.write_json(checkpoint / file, whole)
        return checkpoint

    return write


def sharded(checkpoint: Path, arrays: made.Arrays) -> dict[str, str]:
    """The checkpoint in three files of unequal parts, one of them empty; gives the index's map."""
    (checkpoint / "model.safetensors").unlink()
    names, homes = sorted(arrays), {}
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:], "c.safetensors": []}
    for file, part in parts.items():
        (checkpoint / file).write_bytes(made.safetensors({name: arrays[name] for name in part}))
        homes.update(dict.fromkeys(part, file))
    made.write_json(checkpoint / "model.safetensors.index.json", {"metadata": {}, "weight_map": homes})
    return homes


def same(value: object, other: object) -> bool:
    return type(value) is type(other) and np.array_equal(value, other)


def refused(checkpoint: Path, *expected: str, error: type[EardropError] = ModelFileError) -> None:
    """Refused in one line with these words, and nothing was written."""
    target = checkpoint.parent / "out"
    with pytest.raises(error) as raised:
        convert(checkpoint, target)
    message = str(raised.value)
    assert "\n" not in message
    for words in expected:
        assert words in message
    assert not target.exists() or not any(target.iterdir())


def test_every_tensor_and_fact_of_a_pair_comes_back_from_the_published_layout(checkpoint, tmp_path):
    files = convert(checkpoint, tmp_path / "new" / "folder")
    assert [path.name for path in files] == ["LFM2-Audio-F16.gguf", "mmproj-LFM2-Audio-F16.gguf"]
    for path, original in zip(files, pair(PAIR), strict=True):
        with open_gguf(path) as converted, open_gguf(original) as expected:
            assert converted.tensors.keys() == expected.tensors.keys()
            for name, tensor in expected.tensors.items():
                found = converted.tensors[name]
                assert (name, found.shape, found.format) == (name, tensor.shape, tensor.format)
                assert np.array_equal(found.raw, tensor.raw), name
            left_out = {"general.size_label"}
            told = {key: value for key, value in expected.facts.items() if key not in left_out}
            told |= {"general.name": "LFM2-Audio"}
            if "tokenizer.ggml.model" in told:
                told["tokenizer.ggml.add_sep_token"] = False
            assert converted.facts.keys() == told.keys()
            assert [key for key in told if not same(converted.facts[key], told[key])] == []


def test_the_converted_pair_transcribes_as_the_original_does(checkpoint, tmp_path):
    text, projector = convert(checkpoint, tmp_path / "out")
    converted, original = eardrop.load(text, projector=projector), eardrop.load(pair(PAIR)[0])
    results = [asr.transcribe(DATA / "chirp1.wav") for asr in (converted, original)]
    assert results[0].segments == results[1].segments


def test_shards_give_the_same_files(checkpoint, arrays, tmp_path):
    whole = convert(checkpoint, tmp_path / "whole")
    sharded(checkpoint, arrays)
    for path, other in zip(convert(checkpoint, tmp_path / "sharded"), whole, strict=True):
        with open_gguf(path) as converted, open_gguf(other) as expected:
            assert converted.facts.keys() == expected.facts.keys()
            assert all(np.array_equal(converted.tensors[n].raw, expected.tensors[n].raw) for n in expected.tensors)


def test_weights_in_bf16_are_widened_before_they_are_rounded(stored, arrays, tmp_path):
    name = "lfm.layers.0.feed_forward.w2.weight"
    bits = to_bf16(arrays[name].astype(np.float32) * np.float32(1.7))
    checkpoint = stored({name: bits})
    for form, rounded in {"F32": from_bf16(bits), "F16": from_bf16(bits).astype(np.float16)}.items():
        with open_gguf(convert(checkpoint, tmp_path / form, form=form)[0]) as file:
            assert np.array_equal(file.tensors["blk.0.ffn_down.weight"].dequantize(), rounded.astype(np.float32))
    with open_gguf(convert(checkpoint, tmp_path / "BF16", form="bf16")[0]) as file:
        assert np.array_equal(file.tensors["blk.0.ffn_down.weight"].blocks()["x"].reshape(bits.shape), bits)


@pytest.mark.parametrize("form", ["F32", "F16", "BF16"])
def test_norms_biases_and_convolutions_stay_f32_whatever_the_type(form, checkpoint, tmp_path):
    text, projector = convert(checkpoint, tmp_path / "out", form=form)
    with open_gguf(text) as file:
        formats = {name: tensor.format for name, tensor in file.tensors.items()}
        assert file.facts["general.file_type"] == {"F32": 0, "F16": 1, "BF16": 32}[form]
    matrix = {"F32": F32, "F16": F16, "BF16": BF16}[form]
    assert {name for name, found in formats.items() if found is F32 and matrix is not F32} <= {
        name for name in formats if "norm" in name or name.endswith("shortconv.conv.weight")
    }
    assert (formats["token_embd.weight"], formats["blk.1.attn_k.weight"]) == (matrix, matrix)
    assert (formats["blk.0.attn_norm.weight"], formats["blk.0.shortconv.conv.weight"]) == (F32, F32)
    with open_gguf(projector) as file:
        formats = {name: tensor.format for name, tensor in file.tensors.items()}
    plain = ("a.conv1d.3.weight", "a.blk.0.conv_pw1.weight", "a.blk.0.conv_dw.weight", "a.position_embd.weight")
    assert {formats[name] for name in (*plain, "a.blk.0.pos_bias_u", "a.blk.0.attn_q.bias")} == {F32}
    big = ("a.pre_encode.out.weight", "a.embd_to_logits.weight", "a.blk.0.linear_pos.weight", "mm.a.mlp.3.weight")
    assert {formats[name] for name in big} == {matrix}


@pytest.mark.parametrize("form", ["Q8_0", "Q4_K_M"])
def test_a_quantised_type_at_once_is_the_same_files_as_by_way_of_f32(form, checkpoint, tmp_path):
    plain = convert(checkpoint, tmp_path / "plain", form="F32")
    for path, source in zip(convert(checkpoint, tmp_path / "out", form=form), plain, strict=True):
        requantize(source, tmp_path / path.name, MIXES[form])
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_the_batch_norm_becomes_a_factor_and_an_offset(stored, tmp_path):
    rng = np.random.default_rng(5)
    parts = {part: rng.normal(size=512).astype(np.float32) for part in ("weight", "bias", "running_mean")}
    parts["running_var"] = rng.uniform(1e-6, 2, 512).astype(np.float32)
    checkpoint = stored({f"{LAYER}conv.batch_norm.{part}": array for part, array in parts.items()})
    x = rng.normal(size=512)
    gamma, beta, mean, variance = (
        parts[part].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    with open_gguf(convert(checkpoint, tmp_path / "out")[1]) as file:
        factor, offset = (file.tensors[f"a.blk.0.conv_norm.{part}"].dequantize() for part in ("weight", "bias"))
    expected = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    bound = 8 * np.finfo(np.float32).eps * (np.abs(x) + np.abs(mean)) * np.abs(gamma) / np.sqrt(variance + 1e-5)
    assert (np.abs(x * factor + offset - expected) <= bound + 1e-6).all()


def test_kernels_have_the_shapes_that_readers_expect(checkpoint, tmp_path):
    with open_gguf(convert(checkpoint, tmp_path / "out", form="F32")[1]) as file:
        assert file.tensors["a.conv1d.0.weight"].shape == (16, 1, 3, 3)
        assert file.tensors["a.conv1d.0.bias"].shape == (16, 1, 1)
        assert file.tensors["a.blk.0.conv_dw.weight"].shape == (512, 9)


def test_progress_grows_from_nothing_to_all(checkpoint, tmp_path):
    shares: list[float] = []
    convert(checkpoint, tmp_path / "out", progress=shares.append)
    assert shares == sorted(shares)
    assert (shares[0] > 0, shares[-1]) == (True, 1.0)


def test_files_that_exist_are_kept_unless_asked(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    existing = tmp_path / "out" / "mmproj-LFM2-Audio-F16.gguf"
    existing.write_text("mine")
    with pytest.raises(OptionError, match="exists"):
        convert(checkpoint, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [existing.name]
    assert existing.read_text() == "mine"
    convert(checkpoint, tmp_path / "out", force=True)
    assert len([*(tmp_path / "out").iterdir()]) == 2


def test_a_failure_halfway_leaves_the_folder_as_it_was(stored, arrays, tmp_path):
    broken = arrays["audio_adapter.model.3.weight"].copy()
    broken[-1, -1] = np.nan  # in the last matrix of the second file
    checkpoint = stored({"audio_adapter.model.3.weight": broken})
    (tmp_path / "out").mkdir()
    refused(checkpoint, "audio_adapter.model.3.weight", "aren't finite")


def test_values_beyond_half_precision_are_refused_for_f16_alone(stored, arrays, tmp_path):
    large = arrays["lfm.embed_tokens.weight"].astype(np.float32)
    large[3, 2] = -65520
    checkpoint = stored({"lfm.embed_tokens.weight": large})
    refused(checkpoint, "lfm.embed_tokens.weight", "65520", "BF16", error=OptionError)
    convert(checkpoint, tmp_path / "wide", form="BF16")
    large[3, 2] = 65519
    convert(stored({"lfm.embed_tokens.weight": large}), tmp_path / "half")


@pytest.mark.parametrize(
    ("file", "section", "changes", "words"),
    [
        ("config.json", "", {"architectures": ["LlamaForCausalLM"]}, ("LlamaForCausalLM", "Lfm2AudioForCond")),
        ("config.json", "", {"architectures": None}, ("architectures", "nothing")),
        ("config.json", "", {"lfm": None}, ("lfm", "nothing")),
        ("config.json", "", {"encoder": [1]}, ("encoder", "an object")),
        ("config.json", "lfm", {"hidden_size": None}, ("lfm.hidden_size", "nothing")),
        ("config.json", "lfm", {"hidden_size": "128"}, ("lfm.hidden_size", "'128'")),
        ("config.json", "lfm", {"hidden_size": True}, ("lfm.hidden_size: expected a whole number", "True")),
        ("config.json", "lfm", {"hidden_size": 64}, ("lfm.embed_tokens.weight", "(960, 128)", "(960, 64)")),
        ("config.json", "lfm", {"num_attention_heads": 3}, ("lfm.hidden_size", "3 heads")),
        ("config.json", "lfm", {"num_hidden_layers": 5}, ("lfm.layer_types", "5 kinds")),
        ("config.json", "lfm", {"num_hidden_layers": 0}, ("lfm.num_hidden_layers", "1 to 2147483647")),
        ("config.json", "lfm", {"num_key_value_heads": 10**4000}, ("lfm.num_key_value_heads", "1 to")),
        ("config.json", "lfm", {"layer_types": ["conv", "mamba", "conv", "conv"]}, ("layer_types", "'mamba'")),
        ("config.json", "lfm", {"layer_types": ["conv", [], "conv", "conv"]}, ("layer_types", "[]")),
        ("config.json", "lfm", {"layer_types": ["conv"] * 4}, ("lfm.layers.1.conv.conv.weight and 5 more",)),
        ("config.json", "lfm", {"conv_L_cache": 4}, ("conv.conv.weight", "(128, 1, 3)", "(128, 1, 4)")),
        ("config.json", "lfm", {"vocab_size": 961}, ("lfm.embed_tokens.weight", "(961, 128)")),
        ("config.json", "lfm", {"rope_parameters": {"rope_type": "yarn"}}, ("rope_parameters.rope_type", "yarn")),
        ("config.json", "lfm", {"norm_eps": "small"}, ("lfm.norm_eps", "a number")),
        ("config.json", "lfm", {"norm_eps": 10**4000}, ("lfm.norm_eps", "a number")),
        ("config.json", "lfm", {"rope_theta": None, "rope_parameters": {"rope_theta": "x"}}, ("rope_theta", "'x'")),
        ("config.json", "encoder", {"n_layers": 2}, ("conformer.layers.1.", "is missing")),
        ("config.json", "encoder", {"n_layers": 10**9}, ("encoder.n_layers", "1024")),
        ("config.json", "encoder", {"n_heads": 7}, ("encoder.d_model", "7 heads")),
        ("config.json", "encoder", {"feat_in": 80}, ("preprocessor.features", "80")),
        ("config.json", "encoder", {"xscaling": True}, ("encoder.xscaling", "True")),
        ("config.json", "encoder", {"subsampling_factor": 4}, ("encoder.subsampling_factor", "4")),
        ("config.json", "preprocessor", {"sample_rate": 24000}, ("preprocessor.sample_rate", "24000")),
        ("tokenizer.json", "model", {"type": "Unigram"}, ("model.type", "Unigram")),
        ("tokenizer.json", "model", {"vocab": None}, ("model.vocab", "nothing")),
        ("tokenizer.json", "model", {"merges": [["a", 3]]}, ("model.merges", "['a', 3]")),
        ("tokenizer.json", "model", {"merges": ["a \x1b[31m"]}, ("merges", r"\x1b[31m")),
        ("tokenizer.json", "", {"added_tokens": [{"id": 3}]}, ("added_tokens", "{'id': 3}")),
        ("tokenizer.json", "", {"added_tokens": [{"id": 30, "content": "\ud800"}]}, ("30 for", r"\ud800")),
        ("tokenizer.json", "", {"post_processor": {"single": [{"Sequence": 1}, {"SpecialToken": 1}]}}, ("add_eos",)),
        ("tokenizer.json", "", {"post_processor": {"processors": [3, {"single": [4]}]}}, ("is no tokenizer",)),
        ("tokenizer.json", "", {"added_tokens": [{"id": 960, "content": "x"}]}, ("ids below 960", "960 for 'x'")),
        ("tokenizer.json", "", {"added_tokens": [{"id": 30, "content": "x"}]}, ("30 for", "'x'")),
        ("tokenizer.json", "", {"pre_tokenizer": GPT_2}, ("splits",)),
        ("tokenizer.json", "", {"pre_tokenizer": {"type": "Nonsense"}}, ("is no tokenizer",)),
        ("tokenizer_config.json", "", {"chat_template": "[INST]"}, ("tokenizer.chat_template", "Llama 2")),
    ],
)  # fmt: skip
def test_a_checkpoint_that_contradicts_itself_or_is_another_model_s(file, section, changes, words, configured):
    refused(configured(file, section, **changes), *words)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_is_missing_is_named(file, checkpoint):
    (checkpoint / file).unlink()
    refused(checkpoint, file, "no such file")


def test_a_checkpoint_without_a_chat_template_is_refused(checkpoint):
    (checkpoint / "chat_template.jinja").unlink()
    refused(checkpoint, "tokenizer.chat_template", "found nothing")


def test_a_folder_that_is_none_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "no such folder")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lfm.layers.3.feed_forward.w2.weight": None}, ("lfm.layers.3.feed_forward.w2.weight is missing",)),
        ({"lfm.embedding_norm.weight": None, f"{LAYER}norm_out.bias": None}, ("and 1 more is missing",)),
        ({"audio_embedding.embedding.weight": None}, ("audio_embedding.embedding.weight is missing",)),
        ({f"{LAYER}conv.batch_norm.running_var": None}, ("batch_norm.running_var is missing",)),
        ({"lfm.lm_head.weight": np.ones((2, 2), np.float32)}, ("lfm.lm_head.weight belongs to no network",)),
        ({"\x1b]0;x": np.ones(2, np.float32)}, (r"\x1b]0;x belongs to no network",)),
        ({"lfm.layers.1.self_attn.k_proj.weight": NARROW}, ("k_proj", "(63, 128)", "(64, 128)")),
        ({f"{LAYER}conv.depthwise_conv.weight": np.ones((512, 9), np.float32)}, ("depthwise_conv", "3 dimensions")),
        ({f"{LAYER}conv.batch_norm.running_mean": np.ones(511, np.float32)}, ("running_mean", "(511,)", "(512,)")),
        ({f"{LAYER}conv.batch_norm.running_var": -np.ones(512, np.float32)}, ("running_var", "negative")),
        ({"lfm.embedding_norm.weight": np.ones(128, np.int64)}, ("lfm.embedding_norm.weight is I64",)),
        ({"audio_adapter.model.1.weight": np.ones((0, 512), np.float32)}, ("audio_adapter.model.1.weight", "(0, 512)")),
    ],
)  # fmt: skip
def test_tensors_that_are_missing_unknown_or_misshapen_are_named(changes, words, stored):
    refused(stored(changes), *words)


def _index(checkpoint: Path, homes: dict[str, object]) -> None:
    made.write_json(checkpoint / "model.safetensors.index.json", {"weight_map": homes})


@pytest.mark.parametrize(
    "home", ["../a.safetensors", "/etc/passwd", "x/../../a", "..", "", "c:evil", "a\\b", 5, None, "a\0b"]
)
def test_an_index_that_leads_out_of_the_folder_is_refused(home, checkpoint, arrays):
    homes = sharded(checkpoint, arrays)
    _index(checkpoint, {**homes, "lfm.embed_tokens.weight": home})
    refused(checkpoint, "index.json", "beside it")


def test_shards_must_be_what_the_index_says(checkpoint, arrays):
    homes = sharded(checkpoint, arrays)
    _index(checkpoint, {**homes, "more": "a.safetensors"})
    refused(checkpoint, "more should be in a.safetensors, but is in nowhere")
    _index(checkpoint, {**homes, max(homes): "a.safetensors"})
    refused(checkpoint, f"{max(homes)} should be in a.safetensors, but is in b.safetensors")
    _index(checkpoint, {**homes, "more": "gone.safetensors"})
    refused(checkpoint, "gone.safetensors", "no such file")
    _index(checkpoint, homes)
    twice = {max(homes): arrays[max(homes)], **{name: arrays[name] for name in homes if homes[name] == "a.safetensors"}}
    (checkpoint / "a.safetensors").write_bytes(made.safetensors(twice))
    refused(checkpoint, max(homes), "is in a.safetensors, too")


@pytest.mark.parametrize("cut", [0, 7, 8, 9, 100, 20_000, -1])
def test_a_file_that_is_cut_off_is_refused_anywhere(cut, checkpoint):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refused(checkpoint, "model.safetensors", "cut off")


def entry(**changes: object) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[]", "no JSON object"),
        (b"{", "is no JSON"),
        (b"\xff\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', "is no JSON"),
        (b'{"w":1,"w":2}', "'w' is there twice"),
        (b'{"w":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', "'dtype' is there twice"),
        (b'{"w":[]}', "makes no sense"),
        (entry(dtype="F33"), "makes no sense"),
        (entry(dtype=["F32"]), "makes no sense"),
        (entry(shape=[-2]), "makes no sense"),
        (entry(shape=[2.0]), "makes no sense"),
        (entry(shape=[True, 2]), "makes no sense"),
        (entry(shape=[3]), "makes no sense"),
        (entry(shape=[1 << 62, 1 << 62]), "makes no sense"),
        (entry(data_offsets=[8, 0]), "makes no sense"),
        (entry(data_offsets=[0]), "makes no sense"),
        (entry(data_offsets=[-8, 0]), "makes no sense"),
        (entry(data_offsets=[4, 12]), "expected 0"),
        (entry(shape=[1], data_offsets=[0, 4]), "end at byte"),
        (entry(shape=[3], data_offsets=[0, 12]), "cut off"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header, words, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(made.framed(header, bytes(8)))
    with pytest.raises(ModelFileError, match=words) as raised:
        safetensors.read_header(path)
    assert len(str(raised.value)) < 400 + len(str(path))


def test_a_header_longer_than_any_is_refused_unread(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((safetensors.MOST_JSON_BYTES + 1).to_bytes(8, "little"))
        os.truncate(file.fileno(), safetensors.MOST_JSON_BYTES + 100)
    with pytest.raises(ModelFileError, match="no safetensors file"):
        safetensors.read_header(path)


def test_slabs_are_whole_rows_and_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "SLAB", 10)
    array = np.arange(21, dtype=np.float32).reshape(7, 3)
    (tmp_path / "x.safetensors").write_bytes(made.safetensors({"none": np.empty((0, 3), np.float32), "w": array}))
    tensors = safetensors.read_header(tmp_path / "x.safetensors")
    assert [slab.shape for slab in tensors["w"].slabs(3)] == [(3, 3), (3, 3), (1, 3)]
    assert np.array_equal(np.concatenate([*tensors["w"].slabs(3)]), array)
    assert [slab.shape for slab in tensors["w"].slabs(21)] == [(1, 21)]
    assert np.array_equal(tensors["w"].values(), array)
    assert tensors["none"].values().shape == (0, 3)


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(made.safetensors({"w": np.ones(4, np.float32)}))
    tensor = safetensors.read_header(path)["w"]
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(ModelFileError, match="it changed"):
        tensor.values()


def test_merges_as_old_files_have_them_and_no_other_file_of_the_tokenizer(configured, tmp_path):
    merges = [" ".join(pair) for pair in made.tokenizer(pair(PAIR))["model"]["merges"]]
    checkpoint = configured("tokenizer.json", "model", merges=merges)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (checkpoint / name).unlink()  # config.json has the ids, too
    configured("tokenizer.json", "", post_processor=None)
    with open_gguf(convert(checkpoint, tmp_path / "out")[0]) as file, open_gguf(pair(PAIR)[0]) as expected:
        keys = [key for key in file.facts if key.startswith("tokenizer.") and key != "tokenizer.ggml.add_sep_token"]
        assert [key for key in keys if not same(file.facts[key], expected.facts[key])] == []


def test_a_token_that_looks_like_a_control_token_is_one(configured, tmp_path):
    added = made.tokenizer(pair(PAIR))["added_tokens"]
    mimi = next(token for token in added if token["content"] == "<|mimi|>")
    mimi["special"] = False
    checkpoint = configured("tokenizer.json", "", added_tokens=added)
    with open_gguf(convert(checkpoint, tmp_path / "out")[0]) as file:
        assert file.facts["tokenizer.ggml.token_type"][mimi["id"]] == 3


def test_the_template_in_the_tokenizer_s_configuration_comes_first_and_stays_verbatim(configured, tmp_path):
    template = "{{ '<|im_start|>' }}\r\n\t{# Ä #}"
    checkpoint = configured("tokenizer_config.json", "", chat_template=template)
    with open_gguf(convert(checkpoint, tmp_path / "out")[0]) as file:
        assert file.facts["tokenizer.chat_template"] == template


def test_a_rope_base_is_found_in_both_places_and_else_the_published_one(configured, tmp_path):
    found = []
    for place in ({}, {"rope_theta": 5e5}, {"rope_theta": None, "rope_parameters": {"rope_theta": 250_000}}):
        checkpoint = configured("config.json", "lfm", **place)
        with open_gguf(convert(checkpoint, tmp_path / "out", form="F32", force=True)[0]) as file:
            found.append(file.facts["lfm2.rope.freq_base"])
    checkpoint = configured("config.json", "lfm", rope_parameters=None)
    with open_gguf(convert(checkpoint, tmp_path / "out", form="F32", force=True)[0]) as file:
        found.append(file.facts["lfm2.rope.freq_base"])
    assert found == [1e6, 5e5, 250_000, 1e6]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\0", "a\udcff", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(name, checkpoint, tmp_path):
    with pytest.raises(OptionError, match="--name"):
        convert(checkpoint, tmp_path / "out", name=name)


def test_a_type_that_is_unknown_is_refused_with_the_known_ones(checkpoint, tmp_path):
    with pytest.raises(OptionError, match="F32, F16, BF16"):
        convert(checkpoint, tmp_path / "out", form="F8")
