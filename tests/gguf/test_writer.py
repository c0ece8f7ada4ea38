"""The writer against the reader and against gguf's own writer and reader, byte by byte."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eardrop import gguf as ours
from eardrop.errors import OptionError
from eardrop.gguf import Fact, GgufTensor, PlannedTensor, open_gguf, write_gguf

FACTS: dict[str, Any] = {
    "general.architecture": "lfm2",
    "u8": ours.u8(255),
    "i8": ours.i8(-128),
    "u16": ours.u16(65535),
    "i16": ours.i16(-32768),
    "u32": ours.u32(5),
    "i32": ours.i32(-5),
    "u64": ours.u64(2**64 - 1),
    "i64": ours.i64(-(2**63)),
    "f32": ours.f32(0.1),
    "f64": ours.f64(0.1),
    "yes": True,
    "text": "Ġ今日は\n",
    "words": ["a", "Ġb", "今"],
    "numbers": np.array([1, -2, 3], np.int32),
    "bytes": np.array([1, 2], np.uint8),
    "reals": np.array([0.5, np.inf], np.float32),
    "flags": np.array([True, False]),
}


def tensors() -> list[GgufTensor]:
    rng = np.random.default_rng(1)
    quantized = rng.integers(0, 256, (6, 2 * 34), np.uint8)
    return [
        GgufTensor.from_array("w32", rng.normal(size=(3, 5)).astype(np.float32)),
        GgufTensor.from_array("w16", rng.normal(size=(2, 3, 7)), ours.F16),
        GgufTensor("w8", (2, 3, 64), ours.Q8_0, quantized),
        GgufTensor.from_array("b", np.ones(1)),
    ]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, FACTS, tensors())
    file = open_gguf(path)
    assert list(file.facts) == list(FACTS)
    for key, given_ in FACTS.items():
        fact = Fact.of(given_)
        np.testing.assert_array_equal(file.facts[key], np.float32(0.1) if key == "f32" else fact.value)
        assert file.typed_facts[key].kind is fact.kind
    for written, read in zip(tensors(), file.tensors.values(), strict=True):
        assert (written.name, written.shape, written.format) == (read.name, read.shape, read.format)
        assert np.array_equal(written.raw, read.raw)
    assert path.stat().st_size == ours.file_bytes(FACTS, tensors())


def test_rewriting_a_file_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write_gguf(first, FACTS, tensors())
    file = open_gguf(first)
    write_gguf(second, file.typed_facts, file.tensors.values())
    assert first.read_bytes() == second.read_bytes()


def gguf_writes(path: Path, alignment: int | None = None) -> None:
    """The same facts and tensors by gguf's writer, each by its own method."""
    writer = gguf.GGUFWriter(path, "lfm2")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    names = {
        "u8": "uint8", "i8": "int8", "u16": "uint16", "i16": "int16", "u32": "uint32", "i32": "int32", "u64": "uint64",
        "i64": "int64", "f32": "float32", "f64": "float64", "yes": "bool", "text": "string", "words": "array",
        "reals": "array", "flags": "array",
    }  # fmt: skip
    for key, value in list(FACTS.items())[1:]:
        plain = value.value if isinstance(value, Fact) else value
        if key in ("numbers", "bytes"):
            kind = gguf.GGUFValueType.INT32 if key == "numbers" else gguf.GGUFValueType.UINT8
            writer.add_key_value(key, plain.tolist(), gguf.GGUFValueType.ARRAY, sub_type=kind)
        else:
            getattr(writer, f"add_{names[key]}")(key, plain.tolist() if isinstance(plain, np.ndarray) else plain)
    for tensor in tensors():
        values = {"F32": np.float32, "F16": np.float16}.get(tensor.format.name)
        stored = tensor.raw.view(values).reshape(tensor.shape) if values else tensor.raw.reshape(2, 3, 68)
        writer.add_tensor(tensor.name, stored, raw_dtype=gguf.GGMLQuantizationType(tensor.format.ggml_id))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("alignment", [None, 8, 256])
def test_gguf_writes_the_same_bytes(tmp_path: Path, alignment: int | None) -> None:
    theirs, mine = tmp_path / "theirs.gguf", tmp_path / "mine.gguf"
    gguf_writes(theirs, alignment)
    architecture, *rest = FACTS.items()
    between = {} if alignment is None else {"general.alignment": ours.u32(alignment)}
    write_gguf(mine, dict([architecture]) | between | dict(rest), tensors())
    assert mine.read_bytes() == theirs.read_bytes()


def test_gguf_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, FACTS, tensors())
    reader = gguf.GGUFReader(path)
    assert reader.fields["text"].contents() == FACTS["text"]
    assert reader.fields["words"].contents() == FACTS["words"]
    assert reader.fields["u64"].contents() == 2**64 - 1
    for written, read in zip(tensors(), reader.tensors, strict=True):
        assert written.name == read.name
        assert tuple(reversed(read.shape.tolist())) == written.shape
        assert np.array_equal(gguf.quants.dequantize(read.data, read.tensor_type).ravel(), written.dequantize().ravel())


KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
SCALARS = st.one_of(
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(width=32, allow_nan=False),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=6),
)


@given(st.dictionaries(KEYS, SCALARS, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_facts_survive_the_round_trip(tmp_path: Path, facts: dict[str, Any]) -> None:
    for meaningful in ("general.alignment", "split.no", "split.count"):
        facts.pop(meaningful, None)
    path = tmp_path / "any.gguf"
    write_gguf(path, facts, [])
    read = open_gguf(path).facts
    assert read == facts
    assert list(map(type, read.values())) == list(map(type, facts.values()))


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(["F32", "F16", "BF16"])), max_size=5)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tensors_of_any_shape_survive_the_round_trip(tmp_path: Path, shapes: list[tuple[list[int], str]]) -> None:
    written = [
        GgufTensor.from_array(f"t{k}", np.arange(np.prod(shape, dtype=int)).reshape(shape), ours.by_name(form))
        for k, (shape, form) in enumerate(shapes)
    ]
    path = tmp_path / "any.gguf"
    write_gguf(path, {}, written)
    for before, after in zip(written, open_gguf(path).tensors.values(), strict=True):
        assert before.shape == after.shape
        assert np.array_equal(before.dequantize(), after.dequantize())


def test_a_plain_int_takes_the_usual_kind_that_holds_it() -> None:
    kinds = {0: "u32", 2**32 - 1: "u32", -1: "i32", -(2**31) - 1: "i64", 2**32: "i64", 2**63: "u64"}
    assert {value: Fact.of(value).kind.name for value in kinds} == kinds
    assert Fact.of(True).kind.name == "bool"
    assert Fact.of(1.0).kind.name == "f32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ours.u8(256), "a u8 can't hold 256"),
        (lambda: ours.i16(-40000), "a i16 can't hold -40000"),
        (lambda: Fact.of(2**64), "can't hold 18446744073709551616"),
        (lambda: Fact.of(None), "can't hold a NoneType"),  # type: ignore[arg-type]
        (lambda: Fact.of(np.zeros((2, 2), np.int32)), "2-d array of int32"),
        (lambda: Fact.of(np.zeros(2, np.float16)), "array of float16"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


def planned(name: str = "w", shape: tuple[int, ...] = (4,), form: str = "F32") -> PlannedTensor:
    return PlannedTensor(name, shape, ours.by_name(form), lambda: [np.zeros(shape, np.float32)])


@pytest.mark.parametrize(
    ("facts", "plans", "message"),
    [
        ({"": 1}, [], "has 0 bytes; expected 1 to"),
        ({"k" * 70000: 1}, [], "has 70,000 bytes"),
        ({"general.alignment": 33}, [], "a power of two"),
        ({"general.alignment": ours.u16(32)}, [], "expected a u32"),
        ({}, [planned(), planned()], "tensor w is given 2 times"),
        ({}, [planned("n" * 64)], "more than 63 bytes"),
        ({}, [planned(shape=(1, 1, 1, 1, 1))], "at most 4 dimensions"),
        ({}, [planned(shape=(3, 31), form="Q8_0")], "rows of 31 values; Q8_0 needs a multiple of 32"),
    ],
)
def test_what_no_reader_would_accept_is_not_written(
    tmp_path: Path, facts: dict[str, Any], plans: list[PlannedTensor], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        write_gguf(tmp_path / "a.gguf", facts, plans)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, {"x": 1}, [])
    before = path.read_bytes()

    def fails() -> Iterator[NDArray[Any]]:
        yield np.zeros(2, np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(path, {"x": 2}, [PlannedTensor("w", (4,), ours.F32, fails)])
    with pytest.raises(AssertionError, match="8 bytes were made, 16 announced"):
        write_gguf(path, {}, [PlannedTensor("w", (4,), ours.F32, lambda: [np.zeros(2, np.float32)])])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_a_file_leaves_those_who_have_it_open_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, {}, [GgufTensor.from_array("w", np.ones(8192))])
    file = open_gguf(path)
    write_gguf(path, {}, [GgufTensor.from_array("w", np.zeros(1))])
    assert file.tensor("w").dequantize().sum() == 8192
    assert file.changed()


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_gguf(tmp_path / "a.gguf", {}, [])
    assert (tmp_path / "a.gguf").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_tensor_made_in_pieces_needs_memory_for_a_piece(tmp_path: Path) -> None:
    piece, count = np.ones(1 << 16, np.float32), 64
    plan = PlannedTensor("w", (count, 1 << 16), ours.F32, lambda: (piece.copy() for _ in range(count)))
    tracemalloc.start()
    write_gguf(tmp_path / "a.gguf", {}, [plan])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.gguf").stat().st_size > 16 << 20
    assert peak < 2 << 20
