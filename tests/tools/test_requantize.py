"""A file becomes the same model in another mix: what it holds then, what it cost, and what is refused."""

import os
import tracemalloc
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import eardrop
from eardrop.errors import EardropError, ModelFileError, OptionError
from eardrop.gguf import GgufTensor, by_name, open_gguf, u16, write_gguf
from eardrop.gguf.mixes import MIXES, TYPES
from eardrop.gguf.quantize import quantize
from eardrop.tools.keep import Keep
from eardrop.tools.requantize import Report, requantize
from tests.pairs import pair, record, rewritten

MATRIX = "blk.0.ffn_up.weight"


@pytest.fixture
def text() -> Path:
    return pair("micro")[0]


@pytest.fixture
def wide(tmp_path: Path, text: Path) -> Path:
    """A text model with one matrix whose rows are whole blocks of every format."""
    x = np.random.default_rng(1).normal(size=(40, 512)).astype(np.float32)
    tensors = dict.fromkeys(open_gguf(text).tensors) | {MATRIX: GgufTensor.from_array(MATRIX, x)}
    return rewritten(text, tmp_path / "wide.gguf", tensors=tensors)


def with_value(text: Path, path: Path, value: float, name: str = MATRIX) -> Path:
    x = np.ones((64, 256), np.float32)
    x[50, 100] = value
    return rewritten(text, path, tensors={name: GgufTensor.from_array(name, x)})


def to(target: Path, source: Path, mix: str = "Q8_0", **wishes: Any) -> Report:
    return requantize(source, target, MIXES[mix], **wishes)


@pytest.mark.parametrize("mix", TYPES)
def test_matrices_are_quantized_the_rest_stays_and_the_report_is_true(mix: str, tmp_path: Path, wide: Path) -> None:
    target = tmp_path / "out.gguf"
    report = to(target, wide, mix)
    form = by_name(mix[: -len("_M")] if mix.endswith(("_S", "_M")) else mix)
    with open_gguf(wide) as before, open_gguf(target) as after:
        x = before.tensors[MATRIX].dequantize()
        assert after.tensors[MATRIX].format is form
        assert np.array_equal(after.tensors[MATRIX].raw, quantize(x, form))
        (change,) = report.changes
        error = after.tensors[MATRIX].dequantize().astype(float) - x
        assert change.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
        assert change.relative == pytest.approx(np.sqrt(np.mean(error**2) / np.mean(x.astype(float) ** 2)), rel=1e-9)
        assert change.nbytes == after.tensors[MATRIX].nbytes
        assert after.fact("general.file_type", int) == MIXES[mix].file_type
    assert (report.size_before, report.size_after) == (wide.stat().st_size, target.stat().st_size)


def test_facts_stay_with_their_kinds_and_what_is_no_matrix_with_its_bytes(tmp_path: Path, text: Path) -> None:
    to(tmp_path / "out.gguf", text, "Q4_K_M")
    with open_gguf(text) as before, open_gguf(tmp_path / "out.gguf") as after:
        assert list(after.tensors) == list(before.tensors)
        for key, fact in before.typed_facts.items():
            if key != "general.file_type":
                assert after.typed_facts[key].kind is fact.kind
                assert np.array_equal(after.typed_facts[key].value, fact.value)
        for name, tensor in before.tensors.items():
            assert after.tensors[name].shape == tensor.shape
            if len(tensor.shape) == 1 or "shortconv.conv" in name:
                assert after.tensors[name].format is tensor.format
                assert np.array_equal(after.tensors[name].raw, tensor.raw)


@pytest.mark.parametrize(("mix", "near"), [("BF16", 0.9999), ("Q8_0", 0.9999), ("Q4_K_M", 0.995), ("Q4_0", 0.99)])
def test_a_quantized_pair_still_listens(mix: str, near: float, tmp_path: Path) -> None:
    """Both files load, and the encoder's rows are near those of the plain pair, but not the same."""
    text, projector = pair("micro")
    to(tmp_path / "a.gguf", text, mix)
    to(tmp_path / "mmproj-a.gguf", projector, mix)
    samples = record("ms100").samples
    with eardrop.load(text, backend="numpy") as plain, eardrop.load(tmp_path / "a.gguf", backend="numpy") as fewer:
        x, y = (asr.encode(samples).astype(float).ravel() for asr in (plain, fewer))
        assert fewer.transcribe(samples, max_tokens=4).text is not None
    cosine = x @ y / np.sqrt((x @ x) * (y @ y))
    assert near < cosine < 1


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(threads: int, tmp_path: Path, wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = to(tmp_path / "one.gguf", wide, "Q4_K_M")
    monkeypatch.setattr("eardrop.tools.requantize.SLAB", 1536)  # three rows
    shares: list[float] = []
    many = to(tmp_path / "many.gguf", wide, "Q4_K_M", threads=threads, progress=shares.append)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "many.gguf").read_bytes()
    assert many.changes[0].rmse == pytest.approx(one.changes[0].rmse, rel=1e-12)
    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (14, 1)


def test_no_more_is_made_ahead_than_the_threads_are_busy_with(
    tmp_path: Path, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    ahead: list[int] = []

    def counted(x: Any, form: Any) -> Any:
        made.append(len(x))
        return quantize(x, form)

    monkeypatch.setattr("eardrop.tools.requantize.quantize", counted)
    monkeypatch.setattr("eardrop.tools.requantize.SLAB", 512)
    to(tmp_path / "out.gguf", wide, threads=2, progress=lambda share: ahead.append(len(made) - len(ahead)))
    assert len(ahead) == 40
    assert max(ahead) <= 5  # one in hand, two for each thread


def test_memory_is_a_few_slabs_whatever_the_tensor(tmp_path: Path, text: Path) -> None:
    x = np.ones((1 << 12, 1 << 11), np.float16)  # 16 MB, 32 in float32
    tensors = dict.fromkeys(open_gguf(text).tensors) | {MATRIX: GgufTensor.from_array(MATRIX, x, by_name("F16"))}
    source = rewritten(text, tmp_path / "large.gguf", tensors=tensors)
    del x, tensors
    tracemalloc.start()
    to(tmp_path / "out.gguf", source, "Q4_0", threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_a_split_model_becomes_one_file(tmp_path: Path, text: Path) -> None:
    with open_gguf(text) as file:
        tensors = list(file.tensors.values())
        for number, part in enumerate((tensors[:9], tensors[9:])):
            count = {
                "split.no": u16(number),
                "split.count": u16(2),
                "split.tensors.count": np.int32(len(tensors)).item(),
            }
            write_gguf(tmp_path / f"m-{number + 1:05}-of-00002.gguf", {**file.typed_facts, **count}, part)
    to(tmp_path / "whole.gguf", text, "Q4_0")
    report = to(tmp_path / "joined.gguf", tmp_path / "m-00001-of-00002.gguf", "Q4_0")
    assert (tmp_path / "joined.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert report.size_before == sum(path.stat().st_size for path in tmp_path.glob("m-*"))
    with pytest.raises(OptionError, match="is the file to read"):
        to(tmp_path / "m-00002-of-00002.gguf", tmp_path / "m-00001-of-00002.gguf", force=True)


def test_the_same_type_again_is_the_same_file(tmp_path: Path) -> None:
    for name, source in zip(("text", "projector"), pair("micro"), strict=True):
        report = to(tmp_path / name, source, "F16")
        assert not any(change.changed for change in report.changes)
        assert (tmp_path / name).read_bytes() == source.read_bytes()


def test_what_was_quantized_before_is_counted(tmp_path: Path, text: Path) -> None:
    assert to(tmp_path / "once.gguf", text, "Q8_0").twice == 0
    assert to(tmp_path / "same.gguf", tmp_path / "once.gguf", "Q8_0").twice == 0
    again = to(tmp_path / "twice.gguf", tmp_path / "once.gguf", "Q5_1")
    assert again.twice == sum(change.changed for change in again.changes) > 10


def test_wishes_reach_the_file(tmp_path: Path, text: Path) -> None:
    to(tmp_path / "a.gguf", text, "Q4_0", keep=[Keep.parse("blk.1.*=F32"), Keep.parse("token_embd.weight=Q5_1")])
    with open_gguf(tmp_path / "a.gguf") as file:
        assert file.tensors["blk.1.ffn_up.weight"].format.name == "F32"
        assert file.tensors["token_embd.weight"].format.name == "Q5_1"


@pytest.mark.parametrize("mix", TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_with_its_tensor(mix: str, bad: float, tmp_path: Path, text: Path) -> None:
    source = with_value(text, tmp_path / "bad.gguf", bad)
    with pytest.raises(ModelFileError, match=r"bad\.gguf: tensor blk\.0\.ffn_up\.weight holds NaN or infinities"):
        to(tmp_path / "out.gguf", source, mix)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def test_a_norm_is_looked_at_too(tmp_path: Path, text: Path) -> None:
    source = rewritten(
        text,
        tmp_path / "bad.gguf",
        tensors={"blk.0.ffn_norm.weight": GgufTensor.from_array("blk.0.ffn_norm.weight", np.full(128, np.nan))},
    )
    with pytest.raises(ModelFileError, match=r"tensor blk\.0\.ffn_norm\.weight holds NaN"):
        to(tmp_path / "out.gguf", source)


@pytest.mark.parametrize("mix", [mix for mix in TYPES if mix not in ("F32", "BF16")])
def test_values_too_large_for_a_format_are_refused_with_what_would_help(mix: str, tmp_path: Path, text: Path) -> None:
    source = with_value(text, tmp_path / "large.gguf", 1e12)
    with pytest.raises(ModelFileError, match=rf"holds 1e\+12, too much for \w+; add --keep '{MATRIX}=BF16'"):
        to(tmp_path / "out.gguf", source, mix)
    to(tmp_path / "out.gguf", source, mix, keep=[Keep.parse(f"{MATRIX}=BF16")])


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, wide: Path) -> None:
    with pytest.raises(ModelFileError, match="has changed"):
        to(tmp_path / "out.gguf", wide, progress=lambda share: os.utime(wide, (1, 1)))
    assert not (tmp_path / "out.gguf").exists()


def test_whatever_stops_it_the_old_file_stays_and_nothing_else(tmp_path: Path, wide: Path) -> None:
    (tmp_path / "out.gguf").write_bytes(b"old")

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to(tmp_path / "out.gguf", wide, force=True, threads=2, progress=stop)
    assert (tmp_path / "out.gguf").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"wide.gguf", "out.gguf"}


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path, wide: Path) -> None:
    (tmp_path / "out.gguf").write_bytes(b"old")
    with pytest.raises(OptionError, match="exists; name another file, or --force"):
        to(tmp_path / "out.gguf", wide)
    assert (tmp_path / "out.gguf").read_bytes() == b"old"
    to(tmp_path / "out.gguf", wide, force=True)
    assert (tmp_path / "out.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("name", ["wide.gguf", "../{}/wide.gguf", "link.gguf", "hard.gguf"])
def test_the_file_is_never_its_own_result(name: str, tmp_path: Path, wide: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(wide)
    (tmp_path / "hard.gguf").hardlink_to(wide)
    with pytest.raises(OptionError, match="is the file to read"):
        to(tmp_path / name.format(tmp_path.name), wide, force=True)


@pytest.mark.parametrize(("name", "what"), [(".", "is a folder"), ("none/out.gguf", "lies in no folder")])
def test_a_place_that_can_not_be_written_is_told_before_the_work(
    name: str, what: str, tmp_path: Path, wide: Path
) -> None:
    with pytest.raises(OptionError, match=what):
        to(tmp_path / name, wide, force=True)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"general.architecture": "gpt2"}, "this is another model"),
        ({"lfm2.embedding_length_out": 512}, "this is the tokenizer file"),
    ],
)
def test_other_models_are_refused(facts: dict[str, Any], what: str, tmp_path: Path, text: Path) -> None:
    with pytest.raises(ModelFileError, match=what):
        to(tmp_path / "out.gguf", rewritten(text, tmp_path / "other.gguf", facts=MappingProxyType(facts)))


def test_a_matrix_in_a_format_that_can_not_be_computed_is_refused(tmp_path: Path, text: Path) -> None:
    form = by_name("IQ2_S")
    tensor = GgufTensor(MATRIX, (2, 256), form, np.zeros((2, form.block_bytes), np.uint8))
    source = rewritten(text, tmp_path / "odd.gguf", tensors={MATRIX: tensor})
    with pytest.raises(EardropError, match=r"blk\.0\.ffn_up\.weight is IQ2_S"):
        to(tmp_path / "out.gguf", source)


def test_empty_tensors_and_integers_pass_as_they_are(tmp_path: Path, text: Path) -> None:
    whole = GgufTensor("ids", (3,), by_name("I32"), np.arange(12, dtype=np.uint8)[None])
    empty = GgufTensor("none.weight", (4, 0), by_name("F32"), np.empty((4, 0), np.uint8))
    source = rewritten(text, tmp_path / "in.gguf", tensors={"ids": whole, "none.weight": empty})
    to(tmp_path / "out.gguf", source)
    with open_gguf(tmp_path / "out.gguf") as file:
        assert np.array_equal(file.tensors["ids"].raw, whole.raw)
        assert file.tensors["none.weight"].shape == (4, 0)
